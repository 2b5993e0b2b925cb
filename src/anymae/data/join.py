"""Training, validation and test files as one table, and new data as those of a stored run.

Files are read alike: which type a text file's column has follows from all of its cells, and a file
of a few rows may lack those that made it words; a data frame may hold as strings what a file gave
as times. So the cells of a stored table run's data are read as its columns are, not as they look.
"""

import hashlib
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from anymae.config import DataConfig
from anymae.data.frame import Frame, Places
from anymae.data.missing import as_numbers, blank, codes_of
from anymae.data.preparation import Preparation
from anymae.data.roles import LeftOut, Roles, named
from anymae.data.sources import read_source
from anymae.data.sources.guess import convert, holds_words, markers
from anymae.errors import DataError, nearest

_PARSED = {"datetime": pa.timestamp("us"), "boolean": pa.bool_()}
_NUMBERS = ("number", "integer", "code")


@dataclass(frozen=True)
class ReadParts:
    """What was read from one file or several."""

    frame: Frame
    """All rows, one file under the other."""
    lacking: dict[str, str] = field(default_factory=dict)
    """For each column that not all files have, a file that lacks it."""
    extra: frozenset[str] = frozenset()
    """Columns that the training file lacks."""

    def roles(self, resolve: Callable[[Frame, DataConfig], Roles], config: DataConfig) -> Roles:
        """Decide the roles of columns; those that the training file lacks are inputs of nothing.

        Args:
            resolve: Decides them for a single file.
            config: Roles given by the user.

        Raises:
            DataError: `resolve` finds none that fit, or a file lacks a column that is used.
        """
        extra = sorted(self.extra - named(config))
        found = resolve(replace(self.frame, table=self.frame.table.drop_columns(extra)), config)
        left = [LeftOut(column=name, reason="not in the training file") for name in extra]
        roles = found.model_copy(update={"left_out": (*found.left_out, *left)})
        self._check(roles)
        return roles

    def _check(self, roles: Roles) -> None:
        """Refuse columns that are used and that a file lacks."""
        single = {name: getattr(roles, name) for name in ("id", "split", "group", "weight")}
        used = {column: name for name, column in single.items() if column is not None}
        if roles.split not in self.extra:
            # Files of parts say by themselves which part they are.
            used.pop(roles.split, None)
        used |= dict.fromkeys(roles.target, "target") | dict.fromkeys(roles.inputs, "input")
        for column, use in used.items():
            if column in self.lacking:
                without = (
                    f", or leave it out with --drop {shlex.quote(column)}" if use == "input" else ""
                )
                raise DataError(
                    f"{self.lacking[column]} lacks column {column!r}, which is used as {use}; "
                    f"add it there{without}"
                )


def read_parts(data: object, config: DataConfig) -> ReadParts:
    """Read the data and the files that `config.valid` and `config.test` name.

    Raises:
        DataError: A file cannot be read, or its columns cannot stand beside the others.
    """
    frame = read_source(data, config)
    others = [(part, path) for part, path in ((1, config.valid), (2, config.test)) if path]
    if not others:
        return ReadParts(frame)
    # What is words in one file is words in all: a file may hold only such as look like numbers.
    fields = (field for field in frame.table.schema if pa.types.is_large_string(field.type))
    words = tuple(dict.fromkeys((*config.words, *(field.name for field in fields))))
    alike = config.model_copy(update={"words": words})
    read = (read_source(path, alike) for _, path in others)
    frames = [frame, *(_like_first(other, frame, config) for other in read)]
    parts = [0, *(part for part, _ in others)]
    files = np.repeat(np.array(parts, np.int8), [other.table.num_rows for other in frames])
    names = [dict.fromkeys(other.table.column_names) for other in frames]
    lacking = {
        column: other.name
        for one in names
        for other, there in zip(frames, names, strict=True)
        for column in one.keys() - there.keys()
    }
    extra = frozenset().union(*names[1:]) - names[0].keys()
    return ReadParts(replace(_join(frames), parts=files), lacking, extra)


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


def _join(frames: list[Frame]) -> Frame:
    """Put frames one under the other, without a copy."""
    first = frames[0]
    for other in frames[1:]:
        if other.shape != first.shape:
            raise DataError(
                f"rows of {other.name} are {other.shape}, of {first.name} {first.shape}"
            )
    try:
        table = pa.concat_tables([frame.table for frame in frames], promote_options="permissive")
    except pa.ArrowException as error:
        raise _unlike(frames, error) from None
    starts = np.cumsum([0, *(frame.table.num_rows for frame in frames)])[:-1].tolist()
    kept = [
        (np.arange(frame.table.num_rows) if frame.rows is None else frame.rows) + start
        for frame, start in zip(frames, starts, strict=True)
    ]
    bad = [
        (row + start, problem)
        for frame, start in zip(frames, starts, strict=True)
        for row, problem in frame.bad.items()
    ]
    digest = hashlib.sha256("".join(frame.digest for frame in frames).encode()).hexdigest()
    return replace(
        first,
        table=table,
        rows=None if all(frame.rows is None for frame in frames) else np.concatenate(kept),
        bad=dict(bad),
        places=_join_places(frames, starts),
        named_by=first.named_by if all(f.named_by == first.named_by for f in frames) else None,
        source_digest=digest,
    )


