r"""Text files as blocks of whole lines, decompressed on the way. Line ends are read as `\n`."""

import codecs
import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from anymae.data.sources.base import Files, reading
from anymae.errors import DataError

BLOCK_BYTES = 1 << 24
"""What is read at a time."""

NOT_UTF8 = "is not valid UTF-8"
"""What is wrong with a row whose bytes are no text."""


class Block(NamedTuple):
    """Some whole lines."""

    text: bytes
    """Each line ends with `\n`, the last one too."""
    line: int
    """Number of the first, from 1."""
    last: bool
    """Whether the file ends here."""


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip or zstandard where its name says so."""
    if path.suffix.lower() == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if path.suffix.lower() == ".zst":
        return cast("IO[bytes]", pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def line_blocks(path: Path, name: str) -> Iterator[Block]:
    """Read a text file block by block.

    Raises:
        DataError: It is no UTF-8 text as a whole (zero bytes, UTF-16), or cannot be read.
    """
    with reading(name), open_binary(path) as stream:
        line, rest, first = 1, b"", True
        while piece := stream.read(BLOCK_BYTES):
            if first:
                piece = _without_mark(piece, name)
                first = False
            text = rest + piece
            end = max(text.rfind(b"\n"), text.rfind(b"\r", 0, -1)) + 1
            text, rest = text[:end], text[end:]
            if text:
                text = _plain_ends(text)
                yield Block(text, line, last=False)
                line += text.count(b"\n")
        yield Block(_plain_ends(rest + b"\n") if rest else b"", line, last=True)


def blocks_of(files: Files) -> Iterator[tuple[int, Block]]:
    """Read text files block by block, each block with the number of its file; see `line_blocks`."""
    for number, (path, name) in enumerate(files):
        for block in line_blocks(path, name):
            yield number, block


def _without_mark(start: bytes, name: str) -> bytes:
    """Check that a file's start looks like text, and drop its byte-order mark."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{name} is UTF-16 text; save it as UTF-8")
    if b"\0" in start[:65536]:
        raise DataError(f"{name} is no text (it holds zero bytes); is it what its name says?")
    return start.removeprefix(codecs.BOM_UTF8)


def _plain_ends(text: bytes) -> bytes:
    if b"\r" not in text:
        return text
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def numbers_of_lines(block: Block) -> npt.NDArray[np.int64]:
    """Return the numbers of the lines of a block that are not empty."""
    if b"\n\n" not in block.text and not block.text.startswith(b"\n"):
        return np.arange(block.line, block.line + block.text.count(b"\n"))
    ends = np.flatnonzero(np.frombuffer(block.text, np.uint8) == ord("\n"))
    return block.line + np.flatnonzero(np.diff(ends, prepend=-1) > 1)


def text_table(columns: Mapping[str, list[bytes]]) -> tuple[pa.Table, dict[int, str]]:
    """Make columns of strings; cells that are not UTF-8 become null.

    Returns:
        The columns, and the problem of each row with such a cell.
    """
    made: dict[str, pa.Array] = {}
    bad: set[int] = set()
    for name, cells in columns.items():
        try:
            made[name] = pa.array(cells, pa.large_binary()).cast(pa.large_string())
        except pa.ArrowInvalid:
            kept = [cell if is_utf8(cell) else None for cell in cells]
            bad.update(row for row, cell in enumerate(kept) if cell is None)
            made[name] = pa.array(kept, pa.large_binary()).cast(pa.large_string())
    return pa.table(made), dict.fromkeys(sorted(bad), NOT_UTF8)


def is_utf8(text: bytes) -> bool:
    """Say whether bytes are text."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
