"""CSV and its kin: any delimiter, quoted cells, `.gz` and `.zst`, of any size.

The file is read twice: to learn the types of whole columns, then to write them. Blocks whose
records are single lines go through Arrow's parser; blocks with line ends inside quotes or with
bytes that are not UTF-8 go through Python's, which knows the line of each record.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as arrow_csv

from anymae.config import DataConfig
from anymae.data.cache import Reading, Sink, through_cache
from anymae.data.frame import Frame
from anymae.data.missing import number_of
from anymae.data.sources.base import SOURCES, Files, Source, unique_names
from anymae.data.sources.guess import Guess, convert, holds_words, markers
from anymae.data.sources.lines import NOT_UTF8, Block, is_utf8, line_blocks, numbers_of_lines
from anymae.errors import DataError

_DELIMITERS = ",;\t|"
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
_ESCAPED = re.compile("[\udc80-\udcff]")
"""What decoding leaves behind of bytes that are no UTF-8."""
_SNIFFED_LINES = 50
_COMMENT = "#%"
_LONGEST_CELL = 1 << 26
_END = "\x00 end"


@SOURCES.register("csv")
class DelimitedSource(Source):
    """Tables as text with a header; the delimiter is one of comma, semicolon, tab and bar."""

    extensions = (".csv", ".tsv", ".tab", ".psv")
    compressed = True

    def read(self, data: Files, config: DataConfig) -> Frame:
        """Copy the table to the cache; a column that is not wholly numeric stays strings.

        Most columns that `config.words` names do so by themselves, and the copy that is there
        serves; else there is another.
        """
        frame = through_cache(_reading(data, config.missing, ()))
        typed = tuple(
            field.name
            for field in frame.table.schema
            if field.name in config.words and not holds_words(field.type)
        )
        frame = through_cache(_reading(data, config.missing, typed)) if typed else frame
        # A column that is named has no numbers, however few of its cells are words.
        return replace(frame, odd=frame.odd - set(config.words))


def _reading(files: Files, missing: tuple[str, ...], words: tuple[str, ...]) -> Reading:
    # What a file is named like says what its cells are most likely divided by.
    settings = {"missing": sorted(missing), "extension": files.extension}
    return Reading(
        name=files.name,
        format="csv",
        paths=files.paths,
        fill=partial(_fill, files, missing, words),
        settings=settings | ({"words": sorted(words)} if words else {}),
        unit="line",
        files=files.labels,
    )


class _Rows(NamedTuple):
    """Records of one block."""

    cells: pa.Table
    """Strings; a record that could not be read is a row of nulls."""
    lines: npt.NDArray[np.int64]
    """Line on which each record starts."""
    bad: dict[int, str]
    """Problems, by row of `cells`."""


class _Format(NamedTuple):
    delimiter: str
    names: list[str]
    header: int
    """Lines up to the end of the header."""


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let Python's parser read cells longer than it does by itself."""
    limit = csv.field_size_limit(_LONGEST_CELL * 2)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


@_long_cells()
def _fill(files: Files, missing: tuple[str, ...], words: tuple[str, ...], sink: Sink) -> None:
    formats = [_sniff(path, name, files.extension) for path, name in files]
    names = formats[0].names
    for name, other in zip(files.names, formats, strict=True):
        if other.names != names:
            raise DataError(f"{name} has other columns than {files.names[0]}")
    guesses = {name: Guess(markers(missing, name)) for name in names}
    count = 0
    for _, rows in _rows(files, formats):
        for name, guess in guesses.items():
            guess.look(rows.cells[name].combine_chunks())
        count += rows.cells.num_rows
    if not count:
        raise DataError(f"{files.name} holds a header and no rows")
    types = {
        name: pa.large_string() if name in words else guess.kind for name, guess in guesses.items()
    }
    sink.start(pa.schema(list(types.items())))
    sink.odd = [name for name, guess in guesses.items() if guess.odd and name not in words]
    for number, rows in _rows(files, formats):
        columns = {
            name: convert(rows.cells[name].combine_chunks(), types[name], guess.missing)
            for name, guess in guesses.items()
        }
        sink.add(pa.table(columns), number, rows.lines, rows.bad)


