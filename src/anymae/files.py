"""Files that are whole or not there: written beside their place, flushed, renamed.

Everything that a run leaves behind goes through here. What may be cut by a kill or a power
failure are the four small functions at the end; a test cuts before and after each of them.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymae.errors import FolderError

if TYPE_CHECKING:
    from torch import Tensor

WINDOWS = os.name == "nt"
STAGED = ".staged-"
"""Begins the names of files and folders that are not complete yet."""
REMOVED = ".removed-"
"""Begins the names of folders that are being removed."""
OTHER_FILE = "make room there, or name another file"
"""What to do when a file that a user named cannot be written."""


def require_free(folder: Path) -> None:
    """Check that a folder may be filled: it is absent or empty, and can be written.

    Raises:
        FolderError: It holds something, is a file, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder} is a file; name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise FolderError(f"{folder} holds something already; name a new or empty folder")
    require_writable(folder)


def require_replaceable(file: Path, *, overwrite: bool) -> None:
    """Check that a file may be written: it is absent, or may be replaced.

    Raises:
        FolderError: It is a folder, it is there and `overwrite` is false, or its folder cannot be
            written.
    """
    if file.is_dir():
        raise FolderError(f"{file} is a folder; name a file")
    if file.exists() and not overwrite:
        raise FolderError(f"{file} exists; remove it, name another, or add --overwrite")
    require_writable(file.parent)


def require_writable(folder: Path) -> None:
    """Check that a folder, or the nearest one above it that exists, can be written.

    Raises:
        FolderError: It cannot, or something on the way is a file.
    """
    above = folder.absolute()
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise FolderError(f"{folder} cannot be made: {above} is a file; name another folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise FolderError(f"{folder} cannot be written: {above} is read-only; name another folder")


@contextmanager
def told(what: str | Path, advice: str) -> Iterator[None]:
    """Turn a full disk, or any other error of writing, into one sentence.

    Args:
        what: What is being written.
        advice: What to do, and what is left.

    Raises:
        FolderError: It could not be written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise FolderError(f"{what} could not be written ({reason}); {advice}") from error


def write_named(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a file that a user named, whole or not at all; its folder is made.

    Raises:
        FolderError: It cannot be written.
    """
    with told(path, OTHER_FILE):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, lambda staged: _write(staged, fill))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    write_file(path, lambda staged: _write(staged, lambda to: to.write_bytes(content)))


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write JSON that people can read, whole or not at all.

    Raises:
        ValueError: A number is not finite: JSON has no word for it.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        FolderError: The file is not there, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FolderError(f"{path} is not there; name a folder that a run has written") from None
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} is no JSON file ({error}); restore it or run again") from None
    if not isinstance(value, dict):
        raise FolderError(f"{path} holds no JSON object; restore it or run again")
    return value


def write_tensors(
    path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        path: Where to.
        tensors: By name; moved to the CPU and made contiguous here.
        metadata: Strings by name, stored in the file's header.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Readers of other libraries look for the format.
    header = {"format": "pt", **(metadata or {})}

    def save(to: Path) -> None:
        try:
            save_file(ready, to, header)
        except SafetensorError as error:
            # A full disk comes as an error of its own kind, with the number in its text.
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(to)) from error

    write_file(path, lambda staged: _write(staged, save))


def read_tensors(path: Path) -> dict[str, "Tensor"]:
    """Read a safetensors file onto the CPU.

    Raises:
        FolderError: The file is not there, or is no safetensors file.
    """
    from safetensors.torch import load_file

    with _reading_tensors(path):
        return load_file(path)


def read_metadata(path: Path) -> dict[str, str]:
    """Read the strings in the header of a safetensors file.

    Raises:
        FolderError: The file is not there, or is no safetensors file.
    """
    from safetensors import safe_open

    with _reading_tensors(path), safe_open(path, framework="np") as opened:
        return dict(opened.metadata() or {})


@contextmanager
def _reading_tensors(path: Path) -> Iterator[None]:
    """Turn what safetensors raises into one sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except FileNotFoundError:
        raise FolderError(f"{path} is not there; name a folder that a run has written") from None
    except (SafetensorError, OSError) as error:
        raise FolderError(
            f"{path} is no safetensors file ({error}); only safetensors are read"
        ) from None


def write_file(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a file beside `path`, flush it, then rename it to `path`."""
    if path.parent.name.startswith(STAGED):
        # Its folder is not in its place yet; once is enough.
        fill(path)
        sync(path)
        return
    staged = path.with_name(STAGED + path.name)
    try:
        fill(staged)
        sync(staged)
        _rename(staged, path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write a folder beside `path`, flush it, then rename it to `path`.

    What stands at `path` is removed first. If `fill` fails, nothing has changed.
    """
    staged = path.with_name(STAGED + path.name)
    remove_folder(staged)
    staged.mkdir(parents=True)
    try:
        fill(staged)
        sync(staged)
        remove_folder(path)
        _rename(staged, path)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    sync(path.parent)


def replace_files(
    folder: Path, fill: Callable[[Path], None], *, last: str, also: Iterable[str] = ()
) -> None:
    """Let `fill` write files beside those of a folder, then put them in their place.

    Until all of them are written nothing is changed; from then on only names are, which takes no
    room.

    Args:
        folder: Where they belong; made where it is not there.
        fill: Writes them into the folder that it is given.
        last: The one that is removed first and appears last: while it is absent, the folder is not
            whole.
        also: Other files that go with those that are replaced.
    """
    staged = folder / f"{STAGED}files"
    remove_folder(staged)
    staged.mkdir(parents=True)
    try:
        fill(staged)
        sync(staged)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    names = sorted((path.name for path in staged.iterdir()), key=lambda name: name == last)
    for name in (last, *also):
        (folder / name).unlink(missing_ok=True)
    for name in names:
        _rename(staged / name, folder / name)
    sync(folder)
    staged.rmdir()


def remove_folder(path: Path) -> None:
    """Remove a folder, so that a kill on the way leaves nothing that looks like it."""
    if not path.is_dir():
        return
    doomed = path
    if not path.name.startswith((STAGED, REMOVED)):
        doomed = path.with_name(REMOVED + path.name)
        _remove(doomed)
        _rename(path, doomed)
    _remove(doomed)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left unfinished directly in `folder`."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith((STAGED, REMOVED)):
            _remove(path) if path.is_dir() else path.unlink(missing_ok=True)


def holds_nothing(folder: Path) -> bool:
    """True where a folder is absent, or holds no more than a killed process left unfinished."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return all(name.startswith((STAGED, REMOVED)) for name in names)


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _write(path: Path, write: Callable[[Path], object]) -> None:
    write(path)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk.

    Windows opens no folders, and flushes only what may be written.
    """
    if WINDOWS and path.is_dir():
        return
    number = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _rename(path: Path, to: Path) -> None:
    path.replace(to)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
