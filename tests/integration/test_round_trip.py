"""What was written, in every format and as every kind that it can hold, is what a model sees."""

import gzip
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from PIL import Image

from anymae.data.batch import Batch
from anymae.data.dataset import Dataset, open_data
from anymae.data.kinds import KINDS
from anymae.data.sources import SOURCES

DRAW = np.random.default_rng(0)
COUNT = 30
ALL = np.arange(COUNT)

PLAIN = ["".join(DRAW.choice(list("CNO=()"), DRAW.integers(1, 20))) for _ in ALL]
STRINGS = [*PLAIN[:-3], "Zürich am See", 'a "b", c', "\u2603"]
SERIES = DRAW.normal(3, 2, (COUNT, 5, 2))
REAL = np.arange(5) < DRAW.integers(1, 6, COUNT)[:, None]
RAGGED = [row[real].tolist() for row, real in zip(SERIES, REAL, strict=True)]
SINGLE = [[point[0] for point in row] for row in RAGGED]
NUMBERS = np.where(DRAW.random((COUNT, 4)) < 0.2, np.nan, DRAW.normal(3, 2, (COUNT, 4)))
NUMBERS[:, 0] = DRAW.normal(size=COUNT)
GREY = DRAW.integers(0, 256, (COUNT, 6, 4)).astype(np.uint8)
COLOUR = DRAW.integers(0, 256, (COUNT, 6, 4, 3)).astype(np.uint8)
TABLE: dict[str, list[Any]] = {
    "amount": [None if i % 7 == 0 else round(float(x), 6) for i, x in enumerate(NUMBERS[:, 0])],
    "count": [int(n) for n in DRAW.permutation(COUNT) // 2 * 10],
    "grade": [int(n) for n in DRAW.integers(1, 5, COUNT)],
    "colour": [("red", "Grün", None)[i % 3] for i in range(COUNT)],
    "alive": [(True, False, None, True)[i % 4] for i in range(COUNT)],
}
ROWS = [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)]
CELLS = [{str(i): None if np.isnan(x) else x for i, x in enumerate(row)} for row in NUMBERS]

Write = Callable[[Path], object]
Made = dict[str, tuple[Any, Any]]
"""What is opened, by a name: a writer of the file of that name, or a Python object; and what a
model is to see of it."""


def _csv(columns: dict[str, list[Any]], separator: str = ",") -> Write:
    frame = pl.DataFrame(columns)
    return lambda path: path.write_text(frame.write_csv(separator=separator))


def _parquet(columns: dict[str, Any]) -> Write:
    return lambda path: pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=7)


def _feather(columns: dict[str, Any], compression: str = "uncompressed") -> Write:
    table = pa.table(columns)
    return lambda path: pyarrow.feather.write_feather(table, path, compression=compression)


def _stream(columns: dict[str, Any]) -> Write:
    table = pa.table(columns)

    def write(path: Path) -> None:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)

    return write


def _jsonl(columns: dict[str, list[Any]]) -> Write:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return lambda path: path.write_text("\n".join(map(json.dumps, rows)))


def _lines(lines: list[str]) -> Write:
    return lambda path: path.write_text("\n".join(lines) + "\n")


