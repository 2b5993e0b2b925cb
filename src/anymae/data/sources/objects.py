"""Python objects: strings in a list, and pandas, polars and pyarrow tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from anymae.config import DataConfig
from anymae.data.frame import VALUES, Frame
from anymae.data.sources.base import SOURCES, Source, reading, unique_names
from anymae.data.spool import plain, plain_type
from anymae.errors import DataError

TEXT = "text"
"""Name of the only column of strings that come without one."""
CELLS = "turn each of its columns into numbers, times or strings"
"""What to do with a table that cannot be read."""


@SOURCES.register("strings")
class StringsSource(Source):
    """Strings, one for each row: a list, a NumPy array, a pandas, polars or pyarrow column."""

    def takes(self, data: object) -> bool:
        """Take sequences that are not numbers, and columns of tables."""
        if isinstance(data, np.ndarray):
            return data.dtype.kind in "USO"
        if isinstance(data, Sequence):
            return not isinstance(data, str | bytes)
        one_column = hasattr(data, "dtype") and hasattr(data, "to_numpy")
        return isinstance(data, pa.Array | pa.ChunkedArray) or one_column

    def read(self, data: Any, config: DataConfig) -> Frame:  # noqa: ANN401
        """Copy the strings into one column `text`; a list of rows of numbers is an array."""
        if isinstance(data, np.ndarray) and data.ndim != 1:
            raise DataError(
                f"the array holds {data.dtype} in {data.ndim} dimensions; expected are numbers, "
                "or strings in 1 dimension"
            )
        if isinstance(data, pa.Array | pa.ChunkedArray):
            return _frame(pa.table({TEXT: data}), "the column", "strings")
        cells = list(data)
        if not isinstance(data, Sequence):  # pandas and NumPy have other words for nothing
            cells = [None if _is_nothing(cell) else cell for cell in cells]
        if not cells:
            raise DataError("the list is empty; a string for each row is expected")
        for row, cell in enumerate(cells):
            if not isinstance(cell, str | None):
                return self._numbers(data, row, cell, config)
        with reading("the list"):
            return _frame(
                pa.table({TEXT: pa.array(cells, pa.large_string())}), "the list", "strings"
            )

    def _numbers(self, data: object, row: int, cell: object, config: DataConfig) -> Frame:
        """Read a list of rows of numbers."""
        if row == 0 and not isinstance(data, np.ndarray):
            try:
                array = np.array(data)
            except ValueError:
                return _ragged(data)
            if array.dtype.kind in "biuf" and array.ndim > 1:
                return SOURCES["arrays"]().read(array, config)
        raise DataError(
            f"item {row} is of type {type(cell).__name__}; a list of strings, or an array of "
            "numbers with at least 2 dimensions is expected"
        )


def _is_nothing(cell: object) -> bool:
    return type(cell).__name__ in ("NAType", "NaTType") or (
        isinstance(cell, float) and cell != cell
    )


def _ragged(data: Any) -> Frame:  # noqa: ANN401 - any sequence
    """Read arrays `(N, K)` or `(N,)` of different N as one column of lists."""
    with reading("the list"):
        rows = [np.asarray(row) for row in data]
        kind = pa.large_list(pa.float64())
        if any(row.ndim != 1 for row in rows):
            kind = pa.large_list(kind)
        column = pa.array([row.tolist() for row in rows], kind)
        return _frame(pa.table({VALUES: column}), "the list", "strings")


@SOURCES.register("table")
class TableSource(Source):
    """Tables: pandas, polars, pyarrow, a dictionary of columns, or any Arrow stream."""

    def takes(self, data: object) -> bool:
        """Take what has named columns."""
        has_columns = hasattr(data, "columns") or hasattr(data, "__arrow_c_stream__")
        return isinstance(data, Mapping) or has_columns

    def read(self, data: Any, config: DataConfig) -> Frame:  # noqa: ANN401
        """Convert the table; numbers and strings that Arrow holds already are not copied."""
        with reading("the table", CELLS):
            if isinstance(data, Mapping):
                table = _columns(data)
            elif hasattr(data, "iloc"):
                return _from_pandas(data)
            elif hasattr(data, "to_arrow"):
                table = data.to_arrow()
            else:
                table = pa.table(data)
        return _frame(table, "the table", "table")


def _from_pandas(data: Any) -> Frame:  # noqa: ANN401 - pandas may not be installed
    """Convert a data frame; a column whose cells Arrow has no type for is left out, and named."""
    unique_names([str(name) for name in data.columns], "the table")
    odd = {}
    try:
        table = pa.Table.from_pandas(data, preserve_index=False)
    except _ODD_CELLS as error:
        columns = {}
        for position, name in enumerate(data.columns):
            one = data.iloc[:, [position]]
            try:
                columns[str(name)] = pa.Table.from_pandas(one, preserve_index=False)[0]
            except _ODD_CELLS:
                odd[str(name)] = f"{one.dtypes.iloc[0]} cells that no type fits"
        if not columns:
            raise DataError(f"the table cannot be read ({error}); {CELLS}") from error
        table = pa.table(columns)
    frame = _frame(table, "the table", "table")
    return replace(frame, unread={**frame.unread, **odd})


_ODD_CELLS = (pa.ArrowException, TypeError, ValueError)


def _columns(data: Mapping[Any, Any]) -> pa.Table:
    """Read a dictionary of columns."""
    for name, column in data.items():
        if isinstance(column, str | bytes | Mapping) or not hasattr(column, "__iter__"):
            raise DataError(
                f"{name!r} of the dictionary is of type {type(column).__name__}; a list or array "
                "with a cell for each row is expected"
            )
    try:
        return pa.table({str(name): column for name, column in data.items()})
    except TypeError as error:
        raise DataError(
            f"the dictionary is no table ({error}); a list or array for each column is expected"
        ) from error


def _frame(table: pa.Table, name: str, source: str) -> Frame:
    """Bring a table in memory into a frame's types, one chunk per column."""
    unique_names(table.column_names, name)
    if not table.num_rows:
        raise DataError(f"{name} holds no rows")
    columns: dict[str, pa.Array] = {}
    unread: dict[str, str] = {}
    with reading(name):
        for field in table.schema:
            if plain_type(field.type) is None:
                unread[field.name] = str(field.type)
                continue
            chunks = [plain(chunk) for chunk in table[field.name].chunks]
            columns[field.name] = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
    if not columns:
        raise DataError(f"{name} has no column of numbers, strings or lists of numbers")
    return Frame(table=pa.table(columns), name=name, format=source, unread=unread)
