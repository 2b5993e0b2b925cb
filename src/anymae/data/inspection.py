"""What can be told about data before a model is chosen: `inspect`.

Nothing here needs a model; the command line adds the preset it would choose, estimates and masks.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from anymae.config import NUM_SPECIAL, DataConfig, InputConfig, Section
from anymae.data.dataset import Dataset, open_data
from anymae.data.duplicates import (
    Repeats,
    duplicate_groups,
    find_duplicates,
    row_blocks,
    shared_rows,
)
from anymae.data.kinds.base import sample
from anymae.data.kinds.cells import CellStatistics
from anymae.data.roles import Roles
from anymae.data.rows import refuse_lists
from anymae.data.sources.locate import require_output
from anymae.errors import DataError
from anymae.files import write_named

SHOWN = 10
"""Bad rows that are named at most, of each sort."""

GROUP = "duplicate_group"
TABLES = (".csv", ".parquet")
"""Endings of the files that groups are written to."""


class BadRowsFound(Section):
    """Rows that cannot be inputs."""

    problem: str
    count: int
    places: tuple[str, ...]
    """Where the first ten stand, such as `line 17`."""


class Lengths(Section):
    """How the number of inputs differs between rows."""

    least: int
    quarter: int
    median: int
    three_quarters: int
    most: int
    mean: float
    longer: int
    """Rows longer than `input.length`."""


class ColumnFound(Section):
    """An input column of a table."""

    name: str
    type: str
    method: str
    """How it is read: `standard`, `quantile` or `codes`."""
    categories: int
    """Number of categories, 0 for a numeric column."""
    missing: int
    """Cells that are missing, or hold a category that training rows lack."""
    constant: bool
    """Whether all cells are alike."""


class Comparison(Section):
    """Rows that two files have in common."""

    name: str
    rows: int
    here: Repeats
    """Rows of the data that also occur there."""
    there: Repeats
    """Rows there that also occur in the data."""


class Inspection(Section):
    """Everything that can be told about data without a model."""

    name: str
    format: str
    roles: Roles
    input: InputConfig
    rows: int
    """Rows of the source."""
    used_rows: int
    """Rows that are kept and can be inputs."""
    bad: tuple[BadRowsFound, ...]
    parts: dict[str, int]
    """Rows for training, validation and test."""
    lengths: Lengths | None
    """Of rows that differ in length."""
    alphabet: dict[str, float]
    """Share of each byte, most frequent first, as a character or as `0x9c`; of at most 200,000
    rows."""
    columns: tuple[ColumnFound, ...]
    """Input columns of a table."""
    invalid_inputs: int
    """Inputs that are not real: missing cells, and points of values that are all NaN."""
    duplicates: Repeats
    notes: tuple[str, ...]
    fingerprint: str
    against: Comparison | None = None


def inspect(
    data: object,
    config: DataConfig | None = None,
    *,
    against: object | None = None,
    seed: int = 0,
    cap: int | None = None,
) -> Inspection:
    """Look at data.

    Bad rows are listed and looked past, whatever `config.on_bad_row` says.

    Args:
        data: A path, folder, glob or URL, or a Python object.
        config: Kind, columns and roles, as in training.
        against: Other data, to count the rows that both hold.
        seed: Decides the split, as in training.
        cap: Inputs of a row at most, as in training.

    Returns:
        What was found.

    Raises:
        DataError: The data cannot be read, or no row can be an input.

    >>> found = inspect(["CCO", "CCO", "CCN"])
    >>> found.roles.kind, found.used_rows, found.duplicates.exact
    ('bytes', 3, 1)
    """
    config = (config or DataConfig()).model_copy(update={"on_bad_row": "skip"})
    return describe(open_data(data, config, seed=seed, cap=cap), config, against=against)


def describe(dataset: Dataset, config: DataConfig, *, against: object | None = None) -> Inspection:
    """Tell about data that are open already; see `inspect`."""
    frame, prepared = dataset.rows.frame, dataset.preparation
    real, same = _survey(dataset)
    return Inspection(
        name=frame.name,
        format=frame.format,
        roles=dataset.roles,
        input=dataset.input,
        rows=prepared.rows,
        used_rows=prepared.used_rows,
        bad=_bad(dataset),
        parts={name: len(part) for name, part in dataset.parts._asdict().items()},
        lengths=_lengths(dataset),
        alphabet=_alphabet(dataset),
        columns=_columns(dataset, real, same),
        invalid_inputs=_invalid(dataset, real),
        duplicates=find_duplicates(dataset),
        notes=dataset.notes,
        fingerprint=prepared.fingerprint,
        against=None if against is None else _compare(dataset, config, against),
    )


def write_groups(dataset: Dataset, path: str | Path, *, overwrite: bool = False) -> int:
    """Write the rows with a column `duplicate_group`, usable as `--group` afterwards.

    Args:
        dataset: Its used rows are written, with all their columns; of arrays only the row numbers.
        path: A `.csv` or `.parquet` file.
        overwrite: Replace the file if it is there.

    Returns:
        The number of groups.

    Raises:
        UserInputError: The extension is another.
        DataError: A `.csv` cannot hold the columns.
        FolderError: The file exists and may not be replaced.
    """
    path = Path(path)
    require_output(path, TABLES, overwrite=overwrite)
    frame = dataset.rows.frame
    numbers = dataset.rows.numbers_of(np.arange(len(dataset)))
    if frame.shape is None:
        table = frame.table if dataset.rows.numbers is None else frame.table.take(pa.array(numbers))
    else:
        table = pa.table({"row": numbers})
    if path.suffix == ".csv":
        refuse_lists(table.schema)
    if GROUP in table.column_names:
        raise DataError(f"{frame.name} has a column {GROUP!r} already; use it, or rename it")
    groups = duplicate_groups(dataset)
    table = table.append_column(GROUP, pa.array(groups))
    write = pa_csv.write_csv if path.suffix == ".csv" else pa_parquet.write_table
    write_named(path, lambda staged: write(table, staged))
    return len(np.unique(groups))


def _survey(dataset: Dataset) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Count the real inputs at each place, and tell where all of them are alike.

    Of rows that differ in length nothing is counted.
    """
    width = dataset.longest
    real, same = np.zeros(width, np.int64), np.ones(width, np.bool_)
    if dataset.full_lengths is not None:
        return np.full(width, len(dataset)), ~same
    least, most = np.full(width, np.inf), np.full(width, -np.inf)
    for rows in row_blocks(dataset, np.arange(len(dataset))):
        values, valid = dataset.whole(rows)
        if valid is None:
            valid = np.ones(values.shape[:2], np.bool_)
        real += valid.sum(0)
        here = valid[:, :, None]
        least = np.minimum(least, np.where(here, values, np.inf).min((0, 2)))
        most = np.maximum(most, np.where(here, values, -np.inf).max((0, 2)))
    return real, least >= most


