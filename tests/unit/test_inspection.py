"""What `inspect` tells: counts, places, columns and comparisons."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from anymae.config import DataConfig
from anymae.data.batch import Arrays
from anymae.data.dataset import Dataset, open_data
from anymae.data.inspection import Inspection, _survey, inspect, write_groups
from anymae.errors import DataError, FolderError, UserInputError

PROTEINS = ["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ" + tail for tail in ("AA", "AA", "AG", "WCDEFYHIKL")]


def test_strings_are_described(tmp_path: Path) -> None:
    path = tmp_path / "proteins.csv"
    rows = [*PROTEINS, '"  "', "ACDEF "]
    path.write_text("\n".join(["sequence,score", *(f"{row},1.5" for row in rows), ""]))
    found = inspect(str(path))
    assert (found.rows, found.used_rows, found.format) == (6, 5, "csv")
    assert found.bad[0].model_dump() == {
        "problem": "is empty or missing", "count": 1, "places": ("line 6",)
    }  # fmt: skip
    assert found.lengths is not None
    assert (found.lengths.least, found.lengths.median, found.lengths.most) == (6, 36, 44)
    assert found.input.length == 48
    letters = "".join([*PROTEINS, "ACDEF"])
    assert found.alphabet["A"] == pytest.approx(letters.count("A") / len(letters))
    assert set(found.alphabet) == set(letters)
    assert list(found.alphabet.values()) == sorted(found.alphabet.values(), reverse=True)
    assert (found.duplicates.exact, found.duplicates.near) == (1, 1)
    assert found.duplicates.compared == 5
    assert found.parts == {"train": 4, "valid": 1, "test": 0}
    assert any("stripped" in note for note in found.notes)


def sizes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many inputs are held at once, from now on."""
    sizes, whole = [], Dataset.whole

    def spy(dataset: Dataset, index: np.ndarray) -> Arrays:
        read = whole(dataset, index)
        sizes.append(read.inputs.size)
        return read

    monkeypatch.setattr(Dataset, "whole", spy)
    return sizes


def test_a_long_row_does_not_widen_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["AC" * 5] * 4095 + ["G" * 3000]
    sizes = sizes_read(monkeypatch)
    found = inspect(rows)
    assert max(sizes) <= 1 << 21
    assert found.alphabet["G"] == pytest.approx(3000 / (3000 + 40950))


def test_big_pictures_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = np.arange(40, dtype=np.uint8).repeat(256 * 256).reshape(40, 256, 256)
    pictures[:, :16, :16] = 7
    sizes = sizes_read(monkeypatch)
    dataset = open_data(pictures, DataConfig(kind="image", patch=16))
    _, same = _survey(dataset)
    assert max(sizes) <= 1 << 21
    assert np.flatnonzero(same).tolist() == [0]


@pytest.mark.parametrize("length", [4, 8, 16])
def test_inputs_that_are_not_real_are_counted_however_long_rows_are(length: int) -> None:
    points = np.random.default_rng(0).normal(size=(10, 8, 2))
    points[0, 6] = points[3, :2] = np.nan
    config = DataConfig(length=length)
    assert inspect(points, config).invalid_inputs == 3
    nothing = [float("nan")] * 2
    lists = [row.tolist()[: 8 - number % 3] for number, row in enumerate(points)]
    ragged = pa.table({"points": [*lists, [nothing, [1.0, 2.0], nothing]]})
    assert inspect(ragged, config).invalid_inputs == 5


def test_tables_are_described() -> None:
    count = np.arange(60)
    table = pa.table(
        {
            "size": pa.array(np.sqrt(count), mask=count % 3 == 0),
            "colour": ["red", "blue", "?"] * 20,
            "same": [1.5] * 60,
            "label": count % 2,
        }
    )
    found = inspect(table)
    columns = {column.name: column for column in found.columns}
    assert list(columns) == ["size", "colour", "same"]
    assert [column.missing for column in found.columns] == [20, 20, 0]
    assert [column.constant for column in found.columns] == [False, False, True]
    assert (columns["colour"].method, columns["colour"].categories) == ("codes", 2)
    assert found.invalid_inputs == 40
    assert [left.column for left in found.roles.left_out] == ["label"]
    assert found.lengths is None
    assert found.alphabet == {}


def test_result_is_json_able_and_frozen() -> None:
    found = inspect(PROTEINS)
    assert Inspection.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(ValueError, match="frozen"):
        found.rows = 3


def test_rows_shared_with_another_file_are_counted_from_both_sides() -> None:
    other = pa.table({"text": [PROTEINS[2], "WWWWWWWWW", PROTEINS[0]]})
    found = inspect(PROTEINS, against=other).against
    assert found is not None
    assert found.rows == 3
    assert (found.here.exact, found.there.exact) == (3, 2)
    table = pa.table({"a": [1.5, 2.5, 3.25], "b": [1.0, 2.0, 4.5]})
    same = inspect(table, against=table.slice(1)).against
    assert same is not None
    assert (same.here.exact, same.there.exact, same.here.near) == (2, 2, None)


def test_groups_are_written_beside_the_rows(tmp_path: Path) -> None:
    table = pa.table({"sequence": [*PROTEINS, " "], "score": range(5)})
    dataset = open_data(table, DataConfig(on_bad_row="skip"))
    assert write_groups(dataset, tmp_path / "groups.parquet") == 2
    written = pyarrow.parquet.read_table(tmp_path / "groups.parquet")
    assert written["duplicate_group"].to_pylist() == [0, 0, 0, 3]
    assert written["score"].to_pylist() == [0, 1, 2, 3]
    write_groups(dataset, tmp_path / "groups.csv")
    config = DataConfig(group="duplicate_group", column=("sequence",))
    parts = open_data(str(tmp_path / "groups.csv"), config).parts
    assert sorted([len(parts.train), len(parts.valid)]) == [1, 3]
    with pytest.raises(UserInputError, match=r"'\.txt'"):
        write_groups(dataset, tmp_path / "groups.txt")
    write_groups(open_data(np.random.rand(4, 3)), tmp_path / "array.csv")
    assert pyarrow.csv.read_csv(tmp_path / "array.csv").column_names == ["row", "duplicate_group"]


def test_groups_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    dataset = open_data(pa.table({"x": [[1.0, 2.0], [3.0, 4.0]]}))
    with pytest.raises(DataError, match="'x' holds lists, which a CSV file has no cells for"):
        write_groups(dataset, tmp_path / "groups.csv")
    path = tmp_path / "groups.parquet"
    assert write_groups(dataset, path) == 2
    with pytest.raises(FolderError, match="exists"):
        write_groups(dataset, path)
    assert write_groups(dataset, path, overwrite=True) == 2
    with pytest.raises(DataError, match="has a column 'duplicate_group' already"):
        write_groups(open_data(path, DataConfig(column=("x",))), tmp_path / "again.parquet")


def test_real_table_is_described(data_folder: Path) -> None:
    found = inspect(str(data_folder / "tabular/california.parquet"))
    assert found.used_rows == 20640
    assert {column.method for column in found.columns} == {"standard", "quantile"}
    assert not any(column.constant or column.missing for column in found.columns)
