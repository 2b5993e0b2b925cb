"""Whatever a file holds, reading ends in data or one clear error, and no row is lost.

Each reader has a way to make valid files and a count of rows that does not use the reader. Valid
files come back as they are; mutated ones (bytes flipped, cut out, inserted) give every row that
is counted, bad ones named, or an `AnymaeError`.
"""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from anymae.config import DataConfig
from anymae.data import cache
from anymae.data.frame import Frame
from anymae.data.sources import SOURCES, lines, read_source
from anymae.errors import AnymaeError

SKIP = DataConfig(on_bad_row="skip")
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1, max_size=12
)
WORD = TEXT.map(lambda text: "".join(text.split()) or "C")
NUMBER = st.one_of(st.integers(-(2**40), 2**40), st.floats(allow_nan=False, width=32))
NAME = st.from_regex(r"[a-zäß][a-zäß0-9_ ]{0,5}[a-z]", fullmatch=True)
CELL = st.one_of(TEXT, st.text(st.sampled_from('a,"\n ;'), max_size=6))


class Written(NamedTuple):
    """A valid file, and what it holds."""

    content: bytes
    columns: dict[str, list[Any]]


class Case(NamedTuple):
    """A reader under test."""

    name: str
    files: st.SearchStrategy[Written]
    count: Callable[[bytes], int | None]
    """Rows by another reader; None where that gives up."""


def _lines(content: bytes) -> list[bytes]:
    text = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return [line for line in text.split(b"\n") if line]


@st.composite
def csv_files(draw: st.DrawFn) -> Written:
    columns = draw(st.lists(NAME, min_size=2, max_size=4, unique=True))
    rows = draw(st.lists(st.lists(CELL, min_size=len(columns), max_size=len(columns)), min_size=1))
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])))
    writer.writerows([columns, *rows])
    cells = [list(column) for column in zip(*rows, strict=True)]
    return Written(file.getvalue().encode(), dict(zip(columns, cells, strict=True)))


def count_csv(content: bytes) -> int | None:
    text = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    rows = io.StringIO(text.decode(errors="surrogateescape"), newline="\n")
    counts = set()
    for delimiter in ",;\t|":  # the reader may see another delimiter after a mutation
        rows.seek(0)
        counts.add(sum(bool(row) for row in csv.reader(rows, delimiter=delimiter)) - 1)
    return counts.pop() if len(counts) == 1 else None


@st.composite
def text_files(draw: st.DrawFn) -> Written:
    rows = draw(st.lists(TEXT, min_size=1))
    return Written("\n".join(rows).encode(), {"text": rows})


@st.composite
def smi_files(draw: st.DrawFn) -> Written:
    rows = draw(st.lists(st.tuples(WORD, WORD), min_size=1))
    rows = [(f"C{smiles}", name) for smiles, name in rows]
    content = "\n".join(f"{smiles} {name}" for smiles, name in rows).encode()
    # names and strings are split at ASCII white space, as bytes
    parts = [row.encode().split(None, 1) for row in content.decode().split("\n")]
    return Written(content, {"smiles": [part[0].decode() for part in parts]})


def count_smi(content: bytes) -> int | None:
    rows = _lines(content)
    return len(rows) - bool(rows and rows[0].lower().split()[:1] == [b"smiles"])


@st.composite
def jsonl_files(draw: st.DrawFn) -> Written:
    rows = draw(st.lists(st.tuples(TEXT, NUMBER, st.booleans()), min_size=1))
    content = "\n".join(json.dumps({"t": t, "n": n, "b": b}) for t, n, b in rows)
    return Written(content.encode(), {"t": [row[0] for row in rows], "b": [row[2] for row in rows]})


@st.composite
def fasta_files(draw: st.DrawFn) -> Written:
    letters = st.text(st.sampled_from("ACDEFGHIKLMNPQRSTVWY"), min_size=1, max_size=30)
    rows = draw(st.lists(letters, min_size=1))
    content = "".join(f">s{i}\n{row[:9]}\n{row[9:]}\n" for i, row in enumerate(rows))
    return Written(content.encode(), {"id": [f"s{i}" for i in range(len(rows))], "sequence": rows})


def count_fasta(content: bytes) -> int | None:
    return sum(line.startswith(b">") for line in _lines(content))


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    size = draw(st.integers(1, 20))
    optional = st.one_of(st.none(), st.floats(allow_nan=False))
    return {
        "text": draw(st.lists(TEXT, min_size=size, max_size=size)),
        "number": draw(st.lists(optional, min_size=size, max_size=size)),
        "list": draw(
            st.lists(st.lists(st.floats(allow_nan=False), max_size=3), min_size=size, max_size=size)
        ),
    }


@st.composite
def parquet_files(draw: st.DrawFn) -> Written:
    columns = draw(tables())
    file = io.BytesIO()
    compression = draw(st.sampled_from(["none", "zstd", "snappy"]))
    pq.write_table(pa.table(columns), file, compression=compression, row_group_size=7)
    return Written(file.getvalue(), columns)


def count_parquet(content: bytes) -> int | None:
    try:
        return int(pq.ParquetFile(io.BytesIO(content)).metadata.num_rows)
    except (pa.ArrowException, OSError):
        return None


@st.composite
def arrow_files(draw: st.DrawFn) -> Written:
    columns = draw(tables())
    file = io.BytesIO()
    form = draw(st.sampled_from(["stream", "lz4", "uncompressed"]))
    table = pa.table(columns)
    if form == "stream":
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    else:
        pyarrow.feather.write_feather(table, file, compression=form)
    return Written(file.getvalue(), columns)


