"""Types, lines and bad rows of CSV files."""

import csv
import datetime
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from anymae.config import DataConfig
from anymae.data.frame import Frame
from anymae.data.sources import lines, read_source
from anymae.errors import DataError

SKIP = DataConfig(on_bad_row="skip")


def read(folder: Path, content: str | bytes, config: DataConfig = DataConfig()) -> Frame:  # noqa: B008
    path = folder / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_source(path, config)


@pytest.fixture(params=[1 << 24, 64, 7])
def _any_block_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", request.param)


any_block_size = pytest.mark.usefixtures("_any_block_size")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2", "30"], [1, -2, 30]),
        (["1", "", "NA", "?", "NaN"], [1, None, None, None, None]),
        (["1", "2.5", "1e3"], [1.0, 2.5, 1000.0]),
        (["1", "", "2.5"], [1.0, None, 2.5]),
        ([" 1", "2 "], [1, 2]),
        (["true", "False", ""], [True, False, None]),
        (["2020-01-02", ""], [datetime.datetime(2020, 1, 2), None]),
        (
            ["2020-01-02T03:00:00Z", "", "2020-01-02 03:00:00+01:00"],
            [datetime.datetime(2020, 1, 2, 3), None, datetime.datetime(2020, 1, 2, 2)],
        ),
        (["2020-01-02T03:00:00Z", "2020-01-02"], ["2020-01-02T03:00:00Z", "2020-01-02"]),
        (["a", "1", ""], ["a", "1", ""]),
        (["1", "a", "NA"], ["1", "a", "NA"]),
        (["", "NA"], [None, None]),
        (["99999999999999999999"], ["99999999999999999999"]),
        (["123456789012345678", "-1"], [123456789012345678, -1]),
        (["1234567890123456789", "1.5"], ["1234567890123456789", "1.5"]),
        (["0.1234567890123456789", "1"], [0.12345678901234568, 1.0]),
        (["007", "12"], ["007", "12"]),
        (["\u00a0007", "\u00a0008"], ["\u00a0007", "\u00a0008"]),
        (["\u3000-007\u2009", "1", "0x10\u00a0"], ["\u3000-007\u2009", "1", "0x10\u00a0"]),
        (["\u00a07", "8"], [7, 8]),
        (["-01.5", "2"], ["-01.5", "2"]),
        (["0", "-0.5", "+0.25", "00"], ["0", "-0.5", "+0.25", "00"]),
        (["0", "-0.5", "0e0", "NA"], [0.0, -0.5, 0.0, None]),
        (["0", "-0", "10"], [0, 0, 10]),
        (["0x10", "1"], ["0x10", "1"]),
        (["0X10", "1"], ["0X10", "1"]),
        (["0", "true"], ["0", "true"]),
        (["2020", "2020-01-02"], ["2020", "2020-01-02"]),
        (["nan", "1"], [None, 1.0]),
        ([" a ", "b"], [" a ", "b"]),
    ],
)
@any_block_size
def test_a_columns_type_follows_from_all_of_its_cells(
    cells: list[str], expected: list[object], tmp_path: Path
) -> None:
    for order in (slice(None), slice(None, None, -1)):
        content = "x,y\n" + "".join(f"{cell},k\n" for cell in cells[order])
        column = read(tmp_path, content).table["x"]
        if pa.types.is_floating(column.type):
            column = column.fill_null(np.nan)
            np.testing.assert_array_equal(column, np.array(expected[order], float))
        else:
            assert column.to_pylist() == expected[order]


def test_a_late_cell_decides_about_the_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 100)
    numbers = "".join(f"{i}\n" for i in range(1000))
    assert read(tmp_path, "x\n" + numbers).table["x"].type == pa.int64()
    assert read(tmp_path, "x\n" + numbers + "0.5\n").table["x"].type == pa.float64()
    frame = read(tmp_path, "x\n" + numbers + "abc\n" + numbers)
    assert frame.table["x"].type == pa.large_string()
    assert frame.odd == {"x"}
    assert frame.where(1000) == "line 1002"
    assert read(tmp_path, "x\n" + numbers + "abc\n" * 900).odd == set()
    assert read(tmp_path, "x\n" + "true\n" * 100 + "maybe\n").odd == set()


def test_a_late_name_keeps_the_cells_of_a_column_as_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 100)
    numbers = [str(i) for i in range(1, 1000)]
    for cells in ([*numbers, "007"], ["007", *numbers], [*numbers, "word", "007"]):
        frame = read(tmp_path, "x\n" + "\n".join(cells))
        assert frame.table["x"].to_pylist() == cells
        assert frame.odd == set()


def test_a_wrong_cell_far_down_is_known_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1000)
    wrong = 12_345
    with (tmp_path / "x.csv").open("w") as file:
        file.write("a,b\n")
        file.writelines("0.25,17\n" for _ in range(wrong - 2))
        file.write("0.25,seventeen\n")
        file.writelines("0.25,17\n" for _ in range(1000))
    frame = read_source(tmp_path / "x.csv", DataConfig())
    assert frame.odd == {"b"}
    assert frame.where(wrong - 2) == "line 12345"
    assert frame.table["a"].type == pa.float64()