def _sniff(path: Path, name: str, extension: str) -> _Format:
    """Find the delimiter and read the header."""
    text = next(line_blocks(path, name)).text
    lines = text.split(b"\n")[:_SNIFFED_LINES]
    start = [line.decode(errors="replace") + "\n" for line in lines]
    choices = "\t|;," if extension in (".tsv", ".tab") else _DELIMITERS
    choices = "|" + choices if extension == ".psv" else choices
    _refuse_comments(start, choices, name)
    best = max(choices, key=lambda sign: _agreement(start, sign))
    if best == "," and _has_decimal_commas(start, _agreement(start, best)[0]):
        best = ";"
    reader = csv.reader(chain(start, [_END]), delimiter=best)
    header = next(record for record in reader if record)
    if header == [_END]:
        raise DataError(f"{name} holds nothing but empty lines")
    if any(cell.endswith(_END) for cell in header):
        raise DataError(f"{name}: a quote that opens in the header is never closed")
    names = [cell.strip() or f"unnamed_{i}" for i, cell in enumerate(header)]
    if any("\N{REPLACEMENT CHARACTER}" in cell for cell in names):
        raise DataError(f"{name}: the header is not valid UTF-8; save the file as UTF-8")
    if all(number_of(cell) is not None and cell.lower() != "nan" for cell in names):
        raise DataError(
            f"{name}: the first line holds numbers ({', '.join(names[:3])}), no names of columns; "
            "add a header"
        )
    unique_names(names, name)
    return _Format(best, names, reader.line_num)


def _refuse_comments(start: list[str], choices: str, name: str) -> None:
    """Refuse lines of comment above the header, which would be taken for it."""
    below = [line for line in start if line.strip() and line[0] not in _COMMENT]
    if not start[0].startswith(tuple(_COMMENT)) or not below:
        return
    # A header may begin with such a sign too: then it has the cells of most rows.
    best = max(choices, key=lambda sign: _agreement(below, sign))
    lengths = Counter(len(record) for record in csv.reader(below, delimiter=best) if record)
    if len(next(csv.reader(start[:1], delimiter=best))) != lengths.most_common(1)[0][0]:
        raise DataError(
            f"{name} begins with a comment ({start[0].strip()[:40]!r}), where the names of its "
            "columns are expected; remove the lines above the header"
        )


def _agreement(start: list[str], delimiter: str) -> tuple[float, int]:
    """Rate a delimiter by the share of records as long as the header, and by that length."""
    lengths = [len(record) for record in csv.reader(start, delimiter=delimiter) if record]
    if not lengths or lengths[0] < 2:
        return 0.0, 1
    return sum(length == lengths[0] for length in lengths) / len(lengths), lengths[0]


def _has_decimal_commas(start: list[str], agreement: float) -> bool:
    """Say whether semicolons divide the records as well, and commas only numbers between them."""
    if not 0 < agreement <= _agreement(start, ";")[0]:
        return False
    _, *records = (record for record in csv.reader(start, delimiter=";") if record)
    cells = [cell for record in records for cell in record if "," in cell]
    return bool(cells) and all(_DECIMAL_COMMA.fullmatch(cell) for cell in cells)


def _rows(files: Files, formats: list[_Format]) -> Iterator[tuple[int, _Rows]]:
    """Read all records of all files, block by block, each block with the number of its file."""
    for number, ((path, name), form) in enumerate(zip(files, formats, strict=True)):
        rest = b""
        for whole in line_blocks(path, name):
            body = _after_header(whole, form) if whole.line == 1 else whole
            block = Block(rest + body.text, body.line - rest.count(b"\n"), body.last)
            rest = b""
            if not block.text:
                continue
            rows = _parse_lines(block, form)
            if rows is None:
                rows, rest = _parse_records(block, form, name)
            yield number, rows


