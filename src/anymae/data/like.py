"""New data for a stored table run: cells are read as its columns are, not as they look here.

Which type a text file's column has follows from all of its cells, and a file of a few rows may
lack those that made it words; a data frame may hold as strings what a file gave as times.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pyarrow as pa

from anymae.config import DataConfig
from anymae.data.frame import Frame
from anymae.data.join import ReadParts, read_parts
from anymae.data.missing import as_numbers
from anymae.data.preparation import Preparation
from anymae.data.sources.guess import convert, holds_words, markers
from anymae.errors import DataError, nearest

_PARSED = {"datetime": pa.timestamp("us"), "boolean": pa.bool_()}
_NUMBERS = ("number", "integer", "code")


def read_like(data: object, config: DataConfig, preparation: Preparation | None) -> ReadParts:
    """Read data, for a stored run if there is one.

    Args:
        data: As for `read_parts`.
        config: Likewise.
        preparation: That of the run; only for tables there is more to do than `read_parts` does.

    Returns:
        The data: columns that hold words in the run hold words here, where the format lets them
        be read so; strings are times, or true and false, where all of them can be, and numbers,
        where some can.

    Raises:
        DataError: As `read_parts`.
    """
    if preparation is None or preparation.kind != "table":
        return read_parts(data, config)
    types = {column["name"]: column["type"] for column in preparation.statistics["columns"]}
    words = (name for name, kind in types.items() if kind == "category")
    config = config.model_copy(update={"words": tuple(dict.fromkeys((*config.words, *words)))})
    parts = read_parts(data, config)
    if parts.frame.shape is not None:
        return parts
    return replace(parts, frame=_parsed(parts.frame, types, config.missing))


def check_words(frame: Frame, words: Iterable[str]) -> None:
    """Refuse to read a column as words where there is none, or its source says what it holds.

    Raises:
        DataError: A column is not there, or holds something else.
    """
    for name in words:
        if name not in frame.table.column_names:
            known = nearest(name, frame.table.column_names)
            raise DataError(f"data.words names column {name!r}, which is not there{known}")
        kind = frame.table.schema.field(name).type
        if not holds_words(kind):
            raise DataError(
                f"data.words names column {name!r}, and {frame.name} itself says that it holds "
                f"{kind}; turn it into strings there"
            )


def _parsed(frame: Frame, types: Mapping[str, str], missing: tuple[str, ...]) -> Frame:
    """Turn strings into what they are in the run."""
    table, odd = frame.table, set(frame.odd)
    for place, field in enumerate(table.schema):
        wanted = types.get(field.name)
        if not pa.types.is_large_string(field.type):
            continue
        if wanted in _NUMBERS:
            if field.name not in odd and _some_are_numbers(table[field.name]):
                odd.add(field.name)
        elif wanted in _PARSED:
            absent = markers(missing, field.name, table.column_names)
            try:
                chunks = [
                    convert(chunk.cast(pa.string()), _PARSED[wanted], absent)
                    for chunk in table[field.name].chunks
                ]
            except pa.ArrowInvalid:
                continue  # refused by the kind, with what the run holds
            table = table.set_column(place, field.name, pa.chunked_array(chunks, _PARSED[wanted]))
    return replace(frame, table=table, odd=frozenset(odd))


def _some_are_numbers(cells: pa.ChunkedArray) -> bool:
    return any(int(as_numbers(chunk).null_count) < len(chunk) for chunk in cells.chunks)