@any_block_size
def test_declared_markers_do_not_make_a_column_text(tmp_path: Path) -> None:
    content = "a,b\n1,2\nnone,3\n4,none\n"
    frame = read(tmp_path, content, DataConfig(missing=("a=none",)))
    assert frame.table.to_pydict() == {"a": [1, None, 4], "b": ["2", "3", "none"]}
    frame = read(tmp_path, content, DataConfig(missing=("none",)))
    assert frame.table.to_pydict() == {"a": [1, None, 4], "b": [2, 3, None]}


@any_block_size
def test_a_declared_day_is_missing_in_every_block(tmp_path: Path) -> None:
    content = "day,x\n" + "".join(f"{year}-01-01,1\n" for year in (2020, 1900, 2021, 1900))
    config = DataConfig(missing=("1900-01-01",))
    assert read(tmp_path, content, config).table["day"].null_count == 2


@any_block_size
def test_lines_are_counted_over_empty_lines_and_quoted_line_ends(tmp_path: Path) -> None:
    content = 'a,b\n\n1,x\n\n\n2,"two\n\nlines"\n3,"""quoted"""\r\n4,z'
    frame = read(tmp_path, content)
    assert frame.table["b"].to_pylist() == ["x", "two\n\nlines", '"quoted"', "z"]
    assert [frame.where(row) for row in range(4)] == ["line 3", "line 6", "line 9", "line 10"]


@any_block_size
def test_rows_of_other_lengths_are_counted_and_named(tmp_path: Path) -> None:
    content = 'a,b\n1,x\n2\n3,y,z\n4,"w\nw"\n5,"v","u"\n'
    with pytest.raises(DataError, match="3 rows cannot be read; the first, line 3, has 1 cell"):
        read(tmp_path, content)
    frame = read(tmp_path, content, SKIP)
    assert frame.table["a"].to_pylist() == [1, None, None, 4, None]
    assert {row: frame.where(row) for row in frame.bad} == {1: "line 3", 2: "line 4", 4: "line 7"}
    assert frame.bad[2] == "has 3 cells, not 2 as the header"


def test_rows_of_other_lengths_without_quotes_keep_their_places(tmp_path: Path) -> None:
    rows = ["1,x", "", "2", "3,y", "4,z,w", "", "5,v"]
    frame = read(tmp_path, "\n".join(["a,b", *rows]), SKIP)
    assert frame.table.to_pydict() == {
        "a": [1, None, 3, None, 5],
        "b": ["x", None, "y", None, "v"],
    }
    assert [frame.where(row) for row in frame.bad] == ["line 4", "line 6"]


@any_block_size
def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    content = "a,b\n1,é\n".encode() + b"2,\xe9\n3,x\n"
    with pytest.raises(
        DataError, match="line 3, is not valid UTF-8; save the file as UTF-8, or leave"
    ):
        read(tmp_path, content)
    frame = read(tmp_path, content, SKIP)
    assert frame.table.to_pydict() == {"a": [1, None, 3], "b": ["é", None, "x"]}
    assert frame.bad == {1: "is not valid UTF-8"}


@pytest.mark.parametrize("config", [DataConfig(), SKIP])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,\xe9\n2,\xe8\n", "is not valid UTF-8; no other row is left: save the file as"),
        (b"a,b\n1\n2\n", "the first, line 2, has 1 cell.*; no other row is left: repair it"),
    ],
)
def test_a_file_without_a_row_that_can_be_read(
    content: bytes, said: str, config: DataConfig, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        read(tmp_path, content, config)


@any_block_size
@pytest.mark.parametrize(
    "content", ['a,b\n"\n\n1,y\n', 'a,b\n1,"x\n2,y\n', 'a,b\n1,x\n2,5" pipe,"y\n', 'a,b\n1,"x']
)
def test_a_quote_that_never_closes_swallows_nothing(content: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a quote that opens in the record on line \d is never"):
        read(tmp_path, content, SKIP)
    with pytest.raises(DataError, match="in the header is never closed"):
        read(tmp_path, 'a,"b\n1,x\n', SKIP)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a,b;c\n1,2\n", ["a", "b;c"]),
        ("a;b\n1,5;2\n1,7;3\n", ["a", "b"]),
        ("m/z, Da;int, au\n1,5;2,5\n-1,7;3,5\n", ["m/z, Da", "int, au"]),
        ("m/z, Da;int\n1,5;2\n", ["m/z, Da", "int"]),
        ("id,a;b\n1,x;y\n", ["id", "a;b"]),
        ("a\tb\n1,5\t2\n", ["a", "b"]),
        ("a|b\n1|2\n", ["a", "b"]),
        ("text\nno delimiter\n", ["text"]),
        ('"a, b",c\n1,2\n', ["a, b", "c"]),
        (",b\n1,2\n", ["unnamed_0", "b"]),
        ("\ufeffa,b\n1,2\n", ["a", "b"]),
        ("a,b\r1,2\r", ["a", "b"]),
        ("#a\tb\n1\t2\n", ["#a", "b"]),
    ],
)
def test_delimiter_and_header_are_found(content: str, names: list[str], tmp_path: Path) -> None:
    assert read(tmp_path, content).table.column_names == names


