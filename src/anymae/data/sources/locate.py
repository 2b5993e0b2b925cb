"""From a path, folder, glob or URL to the files of one format."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

from anymae.data.cache import cache_folder
from anymae.data.sources.base import DAMAGE, Files, reading, source_of
from anymae.errors import DataError, FolderError, MissingExtraError, UserInputError
from anymae.files import require_replaceable

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

logger = logging.getLogger(__name__)

COMPRESSION = (".gz", ".zst")


def locate(name: str) -> Files:
    """Find the files that an argument names.

    A URL's files are copied to the cache, and copied again when they changed there, as far as
    their server tells.

    Raises:
        DataError: Nothing is there, or files of several formats.
    """
    remote: tuple[str, ...] = ()
    if "://" in name:
        copies = _fetch(name)
        paths, remote = list(copies), tuple(copies.values())
    else:
        with reading(name):
            paths = _find(name)
    extensions = sorted({extension(path.name) for path in paths})
    files = Files(name, tuple(paths), extensions[0], remote)
    names = files.names if remote else [str(path) for path in paths]
    places = list(zip(paths, names, strict=True))
    called = {extension(path.name): one for path, one in reversed(places)}
    sources = {source_of(one, called[one]) for one in extensions}
    packed = [one for path, one in places if path.suffix.lower() in COMPRESSION]
    if packed and not all(source.compressed for source in sources):
        raise DataError(f"{packed[0]} is compressed as a whole; decompress it")
    if len(sources) > 1:
        raise DataError(
            f"{name} holds files of several formats ({', '.join(extensions)}); name those of one, "
            f"such as {name.rstrip('/')}/*{extensions[0]}"
        )
    for path, one in places:
        if not path.stat().st_size:
            raise DataError(f"{one} is empty (0 bytes)")
    return files


def require_output(out: Path, endings: Sequence[str], *read: object, overwrite: bool) -> None:
    """Refuse a file that cannot or must not be written, before anything is computed.

    Args:
        out: The file.
        endings: What its name may end in.
        read: What is read: paths, or anything else.
        overwrite: Replace the file if it is there.

    Raises:
        UserInputError: It ends in something else.
        FolderError: It exists and `overwrite` is false, it is a folder, its folder cannot be
            written, or it holds the data.
    """
    if out.suffix not in endings:
        raise UserInputError(f"{out} ends in {out.suffix!r}; expected {', '.join(endings)}")
    require_replaceable(out, overwrite=overwrite)
    require_apart(out, *read)


def require_apart(out: Path, *read: object) -> None:
    """Refuse to write over what is read, or into a folder whose files are.

    Args:
        out: The file to write.
        read: Paths of files and folders, globs, URLs, or Python objects, which no file is.

    Raises:
        FolderError: It is one of these files, or would be one the next time.
    """
    for source in read:
        if isinstance(source, (str, Path)) and _reads(str(source), out):
            raise FolderError(f"{out} is among the data that are read; name another file to write")


def _reads(name: str, out: Path) -> bool:
    """Tell whether reading `name` reads the file `out`, once it is there."""
    if "://" in name:
        scheme, _, rest = name.partition("://")
        return scheme == "file" and _reads(unquote(rest), out)
    path = Path(name)
    if name and path.is_dir():
        folder, file = path.resolve(), out.resolve()
        return file.is_relative_to(folder) and _is_named_as_data(file.relative_to(folder))
    try:
        # What a glob does not find now is not replaced.
        return out.exists() and any(out.samefile(one) for one in _match(path))
    except ValueError:  # no pattern; reading says so
        return False


def _match(path: Path) -> Iterator[Path]:
    """Go through the files and folders that a path or a glob names."""
    if path.exists():
        return iter([path])
    return Path(path.anchor).glob(str(path.relative_to(path.anchor)))


def _find(name: str) -> list[Path]:
    """Return the files that a path, folder or glob names."""
    if not name:
        raise DataError("the name of the data is empty; name a file, a folder or a glob")
    if Path(name).is_file():
        paths = [Path(name)]
    elif Path(name).is_dir():
        folder = Path(name)
        if (folder / "run.yaml").is_file():
            raise DataError(f"{name} is a run; where data are expected, name a file or a folder")
        paths = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and _is_named_as_data(path.relative_to(folder))
        ]
        if not paths:
            raise DataError(f"{name} is a folder without data files")
    else:
        paths = [path for path in sorted(_match(Path(name))) if path.is_file()]
        if not paths:
            raise DataError(
                f"{name} does not exist; a file, a folder or a glob is expected (strings "
                "themselves are handed over in a list, in Python)"
            )
    return paths


def extension(name: str) -> str:
    """Return what tells the format of a file: its suffix in lower case, without compression.

    >>> extension("molecules.CSV.gz"), extension("x.tar.xz")
    ('.csv', '.xz')
    """
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    while len(suffixes) > 1 and suffixes[-1] in COMPRESSION:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _is_named_as_data(path: PurePath) -> bool:
    """Pass over hidden files and the notes of other programs (`_SUCCESS`, `README.md`).

    `path` begins in the folder that is read: what lies above it may be hidden.
    """
    hidden = any(part.startswith((".", "_")) for part in path.parts)
    return not hidden and path.suffix.lower() not in ("", ".md", ".json")


def _fetch(url: str) -> dict[Path, str]:
    """Copy the files of a URL to the cache; each has its name within what the URL names."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        found = _expand(system, path)
        return {_copy(system, one, url): called for one, called in found.items()}
    except ImportError as error:
        raise MissingExtraError(f"{url} needs a package that is not installed: {error}") from error
    except FileNotFoundError:
        raise DataError(f"{url} does not exist") from None
    except DAMAGE as error:
        raise DataError(f"{url} cannot be read ({error or type(error).__name__})") from error


