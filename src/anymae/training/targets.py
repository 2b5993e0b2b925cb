"""From columns of labels to numbers: the task they stand for, and each row's targets.

Shapes: R rows, T targets.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset
from anymae.data.misread import misread
from anymae.data.missing import as_numbers, blank, codes_of, number_of
from anymae.errors import DataError, nearest
from anymae.task import ReadoutConfig, TaskConfig, TaskType

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]
Labels = Mapping[str, pa.Array]
"""Target columns by name; null is unknown."""

MOST_CLASSES = 20
"""Distinct whole numbers that are taken for classes; more are an amount."""

LARGEST = float(np.finfo(np.float32).max)
"""Number that answers and weights, which have 32 bits, can hold."""

FEWEST_COMPARED, ALIKE = 5, 0.95
"""Rows by which strings can be said to be as long as their rows, and the share that has to be."""


def read_labels(dataset: Dataset, names: Sequence[str]) -> Labels:
    """Take target columns from a data set; every way of writing a missing cell becomes null.

    Raises:
        DataError: A column is not there, or holds a value for each input: lists, or strings as
            long as their rows.
    """
    known = dataset.rows.frame.table.column_names
    labels = {}
    for name in names:
        if name not in known:
            raise DataError(f"there is no target column {name!r}{nearest(name, known)}")
        column = dataset.column(name).combine_chunks()
        if hasattr(column.type, "value_type"):
            raise DataError(
                f"target {name!r} holds lists, a value for each input; only targets with one "
                "value for each row can be predicted"
            )
        labels[name] = blank(column, codes_of(name, dataset.preparation.missing))
        _refuse_strings_as_long_as_rows(name, labels[name], dataset)
    return labels


def _refuse_strings_as_long_as_rows(name: str, column: pa.Array, dataset: Dataset) -> None:
    """A letter for each residue is no class of the row, though it is a string."""
    kind = dataset.input.kind
    if not pa.types.is_large_string(column.type) or kind not in ("bytes", "values"):
        return
    full = dataset.full_lengths
    expected = np.full(len(dataset), dataset.input.length) if full is None else full
    known = column.is_valid().to_numpy(zero_copy_only=False)
    found = pc.utf8_length(column.drop_null()).to_numpy(zero_copy_only=False)
    # The end of a string is an input too.
    expected = expected[known] - (1 if kind == "bytes" else 0)
    if len(found) < FEWEST_COMPARED or np.mean(found == expected) < ALIKE:
        return
    # Rows of one length may be as long as the name of a class, by chance.
    if len(np.unique(expected)) > 1 or len(column.unique()) > MOST_CLASSES:
        raise DataError(
            f"target {name!r} holds strings as long as their rows, a character for each input; "
            "only targets with one value for each row can be predicted"
        )


def infer_task(
    labels: Labels,
    train: IntArray,
    *,
    others: Sequence[IntArray] = (),
    type: TaskType | None = None,  # noqa: A002 - the field's name
    readout: ReadoutConfig | None = None,
) -> TaskConfig:
    """Find out what is to be predicted.

    One target: strings, yes and no, and up to 20 distinct whole numbers or times are classes;
    other numbers and times, as seconds since 1970, are regression. Several: 0 and 1 alone are
    multi-label, other numbers and times regression.

    Args:
        labels: Target columns.
        train: Rows that are learned from; their values give mean and deviation.
        others: Further rows, whose values help to tell the task and name its classes.
        type: The task, where the values do not tell.
        readout: Goes into the result.

    Raises:
        DataError: A target has no value, one value, or values that do not fit the task.
    """
    known = {name: column.take(pa.array(train)).drop_null() for name, column in labels.items()}
    for name, column in known.items():
        if not len(column):
            rows, given = len(labels[name]), len(labels[name]) - labels[name].null_count
            raise DataError(
                f"target {name!r} has no value in any of the training rows ({given:,} of all "
                f"{rows:,} rows have one); fill it in there, or name another with --target"
            )
        if len(column.unique()) < 2:
            raise DataError(
                f"target {name!r} has one value, {column[0].as_py()!r}, in all {len(column):,} "
                "labelled training rows; there is nothing to learn"
            )
    every = np.concatenate([train, *others])
    everywhere = {n: column.take(pa.array(every)).drop_null() for n, column in labels.items()}
    chosen = type or _infer_type(everywhere)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    match chosen:
        case "regression":
            numbers = [_numbers(name, column) for name, column in known.items()]
            mean = tuple(float(values.mean()) for values in numbers)
            std = tuple(float(values.std()) for values in numbers)
            _require_spread(std, known)
        case "multilabel":
            for name, column in known.items():
                _yes_or_no(name, column)
        case _:
            classes = _only_classes(chosen, everywhere)
    return TaskConfig(
        type=chosen, targets=tuple(labels), classes=classes, mean=mean, std=std,
        readout=readout or ReadoutConfig(),
    )  # fmt: skip


def _require_spread(deviations: Iterable[float], names: Iterable[str]) -> None:
    for name, deviation in zip(names, deviations, strict=True):
        if not deviation > 0:
            raise DataError(
                f"the labels of target {name!r} do not differ as numbers of 64 bits; subtract what "
                "they have in common, or give them in other units"
            )


def refuse_names(task: TaskConfig, num_rows: int) -> None:
    """Check that classes that nobody called so are no names.

    Args:
        task: As it was inferred.
        num_rows: Rows with a known target.

    Raises:
        DataError: There is a class for most of the rows.
    """
    count = len(task.classes)
    if count > max(MOST_CLASSES, num_rows / 2):
        meant = misread(pa.chunked_array([pa.array(task.classes, pa.large_string())]))
        if meant is not None:
            raise DataError(f"target {task.targets[0]!r} {meant}")
        raise DataError(
            f"target {task.targets[0]!r} has {count:,} different values in {num_rows:,} rows, as "
            "names do; name another column, or say --task multiclass if these are classes"
        )


def encode_labels(task: TaskConfig, labels: Labels) -> Array:
    """Turn labels into numbers, `(R, T)`; NaN is unknown.

    Numbers in the user's units (`regression`), class numbers, or 0 and 1 (`multilabel`).

    Raises:
        DataError: A value is not of the task: a string where numbers were, a new class.
    """
    columns = []
    for name in task.targets:
        column = labels[name]
        match task.type:
            case "regression":
                columns.append(_numbers(name, column))
            case "multilabel":
                columns.append(_yes_or_no(name, column))
            case _:
                columns.append(_codes(name, column, task.classes))
    return np.stack(columns, 1)


def standardise(task: TaskConfig, truth: Array) -> npt.NDArray[np.float32]:
    """Bring numbers into the units of the network's outputs; classes stay as they are."""
    if task.type == "regression":
        truth = (truth - np.array(task.mean)) / np.array(task.std)
    return truth.astype(np.float32)