def _gzip(write: Write) -> Write:
    def packed(path: Path) -> None:
        write(path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return packed


def _npy(array: np.ndarray) -> Write:
    return lambda path: np.save(path, array)


def _npz(**arrays: np.ndarray) -> Write:
    return lambda path: np.savez_compressed(path, **arrays)


def _pictures(pictures: np.ndarray) -> Write:
    def write(folder: Path) -> None:
        folder.mkdir()
        for i, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(folder / f"{i:03}.png")

    return write


FIXED = pa.FixedSizeListArray.from_arrays(pa.array(SERIES[:, :, 0].ravel()), 5)
FASTA = [line for i, cell in enumerate(PLAIN) for line in (f">p{i} x", cell[:8], cell[8:])]
TEXT = {"text": STRINGS}
POINTS = {"points": RAGGED}
ONE = {"points": SINGLE}
CASES: dict[tuple[str, str], Made] = {
    ("csv", "bytes"): {
        "x.csv": (_csv({**TEXT, "y": list(range(COUNT))}), STRINGS),
        "x.tsv": (_csv(TEXT, "\t"), STRINGS),
        "x.csv.gz": (_gzip(_csv(TEXT)), STRINGS),
    },
    ("csv", "table"): {"x.csv": (_csv(TABLE), ROWS), "x.tsv": (_csv(TABLE, "\t"), ROWS)},
    ("parquet", "bytes"): {"x.parquet": (_parquet(TEXT), STRINGS)},
    ("parquet", "values"): {
        "x.parquet": (_parquet(POINTS), RAGGED),
        "one.parquet": (_parquet(ONE), SINGLE),
        "fixed.parquet": (_parquet({"points": FIXED}), SERIES[:, :, :1]),
    },
    ("parquet", "table"): {"x.parquet": (_parquet(TABLE), ROWS)},
    ("arrow", "bytes"): {
        "x.arrow": (_stream(TEXT), STRINGS),
        "x.feather": (_feather(TEXT, "zstd"), STRINGS),
    },
    ("arrow", "values"): {
        "x.arrow": (_stream(POINTS), RAGGED),
        "x.feather": (_feather({"points": FIXED}), SERIES[:, :, :1]),
        "one.feather": (_feather(ONE, "lz4"), SINGLE),
    },
    ("arrow", "table"): {
        "x.arrow": (_stream(TABLE), ROWS),
        "x.feather": (_feather(TABLE), ROWS),
        "y.feather": (_feather(TABLE, "lz4"), ROWS),
    },
    ("jsonl", "bytes"): {"x.jsonl": (_jsonl(TEXT), STRINGS)},
    ("jsonl", "values"): {
        "x.jsonl": (_jsonl(POINTS), RAGGED),
        "one.jsonl.gz": (_gzip(_jsonl(ONE)), SINGLE),
    },
    ("jsonl", "table"): {"x.jsonl": (_jsonl(TABLE), ROWS)},
    ("text", "bytes"): {
        "x.txt": (_lines(STRINGS), STRINGS),
        "x.txt.gz": (_gzip(_lines(STRINGS)), STRINGS),
    },
    ("smi", "bytes"): {"x.smi": (_lines([f"{cell} m{i}" for i, cell in enumerate(PLAIN)]), PLAIN)},
    ("fasta", "bytes"): {
        "x.fasta": (_lines(FASTA), PLAIN),
        "x.fasta.gz": (_gzip(_lines(FASTA)), PLAIN),
    },
    ("npy", "table"): {"x.npy": (_npy(NUMBERS), CELLS)},
    ("npy", "values"): {
        "x.npy": (_npy(SERIES), SERIES),
        "f.npy": (_npy(np.asfortranarray(SERIES)), SERIES),
        "single.npy": (_npy(SERIES.astype(np.float32)), SERIES),
    },
    ("npy", "image"): {"x.npy": (_npy(COLOUR), COLOUR), "grey.npy": (_npy(GREY), GREY[..., None])},
    ("npz", "table"): {"x.npz": (_npz(x=NUMBERS, y=ALL), CELLS)},
    ("npz", "values"): {
        "x.npz": (_npz(x=SERIES), SERIES),
        "valid.npz": (_npz(values=SERIES, valid=REAL), RAGGED),
    },
    ("npz", "image"): {"x.npz": (_npz(images=COLOUR, labels=ALL), COLOUR)},
    ("images", "image"): {
        "colour": (_pictures(COLOUR), COLOUR),
        "grey": (_pictures(GREY), GREY[..., None]),
    },
    ("strings", "bytes"): {"list": (STRINGS, STRINGS), "column": (pd.Series(STRINGS), STRINGS)},
    ("strings", "values"): {"list": ([np.array(row) for row in RAGGED], RAGGED)},
    ("table", "bytes"): {"pandas": (pd.DataFrame(TEXT), STRINGS), "columns": (TEXT, STRINGS)},
    ("table", "values"): {"polars": (pl.DataFrame(POINTS), RAGGED), "columns": (ONE, SINGLE)},
    ("table", "table"): {
        "pandas": (pd.DataFrame(TABLE), ROWS),
        "polars": (pl.DataFrame(TABLE), ROWS),
        "arrow": (pa.table(TABLE), ROWS),
    },
    ("arrays", "table"): {"array": (NUMBERS, CELLS)},
    ("arrays", "values"): {"array": (SERIES, SERIES), "lists": (SERIES.tolist(), SERIES)},
    ("arrays", "image"): {"array": (COLOUR, COLOUR)},
}
"""By source and kind of input."""

NONE = {
    **dict.fromkeys(product(["csv"], ["values", "image"]), "a cell is a number or a word"),
    **dict.fromkeys(product(["parquet", "arrow", "jsonl", "table"], ["image"]), "no pictures"),
    **dict.fromkeys(product(["text", "smi", "fasta"], ["values", "table", "image"]), "strings"),
    **dict.fromkeys(product(["npy", "npz", "arrays"], ["bytes"]), "numbers"),
    **dict.fromkeys(product(["images"], ["bytes", "values", "table"]), "pictures"),
    **dict.fromkeys(product(["strings"], ["table", "image"]), "one column"),
}
"""What a source cannot hold, and what it holds instead."""


@pytest.mark.parametrize(("source", "kind"), list(product(SOURCES, KINDS)))
def test_what_was_written_is_what_a_model_sees(source: str, kind: str, tmp_path: Path) -> None:
    if (source, kind) in NONE:
        assert (source, kind) not in CASES
        return
    assert (source, kind) in CASES, "a new source or kind needs an example here"
    for name, (given, expected) in CASES[source, kind].items():
        if callable(given):
            given(tmp_path / name)
        dataset = open_data(str(tmp_path / name) if callable(given) else given)
        if source not in ("arrays", "strings"):
            assert dataset.rows.frame.format == source
        assert dataset.input.kind == kind
        assert len(dataset) == COUNT
        for rows in (ALL, ALL[::-1], np.array([7, 0, 29])):
            batch = dataset.batch(rows.copy())
            assert batch.rows.tolist() == rows.tolist()
            CHECKS[kind](dataset, batch, [expected[i] for i in rows])


def check_bytes(_: Dataset, batch: Batch, expected: list[str]) -> None:
    for i, text in enumerate(expected):
        tokens = [*(byte + 6 for byte in text.encode()), 5]
        real = slice(None) if batch.valid is None else batch.valid[i]
        assert batch.inputs[i][real].tolist() == tokens


def check_values(dataset: Dataset, batch: Batch, expected: list[Any]) -> None:
    seen = dataset.preparation.restore(batch.inputs.numpy())
    for i, points in enumerate(expected):
        wanted = np.array(points).reshape(len(points), -1)
        real = slice(None) if batch.valid is None else batch.valid[i].numpy()
        np.testing.assert_allclose(seen[i][real], wanted, atol=1e-5)


def check_image(dataset: Dataset, batch: Batch, expected: list[Any]) -> None:
    assert batch.valid is None
    seen = dataset.preparation.restore(batch.inputs.numpy())
    np.testing.assert_allclose(seen, np.stack(expected), atol=1e-3)


def check_table(dataset: Dataset, batch: Batch, expected: list[dict[str, Any]]) -> None:
    inputs = batch.inputs.numpy().astype(np.float64)
    if batch.valid is not None:
        inputs = np.where(batch.valid.numpy()[:, :, None], inputs, np.nan)
    for seen, wanted in zip(dataset.preparation.restore(inputs).to_pylist(), expected, strict=True):
        assert seen.keys() == wanted.keys()
        for name, cell in wanted.items():
            close = pytest.approx(cell, abs=1e-5) if isinstance(cell, float) else cell
            assert seen[name] == close


CHECKS = {"bytes": check_bytes, "values": check_values, "table": check_table, "image": check_image}