def _invalid(dataset: Dataset, real: npt.NDArray[np.int64]) -> int:
    """Count the inputs that are not real; `real` counts the others where rows are equally long."""
    lengths = dataset.full_lengths
    if lengths is None:
        return int((len(dataset) - real).sum())
    if dataset.input.kind == "bytes":
        return 0  # what a string holds is real
    found = int(lengths.sum(dtype=np.int64))
    for rows in row_blocks(dataset, np.arange(len(dataset))):
        inputs, valid = dataset.whole(rows)
        found -= inputs.shape[0] * inputs.shape[1] if valid is None else int(valid.sum())
    return found


def _bad(dataset: Dataset) -> tuple[BadRowsFound, ...]:
    where = dataset.rows.frame.where
    return tuple(
        BadRowsFound(
            problem=problem, count=len(rows), places=tuple(where(int(row)) for row in rows[:SHOWN])
        )
        for problem, rows in dataset.rows.bad
    )


def _lengths(dataset: Dataset) -> Lengths | None:
    lengths = dataset.full_lengths
    if lengths is None:
        return None
    marks = np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1], method="lower").tolist()
    return Lengths(
        least=marks[0],
        quarter=marks[1],
        median=marks[2],
        three_quarters=marks[3],
        most=marks[4],
        mean=float(lengths.mean()),
        longer=int((lengths > dataset.input.length).sum()),
    )


def _alphabet(dataset: Dataset) -> dict[str, float]:
    if dataset.input.kind != "bytes":
        return {}
    counts = np.zeros(256, np.int64)
    rows = sample(np.arange(len(dataset)))
    for places in row_blocks(dataset, rows):
        tokens = dataset.whole(rows[places]).inputs.ravel()
        counts += np.bincount(tokens[tokens >= NUM_SPECIAL] - NUM_SPECIAL, minlength=256)
    found = [int(byte) for byte in np.argsort(-counts, kind="stable") if counts[byte]]
    return {_character(byte): float(counts[byte] / counts.sum()) for byte in found}


def _character(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 else f"0x{byte:02x}"


def _columns(
    dataset: Dataset, real: npt.NDArray[np.int64], same: npt.NDArray[np.bool_]
) -> tuple[ColumnFound, ...]:
    stored: list[Any] = dataset.preparation.statistics.get("columns", [])
    columns = [CellStatistics.model_validate(column) for column in stored]
    return tuple(
        ColumnFound(
            name=column.name,
            type=column.type,
            method=column.method,
            categories=column.num_codes,
            missing=len(dataset) - int(real[place]),
            constant=bool(same[place]),
        )
        for place, column in enumerate(columns)
    )


def _compare(dataset: Dataset, config: DataConfig, against: object) -> Comparison:
    """Count the rows that both data sets hold."""
    plain = DataConfig(
        column=config.column, missing=config.missing, on_bad_row="skip", too_long="truncate"
    )
    other = open_data(against, plain, preparation=dataset.preparation)
    return Comparison(
        name=other.rows.frame.name,
        rows=len(other),
        here=shared_rows(dataset, other),
        there=shared_rows(other, dataset),
    )
