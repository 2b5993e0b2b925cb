"""JSON lines: one object per line. Types come from all values of the whole column."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from anymae.data.cache import Sink
from anymae.data.sources.base import SOURCES, CachedSource, Files
from anymae.data.sources.lines import NOT_UTF8, Block, blocks_of, numbers_of_lines
from anymae.errors import DataError

_LONG = pa.decimal256(76)
"""Stands for integers beyond 64 bits, until the whole column tells if they are names or amounts."""


@SOURCES.register("jsonl")
class JsonLinesSource(CachedSource):
    """Objects as lines; a key that a line lacks is a missing cell, empty lines are no rows.

    Numbers, strings, booleans and (nested) lists of numbers keep their type. A column that mixes
    types, or holds objects, becomes strings: the JSON text of what is no string.
    """

    extensions = (".jsonl", ".ndjson")
    compressed = True
    format = "jsonl"
    unit = "line"

    def fill(self, files: Files, sink: Sink) -> None:
        """Copy the objects, whose keys become columns."""
        kinds: dict[str, pa.DataType] = {}
        bad = rows = 0
        for _, objects in _objects(files):
            bad, rows = bad + len(objects.bad), rows + len(objects.values)
            for value in objects.values:
                for key, cell in value.items():
                    found = _kind(cell)
                    known = kinds.get(key)
                    kinds[key] = found if known is None or known == found else _join(known, found)
        if not kinds:
            raise DataError(
                f"{files.name} has no values in {rows} lines, {bad} of which cannot be read; one "
                "JSON object per line is expected"
            )
        # Beside integers alone they are names: as floats they would lose digits.
        kinds = {key: pa.large_string() if kind == _LONG else kind for key, kind in kinds.items()}
        schema = pa.schema(list(kinds.items()))
        sink.start(schema)
        for number, objects in _objects(files):
            columns = [
                _column([value.get(key) for value in objects.values], kind)
                for key, kind in kinds.items()
            ]
            table = pa.Table.from_arrays(columns, schema=schema)
            sink.add(table, number, objects.lines, objects.bad)


class _Objects(NamedTuple):
    values: list[dict[str, Any]]
    lines: npt.NDArray[np.int64]
    bad: dict[int, str]


def _objects(files: Files) -> Iterator[tuple[int, _Objects]]:
    for number, block in blocks_of(files):
        if block.text:
            yield number, _parse(block)


def _parse(block: Block) -> _Objects:
    values: list[dict[str, Any]] = []
    bad: dict[int, str] = {}
    for line in block.text.split(b"\n"):
        if not line:
            continue
        value: Any = {}
        try:
            value = json.loads(line.decode())
            if b"\\u" in line:  # may name half a character, which no string can hold
                json.dumps(value, ensure_ascii=False).encode()
        except UnicodeError:
            bad[len(values)] = NOT_UTF8
            value = {}
        except (ValueError, RecursionError) as error:
            bad[len(values)] = f"is no JSON ({error})"
        if not isinstance(value, dict):
            bad[len(values)] = "is no JSON object"
            value = {}
        values.append(value)
    return _Objects(values, numbers_of_lines(block), bad)


def _kind(cell: object) -> pa.DataType:
    """Return the type of one value."""
    if cell is None:
        return pa.null()
    if isinstance(cell, bool):
        return pa.bool_()
    if isinstance(cell, int):
        if -(2**63) <= cell < 2**63:
            return pa.int64()
        return _LONG if abs(cell) < 2**1000 else pa.large_string()  # which no float holds
    if isinstance(cell, float):
        return pa.float64()
    if isinstance(cell, list):
        inner = pa.null()
        for item in cell:
            found = _kind(item)
            # What is in a list is an amount.
            inner = _join(inner, pa.float64() if found == _LONG else found)
        listed = pa.types.is_large_list(inner) or pa.types.is_null(inner)
        if listed or inner in (pa.int64(), pa.float64()):
            return pa.large_list(inner)
    return pa.large_string()


def _join(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return the type that holds values of both."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    numbers = {one, other}
    if numbers <= {pa.int64(), pa.float64(), _LONG}:
        return pa.float64() if pa.float64() in numbers else _LONG
    if pa.types.is_large_list(one) and pa.types.is_large_list(other):
        inner = _join(one.value_type, other.value_type)
        return inner if inner == pa.large_string() else pa.large_list(inner)
    return pa.large_string()


def _column(cells: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.large_string():
        cells = [
            cell if cell is None or isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
            for cell in cells
        ]
    elif kind == pa.float64() or pa.types.is_large_list(kind):
        cells = [_floats(cell, kind) for cell in cells]
    return pa.array(cells, kind)


def _floats(cell: Any, kind: pa.DataType) -> Any:  # noqa: ANN401 - any JSON value
    """Make integers floats where the column holds floats (Arrow refuses those over 2**53)."""
    if cell is None or kind == pa.int64():
        return cell
    if kind == pa.float64():
        return float(cell)
    return [_floats(item, kind.value_type) for item in cell]