def _like_first(frame: Frame, first: Frame, config: DataConfig) -> Frame:
    """Bring the columns of a further file into the numbers of the first, which is trained on."""
    table, bad = frame.table, dict(frame.bad)
    for place, name in enumerate(frame.table.column_names):
        known = first.table.schema.get_field_index(name)
        wanted = pa.null() if known < 0 else first.table.schema.field(known).type
        whole, kind = pa.types.is_integer(wanted), table.schema.field(place).type
        words = pa.types.is_large_string(kind) and (whole or pa.types.is_floating(wanted))
        if not (words or (whole and pa.types.is_floating(kind))):
            continue  # one chunk is a copy, which columns that stay as they are need not
        cells = table[name].combine_chunks()
        if words:
            filled = blank(cells, codes_of(name, config.missing))
            numbers = as_numbers(filled)
            odd = pc.and_(filled.is_valid(), numbers.is_null()).to_numpy(zero_copy_only=False)
            mostly_words = odd.sum() * 2 > len(filled) - filled.null_count
            if mostly_words or (whole and _exceeds_floats(numbers)):
                continue  # refused where the files are joined
            cells = numbers
            if name not in config.drop:
                problem = f"holds a word in column {name!r}, where the others are numbers"
                bad = dict.fromkeys(np.flatnonzero(odd).tolist(), problem) | bad
        if whole and pa.types.is_floating(cells.type):
            cells = _whole(cells, wanted)
        if cells.type != kind:
            table = table.set_column(place, name, cells)
    return replace(frame, table=table, bad=bad)


def _exceeds_floats(numbers: pa.Array) -> bool:
    """Say whether some are whole numbers that floats do not tell apart."""
    largest = pc.max(pc.abs(numbers)).as_py()
    return largest is not None and largest > 2**53


def _whole(numbers: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return floats as integers where all are whole, as programs write 1.0 beside a missing 1."""
    try:
        return pc.if_else(numbers.is_nan(), pa.scalar(None, numbers.type), numbers).cast(kind)
    except pa.ArrowInvalid:
        return numbers


def _unlike(frames: list[Frame], error: pa.ArrowException) -> DataError:
    """Name a column whose cells cannot stand under those of the first file."""
    names, found = " and ".join(frame.name for frame in frames), str(error)
    known = frames[0].table.schema
    for other in frames[1:]:
        for column in other.table.schema:
            if column.name not in known.names:
                continue
            pair = [known.field(column.name), column]
            try:
                pa.unify_schemas([pa.schema([one]) for one in pair], promote_options="permissive")
            except pa.ArrowException:
                first, second = (str(one.type).removeprefix("large_") for one in pair)
                found = (
                    f"{column.name!r} holds {first} in {frames[0].name} and {second} in "
                    f"{other.name}"
                )
    return DataError(
        f"the columns of {names} cannot stand in one table ({found}); "
        "give each column one type in all files"
    )


def _join_places(frames: list[Frame], starts: list[int]) -> Places:
    runs: list[npt.NDArray[np.int64]] = []
    files: list[str] = []
    for frame, start in zip(frames, starts, strict=True):
        runs.append(frame.places.runs + np.array([start, len(files), 0]))
        files += frame.places.files or (frame.name,)
    return Places(frames[0].places.unit, tuple(files), np.concatenate(runs))


def _parsed(frame: Frame, types: Mapping[str, str], missing: tuple[str, ...]) -> Frame:
    """Turn strings into what they are in the run."""
    table, odd = frame.table, set(frame.odd)
    for place, column in enumerate(table.schema):
        wanted = types.get(column.name)
        if wanted == "category":
            odd.discard(column.name)
        if not pa.types.is_large_string(column.type):
            continue
        if wanted in _NUMBERS:
            if column.name not in odd and _some_are_numbers(table[column.name]):
                odd.add(column.name)
        elif wanted in _PARSED:
            absent = markers(missing, column.name)
            try:
                chunks = [
                    convert(chunk.cast(pa.string()), _PARSED[wanted], absent)
                    for chunk in table[column.name].chunks
                ]
            except pa.ArrowInvalid:
                continue  # refused by the kind, with what the run holds
            table = table.set_column(place, column.name, pa.chunked_array(chunks, _PARSED[wanted]))
    return replace(frame, table=table, odd=frozenset(odd))


def _some_are_numbers(cells: pa.ChunkedArray) -> bool:
    return any(int(as_numbers(chunk).null_count) < len(chunk) for chunk in cells.chunks)
