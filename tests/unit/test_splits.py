"""Splits: by column, file, chance, class, group and scaffold."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from anymae.config import DataConfig
from anymae.data import splits
from anymae.data.dataset import open_data
from anymae.data.splits import MOST_VALID, Parts, group_codes, split_rows
from anymae.errors import ConfigError, DataError

COUNT = 1000
NUMBERS = np.random.default_rng(0).normal(size=COUNT)
GROUPS = np.random.default_rng(1).integers(0, 120, COUNT)


def parts_of(columns: dict[str, object], seed: int = 0, **config: object) -> Parts:
    return open_data(pa.table({"a": NUMBERS, **columns}), DataConfig(**config), seed=seed).parts


def shares(columns: dict[str, object], **config: object) -> tuple[Parts, pa.Table]:
    """A split with a test part of 20 % and a validation part of 10 %."""
    settings = DataConfig(**config)
    table = pa.table({"a": NUMBERS, **columns})
    dataset = open_data(table, settings)
    parts = split_rows(dataset.rows, settings, 0, valid_share=0.1, test_share=0.2)
    everything = np.sort(np.concatenate(parts))
    assert everything.tolist() == list(range(COUNT))
    return parts, table


def test_two_percent_validate_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of({})
    assert list(map(len, parts)) == [980, 20, 0]
    assert np.sort(np.concatenate(parts)).tolist() == list(range(COUNT))
    assert parts.digest == parts_of({}).digest
    assert parts.digest != parts_of({}, seed=1).digest
    assert MOST_VALID == 10_000
    monkeypatch.setattr(splits, "MOST_VALID", 15)
    assert len(parts_of({}).valid) == 15


def test_few_rows_still_train() -> None:
    assert list(map(len, open_data(["a"]).parts)) == [1, 0, 0]
    assert list(map(len, open_data(["a", "b"]).parts)) == [1, 1, 0]


def test_split_column_is_followed() -> None:
    names = np.array(["train", "Valid", " test", "val", "dev"])[np.arange(COUNT) % 5]
    parts = parts_of({"part": names}, split="part")
    assert parts.train.tolist() == list(range(0, COUNT, 5))
    assert parts.test.tolist() == list(range(2, COUNT, 5))
    assert len(parts.valid) == 600


def test_validation_rows_are_taken_from_training_where_the_column_names_none() -> None:
    names = np.where(np.arange(COUNT) < 500, "train", "test")
    parts = parts_of({"part": names}, split="part")
    assert list(map(len, parts)) == [490, 10, 500]
    assert parts.valid.max() < 500


def test_other_values_in_a_split_column_are_an_error() -> None:
    names = np.array(["train", "test_scaffolds", "test"])[np.arange(COUNT) % 3]
    with pytest.raises(DataError, match="holds 'test_scaffolds' in 333 rows; expected train"):
        parts_of({"part": names}, split="part")
    with pytest.raises(DataError, match="no row is left for training"):
        parts_of({"part": ["test"] * COUNT}, split="part")


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_cell_of_a_split_column_is_to_become_train(empty: str | None) -> None:
    names = ["train", empty, "test", "train"] * (COUNT // 4)
    with pytest.raises(DataError, match="write train there, also for rows without labels, or keep"):
        parts_of({"part": names}, split="part")


def test_random_split_has_the_shares_asked_for() -> None:
    parts, _ = shares({})
    assert list(map(len, parts)) == [700, 100, 200]


def test_groups_stay_together() -> None:
    for config in ({"group": "g"}, {"group": "g", "split_by": "group"}):
        parts, _ = shares({"g": GROUPS}, **config)
        kinds = [set(GROUPS[part]) for part in parts]
        assert not kinds[0] & kinds[1]
        assert not kinds[0] & kinds[2]
        assert not kinds[1] & kinds[2]
        assert abs(len(parts.test) - 200) < 15
        assert abs(len(parts.valid) - 100) < 15


@pytest.mark.parametrize("empty", [None, "", "NA"])
def test_half_of_the_rows_without_a_group_are_no_group(empty: str | None) -> None:
    column = [empty if row % 2 else f"g{row % 40}" for row in range(COUNT)]
    parts = parts_of({"g": column}, group="g")
    assert 10 <= len(parts.valid) <= 40
    without = np.arange(COUNT) % 2 == 1
    assert without[parts.valid].any() and without[parts.train].any()


@pytest.mark.parametrize("role", ["split", "group", "weight"])
def test_lists_have_no_such_role(role: str) -> None:
    with pytest.raises(DataError, match=f"'g' holds lists and cannot be the {role}"):
        parts_of({"g": [[1.0, 2.0]] * COUNT}, **{role: "g"})


def test_lists_are_no_classes_to_stratify_by() -> None:
    with pytest.raises(DataError, match="a target with one value a row"):
        parts_of({"y": [[1.0, 2.0]] * COUNT}, target=("y",), split_by="stratified")


def test_row_without_a_group_is_a_group_of_its_own() -> None:
    groups = pa.array(GROUPS, mask=np.arange(COUNT) % 2 == 0)
    parts, _ = shares({"g": groups}, group="g")
    assert abs(len(parts.test) - 200) < 15
    for part in parts:  # half of the rows have no group, and about half of those of each part
        assert abs((part % 2 == 0).mean() - 0.5) < 0.2


@pytest.mark.parametrize("target", [np.arange(COUNT) % 7 == 0, NUMBERS])
def test_stratified_parts_have_the_classes_in_equal_shares(target: np.ndarray) -> None:
    parts, _ = shares({"t": target}, target=("t",), split_by="stratified")
    assert list(map(len, parts)) == [700, 100, 200]
    classes = target.astype(int)
    if target is NUMBERS:  # by its deciles
        classes = np.digitize(NUMBERS, np.quantile(NUMBERS, np.linspace(0.1, 0.9, 9)))
    for part in parts:
        due = np.bincount(classes) * len(part) / COUNT
        assert np.abs(np.bincount(classes[part]) - due).max() <= 2


@pytest.mark.parametrize(
    ("split_by", "message"), [("group", "--group"), ("stratified", "--target")]
)
def test_split_without_its_column_is_an_error(split_by: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parts_of({}, split_by=split_by)


def test_cells_that_are_no_number_are_groups_of_their_own() -> None:
    cells = pa.chunked_array([[1.0, float("nan"), float("nan"), None, 1.0]])
    assert group_codes(cells).tolist() == [0, 1, 2, 3, 0]


def test_words_for_a_missing_cell_are_no_group() -> None:
    words = pa.chunked_array([["a", "NA", " NA", "n/d", "n/d", "a", "?"]])
    assert group_codes(words, ("n/d",)).tolist() == [0, 1, 2, 3, 4, 0, 5]
    assert group_codes(pa.chunked_array([[-9, 1, -9, 1]]), ("-9",)).tolist() == [1, 0, 2, 0]
    column = ["n/d" if row % 2 else f"g{row % 40}" for row in range(COUNT)]
    assert 10 <= len(parts_of({"g": column}, group="g", missing=("g=n/d",)).valid) <= 40


def test_bytes_that_are_no_text_are_scaffolds_of_their_own() -> None:
    pytest.importorskip("rdkit")
    smiles = pa.array([b"CCO", b"\xff\xfe", b"CCN", b"c1ccccc1"] * 5, pa.binary())
    config = DataConfig(split_by="scaffold", column=("smiles",))
    dataset = open_data(pa.table({"smiles": smiles}), config)
    parts = split_rows(dataset.rows, config, 0, valid_share=0.2, test_share=0.2)
    assert sorted(np.concatenate(list(parts))) == list(range(20))


def test_scaffolds_of_numbers_are_an_error() -> None:
    with pytest.raises(DataError, match="reads molecules as strings and the input is of kind tabl"):
        parts_of({}, split_by="scaffold")
    with pytest.raises(DataError, match="of kind values"):
        open_data(np.zeros((9, 4, 2)), DataConfig(split_by="scaffold"))


def test_scaffolds_stay_together_and_rare_ones_are_held_out() -> None:
    pytest.importorskip("rdkit")
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

    rings = ["c1ccccc1"] * 30 + ["C1CCCCC1"] * 6 + ["c1ccncc1"] * 3 + ["C1CCNC1"]
    smiles = [ring + "C" * (i % 5) for i, ring in enumerate(rings)]
    config = DataConfig(split_by="scaffold")
    dataset = open_data(smiles, config)
    parts = split_rows(dataset.rows, config, 0, valid_share=0.15, test_share=0.1)
    found = [{MurckoScaffoldSmiles(smiles[i]) for i in part} for part in parts]
    assert found == [{"c1ccccc1"}, {"C1CCCCC1"}, {"c1ccncc1", "C1CCNC1"}]


def test_a_part_that_is_to_have_rows_gets_a_group_however_large() -> None:
    table = pa.table({"a": NUMBERS, "g": np.arange(COUNT) // 250})
    parts = open_data(table, DataConfig(group="g")).parts
    assert list(map(len, parts)) == [750, 250, 0]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("others", [[100, 100], [10] * 20])
def test_a_group_that_is_far_too_large_is_left_to_train_on(others: list[int], seed: int) -> None:
    groups = np.repeat(np.arange(len(others) + 1), [800, *others])
    parts = parts_of({"g": groups}, seed, group="g")
    assert len(parts.valid) == others[0] * (1 if others[0] > 20 else 2)
    dataset = open_data(pa.table({"a": NUMBERS, "g": groups}), DataConfig(group="g"), seed=seed)
    shares = split_rows(dataset.rows, DataConfig(group="g"), seed, valid_share=0.1, test_share=0.05)
    assert len(shares.train) >= 800


def test_a_part_far_from_its_share_is_told(caplog: pytest.LogCaptureFixture) -> None:
    columns = {"g": np.arange(COUNT) // 250}
    parts_of(columns, group="g")
    told = "the validation part has 250 of 1,000 rows, where about 20 were asked for: groups stay"
    assert [told in record.message for record in caplog.records] == [True]
    caplog.clear()
    parts_of({"g": GROUPS}, group="g")
    assert not caplog.records


@pytest.mark.parametrize(
    "config",
    [{"group": "g"}, {"split_by": "stratified", "target": ("c",)}, {"split_by": "scaffold"}],
)
def test_every_way_to_split_by_chance_follows_the_seed(config: dict[str, Any]) -> None:
    data: Any = {"a": NUMBERS, "g": np.arange(COUNT) // 5, "c": np.arange(COUNT) % 3}
    if config.get("split_by") == "scaffold":
        pytest.importorskip("rdkit")
        data = [f"no molecule {row}" for row in range(100)]
    found = [open_data(data, DataConfig(**config), seed=seed).parts.digest for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_the_hash_of_a_split_tells_which_part_a_row_is_in() -> None:
    cuts = [Parts(*np.split(np.arange(3), cut)) for cut in ([2, 3], [1, 3], [1, 2], [3, 3])]
    assert len({parts.digest for parts in cuts}) == 4


@pytest.mark.parametrize("rows", [24, 1000])
def test_shares_that_add_up_to_more_than_all_rows_are_refused(rows: int) -> None:
    dataset = open_data(pa.table({"a": np.random.default_rng(0).normal(size=rows)}))
    with pytest.raises(ConfigError, match="valid_share and test_share ask for"):
        split_rows(dataset.rows, DataConfig(), 0, valid_share=0.5, test_share=0.6)


def test_a_split_column_keeps_its_rows_from_training_beside_files_of_parts(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,part\n1.5,train\n2,test\n3,valid\n4,train\n")
    config = DataConfig(split="part", valid=str(tmp_path / "valid.csv"))
    for column in ("a,part\n5.5,unknown\n6,train\n", "a\n5.5\n6\n"):
        (tmp_path / "valid.csv").write_text(column)
        parts = open_data(str(tmp_path / "data.csv"), config).parts
        assert [part.tolist() for part in parts] == [[0, 3], [2, 4, 5], [1]]
    with pytest.raises(DataError, match="holds 'tran' in 1 rows"):
        (tmp_path / "data.csv").write_text("a,part\n1.5,tran\n2,test\n")
        open_data(str(tmp_path / "data.csv"), config)
