"""What a source is. A new one is a file in here, or a package with an entry point.

A source reads one format, knows nothing of columns' roles or kinds of input, and gives a `Frame`.
"""

import errno
import os
import struct
import tokenize
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from anymae.config import DataConfig
from anymae.data.cache import Reading, Sink, through_cache
from anymae.data.frame import Frame
from anymae.errors import DataError, UserInputError, first_line
from anymae.registry import Registry


@dataclass(frozen=True)
class Files:
    """Files of one format that make up one table."""

    name: str
    """The argument as the user typed it."""
    paths: tuple[Path, ...]
    extension: str
    """What they end in, without the compression: `.csv`."""
    remote: tuple[str, ...] = ()
    """Names of the files of a URL in their common folder, as their copies lie apart."""

    def __iter__(self) -> Iterator[tuple[Path, str]]:
        """Go through the files, each with what to call it in messages."""
        return zip(self.paths, self.names, strict=True)

    @property
    def names(self) -> list[str]:
        """What to call each file in messages: a single one as the user did."""
        if len(self.paths) == 1:
            return [self.name]
        # Copies lie in the cache, which the user did not name.
        remote = [f"{label} of {self.name}" for label in self.remote]
        return remote or [str(path) for path in self.paths]

    @property
    def labels(self) -> tuple[str, ...]:
        """Short names of the files: relative to what they have in common."""
        if len(self.paths) == 1:
            return (self.paths[0].name,)
        if self.remote:
            return self.remote
        folder = Path(self.name)
        if not folder.is_dir():
            folder = Path(os.path.commonpath([path.parent for path in self.paths]))
        return tuple(str(path.relative_to(folder)) for path in self.paths)


class Source(ABC):
    """Reads one format: files with some extensions, or some Python objects."""

    extensions: ClassVar[tuple[str, ...]] = ()
    """Endings of the files it reads, in lower case with the dot, without `.gz` and `.zst`."""
    compressed: ClassVar[bool] = False
    """Whether its files may be `.gz` or `.zst`."""

    def takes(self, data: object) -> bool:
        """Say whether it reads this Python object."""
        return False

    @abstractmethod
    def read(self, data: Any, config: DataConfig) -> Frame:  # noqa: ANN401
        """Read `Files`, or an object that it takes.

        Raises:
            DataError: The data cannot be read; the sentence names the place.
        """


class CachedSource(Source):
    """Copies files to the cache, from where they are mapped."""

    format: ClassVar[str]
    """What the cache calls it."""
    unit: ClassVar[str] = "row"
    """What `Places` counts."""
    named_by: ClassVar[str | None] = None
    """See `Frame.named_by`."""

    def settings(self, files: Files) -> dict[str, Any]:
        """Return what decides the result besides the files' content, JSON values."""
        return {}

    def read(self, data: Files, config: DataConfig) -> Frame:
        """Map the copy in the cache, made if it is not there."""
        return through_cache(
            Reading(
                name=data.name,
                format=self.format,
                paths=data.paths,
                fill=partial(self.fill, data),
                settings=self.settings(data),
                unit=self.unit,
                files=data.labels,
                named_by=self.named_by,
            )
        )

    @abstractmethod
    def fill(self, files: Files, sink: Sink) -> None:
        """Read the files into a sink."""


SOURCES = Registry[type[Source]]("sources")


def source_of(extension: str, name: str) -> type[Source]:
    """Return the source that reads files with this ending.

    Raises:
        DataError: None does; the nearest ending is named.
    """
    known = {ending: SOURCES[key] for key in SOURCES for ending in SOURCES[key].extensions}
    if extension not in known:
        ending = f"ends in {extension!r}" if extension else "has no ending such as .csv"
        raise DataError(f"{name} {ending}, which no source reads; {_instead(extension, known)}")
    return known[extension]


_INSTEAD = {
    (".h5", ".hdf5", ".hdf", ".nc", ".fits", ".fit", ".mat"): "save its array as .npy",
    (".xlsx", ".xls", ".ods"): "save its table as .csv",
    (".sdf", ".mol", ".mol2"): "write its molecules as SMILES into a .smi file",
}
"""What to do with files that hold data in another format."""


def _instead(extension: str, known: Iterable[str]) -> str:
    """Say what to do with a file whose ending no source knows."""
    for endings, advice in _INSTEAD.items():
        if extension in endings:
            return advice
    # `.dat` is no misspelt `.tab`: only what was cut short is known again.
    meant = sorted(one for one in known if len(extension) > 2 and one.startswith(extension))
    return f"did you mean {meant[0]!r}?" if meant else f"known: {', '.join(sorted(known))}"


DAMAGE = (
    pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, EOFError, RuntimeError,
    SyntaxError, KeyError, struct.error, zlib.error, zipfile.BadZipFile,
    tokenize.TokenError,
)  # fmt: skip
"""What libraries raise when they stumble over a damaged file."""


@contextmanager
def reading(name: str, advice: str = "is it complete?") -> Iterator[None]:
    """Turn what pyarrow and the file system raise into one sentence about `name`.

    Args:
        name: What is read.
        advice: What to do, or to look at.
    """
    try:
        yield
    except UserInputError:
        raise
    except FileNotFoundError:
        raise DataError(f"{name} does not exist") from None
    except PermissionError as error:
        raise DataError(f"{name} cannot be read ({error.strerror}); make it readable") from error
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # the cache's disk, not the data
        reason = first_line(error).rstrip(".")
        raise DataError(f"{name} cannot be read ({reason}); {advice}") from error


def unique_names(names: list[str], name: str) -> None:
    """Refuse a table in which two columns have the same name."""
    twice = next((column for column, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{name} has two columns named {twice!r}; rename one")
