"""Every registered source gives back what was written for it."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from anymae.config import DataConfig
from anymae.data.dataset import open_data
from anymae.data.frame import Frame
from anymae.data.sources import SOURCES, read_source
from anymae.errors import DataError, MissingExtraError

CONFIG = DataConfig()
SKIP = DataConfig(on_bad_row="skip")
TABLE = {
    "name": ["CCO", "c1ccccc1", "", "Zürich"],
    "mass": [1.5, -2.0, 0.0, 1e9],
    "charge": [1, 2, -3, 4],
    "toxic": [True, False, False, True],
}
IMAGES = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)


def _npz(path: Path) -> None:
    np.savez_compressed(path, images=IMAGES, labels=np.arange(4))


def _png(path: Path) -> None:
    path = path.with_suffix("")
    for i, pixels in enumerate(IMAGES):
        folder = path / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i}.png")


def _stream(path: Path) -> None:
    table = pa.table(TABLE)
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def _stream_of(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


Writer = Callable[[Path], object]
FILES: dict[str, dict[str, tuple[Writer, dict[str, list[Any]]]]] = {
    "csv": {
        "x.csv": (lambda path: pd.DataFrame(TABLE).to_csv(path, index=False), TABLE),
        "x.tsv": (lambda path: pd.DataFrame(TABLE).to_csv(path, index=False, sep="\t"), TABLE),
        "y.csv": (lambda path: pd.DataFrame(TABLE).to_csv(path, index=False, sep=";"), TABLE),
        "q.csv": (lambda path: pd.DataFrame(TABLE).to_csv(path, index=False, quoting=1), TABLE),
        "x.csv.gz": (lambda path: pd.DataFrame(TABLE).to_csv(path, index=False), TABLE),
        "x.csv.zst": (
            lambda path: path.write_bytes(
                pa.compress(pd.DataFrame(TABLE).to_csv(index=False).encode(), "zstd", asbytes=True)
            ),
            TABLE,
        ),
    },
    "parquet": {
        "x.parquet": (lambda path: pq.write_table(pa.table(TABLE), path), TABLE),
        "y.parquet": (lambda path: pd.DataFrame(TABLE).to_parquet(path), TABLE),
        "z.parquet": (
            lambda path: pq.write_table(pa.table({"x": [[[1.0, 2.0]], [], None]}), path),
            {"x": [[[1.0, 2.0]], [], None]},
        ),
    },
    "arrow": {
        "x.feather": (lambda path: pyarrow.feather.write_feather(pa.table(TABLE), path), TABLE),
        "y.feather": (
            lambda path: pyarrow.feather.write_feather(
                pl.DataFrame(TABLE).to_arrow(), path, compression="uncompressed"
            ),
            TABLE,
        ),
        "x.arrow": (_stream, TABLE),
    },
    "jsonl": {
        "x.jsonl": (
            lambda path: pd.DataFrame(TABLE).to_json(path, orient="records", lines=True),
            TABLE,
        ),
        "x.jsonl.gz": (
            lambda path: path.write_bytes(gzip.compress(b'{"a": [[1, 2.5], [3, 4]]}\n{"b": null}')),
            {"a": [[[1.0, 2.5], [3.0, 4.0]], None], "b": [None, None]},
        ),
    },
    "text": {
        "x.txt": (lambda path: path.write_text("one\n two \r\n\nZürich"), {}),
    },
    "smi": {
        "x.smi": (lambda path: path.write_text("CCO ethanol\nC\tmethane gas\n"), {}),
    },
    "fasta": {
        "x.fasta": (lambda path: path.write_text(">a first\nMK\nV\n>b\nLL\n"), {}),
        "x.fa.gz": (lambda path: path.write_bytes(gzip.compress(b">a first\nMKV\n>b\nLL\n")), {}),
    },
    "npy": {"x.npy": (lambda path: np.save(path, IMAGES), {})},
    "npz": {"x.npz": (_npz, {"labels": [0, 1, 2, 3]})},
    "images": {"x.png": (_png, {"label": ["a", "a", "b", "b"]})},
}
FILES["text"]["x.txt"][1]["text"] = ["one", " two ", "Zürich"]
FILES["smi"]["x.smi"][1].update(smiles=["CCO", "C"], id=["ethanol", "methane gas"])
for _, expected in FILES["fasta"].values():
    expected.update(id=["a first", "b"], sequence=["MKV", "LL"])

OBJECTS: dict[str, list[Any]] = {
    "strings": [
        TABLE["name"],
        tuple(TABLE["name"]),
        np.array(TABLE["name"]),
        np.array(TABLE["name"], object),
        pd.Series(TABLE["name"]),
        pl.Series(TABLE["name"]),
        pa.array(TABLE["name"]),
        pa.chunked_array([TABLE["name"][:1], TABLE["name"][1:]]),
    ],
    "table": [
        TABLE,
        pd.DataFrame(TABLE),
        pd.DataFrame(TABLE, index=[4, 7, 1, 0]),
        pl.DataFrame(TABLE),
        pa.table(TABLE),
        pa.RecordBatch.from_pydict(TABLE),
        pa.concat_tables([pa.table(TABLE).slice(0, 1), pa.table(TABLE).slice(1)]),
    ],
    "arrays": [IMAGES, np.asfortranarray(IMAGES), IMAGES.tolist()],
}


@pytest.mark.parametrize("source", list(SOURCES))
def test_what_was_written_is_read(source: str, tmp_path: Path) -> None:
    assert source in FILES or source in OBJECTS, "a new source needs an example here"
    for name, (write, expected) in FILES.get(source, {}).items():
        write(tmp_path / name)
        path = tmp_path / name if (tmp_path / name).exists() else tmp_path / Path(name).stem
        frame = read_source(str(path), CONFIG)
        assert frame.format == source
        check(frame, expected)
        assert frame.name == str(path)
        assert frame.digest == read_source(path, CONFIG).digest
    for data in OBJECTS.get(source, []):
        frame = read_source(data, CONFIG)
        check(frame, {"strings": {"text": TABLE["name"]}, "table": TABLE}.get(source, {}))


def check(frame: Frame, expected: dict[str, list[Any]]) -> None:
    for name, cells in expected.items():
        assert frame.table[name].to_pylist() == cells
        assert frame.table[name].num_chunks == 1
    if frame.shape is not None:
        images = IMAGES if "label" not in frame.table.column_names else IMAGES[[0, 2, 1, 3]]
        np.testing.assert_array_equal(frame.arrays()[0], images)
        assert frame.shape == (2, 3)
        assert frame.arrays()[0].dtype in (np.uint8, np.int64)
    else:
        assert set(frame.table.column_names) == set(expected)
    assert not frame.bad
    assert len(frame) == frame.table.num_rows
    frame.table.validate(full=True)


def test_an_array_is_not_copied(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(5, 4, 3))
    frame = read_source(array, CONFIG)
    assert np.shares_memory(frame.arrays()[0], array)
    np.save(tmp_path / "x.npy", array)
    before = pa.total_allocated_bytes()
    mapped = read_source(tmp_path / "x.npy", CONFIG)
    np.testing.assert_array_equal(mapped.arrays()[0], array)
    assert pa.total_allocated_bytes() == before


def test_big_endian_half_and_fortran_arrays_are_read(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(5, 4))
    for i, other in enumerate([array.astype(">f8"), array.astype("f2"), np.asfortranarray(array)]):
        np.save(tmp_path / f"{i}.npy", other)
        np.testing.assert_array_equal(read_source(tmp_path / f"{i}.npy", CONFIG).arrays()[0], other)
        np.testing.assert_array_equal(read_source(other, CONFIG).arrays()[0], other)
        np.savez(tmp_path / f"{i}.npz", other)
        np.testing.assert_array_equal(read_source(tmp_path / f"{i}.npz", CONFIG).arrays()[0], other)


def test_an_npz_with_valid_has_nan_where_nothing_is(tmp_path: Path) -> None:
    values = np.arange(12).reshape(2, 3, 2)
    valid = np.array([[True, False, True], [True, False, False]])
    np.savez(tmp_path / "x.npz", values=values, valid=valid)
    frame = read_source(tmp_path / "x.npz", CONFIG)
    assert frame.shape == (3, 2)
    np.testing.assert_array_equal(np.isnan(frame.arrays()[0]).all(-1), ~valid)
    np.testing.assert_array_equal(frame.arrays()[0][valid], values[valid])
    large = np.array([[[16_777_217]], [[3]]])
    np.savez(tmp_path / "y.npz", values=large, valid=np.ones((2, 1), bool))
    np.testing.assert_array_equal(read_source(tmp_path / "y.npz", CONFIG).arrays()[0], large)


def test_an_npz_may_have_labels_that_are_true_or_false(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2)), y=np.array([True, False, True]))
    assert read_source(tmp_path / "x.npz", CONFIG).table["y"].to_pylist() == [True, False, True]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((5, 3)), "values": np.arange(5)}, "'values' has one number for each row"),
        (
            {"values": np.ones((3, 3)), "valid": np.ones((3, 3), bool)},
            r"`values` is \(3, 3\); with",
        ),
    ],
)
def test_an_npz_whose_names_do_not_fit_is_one_sentence(
    arrays: dict[str, Any], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_source(tmp_path / "x.npz", CONFIG)


def test_what_is_masked_is_missing() -> None:
    whole = np.array([[1, 2], [-999, 4], [5, 6]])
    found = read_source(np.ma.masked_equal(whole.astype(float), -999), CONFIG).arrays()[0]
    np.testing.assert_array_equal(np.isnan(found), whole == -999)
    nothing = read_source(np.ma.masked_equal(whole, 7), CONFIG).arrays()[0]
    np.testing.assert_array_equal(nothing, whole)
    with pytest.raises(DataError, match="holds int64, in which nothing can be missing"):
        read_source(np.ma.masked_equal(whole, -999), CONFIG)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(3, 2, dtype=torch.bfloat16), torch.eye(3).to_sparse()]
)
def test_tensors_that_numpy_has_no_word_for_are_one_sentence(tensor: torch.Tensor) -> None:
    with pytest.raises(DataError, match="hand over a NumPy array"):
        read_source(tensor, CONFIG)


def test_what_a_file_is_called_divides_its_cells(tmp_path: Path) -> None:
    for suffix in (".tsv", ".psv"):
        (tmp_path / f"x{suffix}").write_text("text\na|b\nc|d\n")
    assert read_source(tmp_path / "x.tsv", CONFIG).table["text"].to_pylist() == ["a|b", "c|d"]
    with pytest.raises(DataError, match="has 2 cells"):
        read_source(tmp_path / "x.psv", CONFIG)


def test_ragged_lists_of_numbers_are_series_of_one_channel() -> None:
    found = read_source([[1.0, 2.0, 3.0], [1.0, 2.0]], CONFIG)
    assert found.table.to_pydict() == {"values": [[1.0, 2.0, 3.0], [1.0, 2.0]]}
    assert open_data([[1.0, 2.0, 3.0], [1.0, 2.0]] * 4).input.kind == "values"


@pytest.mark.parametrize(
    "data",
    [
        pd.Series(["CCO", np.nan, "C"]),
        pd.Series(["CCO", None, "C"], dtype="string"),
        np.array(["CCO", np.nan, "C"], object),
    ],
)
def test_what_pandas_calls_missing_is_no_string(data: object) -> None:
    assert read_source(data, CONFIG).table["text"].to_pylist() == ["CCO", None, "C"]


def test_ragged_lists_are_one_column() -> None:
    rows = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]]
    frame = read_source(rows, CONFIG)
    assert frame.table["values"].to_pylist() == rows
    frame = read_source([np.array(row) for row in rows], CONFIG)
    assert frame.table["values"].to_pylist() == rows


def test_types_become_plain(tmp_path: Path) -> None:
    table = pa.table(
        {
            "category": pa.array(["a", "b", "a"]).dictionary_encode(),
            "half": pa.array([1, None, 2], pa.float16()),
            "exact": pa.array(["1.5", None, "2"]).cast(pa.decimal128(5, 2)),
            "day": pa.array([1, 2, None], pa.date32()),
            "hour": pa.array([1, 2, None], pa.time32("ms")),
            "hours": pa.array([[1], [2, 3], None], pa.list_(pa.time32("ms"))),
            "bytes": pa.array([b"x", None, b"y"]),
            "nested": pa.array([{"a": 1}] * 3),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    for frame in (read_source(tmp_path / "x.parquet", CONFIG), read_source(table, CONFIG)):
        types = {field.name: str(field.type) for field in frame.table.schema}
        assert types == {
            "category": "large_string",
            "half": "float",
            "exact": "double",
            "day": "timestamp[us]",
            "hour": "int64",
            "hours": "large_list<item: int64>",
            "bytes": "large_string",
        }
        assert frame.unread == {"nested": "struct<a: int64>"}
        assert frame.table["category"].to_pylist() == ["a", "b", "a"]
        assert frame.table["exact"].to_pylist() == [1.5, None, 2.0]
        assert frame.table["hour"].to_pylist() == [1_000, 2_000, None]
        assert frame.table["hours"].to_pylist() == [[1_000], [2_000, 3_000], None]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_have_one_unit_whatever_the_source_has(unit: str) -> None:
    short = unit in ("s", "ms")
    cells = {
        "lasts": pa.array([1, 90], pa.duration("s")).cast(pa.duration(unit)),
        "clock": pa.array([1, 90], pa.time32("s")).cast(
            pa.time32(unit) if short else pa.time64(unit)
        ),
    }
    frame = read_source(pa.table(cells), CONFIG)
    for name in cells:
        assert frame.table[name].to_pylist() == [1_000_000, 90_000_000]


def test_pictures_of_a_glob_are_named_like_those_of_a_folder(tmp_path: Path) -> None:
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        (tmp_path / "im" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / "im" / name)
    folder = read_source(tmp_path / "im", CONFIG).table
    assert folder["label"].to_pylist() == ["a", "a", "b"]
    found = read_source(str(tmp_path / "im" / "*" / "*.png"), CONFIG).table
    for name in ("id", "label"):
        assert found[name].to_pylist() == folder[name].to_pylist()


def test_shards_are_one_table_whose_rows_know_their_file(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    for i in range(3):
        pq.write_table(pa.table({"x": [10 * i, 10 * i + 1]}), folder / f"part-{i}.parquet")
    (folder / "_SUCCESS").touch()
    frame = read_source(folder, CONFIG)
    assert frame.table["x"].to_pylist() == [0, 1, 10, 11, 20, 21]
    assert frame.where(3) == "row 1 of part-1.parquet"
    frame = read_source(str(folder / "part-[02].parquet"), CONFIG)
    assert frame.table["x"].to_pylist() == [0, 1, 20, 21]
    pq.write_table(pa.table({"y": [1]}), folder / "part-3.parquet")
    with pytest.raises(DataError, match=r"part-3\.parquet has other columns"):
        read_source(folder, CONFIG)


def test_folders_of_parquet_files_name_a_column(tmp_path: Path) -> None:
    cells = {"split=train/site=a%20b": 1, "split=test/site=__HIVE_DEFAULT_PARTITION__": 2}
    for folder, value in cells.items():
        (tmp_path / "t" / folder).mkdir(parents=True)
        pq.write_table(pa.table({"a": [value] * 2}), tmp_path / "t" / folder / "0.parquet")
    for data in (tmp_path / "t", tmp_path / "t" / "*" / "*" / "*.parquet"):
        assert read_source(data, CONFIG).table.to_pydict() == {
            "a": [2, 2, 1, 1],
            "split": ["test", "test", "train", "train"],
            "site": [None, None, "a b", "a b"],
        }
    # The same files by other names are other data.
    (tmp_path / "t" / "split=test").rename(tmp_path / "t" / "split=dev")
    assert read_source(tmp_path / "t", CONFIG).table["split"].to_pylist()[:2] == ["dev", "dev"]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_shards_in_which_a_column_is_empty_are_read(ending: str, tmp_path: Path) -> None:
    cells = {
        "number": [1.5, 2.5],
        "word": ["a", "b"],
        "time": pa.array([1, 2], pa.time32("s")),
        "ragged": [[1.0], []],
        "fixed": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2)),
        "category": pa.array(["x", "y"]).dictionary_encode(),
    }
    full = pa.table(cells)
    nothing = pa.table({name: pa.nulls(2) for name in cells})
    unlike = pa.table({**cells, "number": [1, 2], "ragged": pa.array([[], []])})
    write = pq.write_table if ending == "parquet" else _stream_of
    for shards in ([nothing, full], [full, nothing], [unlike, nothing, full, unlike]):
        for i, shard in enumerate(shards):
            write(shard, tmp_path / f"part-{i}.{ending}")
        frame = read_source(tmp_path, CONFIG)
        for name in cells:
            expected = [cell for shard in shards for cell in shard[name].to_pylist()]
            if name == "time":
                expected = [cell and cell.second * 1_000_000 for cell in expected]
            assert frame.table[name].to_pylist() == expected


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_numbers_in_one_shard_and_strings_in_another_are_strings(
    ending: str, tmp_path: Path
) -> None:
    write = pq.write_table if ending == "parquet" else _stream_of
    for i, cells in enumerate(([1, 2], ["z", None], [0.5, None])):
        write(pa.table({"a": cells}), tmp_path / f"part-{i}.{ending}")
    frame = read_source(tmp_path, CONFIG)
    assert frame.table["a"].to_pylist() == ["1", "2", "z", None, "0.5", None]


@pytest.mark.parametrize("cells", [([1], [[1.0]]), (["a"], [["a"]]), ([True], [3])])
def test_shards_whose_cells_have_no_common_type_are_named(
    cells: tuple[list[object], ...], tmp_path: Path
) -> None:
    for i, column in enumerate(cells):
        pq.write_table(pa.table({"a": column, "b": [i]}), tmp_path / f"part-{i}.parquet")
    with pytest.raises(DataError, match=r"column 'a' is .* in .*part-1\.parquet and .* before it"):
        read_source(tmp_path, CONFIG)


def test_rows_of_a_fasta_file_are_called_by_their_header(tmp_path: Path) -> None:
    (tmp_path / "x.fasta").write_text(">sp|P68871 human\nMVH\n>two\nLT\n")
    frame = read_source(tmp_path / "x.fasta", CONFIG)
    assert frame.where(0) == "sequence 'sp|P68871 human'"


def test_colours_and_bad_images(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(np.full((4, 5, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    Image.fromarray(np.full((4, 5), 9, np.uint8)).save(tmp_path / "3.png")
    frame = read_source(tmp_path, CONFIG)
    assert frame.shape == (4, 5, 3)
    np.testing.assert_array_equal(frame.arrays()[0][:, 0, 0, 2], [0, 1, 2, 9])
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"1 row cannot be read; the first, image '1.png'"):
        read_source(tmp_path, CONFIG)
    frame = read_source(tmp_path, SKIP)
    assert list(frame.bad) == [1]
    assert frame.table["values"].null_count == 1
    np.testing.assert_array_equal(frame.arrays()[0][:, 0, 0, 2], [0, 0, 2, 9])
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "4.png")
    with pytest.raises(DataError, match=r"4.png has 6 x 4 pixels.*5 x 4"):
        read_source(tmp_path, SKIP)


def test_images_that_no_row_can_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="none of 1 images can be read"):
        read_source(tmp_path, SKIP)
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "1.png")
    with pytest.raises(DataError, match="more than 8 bits per pixel"):
        read_source(tmp_path, SKIP)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 2.5 3\n4 5 6\n", "name a table .csv"),
        ("1\t2\n3\t-4e5\n", "name a table .tsv"),
        ("1\n2\n", None),
        ("1 2\n3\n", None),
        ("CCO 1\nCC 2\n", None),
    ],
)
def test_a_text_file_that_looks_like_a_table_is_warned_of(
    text: str, told: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x.txt").write_text(text)
    for _ in range(2):  # also where the cache has it
        caplog.clear()
        read_source(tmp_path / "x.txt", CONFIG)
        assert [told in record.message for record in caplog.records] == ([True] if told else [])


def test_several_arrays_are_not_stacked(tmp_path: Path) -> None:
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, IMAGES)
    with pytest.raises(DataError, match=r"is 2 \.npy files; one is expected"):
        read_source(tmp_path, CONFIG)


def test_the_digest_of_objects_follows_from_their_values() -> None:
    table = pa.table({"a": ["x", "y", "z"]})
    whole, part = read_source(table, CONFIG), read_source(table.slice(1), CONFIG)
    assert whole.digest != part.digest
    assert part.digest == read_source({"a": ["y", "z"]}, CONFIG).digest
    assert read_source(IMAGES, CONFIG).digest == read_source(IMAGES.copy(), CONFIG).digest


def test_bad_json_lines_are_counted_and_named(tmp_path: Path) -> None:
    lines = ['{"a": 1}', "", "nonsense", "[1]", '{"a": 2}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="2 rows cannot be read; the first, line 3, is no JSON"):
        read_source(tmp_path / "x.jsonl", CONFIG)
    frame = read_source(tmp_path / "x.jsonl", SKIP)
    assert frame.table["a"].to_pylist() == [1, None, None, 2]
    assert list(frame.bad) == [1, 2]
    assert frame.where(3) == "line 5"


def test_json_columns_of_mixed_types_become_strings(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": {"c": [1]}}, {"a": "x", "b": None}]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    frame = read_source(tmp_path / "x.jsonl", CONFIG)
    assert frame.table.to_pydict() == {"a": ["1", "x"], "b": ['{"c": [1]}', None]}


def test_json_integers_of_more_than_64_bits_keep_their_digits(tmp_path: Path) -> None:
    ids = [18446744073709551615, 9007199254740993, 9007199254740992]
    rows = [{"id": number, "x": [number, 0.5]} for number in ids]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    table = read_source(tmp_path / "x.jsonl", CONFIG).table
    assert table["id"].to_pylist() == [str(number) for number in ids]
    assert table["x"].to_pylist()[0] == [2.0**64, 0.5]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 2, 0, 3), (2, 3, 1, 0), (3, 1, 0, 2)])
def test_a_json_integer_of_more_than_64_bits_is_an_amount_among_floats(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    rows = [{"x": 0.5, "id": 10**25}, {"x": 10**20, "id": None}, {"x": 3, "id": 1}, {"x": None}]
    rows = [rows[place] for place in order]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    table = read_source(tmp_path / "x.jsonl", CONFIG).table
    assert table.schema.field("x").type == pa.float64()
    assert table["x"].to_pylist() == [row["x"] and float(row["x"]) for row in rows]
    ids = [row.get("id") for row in rows]
    assert table["id"].to_pylist() == [None if one is None else str(one) for one in ids]


@pytest.mark.parametrize("other", [True, "x", [1], {"y": 1}])
def test_a_json_integer_of_more_than_64_bits_is_text_beside_what_is_no_number(
    other: object, tmp_path: Path
) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps({"x": 10**20}) + "\n" + json.dumps({"x": other}))
    text = other if isinstance(other, str) else json.dumps(other)
    found = read_source(tmp_path / "x.jsonl", CONFIG).table["x"].to_pylist()
    assert found == [str(10**20), text]


@pytest.mark.parametrize("pattern", ["", "/*/*.png"])
def test_images_at_a_url_have_the_labels_of_their_folders(pattern: str, tmp_path: Path) -> None:
    for folder, number in [("cat", 0), ("cat", 1), ("dog", 0), ("dog", 1)]:
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(IMAGES[number]).save(tmp_path / folder / f"{number}.png")
    local, remote = (
        read_source(f"{scheme}{tmp_path}{pattern}", CONFIG) for scheme in ("", "file://")
    )
    assert remote.table["label"].to_pylist() == ["cat", "cat", "dog", "dog"]
    assert remote.table["id"].to_pylist() == local.table["id"].to_pylist()
    np.testing.assert_array_equal(remote.arrays()[0], local.arrays()[0])


def _png(side: int, mode: str = "L") -> bytes:
    content = io.BytesIO()
    Image.new(mode, (side, 2)).save(content, "png")
    return content.getvalue()


UTF_16 = b"\xff\xfea\x00\n\x00"


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"x.txt": UTF_16}, "{url} is UTF-16 text"),
        ({"a.txt": b"C\n", "x.txt": UTF_16}, "x.txt of {url} is UTF-16 text"),
        ({"a.smi": b"C\n", "x.smi": UTF_16}, "x.smi of {url} is UTF-16 text"),
        (
            {"a.csv": b"a\n1\n", "b.csv": b"b\n1\n"},
            "b.csv of {url} has other columns than a.csv of",
        ),
        ({"a.png": _png(1), "b.png": _png(2)}, "b.png of {url} has 2 x 2 pixels, the images"),
        ({"a.png": _png(1), "b.png": _png(1, "I;16")}, "b.png of {url} has more than 8 bits"),
        ({"a.csv": b"a\n1\n", "b.csv": b""}, "b.csv of {url} is empty (0 bytes)"),
        ({"a.parquet.gz": b"x", "b.parquet": b"x"}, "a.parquet.gz of {url} is compressed"),
        ({"x.xyz": b"a"}, "{url} ends in '.xyz', which no source reads"),
    ],
)
def test_files_of_a_url_are_called_as_the_user_does(
    contents: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    url = f"file://{tmp_path}" + (f"/{next(iter(contents))}" if len(contents) == 1 else "")
    with pytest.raises(DataError) as caught:
        read_source(url, CONFIG)
    assert str(caught.value).startswith(message.format(url=url))


def test_a_named_url_is_read_through_fsspec() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/x.csv", b"a\n1\n")
    assert read_source("memory://bucket/x.csv", CONFIG).table["a"].to_pylist() == [1]
    memory.pipe("/bucket/x.csv", b"a\n12345\n")
    assert read_source("memory://bucket/x.csv", CONFIG).table["a"].to_pylist() == [12345]
    for name in ("_temporary/0/x.csv", ".checkpoints/x.csv", "_SUCCESS", "notes.md"):
        memory.pipe(f"/bucket/{name}", b"a\n3\n")
    assert read_source("memory://bucket", CONFIG).table["a"].to_pylist() == [12345]
    with pytest.raises(DataError, match="does not exist"):
        read_source("memory://bucket/y.csv", CONFIG)
    with pytest.raises((MissingExtraError, DataError), match=r"nowhere://x\.csv"):
        read_source("nowhere://x.csv", CONFIG)


@pytest.mark.parametrize("size", [4, None])
def test_what_changed_behind_a_web_address_is_copied_again(
    size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    copied = []

    class Web(MemoryFileSystem):  # as the real one, which needs aiohttp
        protocol = ("http", "https")

        def ukey(self, path: str) -> str:
            return path

        def info(self, path: str, **_: object) -> dict[str, object]:
            found = super().info(path)
            tag = {} if found["type"] == "directory" else {"ETag": self.cat_file(path).hex()}
            return {"name": path, "type": found["type"], "size": size, **tag}

        def get_file(self, path: str, to: str, **_: object) -> None:
            copied.append(path)
            Path(to).write_bytes(self.cat_file(path))

        def isdir(self, path: str) -> bool:
            raise AssertionError("the real one fetches all of the file to tell")

    web = Web()
    path = "/web/x.csv?part=1&key=a"
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda _: (web, path))
    for content, times in ((b"a\n1\n", 1), (b"a\n1\n", 1), (b"a\n2\n", 2)):
        web.pipe(path, content)
        table = read_source("http://host/x.csv?part=1&key=a", CONFIG).table
        assert table["a"].to_pylist() == [int(content[2:])]
        assert len(copied) == times


def _bytes_of(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


PARQUET = _bytes_of(lambda file: pq.write_table(pa.table(TABLE), file))
ARROW = _bytes_of(lambda file: pyarrow.feather.write_feather(pa.table(TABLE), file))
NPZ = _bytes_of(lambda file: np.savez(file, IMAGES))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "does not exist"),
        ("x.csv", b"", r"is empty \(0 bytes\)"),
        ("x.csv", b"a,b\n", "holds a header and no rows"),
        ("x.csv", b"\n\n\n", "nothing but empty lines"),
        ("x.csv", PARQUET, "is no text"),
        ("x.csv", b"\xff\xfea\x00\n\x00", "is UTF-16 text"),
        ("x.csv", b"\x93\xfa\n1\n", "header is not valid UTF-8"),
        ("x.csv", b"a,a\n1,2\n", "two columns named 'a'"),
        ("x.csv", b"1,2\n3,4\n", "first line holds numbers"),
        ("x.csv.gz", b"a,b\n1,2\n", "cannot be read"),
        ("x.csv.gz", gzip.compress(b"a\n" + b"1\n" * 999, mtime=0)[:-9], "cannot be read"),
        ("x.csv.zst", pa.compress(b"a\n" + b"1\n" * 999, "zstd", asbytes=True)[:-4], "read"),
        ("x.parquet", b"nonsense, really", "cannot be read"),
        ("x.parquet", PARQUET[:-20], "cannot be read"),
        ("x.parquet", PARQUET[: len(PARQUET) // 2], "cannot be read"),
        ("x.parquet.gz", b"x", "compressed as a whole"),
        ("x.arrow", ARROW[:-20], "cannot be read"),
        ("x.npz", NPZ[:-20], "is no .npz file"),
        ("x.npz", _bytes_of(lambda file: np.savez(file, a=IMAGES, b=IMAGES)), "one array with"),
        ("x.npy", _bytes_of(lambda f: np.save(f, np.array([{}, 1], object))), "Python objects"),
        (
            "x.npz",
            _bytes_of(lambda f: np.savez(f, np.array([{}, 1], object))),
            "as strings with .astype",
        ),
        ("x.npy", _bytes_of(lambda file: np.save(file, np.array(3.0))), "0 dimensions"),
        ("x.npy", _bytes_of(lambda file: np.save(file, np.zeros(3))), "1 dimensions"),
        ("x.npy", _bytes_of(lambda file: np.save(file, np.zeros((1,) * 5))), "5 dimensions"),
        ("x.npy", _bytes_of(lambda file: np.save(file, np.zeros((0, 3)))), "nothing in it"),
        ("x.npy", _bytes_of(lambda file: np.save(file, np.zeros((2, 3), complex))), "complex128"),
        ("x.npy", _bytes_of(lambda file: np.save(file, IMAGES))[:-3], "cannot be read"),
        (
            "x.npz",
            _bytes_of(lambda f: np.savez(f, values=IMAGES, valid=np.ones((4, 3), bool))),
            r"`valid` is bool \(4, 3\)",
        ),
        ("x.npz", _bytes_of(lambda f: np.savez(f, x=IMAGES, y=np.arange(3))), "'y' is int64"),
        ("x.fasta", b"MKV\n", "does not start with '>'"),
        ("x.jsonl", b"[1]\n", "has no values in 1 lines, 1 of which"),
        ("x.txt", b"\n\n", "holds no rows"),
        ("x.parq", b"x", "ends in '.parq', which no source reads; did you mean '.parquet'"),
        ("x.dat", b"x", r"ends in '.dat', which no source reads; known: .arrow"),
        ("x.h5", b"x", "which no source reads; save its array as .npy"),
        ("x.xlsx", b"x", "which no source reads; save its table as .csv"),
        ("x.sdf", b"x", "which no source reads; write its molecules as SMILES"),
        ("data", b"x", "has no ending"),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_source(path, CONFIG)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.arrow", "x.npy", "x.npz", "x.fasta"])
def test_a_file_that_may_not_be_read_is_refused_in_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Access is not taken away for real: root, as which tests may run, reads everything.
    (tmp_path / name).write_bytes(b"x")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(pa, "memory_map", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); make it read"):
        read_source(tmp_path / name, CONFIG)
    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); make it read"):
        read_source(tmp_path / name, CONFIG)


def test_columns_that_no_type_fits_are_left_out_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frame = pd.DataFrame(
        {
            "mixed": [1, "x", None],
            "sparse": pd.arrays.SparseArray([0.0, 0.0, 1.0]),
            "a": [1.0, 2.0, 3.0],
            "complex": np.array([1j, 2, 3]),
        }
    )
    found = read_source(frame, CONFIG)
    assert found.table["a"].to_pylist() == [1.0, 2.0, 3.0]
    assert {"mixed", "complex"} <= set(found.unread)
    assert "column 'mixed' is left out: it holds object cells that no type fits" in caplog.text
    for asked in ({"column": ("mixed", "a")}, {"target": ("mixed",)}):
        with pytest.raises(DataError, match="column 'mixed' is not read, as it holds object"):
            open_data(frame, DataConfig(**asked))


def test_tensors_of_a_graph_are_read() -> None:
    tensor = torch.ones(3, 2, requires_grad=True)
    assert read_source(tensor * 2, CONFIG).arrays()[0].tolist() == [[2, 2]] * 3


def test_folders_without_or_with_several_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder without data files"):
        read_source(tmp_path, CONFIG)
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "c.xyz").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"c\.xyz ends in '\.xyz', which no source reads"):
        read_source(tmp_path, CONFIG)
    (tmp_path / "c.xyz").unlink()
    (tmp_path / "b.txt").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"several formats \(.csv, .txt\)"):
        read_source(tmp_path, CONFIG)
    (tmp_path / "run.yaml").write_text("steps: 1\n")
    with pytest.raises(DataError, match="is a run; where data are expected"):
        read_source(tmp_path, CONFIG)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.array(3.0), "0 dimensions"),
        (np.zeros(3), "1 dimensions"),
        (np.zeros((1,) * 5), "5 dimensions"),
        (np.array([{}, 1], object), "item 0 is of type dict"),
        (np.array([["a"]]), "in 2 dimensions"),
        (np.zeros((0, 3)), "nothing in it"),
        ([], "the list is empty"),
        (["a", 1], "item 1 is of type int"),
        ([1, 2], "item 0 is of type int"),
        (["\ud800"], "the list cannot be read"),
        ({}, "holds no rows"),
        ({"a": []}, "holds no rows"),
        ({"a": [1], "b": [1, 2]}, "the table cannot be read"),
        ({"a": 1, "b": 2.5}, "'a' of the dictionary is of type int; a list or array"),
        ({"a": [1], "b": "CCO"}, "'b' of the dictionary is of type str"),
        ({"a": {"b": [1]}}, "'a' of the dictionary is of type dict"),
        ({"a": np.array(3.0)}, "cannot be read|is no table"),
        ({"a": object()}, "'a' of the dictionary is of type object"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns named 'a'"),
        (pd.DataFrame({"a": [1, "x"]}), "the table cannot be read .*; turn each of its columns"),
        (pd.DataFrame(), "the table holds no rows$|has no column of numbers"),
        (pl.LazyFrame({"a": [1, 2]}), r"lazy frame, without rows yet; hand over frame.collect\(\)"),
        ({"a": [{"b": 1}]}, "no column of numbers"),
        (b"bytes", "of type bytes"),
        (None, "of type NoneType"),
        (3, "of type int"),
    ],
)
def test_wrong_objects_are_refused_in_one_sentence(data: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_source(data, CONFIG)
    assert "\n" not in str(caught.value)