def _after_header(block: Block, form: _Format) -> Block:
    below = block.text.split(b"\n", form.header)[-1]
    return Block(below, block.line + form.header, block.last)


def _parse_lines(block: Block, form: _Format) -> _Rows | None:
    """Parse a block each line of which is a record; `None` if that is not so."""
    rejected: list[tuple[int, str]] = []

    def reject(row: arrow_csv.InvalidRow) -> str:
        rejected.append((row.number - 1, _ragged(row.actual_columns, row.expected_columns)))
        return "skip"

    if b'"' in block.text and _is_open(block.text, form.delimiter):
        return None
    if not is_utf8(block.text):
        return None
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(block.text),
            arrow_csv.ReadOptions(
                column_names=form.names, use_threads=False, block_size=len(block.text) + 1
            ),
            arrow_csv.ParseOptions(delimiter=form.delimiter, invalid_row_handler=reject),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(form.names, pa.string())),
        )
    except pa.ArrowInvalid:
        return None
    lines = numbers_of_lines(block)
    if table.num_rows + len(rejected) != len(lines):
        return None
    if rejected:
        kept = np.ones(len(lines), bool)
        kept[[position for position, _ in rejected]] = False
        source = np.cumsum(kept) - 1
        table = table.take(pa.array(source, mask=~kept))
    return _Rows(table, lines, dict(rejected))


def _is_open(text: bytes, delimiter: str) -> bool:
    """Say whether the last line, empty ones aside, ends within quotes."""
    last = text[text.rstrip(b"\n").rfind(b"\n") + 1 :].decode(errors="surrogateescape")
    *_, end = csv.reader([last, _END], delimiter=delimiter)
    return end != [_END]


def _parse_records(block: Block, form: _Format, name: str) -> tuple[_Rows, bytes]:
    """Parse a block with line ends inside quotes.

    Beside its records comes the text of one that goes on in the next block.
    """
    text = block.text.decode(errors="surrogateescape").split("\n")[:-1]
    reader = csv.reader(chain((line + "\n" for line in text), [_END]), delimiter=form.delimiter)
    records, lines, start = [], [], 0
    try:
        for record in reader:
            if record:
                records.append(record)
                lines.append(block.line + start)
            last, start = start, reader.line_num
    except csv.Error as error:
        raise DataError(f"{name}: line {block.line + start} cannot be read ({error})") from error
    rest = b""
    if records.pop() != [_END]:
        rest = "".join(line + "\n" for line in text[last:]).encode(errors="surrogateescape")
        if block.last or len(rest) > _LONGEST_CELL:
            raise DataError(
                f"{name}: a quote that opens in the record on line {lines[-1]} is never closed; "
                "close it, or double quotes that belong to the text"
            )
    cells, bad = _columns(records, form.names)
    return _Rows(cells, np.array(lines[:-1], np.int64), bad), rest


def _columns(records: list[list[str]], names: list[str]) -> tuple[pa.Table, dict[int, str]]:
    """Turn records into columns; those with a problem become rows of nulls."""
    bad = {
        row: _ragged(len(record), len(names))
        for row, record in enumerate(records)
        if len(record) != len(names)
    }
    for row, record in enumerate(records):
        if _ESCAPED.search("".join(record)):
            bad.setdefault(row, NOT_UTF8)
    nulls = [None] * len(names)
    kept = [nulls if row in bad else record for row, record in enumerate(records)]
    columns = zip(*kept, strict=True) if kept else ([] for _ in names)
    arrays = [pa.array(column, pa.string()) for column in columns]
    return pa.Table.from_arrays(arrays, names), bad


def _ragged(found: int, expected: int) -> str:
    return f"has {found} cell{'s' if found != 1 else ''}, not {expected} as the header"
