"""How well a fine-tuned model answers: metrics with intervals, by target and group.

Shapes: R rows, A numbers of an answer, T targets.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset
from anymae.data.missing import codes_of
from anymae.data.sources.locate import require_output
from anymae.data.splits import group_cells, named_parts
from anymae.errors import DataError, UserInputError
from anymae.files import write_json, write_named
from anymae.hub import Model
from anymae.inference.api import open_model
from anymae.inference.computations import Answers
from anymae.inference.compute import ComputeConfig, Progress, compute
from anymae.inference.rows import open_rows
from anymae.inference.seen import count_seen
from anymae.metrics import IN_UNITS, Estimate, Measured, columns_of, confusion, measure
from anymae.predictor import Ensemble, Predictor, members_of
from anymae.recipes import DataSettings, data_settings
from anymae.task import TaskConfig
from anymae.training.judges import tell_few
from anymae.training.targets import encode_labels, read_labels, weights_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
Part = Literal["test", "valid", "train", "all"]
RESAMPLES = 500
"""Bootstrap samples of an interval."""

PLOTS = (".png", ".svg", ".pdf")
"""Endings of pictures."""

MOST_NAMED = 20
"""Classes at most whose names and counts a picture has room for."""

MOST_GROUPS = 50
"""Groups that are reported apart, the largest."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    part: str
    """Which rows: `test`, `valid`, `train`, or `all`."""
    rows: int
    """Rows with at least one known answer."""
    task: str
    overall: dict[str, Estimate]
    """Metrics by name; the mean over targets where there are several, see `units`."""
    targets: dict[str, dict[str, Estimate]]
    """Metrics by target and name."""
    groups: dict[str, dict[str, Estimate]]
    """Metrics by group and name, like `overall`; of the `MOST_GROUPS` largest groups."""
    confusion: dict[str, list[list[float]]]
    """Weight of rows by true and most probable class, by target."""
    classes: tuple[str, ...]
    """Names of the rows and columns of `confusion`."""
    seen_in_training: int | None
    """Rows whose inputs also occur among the training rows; `None` where these are not known."""
    data: str = ""
    """What was read, as it was named; files of before say nothing of it, nor of the next."""
    num_groups: int = 0
    """All groups, smaller ones too."""
    group_rows: dict[str, int] = field(default_factory=dict)
    """Rows of each group in `groups`; files of before say nothing of them."""
    weight: str | None = None
    """Column of the rows' weights; `None` counts all alike."""
    trained_weight: str | None = None
    """Column whose weights the model was fine-tuned with, as far as it remembers one."""

    @property
    def units(self) -> str:
        """What to say of `overall` and `groups`, where errors are not in the user's units."""
        if self.task != "regression" or len(self.targets) == 1:
            return ""
        names = " and ".join(IN_UNITS)
        if not self.data:  # stored before they were
            return f"over all targets, {names} are means in the targets' own units"
        return f"over all targets, {names} in standard deviations of the training rows"

    @property
    def weighting(self) -> str:
        """What to say of the rows' weights; empty where there never were any."""
        if self.weight is not None:
            return f"weighted by {self.weight}"
        if self.trained_weight is None:
            return ""
        return (
            f"unweighted; trained with weights of {self.trained_weight}: "
            f"--weight {shlex.quote(self.trained_weight)}"
        )

    @property
    def positive(self) -> str | None:
        """The class that is called positive in a binary task; else `None`."""
        return self.classes[1] if self.task == "binary" else None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; an estimate is `{"value", "low", "high", "infinite"}`."""
        return asdict(self) | {"classes": list(self.classes), "positive": self.positive}

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{estimate}</td></tr>"
            for name, estimate in self.overall.items()
        )
        more = f"; {self.units}" if self.units else ""
        more += f"; {escape(self.weighting)}" if self.weighting else ""
        more += "" if self.positive is None else f"; positive: {escape(self.positive)}"
        title = f"{escape(self.part)}: {self.rows:,} rows{more}"
        return f"<table><caption>{title}</caption>{rows}</table>"


def evaluate(
    model: Model | str | Path,
    data: object,
    *,
    part: Part | None = None,
    data_config: DataSettings | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    config: ComputeConfig | None = None,
    plot: str | Path | None = None,
    overwrite: bool = False,
    keep: Callable[[Evaluation], object] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare a fine-tuned model's answers with the truth.

    Args:
        model: A fine-tuned model, or its folder or hub id.
        data: Rows with the model's target columns.
        part: Which rows; `None` takes the `test` part where the data name one, else all.
        data_config: Columns, roles, and what to do with odd rows; `group` and `weight` count.
        resamples: Bootstrap samples for the intervals; 0 gives none.
        seed: Draws the samples.
        config: Device and precision.
        plot: Where to draw the confusion or parity plot (.png, .svg or .pdf).
        overwrite: Replace `plot`.
        keep: Is given the evaluation before anything is drawn.
        progress: Told how many rows are answered, and of how many.

    Raises:
        DataError: The data do not fit the model, lack a target or hold a new class.
        UserInputError: The model was pretrained only, or answers another target; `part` is none.
        FolderError: `plot` exists, is among the data, or cannot be written.
    """
    if part is not None and part not in get_args(Part):
        raise UserInputError(f"part is {part!r}; expected {' or '.join(get_args(Part))}")
    data_config = data_settings(data_config)
    if plot is not None:
        require_output(Path(plot), PLOTS, data, *data_config.files, overwrite=overwrite)
    answers = Answers(open_model(model))
    task = answers.model.task
    if data_config.target not in ((), task.targets):
        raise UserInputError(
            f"the model answers {', '.join(task.targets)}, not {', '.join(data_config.target)}; "
            "leave out --target, or rename the column"
        )
    data_config = data_config.model_copy(update={"target": task.targets})
    dataset = open_rows(answers.model, data, data_config)
    chosen, index = _choose(dataset, part)
    evaluation, truth, found = evaluate_rows(
        answers.model, dataset, index, part=chosen, resamples=resamples, seed=seed, config=config,
        trained_on=Path(model) if isinstance(model, str | Path) else None, progress=progress,
    )  # fmt: skip
    if keep is not None:
        keep(evaluation)
    if plot is not None:
        draw(task, truth, found, evaluation, Path(plot))
    return evaluation