def _expand(system: "AbstractFileSystem", path: str) -> dict[str, str]:
    """Return the files of a folder or a pattern, each with its name in their common folder."""
    # On the web a question mark begins what a server is asked for.
    if any(sign in path for sign in ("*[" if _is_web(system) else "*?[")):
        found = sorted(system.glob(path))
        # Of a URL, whose two slashes `commonpath` makes one.
        folder = os.path.commonprefix(found).rpartition("/")[0]  # noqa: RUF071
        called = _within(folder, found)
    elif _is_folder(system, path):
        called = _within(path, sorted(system.find(path)))
        called = {k: name for k, name in called.items() if _is_named_as_data(PurePosixPath(name))}
    else:
        called = {path: _name(system, path)}
    if not called:
        raise FileNotFoundError("nothing is there")
    return called


def _within(folder: str, paths: list[str]) -> dict[str, str]:
    return {path: path.removeprefix(folder).lstrip("/") for path in paths}


def _is_web(system: "AbstractFileSystem") -> bool:
    return "http" in system.protocol


def _is_folder(system: "AbstractFileSystem", path: str) -> bool:
    # A web server tells by sending all of it, so what is named like a file is one there.
    is_file = _is_web(system) and extension(_name(system, path)) != ""
    return not is_file and bool(system.isdir(path))


def _name(system: "AbstractFileSystem", path: str) -> str:
    """Return the name of a file, without what a web server is asked for beside it."""
    return PurePosixPath(path.partition("?")[0] if _is_web(system) else path).name


def _version(system: "AbstractFileSystem", path: str) -> str:
    """Return what differs between versions of a file."""
    if not _is_web(system):
        return str(system.ukey(path))
    # There `ukey` is the URL alone.
    info = system.info(path)
    told = ("ETag", "Content-MD5", "Digest", "Last-Modified", "size")
    return str([info.get(key) for key in told])


def _copy(system: "AbstractFileSystem", path: str, url: str) -> Path:
    """Copy one file, unless the same version of it was copied before."""
    version = _version(system, path)
    version = hashlib.sha256(f"{url}\n{path}\n{version}".encode()).hexdigest()[:32]
    place = cache_folder() / "downloads" / version / _name(system, path)
    if not place.exists():
        size = system.size(path)  # not all servers tell
        told = "" if size is None else f" ({size / 1e6:.1f} MB)"
        logger.info("%s%s is copied to %s", path, told, place)
        place.parent.mkdir(parents=True, exist_ok=True)
        staged = place.with_name(f"{place.name}.{os.getpid()}.part")
        try:
            system.get_file(path, str(staged))
            staged.replace(place)
        finally:
            staged.unlink(missing_ok=True)
    return place