@pytest.mark.parametrize(
    "begin", ["# made by me\n", "% one, of\n% several lines\n", "##x\n#a\tb\n"]
)
@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_comments_above_the_header_are_named(begin: str, sign: str, tmp_path: Path) -> None:
    rows = "".join(f"{row}{sign}{row / 4}{sign}x\n" for row in range(9))
    with pytest.raises(DataError, match=r"begins with a comment .*; remove the lines above the"):
        read(tmp_path, f"{begin}a{sign}b{sign}c\n{rows}")


def test_a_header_like_most_rows_is_no_comment(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2, has 2 cells, not 3 as the header"):
        read(tmp_path, "#id,a,b\n1,2\n1,2,3\n4,5,6\n")


@any_block_size
def test_a_quoted_cell_may_start_with_empty_lines(tmp_path: Path) -> None:
    frame = read(tmp_path, 'header,b\n"\n\n;",0\nx,1\n')
    assert frame.table.to_pydict() == {"header": ["\n\n;", "x"], "b": [0, 1]}


@any_block_size
def test_python_and_arrow_parse_alike(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pieces = ["a", "1.5", ",", '"', "\n", "é", " ", '""', "\t", "'", "x y"]
    for _ in range(30):
        rows = [
            ["".join(generator.choice(pieces, generator.integers(1, 5))) for _ in range(3)]
            for _ in range(20)
        ]
        with (tmp_path / "x.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["one", "two", "three"], *rows])
        frame = read_source(tmp_path / "x.csv", DataConfig())
        assert frame.table.num_rows == 20
        cells = [column.to_pylist() for column in frame.table.columns]
        assert [list(row) for row in zip(*cells, strict=True)] == rows


@pytest.mark.parametrize("quoted", [False, True])
def test_cells_longer_than_pythons_limit_are_read(tmp_path: Path, quoted: bool) -> None:
    limit = csv.field_size_limit()
    cell = "ACGT" * 40_000
    text = f'"{cell}"' if quoted else cell
    table = read(tmp_path, f"name,sequence\na,{text}\nb,{text}\n").table
    assert table["sequence"].to_pylist() == [cell, cell]
    assert csv.field_size_limit() == limit


def test_shards_of_csv_are_one_table_with_one_type(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,x\n2,y\n")
    (tmp_path / "2.csv").write_text("a;b\n0.5;z\n")
    frame = read_source(tmp_path, DataConfig())
    assert frame.table.to_pydict() == {"a": [1.0, 2.0, 0.5], "b": ["x", "y", "z"]}
    assert frame.where(2) == "line 2 of 2.csv"


def test_text_and_smiles_name_bad_lines(tmp_path: Path) -> None:
    for name, column in (("x.txt", "text"), ("x.smi", "smiles")):
        (tmp_path / name).write_bytes(b"CCO\n\nC\xff\nC\n")
        with pytest.raises(DataError, match="the first, line 3, is not valid UTF-8"):
            read_source(tmp_path / name, DataConfig())
        frame = read_source(tmp_path / name, SKIP)
        assert frame.table[column].to_pylist() == ["CCO", None, "C"]
        assert frame.where(2) == "line 4"


def test_many_lines_that_are_no_text_take_as_long_as_one(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"C\xff\n" * 20_000 + b"C\n")
    begun = time.process_time()
    frame = read_source(path, SKIP)
    assert time.process_time() - begun < 2  # 0.1 s; with a set for each, 4 s
    assert list(frame.bad) == list(range(20_000))


def test_real_files_are_read_whole(data_folder: Path) -> None:
    frame = read_source(data_folder / "chem/chembench_splits/esol.csv", DataConfig())
    assert frame.table.num_rows == 1128
    assert frame.table["smiles"][0].as_py().endswith(" ")
    assert frame.table["measured log solubility in mols per litre"].type == pa.float64()
    frame = read_source(data_folder / "chem/moleculenet/hiv_raw.csv.gz", DataConfig())
    assert frame.table.num_rows == 41127
    frame = read_source(data_folder / "text/tinyshakespeare.txt.gz", DataConfig())
    assert frame.table.num_rows == 32777
    frame = read_source(data_folder / "images/mnist_t10k.npz", DataConfig())
    assert (len(frame), frame.shape, frame.arrays()[0].dtype) == (10000, (28, 28), np.uint8)
    assert frame.table["labels"].to_numpy().max() == 9
