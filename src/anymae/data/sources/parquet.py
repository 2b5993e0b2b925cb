"""Parquet: one file, or many that make one table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from anymae.data.cache import Sink
from anymae.data.sources.base import SOURCES, CachedSource, Files, reading, unique_names
from anymae.data.spool import plain_type
from anymae.errors import DataError

_ROWS = 1 << 16
_NOTHING = "__HIVE_DEFAULT_PARTITION__"
"""What a folder is called whose rows have no value."""


@SOURCES.register("parquet")
class ParquetSource(CachedSource):
    """Parquet files with one schema; nested columns other than lists are left out by name.

    Folders named `COLUMN=VALUE`, as many programs divide data, add a column of strings.
    """

    extensions = (".parquet", ".pq")
    format = "parquet"

    def settings(self, files: Files) -> dict[str, Any]:
        """Return the values of the folders' columns, which stand in no file."""
        folders = _folders(files)
        return {"folders": folders} if folders else {}

    def fill(self, files: Files, sink: Sink) -> None:
        """Copy the files, shard after shard."""
        schemas = []
        for path, name in files:
            with reading(name):
                schemas.append(pq.read_schema(path, memory_map=True))
        schema = common_schema(schemas, files.names)
        folders = {key: cells for key, cells in _folders(files).items() if key not in schema.names}
        for key in folders:
            schema = schema.append(pa.field(key, pa.large_string()))
        sink.start(schema)
        for number, (path, name) in enumerate(files):
            with reading(name), pq.ParquetFile(path, memory_map=True) as file:
                count = 0
                for batch in file.iter_batches(_ROWS):
                    rows = pa.Table.from_batches([batch])
                    for key, cells in folders.items():
                        cell = pa.scalar(cells[number], pa.large_string())
                        rows = rows.append_column(key, pa.repeat(cell, len(rows)))
                    sink.add(rows, number)
                    count += len(rows)
                if count != file.metadata.num_rows:
                    raise DataError(
                        f"{name} promises {file.metadata.num_rows} rows and holds {count}; "
                        "is it complete?"
                    )


def _folders(files: Files) -> dict[str, list[str | None]]:
    """Return, for each column that folders `COLUMN=VALUE` name, its value in each file."""
    found: list[dict[str, str | None]] = []
    for label in files.labels:
        pairs = (part.partition("=") for part in Path(label).parts[:-1])
        cells = {unquote(key): unquote(value) for key, sign, value in pairs if key and sign}
        found.append({key: None if cell == _NOTHING else cell for key, cell in cells.items()})
    shared = [key for key in found[0] if all(key in cells for cells in found)]
    return {key: [cells[key] for cells in found] for key in shared}


def common_schema(schemas: Sequence[pa.Schema], names: Sequence[str]) -> pa.Schema:
    """Return the columns of shards, each of a type that holds its cells in all of them.

    A column with nothing in it has no type of its own in its file.

    Args:
        schemas: The columns of each file.
        names: What to call the files.

    Raises:
        DataError: A file has other columns than the first, or cells that no type holds beside its.
    """
    first = schemas[0]
    for schema, name in zip(schemas, names, strict=True):
        unique_names(schema.names, name)
        if schema.names != first.names:
            odd = sorted(set(first.names) ^ set(schema.names)) or schema.names
            raise DataError(
                f"{name} has other columns than the files before it ({', '.join(odd)}); "
                "the files of one table need the same columns in the same order"
            )
    kinds = list(first.types)
    for schema, name in zip(schemas[1:], names[1:], strict=True):
        for place, (one, other) in enumerate(zip(kinds, schema.types, strict=True)):
            wider = _wider(one, other)
            if wider is None:
                raise DataError(
                    f"column {first.names[place]!r} is {other} in {name} and {one} before it; "
                    "a column needs one type in all files, or types that fit into one"
                )
            kinds[place] = wider
    return pa.schema(list(zip(first.names, kinds, strict=True)))


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the cells of both, `None` where there is none such.

    Numbers beside strings are read as strings. A type that is not read stays, so that its column
    is left out by name.
    """
    if one == other:
        return one
    plain = plain_type(one), plain_type(other)
    if plain[0] is None or plain[1] is None:
        return one if plain[0] is None else other
    fields = [pa.schema([("", kind)]) for kind in plain]
    try:
        return pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except pa.ArrowException:
        nested = any(pa.types.is_nested(kind) for kind in plain)
        return None if nested or pa.large_string() not in plain else pa.large_string()
