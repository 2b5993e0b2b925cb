"""Rows of columns, numeric and categorical, with missing cells: one input per column.

Shapes: B rows, C columns.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from anymae.config import DataConfig, InputConfig
from anymae.data.batch import Arrays, IntArray
from anymae.data.frame import Frame
from anymae.data.kinds.base import FAR, KINDS, BadRows, Stack, Statistics, blocks, sample
from anymae.data.kinds.cells import CellStatistics, cell_type
from anymae.data.missing import as_numbers, blank, codes_of
from anymae.data.roles import Roles

RESIDENT_BYTES = 1 << 26
"""A table whose inputs take no more than this is turned into them once."""

Columns = dict[str, pa.Array]


@KINDS.register("table")
class TableRows:
    """Columns of a table; the model sees `(B, C, 1)`, a number or a category's code each."""

    def __init__(self, frame: Frame, roles: Roles, config: DataConfig) -> None:
        self._take: _ArrayColumns | _TableColumns
        if frame.shape is not None:
            self._take = _ArrayColumns(Stack(frame.arrays()))
        else:
            self._take = _TableColumns(frame.table.select(list(roles.inputs)))
        names = self._take.names
        self._codes = {name: codes_of(name, config.missing) for name in names}
        self._odd = [name for name in names if name in frame.odd]
        types = self._take.types
        floats = [name for name in names if pa.types.is_floating(types[name])]
        self._as_they_are = [name for name in floats if not self._codes[name]]
        self._rows = frame.table.num_rows
        self.kept: npt.NDArray[np.bool_] | None = None
        """True for rows that a filter keeps; `None` where all are."""
        if frame.rows is not None:
            self.kept = np.zeros(self._rows, np.bool_)
            self.kept[frame.rows] = True
        self.lengths = None
        self.longest = len(names)
        self.notes: tuple[str, ...] = ()
        self.bad = self._scan()

    def cells(self, rows: IntArray) -> Columns:
        """Return the cells of each column, null where missing, in the order of `rows`."""
        return self._blanked(self._take(rows))

    def cells_or_nan(self, rows: IntArray) -> Columns:
        """Return the same faster, with some of the missing cells NaN instead."""
        cells = self._take(rows)
        as_told = {name: cells.pop(name) for name in self._as_they_are}
        return self._blanked(cells) | as_told

    def _blanked(self, cells: Columns) -> Columns:
        found = {name: blank(column, self._codes[name]) for name, column in cells.items()}
        odd = {name: blank(as_numbers(found[name]), self._codes[name]) for name in self._odd}
        return found | odd

    def _scan(self) -> tuple[BadRows, ...]:
        """Find the rows that cannot be inputs."""
        found: dict[str, list[IntArray]] = {}
        for block in blocks(self._rows):
            rows = np.arange(block.start, block.stop)
            taken = self._take(rows)
            cells = self._blanked(taken)
            empty = np.ones(len(rows), np.bool_)
            for column in cells.values():
                empty &= _mask(column.is_null()) if column.null_count else np.False_
                if pa.types.is_floating(column.type):
                    infinite = np.isinf(column.to_numpy(zero_copy_only=False))
                    found.setdefault("holds an infinite number", []).append(rows[infinite])
            found.setdefault("has no cell that is not missing", []).append(rows[empty])
            for name in self._odd:
                words = blank(taken[name], self._codes[name])
                odd = _mask(words.is_valid()) & _mask(as_numbers(words).is_null())
                problem = f"holds a word in column {name!r}, where the others are numbers"
                found.setdefault(problem, []).append(rows[odd])
        bad = (BadRows(why, np.unique(np.concatenate(rows))) for why, rows in found.items())
        return tuple(rows for rows in bad if len(rows.rows))

    def fit(self, rows: IntArray) -> Statistics:
        """Learn each column's scale or categories from at most 200,000 training rows."""
        cells = self.cells(sample(rows))
        fitted = (CellStatistics.fit(*column) for column in cells.items())
        return {"columns": [one.model_dump(mode="json", exclude_defaults=True) for one in fitted]}

    def differences(self, statistics: Statistics) -> list[str]:
        """Name columns whose cells are of another sort than those the statistics describe."""
        found = []
        cells = self.cells(sample(np.arange(self._rows), 10_000))
        for column in _columns(statistics):
            here = cells[column.name]
            now = cell_type(here)
            if now not in _READABLE[column.type] and self._holds_cells(column.name, here):
                found.append(
                    f"column {column.name!r} holds {_WORDS[now]} where the run has "
                    f"{_WORDS[column.type]}"
                )
        return found

    def _holds_cells(self, name: str, some: pa.Array) -> bool:
        """Say whether a column holds anything, of which a sample may show nothing."""
        if some.null_count < len(some):
            return True
        taken = (self.cells(np.arange(one.start, one.stop))[name] for one in blocks(self._rows))
        return any(cells.null_count < len(cells) for cells in taken)

    def reader(self, statistics: Statistics) -> "TableReader":
        """Return what reads batches with `statistics`."""
        return TableReader(self, _columns(statistics), self._rows)

    @staticmethod
    def restore(statistics: Statistics, inputs: npt.NDArray[Any]) -> pa.Table:
        """Return a table in the user's units; NaN is a missing cell.

        Where the inputs are numbers of 32 bits, what these cannot tell apart is rounded.
        """
        columns = _columns(statistics)
        noise = float(np.finfo(np.float32).eps) / 2 if inputs.dtype == np.float32 else 0.0
        values = inputs.reshape(len(inputs), len(columns)).astype(np.float64)
        return pa.table(
            {column.name: column.decode(values[:, i], noise) for i, column in enumerate(columns)}
        )


