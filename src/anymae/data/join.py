"""Training, validation and test files as one table, so that they are read alike."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from anymae.config import DataConfig
from anymae.data.frame import Frame, Places
from anymae.data.roles import LeftOut, Roles, named
from anymae.data.sources import read_source
from anymae.errors import DataError


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
        used |= dict.fromkeys(roles.target, "target") | dict.fromkeys(roles.inputs, "input")
        for column, use in used.items():
            if column in self.lacking:
                without = f", or leave it out with --drop {column}" if use == "input" else ""
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
    frames = [frame, *(read_source(path, alike) for _, path in others)]
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
        names = " and ".join(frame.name for frame in frames)
        raise DataError(
            f"the columns of {names} cannot stand in one table ({error}); "
            "give each column one type in all files"
        ) from None
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
        odd=frozenset(name for frame in frames for name in frame.odd),
        places=_join_places(frames, starts),
        named_by=first.named_by if all(f.named_by == first.named_by for f in frames) else None,
        source_digest=digest,
    )


def _join_places(frames: list[Frame], starts: list[int]) -> Places:
    runs: list[npt.NDArray[np.int64]] = []
    files: list[str] = []
    for frame, start in zip(frames, starts, strict=True):
        runs.append(frame.places.runs + np.array([start, len(files), 0]))
        files += frame.places.files or (frame.name,)
    return Places(frames[0].places.unit, tuple(files), np.concatenate(runs))