ARRAYS = st.tuples(
    st.sampled_from(["<f4", ">f8", "u1", "i2"]), st.integers(1, 9), st.integers(1, 5)
).map(lambda case: np.arange(case[1] * case[2]).reshape(case[1], case[2]).astype(case[0]))


@st.composite
def npy_files(draw: st.DrawFn) -> Written:
    array = draw(ARRAYS)
    file = io.BytesIO()
    np.save(file, np.asfortranarray(array) if draw(st.booleans()) else array)
    return Written(file.getvalue(), {"values": array.tolist()})


@st.composite
def npz_files(draw: st.DrawFn) -> Written:
    array = draw(ARRAYS)
    file = io.BytesIO()
    save = draw(st.sampled_from([np.savez, np.savez_compressed]))
    save(file, images=array, labels=np.arange(len(array)))
    return Written(file.getvalue(), {"values": array.tolist(), "labels": list(range(len(array)))})


@st.composite
def image_files(draw: st.DrawFn) -> Written:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    pixels = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, draw(st.sampled_from(["png"])))
    return Written(file.getvalue(), {"values": [pixels.reshape(-1).tolist()]})


def unknown(content: bytes) -> int | None:
    return None


CASES = {
    "csv": Case("x.csv", csv_files(), count_csv),
    "text": Case("x.txt", text_files(), lambda content: len(_lines(content))),
    "smi": Case("x.smi", smi_files(), count_smi),
    "jsonl": Case("x.jsonl", jsonl_files(), lambda content: len(_lines(content))),
    "fasta": Case("x.fasta", fasta_files(), count_fasta),
    "parquet": Case("x.parquet", parquet_files(), count_parquet),
    "arrow": Case("x.arrow", arrow_files(), unknown),
    "npy": Case("x.npy", npy_files(), unknown),
    "npz": Case("x.npz", npz_files(), unknown),
    "images": Case("x.png", image_files(), lambda content: 1),
}
READERS = pytest.mark.parametrize("reader", sorted(CASES))
SHORT = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
LONG = settings(SHORT, max_examples=2000, derandomize=False)


def test_every_reader_of_files_is_fuzzed() -> None:
    assert set(CASES) == {name for name in SOURCES if SOURCES[name].extensions}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ANYMAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "sync", lambda path: None)  # the disk is not what is tested
    monkeypatch.setattr(lines, "BLOCK_BYTES", 37)
    yield tmp_path
    shutil.rmtree(tmp_path)


def read(folder: Path, name: str, content: bytes) -> Frame:
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (folder / name).write_bytes(content)
    frame = read_source(folder / name, SKIP)
    frame.table.validate(full=True)
    for row in range(frame.table.num_rows):
        assert "\n" not in frame.where(row)
    return frame


def round_trips(folder: Path, case: Case, written: Written) -> None:
    frame = read(folder, case.name, written.content)
    assert not frame.bad
    for name, cells in written.columns.items():
        found = frame.table[name].to_pylist()
        if case.name == "x.csv":
            assert same_cells(found, cells, frame.table.schema.field(name).type)
        else:
            assert found == cells


def same_cells(found: list[Any], written: list[str], kind: pa.DataType) -> bool:
    """Compare what a CSV file gave with its cells, of which numbers became numbers."""
    if kind == pa.large_string():
        return found == written
    for cell, text in zip(found, written, strict=True):
        blank = text.strip() in ("", "NA", "?", "NaN")
        if cell is None or cell != cell:
            if not blank and text.strip().lower() != "nan":
                return False
        elif blank or (
            (pa.types.is_floating(kind) or pa.types.is_integer(kind)) and cell != float(text)
        ):
            return False
    return True


@st.composite
def mutated(draw: st.DrawFn, files: st.SearchStrategy[Written]) -> bytes:
    content = bytearray(draw(files).content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["flip", "cut", "truncate", "insert", "repeat"])):
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[at : at + draw(st.integers(1, 9))]
            case "truncate":
                del content[at:]
            case "insert":
                content[at:at] = draw(
                    st.one_of(
                        st.binary(min_size=1, max_size=6), st.sampled_from([b'"', b"\n", b","])
                    )
                )
            case "repeat":
                content[at:at] = content[at : at + 20]
    return bytes(content)


def ends_well(folder: Path, case: Case, content: bytes) -> None:
    try:
        frame = read(folder, case.name, content)
    except AnymaeError as error:
        assert "\n" not in str(error)
        assert str(error)
        return
    expected = case.count(content)
    assert expected is None or frame.table.num_rows == expected


@READERS
def test_generated_files_come_back(reader: str, folder: Path) -> None:
    case = CASES[reader]
    given(case.files)(SHORT(lambda written: round_trips(folder, case, written)))()


@READERS
def test_mutated_files_end_in_data_or_one_error(reader: str, folder: Path) -> None:
    case = CASES[reader]
    given(mutated(case.files))(SHORT(lambda content: ends_well(folder, case, content)))()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@READERS
def test_many_generated_files_come_back(reader: str, folder: Path) -> None:
    case = CASES[reader]
    given(case.files)(LONG(lambda written: round_trips(folder, case, written)))()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@READERS
def test_many_mutated_files_end_in_data_or_one_error(reader: str, folder: Path) -> None:
    case = CASES[reader]
    given(mutated(case.files))(LONG(lambda content: ends_well(folder, case, content)))()
