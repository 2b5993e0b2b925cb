"""A table of a few rows is read as the run's own was, whatever its cells look like."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from anymae.config import DataConfig
from anymae.data.dataset import Dataset, open_data
from anymae.errors import DataError

ROWS = 24
COLUMNS = {
    "flag": ["True", "False", "Unknown"],
    "size": ["S", "1.50", "2"],
    "when": ["2024-01-01", "never", "2024-02-29"],
    "code": ["007", "12", "9"],
}


def write(path: Path, columns: dict[str, list[str]]) -> Path:
    """Write a CSV file as it is told."""
    lines = [",".join(columns), *(",".join(cells) for cells in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def trained(tmp_path: Path) -> Dataset:
    words = {name: [cells[row % 3] for row in range(ROWS)] for name, cells in COLUMNS.items()}
    amount = {"amount": [str(row / 7) for row in range(ROWS)]}
    return open_data(write(tmp_path / "train.csv", words | amount), DataConfig(kind="table"))


@pytest.mark.parametrize("rows", [[0], [1], [2], [4, 1], [2, 5, 8], [0, 1, 2]])
def test_any_rows_of_the_training_file_are_the_same_inputs(
    trained: Dataset, tmp_path: Path, rows: list[int]
) -> None:
    # Alone, the cells of some columns are all true and false, numbers or times.
    text = (tmp_path / "train.csv").read_text().splitlines()
    few = tmp_path / "few.csv"
    few.write_text("\n".join([text[0], *(text[1 + row] for row in rows)]) + "\n")
    found = open_data(few, preparation=trained.preparation)
    assert found.notes == ()
    expected = trained.batch(np.array(rows)).inputs
    torch.testing.assert_close(found.batch(np.arange(len(rows))).inputs, expected)


def test_frames_with_strings_for_times_numbers_and_truth_are_read(tmp_path: Path) -> None:
    columns = {
        "day": [f"2024-01-{1 + row:02}" for row in range(ROWS)],
        "size": [str(row / 3) for row in range(ROWS)],
        "open": ["true" if row % 3 else "false" for row in range(ROWS)],
    }
    path = write(tmp_path / "t.csv", columns)
    trained = open_data(path)
    rows = np.arange(ROWS)
    for frame in (
        pd.read_csv(path),
        pd.read_csv(path, dtype=str),
        pl.read_csv(path, infer_schema_length=0),
        pa.table({**columns, "day": [*columns["day"][:-1], None]}),
    ):
        found = open_data(frame, preparation=trained.preparation)
        batch, expected = found.batch(rows[:-1]), trained.batch(rows[:-1])
        torch.testing.assert_close(batch.inputs, expected.inputs)


def test_files_beside_are_read_alike(trained: Dataset, tmp_path: Path) -> None:
    few = write(
        tmp_path / "few.csv",
        {"flag": ["True"], "size": ["2"], "when": ["2024-01-01"], "code": ["9"], "amount": ["1"]},
    )
    config = DataConfig(valid=str(few))
    found = open_data(tmp_path / "train.csv", config, preparation=trained.preparation)
    assert len(found) == ROWS + 1
    assert found.batch(np.array([ROWS])).valid is None


def test_filters_see_words_where_the_run_has_words(trained: Dataset, tmp_path: Path) -> None:
    columns = {name: [cells[2], *cells[2:]] for name, cells in COLUMNS.items()}
    few = write(tmp_path / "few.csv", {**columns, "flag": ["True", "False"], "amount": ["1", "2"]})
    for where in ("flag == 'True'", "flag == 'True' and size == '2'"):
        found = open_data(few, DataConfig(where=where), preparation=trained.preparation)
        assert len(found) == 1


def test_a_stream_is_read_once() -> None:
    trained = open_data({"a": ["x", "1", "2"] * 8, "b": np.arange(24) / 3})
    table = pa.table({"a": ["1", "2"], "b": [0.5, 0.7]})
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
    assert len(open_data(reader, preparation=trained.preparation)) == 2


def test_words_among_numbers_of_a_frame_are_counted_and_named() -> None:
    trained = open_data({"a": np.arange(ROWS) / 7, "b": np.arange(ROWS) / 3})
    frame = pd.DataFrame({"a": ["1.5", "about 2", "3"], "b": [1.0, 2.0, 3.0]})
    with pytest.raises(DataError, match="holds a word in column 'a', where the others are num"):
        open_data(frame, preparation=trained.preparation)
    found = open_data(frame, DataConfig(on_bad_row="skip"), preparation=trained.preparation)
    assert len(found) == 2


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ([1, 0] * 12, "'open' holds a few whole numbers where the run has true and false"),
        (["yes", "no"] * 12, "'open' holds words where the run has true and false; bring it into"),
    ],
)
def test_what_cannot_be_read_so_says_what_the_run_has(new: list[object], told: str) -> None:
    trained = open_data({"open": [True, False] * 12, "b": np.arange(ROWS) / 3})
    with pytest.raises(DataError, match=told):
        open_data({"open": new, "b": np.arange(ROWS) / 3}, preparation=trained.preparation)


def test_columns_can_be_named_words(tmp_path: Path) -> None:
    columns = {
        "postcode": [str(10_000 + row % 12) for row in range(ROWS)],
        "size": [str(row / 3) for row in range(ROWS)],
    }
    path = write(tmp_path / "t.csv", columns)
    assert open_data(path, DataConfig(column=("postcode", "size"))).input.categories == (0, 0)
    config = DataConfig(words=("postcode",), column=("postcode", "size"))
    named = open_data(path, config)
    assert named.input.categories == (12, 0)
    # Rows are read like that again without being told.
    again = open_data(path, preparation=named.preparation)
    rows = np.arange(ROWS)
    torch.testing.assert_close(again.batch(rows).inputs, named.batch(rows).inputs)


def test_words_that_are_no_columns_or_typed_ones_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", {"size": ["1", "2"], "b": ["0.5", "0.7"]})
    with pytest.raises(DataError, match="names column 'siz', which is not there; did you mean"):
        open_data(path, DataConfig(words=("siz",)))
    with pytest.raises(DataError, match="itself says that it holds int64; turn it into strings"):
        open_data({"size": [1, 2], "b": [0.5, 0.7]}, DataConfig(words=("size",)))


SITES = {"site": ["A1" if row < 20 else str(row) for row in range(400)], "x": ["0.5", "0.7"] * 200}
FEW_WORDS = {**SITES, "site": ["A1", *(str(row) for row in range(399))]}


def test_a_column_that_is_named_words_holds_words_however_few(tmp_path: Path) -> None:
    path = write(tmp_path / "few.csv", FEW_WORDS)
    with pytest.raises(DataError, match="line 2 holds a word in column 'site', where the others"):
        open_data(path, DataConfig(kind="table"))
    named = open_data(path, DataConfig(kind="table", words=("site",)))
    assert len(named) == 400
    assert named.input.categories[0] > 0


def test_few_words_in_another_file_leave_words_what_they_are(tmp_path: Path) -> None:
    many = {**SITES, "site": ["A1" if row % 5 == 0 else str(row % 30) for row in range(400)]}
    train, few = write(tmp_path / "t.csv", many), write(tmp_path / "few.csv", FEW_WORDS)
    trained = open_data(train, DataConfig(kind="table"))
    assert len(open_data(few, preparation=trained.preparation)) == 400
    beside = open_data(train, DataConfig(kind="table", valid=str(few)))
    assert len(beside) == 800
    assert beside.input.categories == trained.input.categories


@pytest.mark.parametrize("part", ["valid", "test"])
def test_another_file_does_not_change_what_the_training_file_holds(
    tmp_path: Path, part: str
) -> None:
    grades = {"grade": [str(row % 4) for row in range(ROWS)], "x": ["0.5", "0.7"] * (ROWS // 2)}
    train = write(tmp_path / "t.csv", grades)
    other = write(tmp_path / "v.csv", {"grade": ["1.0", "", "2.0"], "x": ["1", "2", "3"]})
    found = open_data(train, DataConfig(**{part: str(other)}))
    assert found.input.categories == open_data(train).input.categories == (4, 0)
    batch = found.batch(np.arange(ROWS, ROWS + 3))
    assert batch.inputs[:, 0, 0].tolist() == [1, 0, 2]


def test_a_word_in_a_numeric_column_of_another_file_is_a_bad_row(tmp_path: Path) -> None:
    train = write(tmp_path / "t.csv", {"a": ["0.25", "0.75"] * 12, "b": ["1.5", "2.5"] * 12})
    other = write(tmp_path / "v.csv", {"a": ["1", "1.O", "2"], "b": ["1", "2", "?"]})
    with pytest.raises(DataError, match=r"line 3 of .* holds a word in column 'a', where"):
        open_data(train, DataConfig(valid=str(other)))
    found = open_data(train, DataConfig(valid=str(other), on_bad_row="skip"))
    assert len(found.parts.valid) == 2
    words = write(tmp_path / "w.csv", {"a": ["x", "y", "z"], "b": ["1", "2", "3"]})
    with pytest.raises(DataError, match=r"'a' holds double in .*t.csv and string in .*w.csv"):
        open_data(train, DataConfig(valid=str(words)))


def test_a_single_word_among_missing_numbers_is_refused() -> None:
    trained = open_data({"a": np.arange(ROWS) / 7, "b": np.arange(ROWS) / 3})
    count = 25_000
    cells = [None] * count
    cells[1] = "abc"
    table = pa.table({"a": pa.array(cells, pa.large_string()), "b": np.arange(count) / 3})
    with pytest.raises(DataError, match="'a' holds words where the run has numbers"):
        open_data(table, preparation=trained.preparation)


def test_rows_that_a_filter_leaves_out_are_not_counted() -> None:
    trained = open_data({"a": ["x", "y", "z"] * 8, "b": np.arange(ROWS) / 3})
    new = {"a": ["x", "new", "newer"], "b": [0.5, 0.7, 0.9]}
    for where, notes in (("b < 0.6", 0), ("b < 0.8", 1)):
        found = open_data(new, DataConfig(where=where), preparation=trained.preparation)
        assert len(found.notes) == notes
        assert all("1 cells" in note for note in found.notes)
