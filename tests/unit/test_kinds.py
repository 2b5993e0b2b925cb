"""Tables, values and pictures against naive loops; bad rows; the way back to the user's units."""

import json
import tracemalloc
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from anymae.config import DataConfig, InputConfig
from anymae.data.dataset import Dataset, open_data
from anymae.data.kinds import KINDS
from anymae.data.kinds.cells import KNOT_SCORES, CellStatistics
from anymae.data.kinds.image import ImageRows
from anymae.data.kinds.values import _RaggedPoints
from anymae.data.missing import blank, check_codes
from anymae.data.preparation import Preparation
from anymae.data.roles import Roles
from anymae.data.sources import read_source
from anymae.errors import ConfigError, DataError
from anymae.training.targets import read_labels

ALL = np.arange(40)


def mixed_table() -> pa.Table:
    """Forty rows of every sort of cell, some missing."""
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "size": pa.array(rng.normal(5, 2, 40), mask=ALL % 7 == 0),
            "count": pa.array(rng.integers(0, 30, 40)),
            "grade": pa.array([int(n) for n in rng.integers(1, 5, 40)], pa.int64()),
            "colour": pa.array([("red", "blue", "?", None)[i % 4] for i in range(40)]),
            "alive": pa.array([(True, False, None)[i % 3] for i in range(40)]),
            "seen": pa.array([datetime(2020, 1, 1 + i % 28) for i in range(40)]),
            "target": pa.array(rng.normal(size=40)),
        }
    )