def read_weights(dataset: Dataset) -> Array | None:
    """Return the weight of each row, `(rows,)`, or `None` where no column has that role.

    Raises:
        DataError: A weight is missing or no number.
    """
    name = dataset.roles.weight
    if name is None:
        return None
    codes = codes_of(name, dataset.preparation.missing)
    weights = _numbers(name, blank(dataset.column(name).combine_chunks(), codes), "weight")
    if np.isnan(weights).any():
        row = int(dataset.rows.numbers_of(np.flatnonzero(np.isnan(weights))[:1])[0])
        raise DataError(f"weight {name!r} is missing in {dataset.rows.frame.where(row)}")
    return weights


def weights_of(dataset: Dataset, index: IntArray) -> Array:
    """Return the weights of the rows at some positions, 1 where no column has that role."""
    weights = read_weights(dataset)
    return np.ones(len(index)) if weights is None else weights[index]


def _only_classes(type: TaskType, known: Labels) -> tuple[str, ...]:  # noqa: A002
    """Name the classes of the one target."""
    if len(known) > 1:
        raise DataError(
            f"a {type} task has one target, not {', '.join(known)}; fine-tune for each apart"
        )
    ((name, column),) = known.items()
    classes = _class_names(column)
    if type == "binary" and len(classes) != 2:
        shown = ", ".join(map(repr, classes[:5]))
        raise DataError(
            f"target {name!r} has {len(classes)} classes ({shown} ...); a binary task has 2"
        )
    return classes


def _infer_type(known: Labels) -> TaskType:
    if len(known) > 1:
        _refuse_classes(known)
        yes_no = all(set(column.unique().to_pylist()) <= {0, 1} for column in known.values())
        return "multilabel" if yes_no else "regression"
    ((name, column),) = known.items()
    _refuse_words_among_numbers(name, column)
    if pa.types.is_floating(column.type) and not _is_whole(column):
        return "regression"
    count = len(column.unique())
    if count == 2:
        return "binary"
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_timestamp)
    numeric = any(is_kind(column.type) for is_kind in kinds)
    return "regression" if numeric and count > MOST_CLASSES else "multiclass"