def evaluate_rows(
    model: Predictor | Ensemble,
    dataset: Dataset,
    index: IntArray,
    *,
    part: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
    config: ComputeConfig | None = None,
    trained_on: npt.NDArray[np.uint64] | Path | None = None,
    progress: Progress | None = None,
) -> tuple[Evaluation, Array, Array]:
    """Evaluate a model on rows of an open data set.

    Args:
        model: A fine-tuned model.
        dataset: Opened for the model.
        index: Positions of the rows.
        part: Their name.
        resamples: Bootstrap samples.
        seed: Draws the samples.
        config: Device and precision.
        trained_on: Hashes of the training rows, or a model folder that remembers them.
        progress: Called after each batch.

    Returns:
        The evaluation, truth `(R, T)` and answers `(R, A)` of the rows with a known answer.
    """
    task, config = model.task, config or ComputeConfig()
    labels = read_labels(dataset, task.targets)
    truth = encode_labels(task, {n: column.take(pa.array(index)) for n, column in labels.items()})
    known = ~np.isnan(truth).all(1)
    if not known.any():
        raise DataError(f"none of the {len(index):,} rows has a value of {', '.join(task.targets)}")
    index, truth = index[known], truth[known]
    weights = weights_of(dataset, index)
    tell_few(task, truth, weights, part, drawn=False)
    values = compute(Answers(model), dataset, index, config, progress).values
    found = members_of(task, values).mean(0, dtype=np.float64)
    judge = partial(measure, task, resamples=resamples, seed=seed)
    measured = judge(truth, found, weights)
    apart = _by_group(dataset, index, lambda at: judge(truth[at], found[at], weights[at]))
    evaluation = Evaluation(
        data=dataset.rows.frame.name,
        part=part,
        rows=len(index),
        task=task.type,
        overall=measured.mean,
        targets=measured.targets,
        groups=apart.metrics,
        group_rows=apart.rows,
        num_groups=apart.total,
        weight=dataset.roles.weight,
        trained_weight=(model.data or {}).get("roles", {}).get("weight"),
        confusion=_confusion(task, truth, found, weights),
        classes=task.classes or (("0", "1") if task.type == "multilabel" else ()),
        seen_in_training=count_seen(dataset, index, trained_on),
    )
    return evaluation, truth, found


def store(evaluation: Evaluation, path: Path) -> None:
    """Write an evaluation as JSON.

    Raises:
        FolderError: It cannot be written.
    """
    found = {"format_version": 1, **evaluation.to_json()}
    write_named(path, lambda staged: write_json(staged, found))