def column_of(dataset: Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Values and validity of one column over the whole data set."""
    batch = dataset.batch(np.arange(len(dataset)))
    place = dataset.roles.inputs.index(name)
    valid = torch.ones(batch.inputs.shape[:2], dtype=torch.bool)
    valid = valid if batch.valid is None else batch.valid
    return batch.inputs[:, place, 0].numpy(), valid[:, place].numpy()


def test_cells_come_back_without_the_noise_of_32_bits() -> None:
    days = np.datetime64("2019-11-30") + np.arange(400) * 3
    rng = np.random.default_rng(0)
    tails = np.round(np.exp(3 * rng.standard_normal(400)), 2)
    columns = {
        "day": days.astype("M8[us]"),
        "hour": (np.datetime64("2024-01-01T00") + np.arange(400)).astype("M8[us]"),
        "price": np.arange(400) / 10 - 20,
        "small": np.arange(400) * 1e-7,
        "large": np.arange(400) * 1e6 + 1_000_000_000,
        "tails": tails,
    }
    dataset = open_data(columns, DataConfig(column=tuple(columns)))
    inputs = dataset.batch(np.arange(400)).inputs.numpy()
    restored = dataset.preparation.restore(inputs)
    for name in ("day", "hour"):
        assert restored[name].to_pylist() == columns[name].astype("M8[us]").tolist()
    for name in ("price", "small", "large"):
        assert restored[name].to_pylist() == pytest.approx(columns[name].tolist(), rel=1e-12)
    assert 0.0 in restored["price"].to_pylist()
    # Quantiles stretch the noise, which is what is taken off.
    np.testing.assert_allclose(restored["tails"].to_numpy(), tails, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("years", [1, 10, 100])
def test_rounding_moves_no_cell_by_more_than_the_noise(years: int) -> None:
    rng = np.random.default_rng(0)
    seconds = rng.integers(0, years * 31_557_600, 300)
    columns = {
        "time": np.datetime64("1980-01-01", "us") + seconds.astype("m8[s]"),
        "whole": rng.integers(0, 10**12, 300),
        "b": rng.standard_normal(300),
    }
    dataset = open_data(columns, DataConfig(column=tuple(columns)))
    inputs = dataset.batch(np.arange(300)).inputs.numpy()
    restored = dataset.preparation.restore(inputs)
    for place, name in enumerate(columns):
        was = columns[name].astype(np.float64)
        now = restored[name].to_numpy().astype(was.dtype)
        # Once on the way to 32 bits, and once more by rounding what comes back.
        noise = np.abs(inputs[:, place, 0]) * 2.0**-24 * was.std()
        assert (np.abs(now - was) <= 2.001 * noise + 1).all()


def test_every_kind_is_registered() -> None:
    assert list(KINDS) == ["bytes", "image", "table", "values"]


def test_numeric_column_is_standardised_by_its_training_rows() -> None:
    table = pa.table({"a": np.random.default_rng(1).normal(3, 2, 500), "b": np.arange(500) / 7})
    dataset = open_data(table)
    inputs = dataset.batch(np.arange(500)).inputs
    assert inputs.shape == (500, 2, 1)
    assert inputs.dtype == torch.float32
    for place, name in enumerate(("a", "b")):
        numbers = table[name].to_numpy()
        train = numbers[dataset.parts.train]
        expected = (numbers - train.mean()) / train.std()
        np.testing.assert_allclose(inputs[:, place, 0], expected, atol=1e-5)
    assert dataset.batch(np.arange(500)).valid is None
    assert dataset.input.categories == (0, 0)


def test_mixed_table_has_one_input_per_column() -> None:
    dataset = open_data(mixed_table())
    assert dataset.roles.inputs == ("size", "count", "grade", "colour", "alive", "seen")
    assert dataset.input == InputConfig(kind="table", length=6, categories=(0, 0, 4, 2, 2, 0))
    types = [column["type"] for column in dataset.preparation.statistics["columns"]]
    assert types == ["number", "integer", "code", "category", "boolean", "datetime"]
    colours, valid = column_of(dataset, "colour")
    assert valid.tolist() == [i % 4 < 2 for i in range(40)]
    # Codes follow the alphabet; missing cells hold 0.
    assert colours.tolist() == [(1.0, 0.0, 0.0, 0.0)[i % 4] for i in range(40)]
    grades, valid = column_of(dataset, "grade")
    assert valid.all()
    assert grades.tolist() == [n - 1 for n in mixed_table()["grade"].to_pylist()]


def test_table_is_restored_in_the_users_units() -> None:
    table = mixed_table()
    dataset = open_data(table)
    batch = dataset.batch(ALL)
    inputs = np.where(batch.valid.numpy()[:, :, None], batch.inputs.numpy(), np.nan)
    restored = dataset.preparation.restore(inputs)
    assert restored["grade"].to_pylist() == table["grade"].to_pylist()
    assert restored["count"].to_pylist() == table["count"].to_pylist()
    assert restored["alive"].to_pylist() == table["alive"].to_pylist()
    colours = [None if c == "?" else c for c in table["colour"].to_pylist()]
    assert restored["colour"].to_pylist() == colours
    sizes = np.array(table["size"].to_pylist(), float)
    np.testing.assert_allclose(np.array(restored["size"].to_pylist(), float), sizes, rtol=1e-5)
    seconds = (restored["seen"].to_numpy() - table["seen"].to_numpy()).astype("m8[s]")
    assert np.abs(seconds.astype(int)).max() <= 60


def test_heavy_tails_become_normal_scores_and_come_back() -> None:
    rng = np.random.default_rng(0)
    numbers = np.where(rng.random(20_000) < 0.9, 0, np.exp(rng.normal(6, 2, 20_000)))
    gain = CellStatistics.fit("gain", pa.array(numbers))
    plain = CellStatistics.fit("plain", pa.array(rng.normal(size=20_000)))
    assert (gain.method, plain.method) == ("quantile", "standard")
    assert len(gain.knots) <= len(KNOT_SCORES)
    codes = gain.encode(pa.array(numbers))
    assert abs(codes.mean()) < 0.01
    assert abs(codes.std() - 1) < 0.01
    assert np.abs(codes).max() < 10 < ((numbers - numbers.mean()) / numbers.std()).max()
    order = np.argsort(numbers, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()
    beyond = np.array([-50.0, 0.0, 12.5, numbers.max() * 3])
    np.testing.assert_allclose(gain.decode(gain.encode(pa.array(beyond))).to_numpy(), beyond)


def test_rare_categories_share_one_code() -> None:
    words = [f"common{i}" for i in range(256) for _ in range(3)] + [f"rare{i}" for i in range(50)]
    column = CellStatistics.fit("word", pa.array(words, pa.large_string()))
    assert column.num_codes == 257
    rare = column.encode(pa.array(["rare1", "rare2", "common1", "new", None], pa.large_string()))
    assert rare[:2].tolist() == [256, 256]
    assert rare[2] < 256
    assert rare[3] == 256
    assert np.isnan(rare[4])
    assert column.decode(np.array([256.0])).to_pylist() == ["other"]


def test_categories_that_training_did_not_see_are_missing_counted_and_told() -> None:
    stored = open_data(pa.table({"a": ALL / 3, "c": ["x", "y"] * 20})).preparation
    new = pa.table({"a": ALL / 3, "c": ["x", "z", "y", None] * 10})
    dataset = open_data(new, preparation=stored)
    codes, valid = column_of(dataset, "c")
    assert codes.tolist() == [0, 0, 1, 0] * 10
    assert valid.tolist() == [True, False, True, False] * 10
    assert any("'c': 10 cells" in note and "missing" in note for note in dataset.notes)


@pytest.mark.parametrize("first", [0, -1, 123456789012, -20000000000])
def test_codes_that_come_as_floats_are_the_same_codes(first: int) -> None:
    cells = first + ALL % 4
    stored = open_data(pa.table({"a": ALL / 3, "c": cells})).preparation
    new = pa.table({"a": ALL / 3, "c": pa.array(cells.astype(float), mask=ALL == 0)})
    codes, valid = column_of(open_data(new, preparation=stored), "c")
    assert codes.tolist() == (ALL % 4).tolist()
    assert valid.tolist() == [False] + [True] * 39


def test_floats_that_are_no_codes_are_unseen() -> None:
    learned = CellStatistics.fit("c", pa.array([1, 2]))
    cells = pa.array([1.0, 1.5, float("nan"), float("inf"), 1e300, -0.0, None])
    assert np.isnan(learned.encode(cells)).tolist() == [False] + [True] * 6
    assert learned.unseen(cells) == 5


def test_declared_codes_are_missing() -> None:
    table = pa.table({"a": [1.0, -999.0, 3.0], "b": [-999, 5, 0], "c": ["u", "v", "-999"]})
    dataset = open_data(
        pa.concat_tables([table] * 5),
        DataConfig(missing=("-999", "b=0"), kind="table", column=tuple("abc")),
    )
    valid = dataset.batch(np.arange(3)).valid
    assert valid.tolist() == [[True, False, True], [False, True, True], [True, False, False]]
    assert dataset.preparation.missing == ("-999", "b=0")


def test_declared_codes_are_missing_as_32_bits_hold_them() -> None:
    codes = ["1e20", "-999.9", "1e300"]
    cells = pa.array([1e20, -999.9, 1.0, np.inf], pa.float32())
    assert blank(cells, codes).is_null().to_pylist() == [True, True, False, False]
    rows = np.array([[1e20, 1.0], [2.0, -999.9], [3.0, 4.0]], np.float32)
    config = DataConfig(missing=("1e20", "-999.9"))
    batch = open_data(rows, config).batch(np.arange(3))
    assert batch.valid is not None
    assert batch.valid.tolist() == [[False, True], [True, False], [True, True]]


def test_declared_days_are_missing_in_columns_of_times() -> None:
    days = pa.array([datetime(1900, 1, 1), datetime(2020, 1, 1)], pa.timestamp("us"))
    assert blank(days, ["1900-01-01", "-999"]).is_null().to_pylist() == [True, False]


def test_declared_numbers_are_missing_beside_words_too(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "".join(f"{n}.5,{n}\n" for n in range(40)) + "-999.0,1\noops,2\n")
    dataset = open_data(path, DataConfig(missing=("-999",), on_bad_row="skip"))
    _, valid = column_of(dataset, "a")
    assert valid.sum() == 40 and not valid[40]


def test_equal_numbers_have_no_spread_however_they_are_summed() -> None:
    table = pa.table({"same": [0.1] * 1000, "other": np.arange(1000.0)})
    statistics = CellStatistics.fit("same", table["same"].combine_chunks())
    assert (statistics.center, statistics.scale) == (0.1, 1.0)
    sets = open_data(np.stack([np.full((1000, 3), 0.1), np.random.rand(1000, 3)], -1))
    scale = sets.preparation.statistics["std"]
    assert scale[0] == 1.0 and 0.2 < scale[1] < 0.4


@pytest.mark.parametrize("kind", ["table", "bytes"])
def test_codes_of_a_target_hold_and_rows_without_it_are_read_all_the_same(kind: str) -> None:
    columns = {"a": ALL / 3, "b": ALL / 7} if kind == "table" else {"smiles": ["CO"] * 40}
    data = pa.table({**columns, "y": np.where(ALL < 5, -1.0, ALL)})
    config = DataConfig(missing=("y=-1",), target=("y",))
    dataset = open_data(data, config)
    assert read_labels(dataset, ["y"])["y"].null_count == 5
    again = open_data(data.drop_columns(["y"]), preparation=dataset.preparation)
    assert len(again) == len(data)
    with pytest.raises(DataError, match="did you mean 'y'"):
        open_data(data, config.model_copy(update={"missing": ("yy=-1",)}))


def test_numbers_too_large_to_be_scaled_are_named() -> None:
    huge = np.where(ALL % 2, 1.0, -1.0) * (1e200 + ALL * 1e198)
    with pytest.raises(DataError, match=r"'a' holds numbers of up to 1\.4e\+200.*--drop a"):
        open_data(pa.table({"a": huge, "b": ALL / 3}))
    with pytest.raises(DataError, match=r"--drop 'mass \[kg\]'$"):
        open_data(pa.table({"mass [kg]": huge, "b": ALL / 3}))


def test_declared_code_of_an_unknown_column_is_an_error() -> None:
    with pytest.raises(DataError, match=r"'aeg'.*did you mean 'age'"):
        check_codes(["aeg=0"], ["age"])
    # A byte of the command line that is no UTF-8.
    with pytest.raises(DataError, match="is no UTF-8 text"):
        check_codes(["\udcff"], ["age"])
    assert blank(pa.array([" ? ", "NA", " x "], pa.large_string())).to_pylist() == [None, None, "x"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (pa.table({"a": [1.0, 2.5, np.inf], "b": [1.0, 2.0, 4.0]}), "row 2 holds an infinite"),
        (pa.table({"a": [1.0, None, 2.0], "b": [1.5, None, 3.0]}), "row 1 has no cell"),
        (np.array([[[1.0]], [[-np.inf]]]), "row 1 holds an infinite number"),
        (np.array([[[1.0, np.nan]], [[2.0, 2.0]]]), "row 0 holds NaN beside"),
        (np.array([[[np.nan]], [[2.0]]]), "row 0 has no input"),
        (np.array([[[[1.0]]], [[[np.nan]]]]), "row 1 has a pixel"),
        (["a", " ", "b", None], r"row 1 is empty or missing \(and 1 more\)"),
    ],
)
def test_bad_rows_are_named_and_may_be_skipped(data: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        open_data(data)
    dataset = open_data(data, DataConfig(on_bad_row="skip"))
    bad = sum(len(rows.rows) for rows in dataset.rows.bad)
    assert len(dataset) + bad == len(dataset.rows.frame.table)
    assert torch.isfinite(dataset.batch(np.arange(len(dataset))).inputs.double()).all()


def test_no_usable_row_is_an_error() -> None:
    with pytest.raises(DataError, match="no row that can be an input"):
        open_data(["", " "], DataConfig(on_bad_row="skip"))


def test_values_are_standardised_per_number_over_valid_inputs() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal([1, 100, -3], [1, 20, 0.1], (30, 6, 3))
    values[4, 2:] = np.nan
    dataset = open_data(values)
    train = values[dataset.parts.train].reshape(-1, 3)
    train = train[~np.isnan(train[:, 0])]
    batch = dataset.batch(np.arange(30))
    expected = np.nan_to_num((values - train.mean(0)) / train.std(0))
    np.testing.assert_allclose(batch.inputs, expected, atol=1e-4)
    assert batch.valid[4].tolist() == [True, True, False, False, False, False]
    assert batch.valid.sum() == 30 * 6 - 4
    assert dataset.batch(np.arange(4)).valid is None
    restored = dataset.preparation.restore(batch.inputs.numpy())
    np.testing.assert_allclose(restored[:4], values[:4], rtol=1e-4)


def test_one_long_row_makes_no_other_long(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=rng.integers(1, 12)).tolist() for _ in range(3_000)]
    rows[1_500], rows[7], rows[9] = rng.normal(size=20_000).tolist(), [np.inf], [1.0, np.nan, 2.0]
    looked_at, take = [], _RaggedPoints.take

    def counted(self: _RaggedPoints, rows: np.ndarray, first: np.ndarray, width: int) -> np.ndarray:
        looked_at.append(len(rows) * width)
        return take(self, rows, first, width)

    monkeypatch.setattr(_RaggedPoints, "take", counted)
    dataset = open_data(pa.table({"x": rows}), DataConfig(on_bad_row="skip"))
    assert sum(looked_at) < 6 * sum(map(len, rows))
    assert len(dataset) == 2_999
    train = dataset.rows.numbers_of(dataset.parts.train)
    numbers = np.concatenate([rows[row] for row in train])
    statistics = dataset.preparation.statistics
    assert statistics["mean"][0] == pytest.approx(np.nanmean(numbers))
    assert statistics["std"][0] == pytest.approx(np.nanstd(numbers))


def test_long_series_are_read_in_windows() -> None:
    values = np.arange(2 * 40, dtype=float).reshape(2, 40, 1)
    dataset = open_data(values, DataConfig(length=16, too_long="window"))
    windows = dataset.windows(np.array([1]))
    assert windows.first.tolist() == [0, 12, 24]
    batch = dataset.batch(windows.rows, first=windows.first)
    restored = dataset.preparation.restore(batch.inputs.numpy())
    expected = [values[1, first : first + 16] for first in (0, 12, 24)]
    np.testing.assert_allclose(restored, expected, rtol=1e-4)


def test_missing_numbers_of_a_list_are_missing_whatever_other_rows_hold(tmp_path: Path) -> None:
    rows = [[1.0, None, 3.0], [4.0, 5.0, 7.0], None]
    for size in (3, -1):
        for count in (2, 3):
            table = pa.table({"x": pa.array(rows[:count], pa.list_(pa.float64(), size))})
            pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
            dataset = open_data(tmp_path / "x.parquet", DataConfig(on_bad_row="skip"))
            batch = dataset.batch(ALL[:2])
            assert batch.valid.tolist() == [[True, False, True], [True] * 3]
            numbers = dataset.preparation.restore(batch.inputs.numpy())[..., 0]
            np.testing.assert_allclose(numbers[batch.valid], [1, 3, 4, 5, 7], atol=1e-6)


def test_points_need_the_same_number_of_numbers() -> None:
    jets = pa.array([[[1.0, 2.0]], [[3.0]]])
    with pytest.raises(DataError, match="points of 1 to 2 numbers"):
        open_data(pa.table({"jets": jets}))


@pytest.mark.parametrize("colours", [None, 3])
@pytest.mark.parametrize("patch", [1, 2])
def test_pictures_are_patches_in_raster_order(colours: int | None, patch: int) -> None:
    shape = (5, 4, 6) if colours is None else (5, 4, 6, colours)
    pictures = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    dataset = open_data(pictures, DataConfig(patch=patch))
    assert dataset.input.grid == (4 // patch, 6 // patch)
    assert dataset.input.channels == patch * patch * (colours or 1)
    cube = pictures.reshape(5, 4, 6, -1).astype(float)
    train = cube[dataset.parts.train].reshape(-1, cube.shape[3])
    scaled = (cube - train.mean(0)) / train.std(0)
    expected = [
        [
            scaled[row, y : y + patch, x : x + patch].reshape(-1)
            for y in range(0, 4, patch)
            for x in range(0, 6, patch)
        ]
        for row in range(5)
    ]
    batch = dataset.batch(np.arange(5))
    np.testing.assert_allclose(batch.inputs, np.array(expected), atol=1e-5)
    assert batch.valid is None
    np.testing.assert_allclose(dataset.preparation.restore(batch.inputs), cube, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("colours", [1, 3, 4])
def test_pictures_are_standardised_as_numpy_does(dtype: type, colours: int) -> None:
    pictures = np.random.default_rng(0).uniform(0, 256, (77, 9, 13, colours)).astype(dtype)
    dataset = open_data(pictures)
    flat = pictures[dataset.parts.train].reshape(-1, colours)
    found = dataset.preparation.statistics
    assert found["mean"] == flat.mean(0, dtype=np.float64).tolist()  # to the last bit
    assert found["std"] == flat.std(0, dtype=np.float64).tolist()


def test_many_pictures_are_standardised_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymae.data.kinds.image._SUMMED", 1 << 14)
    pictures = np.random.default_rng(0).integers(0, 256, (500, 32, 32, 3)).astype(np.uint8)
    roles = Roles(kind="image", why="", inputs=("values",))
    rows = ImageRows(read_source(pictures, DataConfig()), roles, DataConfig())
    tracemalloc.start()
    found = rows.fit(np.arange(500))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < pictures.size
    flat = pictures.reshape(-1, 3).astype(float)
    np.testing.assert_allclose(found["mean"], flat.mean(0))
    np.testing.assert_allclose(found["std"], flat.std(0))


@pytest.mark.parametrize("data", [["CCO", "CN"], np.ones((3, 2)), np.ones((3, 4, 2))])
def test_only_pictures_are_cut_into_patches(data: object) -> None:
    with pytest.raises(ConfigError, match=r"data\.patch is 2 and cuts pictures; .* leave it out"):
        open_data(data, DataConfig(patch=2))


def test_patch_must_divide_the_picture() -> None:
    with pytest.raises(DataError, match="4 x 6 pixels cannot be cut into patches of side 4"):
        open_data(np.zeros((3, 4, 6), np.uint8), DataConfig(patch=4))


def test_true_or_false_can_be_declared_missing() -> None:
    cells = pa.array([True, False, None])
    assert blank(cells, ("False", "x")).to_pylist() == [True, None, None]
    assert blank(cells, ("x",)).to_pylist() == [True, False, None]


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_pixels_far_from_0_keep_their_differences(dtype: type) -> None:
    pixels = (10**9 + np.arange(64)).reshape(4, 4, 4, 1).astype(dtype)
    dataset = open_data(pixels)
    inputs = dataset.batch(np.arange(4)).inputs.numpy().ravel()
    scale = dataset.preparation.statistics
    expected = (pixels.ravel() - scale["mean"][0]) / scale["std"][0]
    np.testing.assert_allclose(inputs, expected, atol=1e-6)


def test_big_tables_are_read_cell_by_cell_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    small = open_data(mixed_table()).batch(ALL[::-1].copy())
    monkeypatch.setattr("anymae.data.kinds.table.RESIDENT_BYTES", 0)
    chunked = pa.concat_tables([mixed_table()[:13], mixed_table()[13:]])
    big = open_data(chunked).batch(ALL[::-1].copy())
    torch.testing.assert_close(big.inputs, small.inputs)
    assert torch.equal(big.valid, small.valid)


def test_length_cannot_be_set_for_a_table() -> None:
    with pytest.raises(ConfigError, match=r"data.length is 3.*has 2 inputs"):
        open_data(np.random.rand(4, 2), DataConfig(length=3))


def test_preparation_round_trips_through_json() -> None:
    kinds = set()
    for data in (mixed_table(), ["a", "b"], np.random.rand(4, 3, 2), np.ones((3, 4, 4, 1))):
        made = open_data(data).preparation
        stored = Preparation.from_json(json.loads(json.dumps(made.to_json())))
        assert stored == made
        again, first = open_data(data, preparation=stored), open_data(data)
        index = np.arange(len(first))
        assert torch.equal(again.batch(index).inputs, first.batch(index).inputs)
        kinds.add(made.kind)
    assert kinds == set(KINDS)


def test_word_among_numbers_is_a_bad_row_told_with_its_line(tmp_path: Path) -> None:
    lines = [f"{i / 2},{i % 5}" for i in range(60)]
    lines[30] = "about 15,1"
    (tmp_path / "a.csv").write_text("\n".join(["size,grade", *lines, ""]))
    path = str(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"line 32 holds a word in column 'size'"):
        open_data(path)
    skipped = open_data(path, DataConfig(on_bad_row="skip"))
    assert len(skipped) == 59
    assert skipped.input.categories == (0, 5)
    declared = open_data(path, DataConfig(missing=("about 15",)))
    assert len(declared) == 60
    assert declared.batch(np.array([30])).valid.tolist() == [[False, True]]


def test_bad_pictures_are_found_in_every_block_of_them() -> None:
    pictures = np.random.default_rng(0).random((6, 1024, 1024, 1), np.float32)
    pictures[5, 3, 3] = np.nan
    config = DataConfig(patch=1024, on_bad_row="skip")
    dataset = open_data(pictures, config)
    assert [rows.rows.tolist() for rows in dataset.rows.bad] == [[5]]


def test_lists_of_several_chunks_are_read_where_they_lie() -> None:
    draw = np.random.default_rng(0)
    rows = [draw.normal(size=(count % 4, 2)).tolist() for count in range(12)]
    kind = pa.large_list(pa.large_list(pa.float64()))
    chunks = [pa.array(rows[first:last], kind) for first, last in ((0, 5), (5, 5), (5, 12))]
    points = _RaggedPoints(pa.chunked_array(chunks), "points")
    flat = [chunk.flatten().flatten().to_numpy() for chunk in chunks if len(chunk)]
    assert all(np.shares_memory(*pair) for pair in zip(points._flat, flat, strict=True))
    whole = _RaggedPoints(pa.chunked_array([pa.array(rows, kind)]), "points")
    assert points.lengths.tolist() == whole.lengths.tolist() == list(map(len, rows))
    index, first = draw.permutation(12), np.zeros(12, np.int64)
    found, expected = (each.take(index, first, 3) for each in (points, whole))
    np.testing.assert_array_equal(found, expected)
    odd = pa.chunked_array([chunks[0], pa.array([[[1.0, 2.0, 3.0]]], kind)])
    with pytest.raises(DataError, match="holds points of 2 to 3 numbers"):
        _RaggedPoints(odd, "points")
