"""The cache: data that cannot be read at random from its file, once, as uncompressed Arrow IPC.

An entry is a folder named by what it holds: the sha256 of the files' content and of the settings
that decide how they are read. It is written beside its place under a lock, flushed and renamed:
an interrupted process leaves nothing that another takes for data. `$ANYMAE_CACHE` says where.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from filelock import FileLock

from anymae.data.frame import Frame, Places
from anymae.data.spool import Spool, plain, plain_type
from anymae.errors import DataError, UserInputError
from anymae.files import sha256, sync

logger = logging.getLogger(__name__)

LAYOUT = 8
"""Version of the entries; raised when they, or what is read of a file, change."""

_REMEMBER_BYTES = 1 << 26
_MANY_BAD = 100_000
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    pa.ArrowException,
)
"""What is raised where the files of an entry hold something else than was written."""
_DIGEST = re.compile("[0-9a-f]{64}")


def cache_folder() -> Path:
    """Return the folder of the cache: `$ANYMAE_CACHE`, or the platform's place for caches."""
    if named := os.environ.get("ANYMAE_CACHE"):
        return Path(named).expanduser()
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "anymae"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "anymae" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "anymae"


def content_digest(paths: Sequence[Path]) -> str:
    """Return the sha256 of the content of files, all of it.

    Files over 64 MB are read in full the first time; the result is remembered in the cache and
    believed as long as size, inode and times (also the one that nobody can set) are the same.

    Raises:
        DataError: A file cannot be read.
    """
    digests = []
    for path in paths:
        try:
            digests.append(_file_digest(path.resolve()))
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({error.strerror or error}); make it readable"
            ) from error
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    stat = path.stat()
    if stat.st_size < _REMEMBER_BYTES:
        return sha256(path)
    state = [str(path), stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()
    note = cache_folder() / "digests" / key
    with suppress(OSError, UnicodeDecodeError):
        # A power failure can leave a note without its content.
        if _DIGEST.fullmatch(known := note.read_text()):
            return known
    digest = sha256(path)
    # A file that changed a moment ago may change again within the clock's resolution.
    if time.time() - max(stat.st_mtime, stat.st_ctime) > 2:
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            staged = note.with_suffix(f".{os.getpid()}")
            staged.write_text(digest)
            sync(staged)
            staged.replace(note)
    return digest


class Sink:
    """Takes the rows of a source block by block, with where they stand and what is wrong."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.bad: dict[int, str] = {}
        self.odd: list[str] = []
        self.unread: dict[str, str] = {}
        self.shape: tuple[int, ...] | None = None
        self.num_rows = 0
        self._folder = folder
        self._spool: Spool | None = None
        self._runs: list[npt.NDArray[np.int64]] = []
        self._next = (-1, -1)

    def start(self, schema: pa.Schema) -> None:
        """Say which columns come; those that cannot be inputs are left out and named."""
        fields = [(field, plain_type(field.type)) for field in schema]
        self.unread = {field.name: str(field.type) for field, kind in fields if kind is None}
        schema = pa.schema([(field.name, kind) for field, kind in fields if kind is not None])
        if not len(schema):
            raise DataError(f"{self.name} has no column of numbers, strings or lists of numbers")
        self._spool = Spool(self._folder, schema)

    def add(
        self,
        rows: pa.Table,
        file: int = 0,
        lines: npt.NDArray[np.int64] | None = None,
        bad: Mapping[int, str] = {},
    ) -> None:
        """Add rows with where they stand and what is wrong with some.

        Args:
            rows: Their cells.
            file: Which file they are from.
            lines: Where each stands there; `None` goes on counting, from 0.
            bad: The problem of each that could not be read, by its place in `rows`.
        """
        self.bad.update((self.num_rows + place, problem) for place, problem in bad.items())
        if len(self.bad) > _MANY_BAD:
            raise DataError(
                f"{self.name} has more than {_MANY_BAD:,} rows that cannot be read "
                f"(the first: {next(iter(self.bad.values()))}); is it what its name says?"
            )
        if lines is None:
            first = self._next[1] if self._next[0] == file else 0
            lines = np.arange(first, first + rows.num_rows)
        self._place(file, lines)
        if self._spool is None:
            self.start(rows.schema)
        assert self._spool is not None
        for name in self._spool.schema.names:
            kind = self._spool.schema.field(name).type
            for chunk in rows[name].chunks:
                # The cells of one file may be of a narrower type than those of all files.
                self._spool.append(name, plain(chunk).cast(kind))
        self.num_rows += rows.num_rows

    def _place(self, file: int, lines: npt.NDArray[np.int64]) -> None:
        """Note on which lines of which file the next rows stand."""
        if not len(lines):
            return
        starts = np.flatnonzero(np.diff(lines) != 1) + 1
        if self._next != (file, int(lines[0])):
            starts = np.concatenate([[0], starts])
        run = np.stack([starts + self.num_rows, np.full_like(starts, file), lines[starts]], axis=1)
        self._runs.append(run)
        self._next = (file, int(lines[-1]) + 1)

    def finish(self, path: Path) -> None:
        """Write the entry's files."""
        if self._spool is None or not self.num_rows:
            raise DataError(f"{self.name} holds no rows")
        batch = self._spool.finish(self.num_rows)
        with pa.OSFile(str(path / "table.arrow"), "wb") as file:
            with pa.ipc.new_file(file, batch.schema) as writer:
                writer.write_batch(batch)
            file.flush()
        runs = np.concatenate(self._runs) if self._runs else np.zeros((1, 3), np.int64)
        np.save(path / "places.npy", runs.astype(np.int64))
        entry = {
            "rows": self.num_rows,
            "shape": self.shape,
            "bad": list(self.bad.items()),
            "odd": self.odd,
            "unread": self.unread,
            "bytes": (path / "table.arrow").stat().st_size,
        }
        (path / "entry.json").write_text(json.dumps(entry))


@dataclass(frozen=True)
class Reading:
    """How the rows of some files become an entry."""

    name: str
    """The files, as the user calls them."""
    format: str
    """The source that reads them."""
    paths: tuple[Path, ...]
    fill: Callable[[Sink], None]
    """Reads the files into a sink."""
    settings: dict[str, Any]
    """What else decides the result, JSON values."""
    unit: str = "row"
    """What `Places` counts."""
    files: tuple[str, ...] = ()
    """Names of the files for messages."""
    named_by: str | None = None
    """See `Frame.named_by`."""


def through_cache(reading: Reading) -> Frame:
    """Return the frame of some files, from the cache if it holds them, else by way of it.

    Raises:
        DataError: The files cannot be read; no entry is made.
        UserInputError: The cache cannot be written.
    """
    digest = content_digest(reading.paths)
    what = json.dumps([LAYOUT, reading.format, digest, reading.settings], sort_keys=True)
    key = hashlib.sha256(what.encode()).hexdigest()[:32]
    place = cache_folder() / "tables" / key
    frame = _open(place, reading, digest)
    if frame is not None:
        return frame
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):
            frame = _open(place, reading, digest)  # another process may have been first
            if frame is None:
                _build(place, reading)
                frame = _open(place, reading, digest)
    except OSError as error:
        raise UserInputError(
            f"the cache {cache_folder()} cannot be written ({error.strerror or error}); "
            "set ANYMAE_CACHE to a folder with room"
        ) from error
    assert frame is not None
    return frame