def draw(task: TaskConfig, truth: Array, found: Array, evaluation: Evaluation, path: Path) -> None:
    """Draw truth against answers, or the confusion of classes, of each target.

    Args:
        task: What was predicted.
        truth: `(R, T)`.
        found: `(R, A)`.
        evaluation: Has the confusion.
        path: Where to, .png, .svg or .pdf.
    """
    from matplotlib.figure import Figure

    count = len(task.targets)
    names = evaluation.classes if len(evaluation.classes) <= MOST_NAMED else ()
    # Room for a cell's number, and for the names beside and below the cells.
    room = 0.07 * max((len(name) for name in names), default=0)
    side = max(4.0, 1.0 + 0.45 * len(names) + room)
    figure = Figure(figsize=(side * count, side), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    for number, (name, axes) in enumerate(zip(task.targets, panels, strict=True)):
        # Names are the user's: one with dollars is no formula.
        axes.set_title(name, parse_math=False)
        if task.type == "regression":
            known = ~np.isnan(truth[:, number])
            pair = np.stack([truth[known, number], found[known, number]])
            limits = [pair.min(), pair.max()] if known.any() else []
            axes.plot(limits, limits, color="grey", linewidth=1)
            axes.scatter(*pair, s=4, alpha=0.5)
            axes.set(xlabel="true", ylabel="predicted")
            continue
        _draw_confusion(figure, axes, np.array(evaluation.confusion[name]), names)
    picture = BytesIO()
    figure.savefig(picture, format=path.suffix[1:])
    write_named(path, lambda staged: staged.write_bytes(picture.getvalue()))


def _draw_confusion(figure: "Figure", axes: "Axes", table: Array, names: Sequence[str]) -> None:
    """Draw a table of counts, with the names of its classes, or a scale where it has none."""
    shown = axes.imshow(table, cmap="Blues")
    if names:
        for row, column in np.ndindex(*table.shape):
            value = table[row, column]
            colour = "white" if value > table.max() / 2 else "black"
            axes.text(column, row, f"{value:g}", ha="center", va="center", color=colour)
        turned = 90 if max(map(len, names)) > 2 and len(names) > 2 else 0
        axes.set_xticks(range(len(table)), names, rotation=turned, parse_math=False)
        axes.set_yticks(range(len(table)), names, parse_math=False)
    else:
        figure.colorbar(shown, ax=axes, shrink=0.8, label="rows, or their weight")
    axes.set(xlabel="predicted", ylabel="true")


def _choose(dataset: Dataset, part: Part | None) -> tuple[str, IntArray]:
    named = named_parts(dataset.rows)
    chosen = part or ("test" if named is not None and len(named.test) else "all")
    if chosen == "all":
        return chosen, np.arange(len(dataset))
    # Rows drawn here would be others than those that a training drew.
    index: IntArray | None = None if named is None else getattr(named, chosen)
    if index is None or not len(index):
        raise DataError(
            f"the data do not say which rows are {chosen}; name a split column that does "
            "(--split COLUMN), or take --part all"
        )
    return chosen, index


class _Groups(NamedTuple):
    """Metrics and rows of the largest groups, and how many groups there are."""

    metrics: dict[str, dict[str, Estimate]]
    rows: dict[str, int]
    total: int


def _by_group(
    dataset: Dataset, index: IntArray, measured: Callable[[npt.NDArray[np.bool_]], Measured]
) -> _Groups:
    """Measure the rows of the largest groups, flagged `(R,)`.

    Rows of no group are one, `missing`, or what ends in `_` where another is called so.
    """
    if dataset.roles.group is None:
        return _Groups({}, {}, 0)
    name, declared = dataset.roles.group, dataset.preparation.missing
    cells = group_cells(dataset.column(name).take(pa.array(index)), codes_of(name, declared))
    if pa.types.is_large_string(cells.type):
        # Groups may be any bytes, which need not be text.
        cells = cells.cast(pa.large_binary())
    named = [None if value is None else _name_of(value) for value in cells.to_pylist()]
    unknown = "missing"
    while unknown in named:
        unknown += "_"
    names = np.array([unknown if name is None else name for name in named])
    groups, counts = np.unique(names, return_counts=True)
    out, rows = {}, {}
    for place in np.argsort(-counts, kind="stable")[:MOST_GROUPS]:
        group = str(groups[place])
        out[group], rows[group] = measured(names == group).mean, int(counts[place])
    return _Groups(out, rows, len(groups))


def _name_of(group: object) -> str:
    return group.decode(errors="backslashreplace") if isinstance(group, bytes) else str(group)


def _confusion(
    task: TaskConfig, truth: Array, found: Array, weights: Array
) -> dict[str, list[list[float]]]:
    if task.type == "regression":
        return {}
    size = len(task.classes) or 2
    out = {}
    for number, name in enumerate(task.targets):
        known = ~np.isnan(truth[:, number])
        scores = columns_of(task, found, number)[known]
        out[name] = confusion(truth[known, number], scores, weights[known], size).tolist()
    return out
