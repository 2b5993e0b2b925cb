"""Opening data: lengths, packing, stored preparations, parts in files, real files."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from anymae.config import DataConfig
from anymae.data.dataset import TRANSFORMER_CAP, open_data
from anymae.data.join import read_parts
from anymae.errors import ConfigError, DataError

STRINGS = ["C" * n for n in range(1, 41)]
ALL = np.arange(40)


def test_length_is_the_longest_row_rounded_up_and_capped() -> None:
    assert open_data(STRINGS).input.length == 48
    assert open_data(STRINGS[:7]).input.length == 8
    capped = open_data([*STRINGS, "C" * 3000], cap=TRANSFORMER_CAP)
    assert capped.input.length == 1024
    assert capped.notes == ("input.length is capped at 1,024; the longest row has 3,001 inputs",)
    assert open_data([*STRINGS, "C" * 3000]).input.length == 3008


def test_batches_are_as_wide_as_their_longest_row() -> None:
    dataset = open_data(STRINGS)
    assert dataset.batch(np.array([0, 10])).inputs.shape == (2, 12)
    full = dataset.batch(np.array([6, 6]))
    assert full.inputs.shape == (2, 8)
    assert full.valid is None
    assert full.rows.tolist() == [6, 6]


def test_rows_too_long_for_a_stored_model_are_an_error_unless_allowed() -> None:
    stored = open_data(STRINGS[:20]).preparation
    with pytest.raises(DataError, match=r"row 23 has 25 inputs and the model reads 24 \(17 rows"):
        open_data(STRINGS, preparation=stored)
    for policy in ("crop", "truncate", "window"):
        config = DataConfig(too_long=policy)
        assert open_data(STRINGS, config, preparation=stored).lengths.max() == 24


def test_pretraining_crops_unless_told_otherwise() -> None:
    assert open_data(STRINGS, DataConfig(length=16)).lengths.max() == 16
    with pytest.raises(DataError, match="too-long truncate, window or crop"):
        open_data(STRINGS, DataConfig(length=16, too_long="error"))


def test_arrays_too_long_for_a_stored_model_are_an_error_unless_allowed() -> None:
    series = np.random.default_rng(0).normal(size=(5, 20, 2))
    stored = open_data(series[:, :12]).preparation
    assert open_data(series[:, :8], preparation=stored).batch(ALL[:5]).inputs.shape == (5, 8, 2)
    with pytest.raises(DataError, match="each row has 20 inputs and the model reads 12; choose"):
        open_data(series, preparation=stored)
    cut = open_data(series, DataConfig(too_long="truncate"), preparation=stored)
    whole = open_data(series[:, :12], preparation=stored)
    torch.testing.assert_close(cut.batch(ALL[:5]).inputs, whole.batch(ALL[:5]).inputs)
    windows = open_data(series, DataConfig(too_long="window"), preparation=stored).windows(ALL[:1])
    assert windows.first.tolist() == [0, 8]
    assert open_data(series, DataConfig(length=16)).batch(ALL[:5]).inputs.shape == (5, 16, 2)
    with pytest.raises(DataError, match="each row has 20 inputs and the model reads 16"):
        open_data(series, DataConfig(length=16, too_long="error"))


def test_white_space_around_strings_is_stripped_and_counted() -> None:
    dataset = open_data(["CCO ", "\tCC\n", "C", "c c"])
    assert dataset.lengths.tolist() == [4, 3, 2, 4]
    assert dataset.notes == ("surrounding white space was stripped from 2 rows",)


def test_packed_batch_holds_each_string_once() -> None:
    dataset = open_data(STRINGS, DataConfig(pack=True, length=64))
    batch = dataset.batch(ALL)
    assert batch.inputs.shape[1] == 64
    assert len(batch.inputs) < 20
    text = "".join(dataset.preparation.restore(batch.inputs))
    assert len(text) == sum(map(len, STRINGS))
    assert (batch.inputs == 5).sum() == 40
    assert batch.rows.tolist() == sorted(set(batch.rows.tolist()))
    assert dataset.strings_per_row == pytest.approx(64 / (20.5 + 1))
    assert open_data(STRINGS, DataConfig(pack=True)).input.length == 512


def test_only_strings_can_be_packed() -> None:
    with pytest.raises(ConfigError, match="table inputs cannot be joined"):
        open_data(np.random.rand(5, 3), DataConfig(pack=True))


def test_stored_preparation_reads_columns_by_name_in_any_order() -> None:
    table = pa.table({"a": ALL / 3, "b": np.square(ALL / 7), "y": ALL / 9})
    first = open_data(table)
    shuffled = table.select(["y", "b", "a"]).append_column("new", pa.array(ALL / 2))
    second = open_data(shuffled, preparation=first.preparation)
    torch.testing.assert_close(second.batch(ALL).inputs, first.batch(ALL).inputs)
    assert second.input == first.input
    assert second.roles.inputs == first.roles.inputs == ("a", "b")
    assert [left.column for left in second.roles.left_out] == ["y", "new"]


def test_stored_preparation_names_what_is_missing_or_differs() -> None:
    stored = open_data(pa.table({"a": ALL / 3, "b": ALL / 7, "c": ["u", "v"] * 20})).preparation
    with pytest.raises(DataError, match="lacks 2 of the 3 columns that the run reads: a, c"):
        open_data(pa.table({"b": ALL / 7}), preparation=stored)
    odd = pa.table({"a": ["x", "y"] * 20, "b": ALL / 7, "c": ["u", "v"] * 20})
    with pytest.raises(DataError, match="'a' holds words where the run has numbers; bring it"):
        open_data(odd, preparation=stored)
    images = open_data(np.zeros((3, 4, 4, 1), np.uint8)).preparation
    with pytest.raises(DataError, match=r"8 x 4 pixels.*, not 4 x 4"):
        open_data(np.zeros((3, 8, 4, 1), np.uint8), preparation=images)
    with pytest.raises(DataError, match="reads image inputs, not bytes"):
        open_data(["a"], DataConfig(kind="bytes"), preparation=images)
    series = open_data(np.random.rand(3, 4, 2)).preparation
    with pytest.raises(DataError, match="3 numbers each, not 2"):
        open_data(np.random.rand(3, 4, 3), preparation=series)


def test_stored_preparation_reads_rows_in_which_a_whole_column_is_missing() -> None:
    sorts = {"a": ALL / 3, "b": ["u", "v"] * 20, "c": ALL % 4, "d": ALL.astype("M8[D]")}
    table = pa.table({**sorts, "e": [True, False] * 20})
    stored = open_data(table).preparation
    first = open_data(table, preparation=stored).batch(ALL[:1]).inputs
    for place, name in enumerate(table.column_names):
        kinds = {pa.null(), table[name].type, pa.float64()}
        for gap in (pa.nulls(1, kind) for kind in kinds):
            row = table.slice(0, 1).set_column(place, name, gap)
            batch = open_data(row, preparation=stored).batch(ALL[:1])
            assert batch.valid.tolist() == [[i != place for i in range(5)]]
            torch.testing.assert_close(batch.inputs[batch.valid], first[batch.valid])
    with pytest.raises(DataError, match="'a' holds lists"):
        open_data(table.set_column(0, "a", pa.array([[1.0]] * 40)), preparation=stored)


def test_array_that_does_not_fit_a_stored_table_is_refused() -> None:
    array = np.random.default_rng(0).normal(size=(9, 3))
    stored = open_data(array).preparation
    assert len(open_data(array[:2], preparation=stored)) == 2
    for width in (2, 4):
        with pytest.raises(DataError, match=f"has {width} columns and the run reads 3; hand over"):
            open_data(np.ones((9, width)), preparation=stored)
    named = open_data(pa.table({"a": array[:, 0], "b": array[:, 1]})).preparation
    with pytest.raises(DataError, match=r"columns without names .* by name \(a, b\)"):
        open_data(array[:, :2], preparation=named)
    with pytest.raises(DataError, match="of 3 dimensions cannot be read as table"):
        open_data(array[:, :, None], preparation=stored)


def test_bytes_accept_any_column_name() -> None:
    stored = open_data(pa.table({"smiles": STRINGS})).preparation
    other = open_data(pa.table({"structure": STRINGS, "n": ALL}), preparation=stored)
    assert other.roles.inputs == ("structure",)
    named = pa.table({"a": STRINGS, "b": STRINGS})
    assert open_data(named, DataConfig(column=("b",)), preparation=stored).roles.inputs == ("b",)


def test_target_that_was_an_input_is_refused() -> None:
    table = pa.table({"a": ALL / 3, "price": ALL / 7})
    stored = open_data(table).preparation
    with pytest.raises(DataError, match="'price' was an input of the encoder"):
        open_data(table, DataConfig(target=("price",)), preparation=stored)
    spaced = table.rename_columns(["a", "the price"])
    with pytest.raises(DataError, match=r"\(--target 'the price'\)"):
        open_data(
            spaced, DataConfig(target=("the price",)), preparation=open_data(spaced).preparation
        )


def test_differences_are_told_precisely() -> None:
    table = pa.table({"a": ALL / 3, "b": ALL / 7})
    one = open_data(table).preparation
    assert one.differences(open_data(table).preparation) == []
    changed = table.set_column(1, "b", pa.array(ALL / 8))
    assert one.differences(open_data(changed).preparation) == [
        "the content differs, though columns and number of rows are the same"
    ]
    other = pa.table({"a": (ALL / 3).astype(np.float32)[:9], "c": ALL[:9] / 2})
    assert one.differences(open_data(other).preparation) == [
        "column 'b' is missing",
        "column 'c' is new",
        "type of column 'a' is float, not double",
        "number of rows is 9, not 40",
    ]
    assert one.differences(open_data(table, seed=1).preparation)[0].startswith("split of the rows")
    # Other statistics of the same content: those of a run that another one began with.
    first = open_data(pa.table({"a": ALL / 2, "b": ALL / 5})).preparation
    adopted = open_data(table, preparation=first).preparation
    assert one.differences(adopted) == [
        "what inputs are scaled by differs, though the content is the same"
    ]


def test_statistics_come_from_training_rows_alone() -> None:
    split = np.where(ALL < 20, "train", "test")
    table = pa.table({"a": np.where(ALL < 20, ALL / 3, 1e6), "part": split})
    dataset = open_data(table, DataConfig(split="part"))
    train = (ALL / 3)[dataset.parts.train]
    assert dataset.preparation.statistics["columns"][0]["center"] == pytest.approx(train.mean())
    assert dataset.parts.test.tolist() == list(range(20, 40))


def test_columns_cost_what_they_are_not_what_their_square_is(tmp_path: Path) -> None:
    seconds = []
    for count in (40, 500, 2_000):  # the first pays for what is imported
        names = ",".join(f"g{number}" for number in range(count))
        for name in ("train", "test"):
            (tmp_path / f"{name}.csv").write_text(names + "\n" + f"{',1.5' * count}\n"[1:] * 4)
        started = time.process_time()
        config = DataConfig(test=str(tmp_path / "test.csv"))
        parts = read_parts(tmp_path / "train.csv", config)
        seconds.append(time.process_time() - started)
        assert parts.frame.table.shape == (8, count)
    assert seconds[2] < 8 * seconds[1], "four times the columns; 16 where each looks at all others"


def test_words_of_the_training_file_are_words_in_the_others(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("k,x\nA,1\nB,2\n1,3\n")
    (tmp_path / "test.csv").write_text("k,x\n1,4\n2,5\n")
    table = read_parts(tmp_path / "train.csv", DataConfig(test=str(tmp_path / "test.csv"))).frame
    assert table.table["k"].to_pylist() == ["A", "B", "1", "1", "2"]
    assert table.table["x"].to_pylist() == [1, 2, 3, 4, 5]
    with pytest.raises(DataError, match="give each column one type in all files"):
        read_parts(tmp_path / "test.csv", DataConfig(test=str(tmp_path / "train.csv")))


def test_strings_of_another_name_are_read_only_if_they_are_likely_meant() -> None:
    stored = open_data(pa.table({"smiles": STRINGS, "y": ALL})).preparation
    sexes = ["I", "F", "M", "F"] * 10
    with pytest.raises(DataError, match=r"no column 'smiles', which the run reads.*--column"):
        open_data(pa.table({"sex": sexes, "x": ALL / 3}), preparation=stored)
    for name, strings in (("molecule", STRINGS), ("sequence", sexes)):
        again = open_data(pa.table({name: strings, "x": ALL / 3}), preparation=stored)
        assert again.roles.inputs == (name,)
    alone = open_data(pa.table({"sex": sexes}), preparation=stored)
    named = DataConfig(column=("sex",))
    asked = open_data(pa.table({"sex": sexes, "x": ALL / 3}), named, preparation=stored)
    assert alone.roles.inputs == asked.roles.inputs == ("sex",)


def test_validation_and_test_files_are_parts_of_one_data_set(tmp_path: Path) -> None:
    for name, rows in (("train", 20), ("valid", 5), ("test", 7)):
        pd.DataFrame({"smiles": [f"{name}{i}" for i in range(rows)]}).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    config = DataConfig(valid=str(tmp_path / "valid.csv"), test=str(tmp_path / "test.csv"))
    dataset = open_data(str(tmp_path / "train.csv"), config)
    assert list(map(len, dataset.parts)) == [20, 5, 7]
    for part, name in zip(dataset.parts, ("train", "valid", "test"), strict=True):
        texts = dataset.preparation.restore(dataset.batch(part).inputs)
        assert texts == [f"{name}{i}" for i in range(len(part))]
    frame = dataset.rows.frame
    assert frame.where(21) == "line 3 of valid.csv"
    (tmp_path / "valid.csv").write_text('smiles\nCC\n""\n')
    with pytest.raises(DataError, match=r"valid\.csv"):
        open_data(str(tmp_path / "train.csv"), config)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("table", (3,)),
        ("values", (9, 2)),
        ("values", (9,)),
        ("image", (4, 4)),
        ("image", (4, 4, 3)),
    ],
)
def test_arrays_of_parts_are_read_where_they_lie(
    kind: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    draw = np.random.default_rng(0)
    parts = [draw.normal(size=(count, *shape)) for count in (20, 5, 7)]
    for name, part in zip(("valid", "test"), parts[1:], strict=True):
        np.save(tmp_path / f"{name}.npy", part)
    length = 4 if kind == "values" else None
    config = DataConfig(kind=kind, length=length, too_long="truncate")
    files = {name: str(tmp_path / f"{name}.npy") for name in ("valid", "test")}
    joined = read_parts(parts[0], config.model_copy(update=files)).frame
    assert np.shares_memory(joined.arrays()[0], parts[0])
    dataset = open_data(joined, config)
    whole = open_data(np.concatenate(parts), config, preparation=dataset.preparation)
    index = draw.permutation(32)
    kinds = zip(dataset.whole(index), whole.whole(index), strict=True)
    assert all(np.array_equal(one, other) for one, other in kinds if one is not None)
    first = np.full(32, 3)
    found, expected = (data.batch(index, first=first).inputs for data in (dataset, whole))
    assert torch.equal(found, expected)
    assert len(dataset.whole(index[:0]).inputs) == 0


def test_columns_of_parts_that_stay_as_they_are_are_not_copied(tmp_path: Path) -> None:
    words = pa.array(["C" * 1000] * 2000, pa.large_string())
    table = pa.table({"smiles": words, "y": pa.array(np.arange(2000.0))})
    pq.write_table(table, tmp_path / "valid.parquet")
    config = DataConfig(valid=str(tmp_path / "valid.parquet"))
    read_parts(table, config)  # fills the cache
    before = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(before)
    pa.set_memory_pool(counted)
    try:
        assert read_parts(table, config).frame.table.num_rows == 4000
    finally:
        pa.set_memory_pool(before)
    assert counted.max_memory() < words.nbytes / 4


def test_column_that_one_of_several_files_lacks_is_refused_if_it_is_used(tmp_path: Path) -> None:
    whole = pd.DataFrame({"a": np.sqrt(ALL), "b": ALL / 7, "y": ALL / 3, "n": ALL.astype(str)})
    paths = {name: tmp_path / f"{name}.csv" for name in ("train", "valid", "test")}
    config = DataConfig(valid=str(paths["valid"]), test=str(paths["test"]), target=("y",), id="n")

    def write(without: str, missing: str) -> None:
        for name, path in paths.items():
            whole.drop(columns=[missing] if name == without else []).to_csv(path, index=False)

    for without in paths:
        for missing, use in (("b", "input"), ("y", "target"), ("n", "id")):
            write(without, missing)
            if (without, missing) == ("train", "b"):
                continue
            said = rf"{without}\.csv lacks column '{missing}', which is used as {use}"
            with pytest.raises(DataError, match=said):
                open_data(paths["train"], config)
    spaced = whole.rename(columns={"b": "b (mm)"})
    for name, path in paths.items():
        spaced.drop(columns=["b (mm)"] if name == "test" else []).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"leave it out with --drop 'b \(mm\)'$"):
        open_data(paths["train"], config)
    write("test", "b")
    dropped = config.model_copy(update={"drop": ("b",)})
    assert open_data(paths["train"], dropped).roles.inputs == ("a",)


def test_columns_that_the_training_file_lacks_are_no_inputs(tmp_path: Path) -> None:
    whole = pd.DataFrame({"a": np.sqrt(ALL), "smiles": [f"C{i}" for i in ALL], "y": ALL / 3})
    whole.drop(columns="smiles").to_csv(tmp_path / "train.csv", index=False)
    whole.to_csv(tmp_path / "valid.csv", index=False)
    config = DataConfig(valid=str(tmp_path / "valid.csv"), target=("y",))
    first = open_data(tmp_path / "train.csv", config)
    stored = open_data(tmp_path / "train.csv", config, preparation=first.preparation)
    for dataset in (first, stored):
        assert (dataset.roles.kind, dataset.roles.inputs) == ("table", ("a",))
        assert "left out, not in the training file: smiles" in dataset.roles.describe()
    assert dataset.column("smiles")[-1].as_py() == f"C{ALL[-1]}"
    with pytest.raises(
        DataError, match=r"train\.csv lacks column 'smiles', which is used as input"
    ):
        open_data(tmp_path / "train.csv", config.model_copy(update={"column": ("smiles",)}))


@pytest.mark.parametrize("resident", [1 << 26, 0])
def test_tables_in_several_files_are_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resident: int
) -> None:
    monkeypatch.setattr("anymae.data.kinds.table.RESIDENT_BYTES", resident)
    whole = pd.DataFrame({"a": np.sqrt(ALL), "c": ["x", "y", "z", "?"] * 10})
    whole[:25].to_csv(tmp_path / "train.csv", index=False)
    whole[25:].to_csv(tmp_path / "valid.csv", index=False)
    config = DataConfig(valid=str(tmp_path / "valid.csv"))
    dataset = open_data(str(tmp_path / "train.csv"), config)
    index = np.array([39, 0, 25, 24, 3])
    batch = dataset.batch(index)
    train = whole["a"][:25]
    expected = (whole["a"][index] - train.mean()) / train.std(ddof=0)
    np.testing.assert_allclose(batch.inputs[:, 0, 0], expected, rtol=1e-4)
    assert batch.valid[:, 1].tolist() == [False, True, True, True, False]
    assert batch.inputs[1:4, 1, 0].tolist() == [0, 1, 0]
    (tmp_path / "valid.csv").write_text("a,c\nword,x\nother,y\n")
    with pytest.raises(DataError, match="cannot stand in one table"):
        open_data(str(tmp_path / "train.csv"), config)


def test_stored_missing_words_hold_for_new_files_too(tmp_path: Path) -> None:
    pd.DataFrame({"a": [*np.sqrt(ALL), "unknown"]}).to_csv(tmp_path / "a.csv", index=False)
    stored = open_data(str(tmp_path / "a.csv"), DataConfig(missing=("unknown",), on_bad_row="skip"))
    assert len(stored) == 40
    new = open_data(
        str(tmp_path / "a.csv"), DataConfig(on_bad_row="skip"), preparation=stored.preparation
    )
    assert len(new) == 40


def test_row_that_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n\nCC,1\nCO,1,2\nCN,3\n,4\n")
    dataset = open_data(str(tmp_path / "a.csv"), DataConfig(on_bad_row="skip"))
    assert [rows.tolist() for _, rows in dataset.rows.bad] == [[1], [3]]
    assert dataset.preparation.used_rows == 2
    with pytest.raises(DataError, match="line 3"):
        open_data(str(tmp_path / "a.csv"))


REAL = {
    "tabular/adult.parquet": 14,
    "tabular/california.parquet": 8,
    "physics/higgs/higgs_extra_train.parquet": 28,
    "physics/higgs/higgs_small_valid_test.parquet": 28,
}


@pytest.mark.parametrize("path", REAL)
def test_real_tables_leave_target_split_and_source_out(path: str, data_folder: Path) -> None:
    dataset = open_data(str(data_folder / path))
    assert dataset.input.length == REAL[path]
    assert not {"target", "label", "split", "source"} & set(dataset.roles.inputs)
    batch = dataset.batch(np.arange(0, len(dataset), 97))
    assert batch.inputs.shape[1:] == (REAL[path], 1)
    # Nothing that is read equals the target, whatever the column is called.
    name = "target" if "adult" in path else "label"
    target = dataset.column(name).to_pandas().astype("category").cat.codes.to_numpy()
    inputs = batch.inputs[:, :, 0].numpy()
    for column in range(inputs.shape[1]):
        if inputs[:, column].std() > 0:
            assert abs(np.corrcoef(inputs[:, column], target[::97])[0, 1]) < 0.95


def test_planted_copy_of_the_target_named_target_cannot_reach_the_encoder() -> None:
    secret = np.random.default_rng(0).normal(size=40)
    table = pa.table({"a": ALL / 3, "price": secret, "target": secret})
    dataset = open_data(table, DataConfig(target=("price",)))
    assert dataset.roles.inputs == ("a",)
    assert dataset.batch(ALL).inputs.shape == (40, 1, 1)


def test_real_strings_are_found_by_name(data_folder: Path) -> None:
    esol = open_data(str(data_folder / "chem/chembench_splits/esol.csv"))
    assert esol.roles.inputs == ("smiles",)
    assert any("stripped" in note for note in esol.notes)
    homology = open_data(str(data_folder / "proteins/tape/remote_homology.parquet"))
    assert homology.roles.inputs == ("sequence",)


def test_real_adult_census_has_missing_cells_and_heavy_tails(data_folder: Path) -> None:
    dataset = open_data(str(data_folder / "tabular/adult.parquet"))
    columns = {column["name"]: column for column in dataset.preparation.statistics["columns"]}
    assert "knots" in columns["capital_gain"]
    assert "knots" not in columns["age"]
    assert "?" not in columns["workclass"]["categories"]
    batch = dataset.batch(np.arange(len(dataset)))
    place = dataset.roles.inputs.index("workclass")
    assert int((~batch.valid[:, place]).sum()) == 2071


def test_rows_of_other_files_are_known_by_their_file_where_bad_ones_are_skipped(
    tmp_path: Path,
) -> None:
    for name, cells in (("train", "C\nCC\n''\nCCC\n"), ("valid", "N\n''\nNN\n")):
        (tmp_path / f"{name}.csv").write_text("smiles\n" + cells.replace("''", '""'))
    config = DataConfig(valid=str(tmp_path / "valid.csv"), on_bad_row="skip")
    dataset = open_data(str(tmp_path / "train.csv"), config)
    texts = [dataset.preparation.restore(dataset.batch(part).inputs) for part in dataset.parts[:2]]
    assert texts == [["C", "CC", "CCC"], ["N", "NN"]]


def test_lines_that_cannot_be_read_are_named_in_the_file_that_has_them(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,b\n1.5,2.5\n2.5,1\n3.5,2\n")
    (tmp_path / "valid.csv").write_text("a,b\n1.5,2.5\n2.5,1,9\n4.5,3\n")
    config = DataConfig(valid=str(tmp_path / "valid.csv"), on_bad_row="skip")
    dataset = open_data(str(tmp_path / "train.csv"), config)
    assert [rows.rows.tolist() for rows in dataset.rows.bad] == [[4]]
    assert list(map(len, dataset.parts)) == [3, 2, 0]


@pytest.mark.parametrize("role", ["id", "split", "group", "weight"])
def test_another_role_is_another_preparation(role: str) -> None:
    table = pa.table(
        {"a": np.arange(9) ** 0.5, "r": np.arange(9), "s": ["train"] * 6 + ["valid"] * 3}
    )
    name = "s" if role == "split" else "r"
    with_role = open_data(table, DataConfig(column=("a",), **{role: name})).preparation
    without = open_data(table, DataConfig(column=("a",), drop=(name,))).preparation
    assert any(said.startswith(f"{role} is ") for said in without.differences(with_role))
