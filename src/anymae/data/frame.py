"""What every source gives: one Arrow table, and the way back from a row to the user's file.

A string column is the token array itself (offsets and bytes), a numeric column the array of its
cells; both are one contiguous chunk, mapped from disk where the source allows it. Column types
are those of `spool.plain_type`: booleans, integers, floats, `timestamp[us]`, `large_string`,
`large_list` of these, `fixed_size_list` of numbers.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

VALUES = "values"
"""Name of the column of an array source: a `fixed_size_list` of the numbers of each row."""


@dataclass(frozen=True, eq=False)
class Places:
    """Where rows stand in the user's files, as runs of consecutive lines.

    >>> Places("line", ("a.csv",), np.array([[0, 0, 2], [5, 0, 9]])).of(6)
    'line 10'
    """

    unit: str = "row"
    """What is counted: `line` (from 1), `row` (from 0)."""
    files: tuple[str, ...] = ()
    """Names of the files; several are named in messages."""
    runs: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((1, 3), np.int64))
    """`(runs, 3)`: first row of the run, its file, its line or row number there."""

    def of(self, row: int) -> str:
        """Return the place of a row, such as `line 17` or `line 17 of part-2.csv`."""
        run = max(0, int(np.searchsorted(self.runs[:, 0], row, side="right")) - 1)
        first, file, number = (int(part) for part in self.runs[run])
        place = f"{self.unit} {number + row - first}"
        return f"{place} of {self.files[file]}" if len(self.files) > 1 else place


@dataclass(frozen=True, eq=False)
class Frame:
    """One table of data, not copied, with what is needed to speak about its rows.

    Array sources have one column `values`, a `fixed_size_list` that holds each row's numbers in C
    order, and `shape`. `arrays()` gives them back as NumPy sees them, without a copy. Columns of
    labels may stand beside it.
    """

    table: pa.Table
    """All rows of the source, bad ones and those that `where` leaves out included, so that the
    number of a row is its number in the source."""
    name: str
    """What to call it in messages: the path as given, or `the array`."""
    format: str
    """Name of the source that read it: `csv`, `parquet`, `arrays` ..."""
    rows: npt.NDArray[np.int64] | None = None
    """Rows that `DataConfig.where` keeps, ascending; `None` keeps all."""
    shape: tuple[int, ...] | None = None
    """Shape of one row of an array source: `(K,)`, `(N, K)`, `(H, W)` or `(H, W, C)`."""
    bad: Mapping[int, str] = field(default_factory=dict)
    """Rows that could not be read, each with the problem; their cells are null. Not empty only
    with `on_bad_row: skip`."""
    odd: frozenset[str] = frozenset()
    """String columns of a text format of which all but a few cells are numbers."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Columns of the source that `table` lacks, with what they hold: structs, maps, cells of types
    that have none in common."""
    places: Places = field(default_factory=Places)
    """Where rows stand in the user's files."""
    named_by: str | None = None
    """Column that holds what a user calls a row (the header in FASTA, the file of an image)."""
    parts: npt.NDArray[np.int8] | None = None
    """0, 1 or 2 for each row of `table`: of the training, validation or test file; `None` for
    one file."""
    source_digest: str | None = None
    """sha256 of the files' content; `None` for data handed over in Python."""
    part_of: str | None = None
    """What chose the rows kept and set others aside, such as "`anymae compare` of a.csv"; `None`
    where all are meant."""

    def __len__(self) -> int:
        """Return the number of rows kept."""
        return self.table.num_rows if self.rows is None else len(self.rows)

    def arrays(self) -> list[npt.NDArray[np.generic]]:
        """Return the values of an array source, read-only, not copied.

        Returns:
            `(rows, *shape)` for each chunk of the table: one, unless there are files of parts.
        """
        assert self.shape is not None, f"{self.format} is no array source"
        column = self.table[VALUES]
        size = column.type.list_size
        flat = [part.values.slice(part.offset * size, len(part) * size) for part in column.chunks]
        return [part.to_numpy(zero_copy_only=True).reshape(-1, *self.shape) for part in flat]

    def where(self, row: int) -> str:
        """Say where a row of `table` stands: `line 1234568`, `sequence 'sp|P68871'`, `row 7`.

        Lines count from 1, rows from 0, as editors and NumPy do.
        """
        if self.named_by is not None:
            name = self.table[self.named_by][row].as_py()
            unit = self.places.unit
            return f"{unit} {name!r}" if name is not None else f"{unit} number {row + 1}"
        return self.places.of(row)

    def keep(self, rows: npt.NDArray[np.int64]) -> "Frame":
        """Return the same table with only `rows` kept."""
        return replace(self, rows=rows)

    @cached_property
    def digest(self) -> str:
        """Sha256 of the content: of the files, or of the values handed over in Python."""
        if self.source_digest is not None:
            return self.source_digest
        digest = _HashFile()
        with pa.ipc.new_stream(pa.PythonFile(digest, "w"), self.table.schema) as stream:
            stream.write_table(self.table)
        return digest.sha256.hexdigest()


class _HashFile(io.RawIOBase):
    """Hashes what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer; collections.abc.Buffer is 3.12
        self.sha256.update(data)
        return memoryview(data).nbytes