class TableReader:
    """Reads batches of a table."""

    def __init__(self, table: TableRows, columns: list[CellStatistics], rows: int) -> None:
        self._table, self._columns = table, columns
        self._resident: npt.NDArray[np.float32] | None = None
        resident = rows * len(columns) * 4 <= RESIDENT_BYTES
        found = dict.fromkeys((column.name for column in columns), 0)
        parts = []
        for block in blocks(rows):
            if not resident and not any(column.categories for column in columns):
                break
            cells = table.cells(np.arange(block.start, block.stop))
            kept = None if table.kept is None else pa.array(table.kept[block])
            for column in columns if table.kept is None or table.kept[block].any() else ():
                here = cells[column.name]
                found[column.name] += column.unseen(here if kept is None else here.filter(kept))
            if resident:
                parts.append(self._encode(cells))
        if parts:
            self._resident = np.concatenate(parts)
        self.unseen = tuple(
            f"column {column.name!r}: {found[column.name]:,} cells hold categories that are not "
            f"among those learned; they count as {'other' if column.other else 'missing'}"
            for column in columns
            if found[column.name]
        )

    def input(self, length: int) -> InputConfig:
        """Describe the inputs for the model."""
        counts = tuple(column.num_codes for column in self._columns)
        return InputConfig(kind="table", length=length, categories=counts)

    def read(self, rows: IntArray, first: IntArray, width: int) -> Arrays:
        """Return `(B, C, 1)`; every row has all its columns, so `first` and `width` say nothing."""
        if self._resident is not None:
            inputs = self._resident[rows]
        else:
            inputs = self._encode(self._table.cells_or_nan(rows))
        missing = np.isnan(inputs)
        if not missing.any():
            return Arrays(inputs[:, :, None], None)
        return Arrays(np.where(missing, np.float32(0), inputs)[:, :, None], ~missing)

    def _encode(self, cells: Columns) -> npt.NDArray[np.float32]:
        """Return `(B, C)`, NaN where a cell is missing."""
        numbers = np.empty((len(cells[self._columns[0].name]), len(self._columns)))
        for place, column in enumerate(self._columns):
            numbers[:, place] = column.encode(cells[column.name])
        return np.clip(numbers, -FAR, FAR).astype(np.float32)


class _TableColumns:
    """Takes rows of an Arrow table, in any order, from all columns at once."""

    def __init__(self, table: pa.Table) -> None:
        self.names = table.schema.names
        self.types = dict(zip(table.schema.names, table.schema.types, strict=True))
        self._batches = [batch for batch in table.to_batches() if batch.num_rows]
        sizes = [batch.num_rows for batch in self._batches]
        self._starts = np.cumsum([0, *sizes])[:-1]

    def __call__(self, rows: IntArray) -> Columns:
        if len(self._batches) == 1:
            return _by_name(self._batches[0].take(pa.array(rows)))
        which = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(which, kind="stable")
        taken = [
            self._batches[number].take(pa.array(rows[which == number] - self._starts[number]))
            for number in np.unique(which)
        ]
        back = pa.array(np.argsort(order))
        table = pa.Table.from_batches(taken).combine_chunks().take(back)
        return _by_name(table.combine_chunks().to_batches()[0])


class _ArrayColumns:
    """Takes rows of `(rows, C)` arrays, whose columns are amounts, integers too."""

    def __init__(self, array: Stack) -> None:
        self.names = [str(number) for number in range(array.shape[1])]
        # Codes of missing cells are compared as 32 bits hold them.
        self._kind = np.float32 if array.dtype == np.float32 else np.float64
        self.types = dict.fromkeys(self.names, pa.from_numpy_dtype(self._kind))
        self._array = array

    def __call__(self, rows: IntArray) -> Columns:
        taken = self._array.take(rows).astype(self._kind)
        return {name: pa.array(taken[:, i]) for i, name in enumerate(self.names)}


def _mask(cells: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(cells.to_numpy(zero_copy_only=False), np.bool_)


def _by_name(batch: pa.RecordBatch) -> Columns:
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def _columns(statistics: Statistics) -> list[CellStatistics]:
    return [CellStatistics.model_validate(column) for column in statistics["columns"]]


_WORDS = {
    "number": "numbers",
    "integer": "whole numbers",
    "datetime": "times",
    "category": "words",
    "code": "a few whole numbers",
    "boolean": "true and false",
}

_READABLE = {
    "number": ("number", "integer", "code"),
    "integer": ("number", "integer", "code"),
    "datetime": ("datetime",),
    "category": ("category", "code", "integer"),
    "code": ("code", "integer", "number"),
    "boolean": ("boolean",),
}
"""Sorts of cells that a column's statistics can read: a file may hold 1.0 where another has 1."""