def _build(place: Path, reading: Reading) -> None:
    """Write an entry beside its place, then move it there."""
    size = sum(path.stat().st_size for path in reading.paths)
    logger.info("%s (%s) is copied to the cache once: %s", reading.name, _human(size), place)
    staged, spool = place.with_suffix(".part"), place.with_suffix(".spool")
    for folder in (staged, spool, place):  # left by a killed process, or damaged
        shutil.rmtree(folder, ignore_errors=True)
        if folder != place:
            folder.mkdir()
    try:
        sink = Sink(spool, reading.name)
        reading.fill(sink)
        sink.finish(staged)
        for path in staged.iterdir():
            sync(path)
        staged.rename(place)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        shutil.rmtree(spool, ignore_errors=True)
    written = sum(path.stat().st_size for path in place.iterdir())
    logger.info("%s: %s rows, %s in the cache", reading.name, f"{sink.num_rows:,}", _human(written))


def _open(place: Path, reading: Reading, digest: str) -> Frame | None:
    """Map an entry; `None` where there is none or it is damaged."""
    try:
        entry = json.loads((place / "entry.json").read_text())
        path = place / "table.arrow"
        if path.stat().st_size != entry["bytes"]:
            return None
        with pa.memory_map(str(path)) as file:
            table = pa.Table.from_batches([pa.ipc.open_file(file).get_batch(0)])
        runs = np.load(place / "places.npy", mmap_mode="r", allow_pickle=False)
        return Frame(
            table=table,
            name=reading.name,
            format=reading.format,
            shape=tuple(entry["shape"]) if entry["shape"] else None,
            bad={int(row): problem for row, problem in entry["bad"]},
            odd=frozenset(entry["odd"]),
            unread=entry["unread"],
            places=Places(reading.unit, reading.files, runs),
            named_by=reading.named_by,
            source_digest=digest,
        )
    except _DAMAGED:
        return None


def _human(size: int) -> str:
    """Write a size as people do.

    >>> _human(12_590_388)
    '12.6 MB'
    """
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