def _refuse_classes(known: Labels) -> None:
    strings = {n: of for n, of in known.items() if pa.types.is_large_string(of.type)}
    for name, column in strings.items():
        words = column.filter(as_numbers(column).is_null())
        if 2 * len(words) >= len(column):
            raise DataError(
                f"target {name!r} holds {words[0].as_py()!r}, and several targets must be numbers "
                "or 0 and 1; name one target, or write the classes as 0 and 1"
            )


def _refuse_words_among_numbers(name: str, column: pa.Array) -> None:
    """A few words among numbers are slips; taken as classes, each number would be one too."""
    if not pa.types.is_large_string(column.type):
        return
    numbers = as_numbers(column)
    if 0 < numbers.null_count < len(column) / 2:
        word = column.filter(numbers.is_null())[0].as_py()
        raise DataError(
            f"target {name!r} holds {word!r} where most values are numbers; repair it, name it "
            "missing, or say --task multiclass if these are classes"
        )


def _is_whole(column: pa.Array) -> bool:
    """Tell whether all are whole numbers of 64 bits; as if they were where there are none."""
    whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**63))
    return pc.all(whole).as_py() is not False


def _numbers(name: str, column: pa.Array, role: str = "target") -> Array:
    """Return numbers, NaN where null; a target's times are seconds since 1970."""
    if role == "target" and pa.types.is_timestamp(column.type):
        # Frames hold them in microseconds.
        column = pc.divide(column.view(pa.int64()).cast(pa.float64()), 1e6)
    try:
        numbers = column.cast(pa.float64(), safe=False)
    except pa.ArrowException:
        text = column.drop_null()
        odd = next((v for v in text.to_pylist() if number_of(str(v)) is None), text[0].as_py())
        raise DataError(
            f"{role} {name!r} holds {odd!r}, which is no number; repair it, or name it missing"
        ) from None
    values = np.array(numbers.to_numpy(zero_copy_only=False), np.float64)
    if np.isinf(values).any():
        raise DataError(f"{role} {name!r} holds infinity; repair it or make it a missing cell")
    large = values[np.abs(values) > LARGEST]
    if len(large):
        raise DataError(
            f"{role} {name!r} holds {large[0]:g}, and numbers of up to {LARGEST:.1e} can be "
            "computed with; give it in other units"
        )
    return values


def _yes_or_no(name: str, column: pa.Array) -> Array:
    values = _numbers(name, column)
    odd = values[~np.isnan(values) & (values != 0) & (values != 1)]
    if len(odd):
        raise DataError(
            f"target {name!r} holds {odd[0]:g}; a multi-label target is 0, 1 or missing"
        )
    return values


def _names_of(column: pa.Array) -> pa.Array:
    """Write classes as strings; whole numbers without a decimal point."""
    if pa.types.is_floating(column.type):
        column = column.cast(pa.int64()) if _is_whole(column) else column
    return column.cast(pa.large_string())


def _class_names(column: pa.Array) -> tuple[str, ...]:
    """List the classes: numbers by size, strings by the alphabet."""
    values = column.unique()
    order = pc.sort_indices(values)
    return tuple(_names_of(values.take(order)).to_pylist())


def _codes(name: str, column: pa.Array, classes: Sequence[str]) -> Array:
    names = _names_of(column)
    if pa.types.is_boolean(column.type) and not {"true", "false"} & set(classes):
        # Beside other words they were True, or TRUE, as they stood there.
        for written in (pc.utf8_capitalize(names), pc.utf8_upper(names)):
            names = written if set(written.drop_null().to_pylist()) <= set(classes) else names
    codes = pc.index_in(names, pa.array(classes, pa.large_string()))
    new = names.filter(pc.and_(codes.is_null(), names.is_valid()))
    if len(new):
        known = ", ".join(map(repr, classes[:10]))
        raise DataError(
            f"target {name!r} holds {new[0].as_py()!r}, which is no class of the model ({known}"
            f"{' ...' if len(classes) > 10 else ''}); leave such rows out with --where"
        )
    return np.array(codes.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
