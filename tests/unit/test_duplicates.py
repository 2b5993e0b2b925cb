"""Exact and near duplicates against loops over all pairs."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from anymae.config import DataConfig
from anymae.data import duplicates
from anymae.data.dataset import open_data
from anymae.data.duplicates import (
    THRESHOLD,
    duplicate_groups,
    find_duplicates,
    row_hashes,
    shared_rows,
)


def pieces(text: str) -> set[str]:
    return {text[i : i + 5] for i in range(max(1, len(text) - 4))}


def jaccard(one: str, other: str) -> float:
    return len(pieces(one) & pieces(other)) / len(pieces(one) | pieces(other))


def families(seed: int, count: int) -> list[str]:
    """Random strings, each with copies in which a few letters are changed, and some exact ones."""
    rng = np.random.default_rng(seed)
    strings = []
    for _ in range(count):
        text = "".join(rng.choice(list("ACDEFGHIK"), rng.integers(3, 120)))
        strings.append(text)
        for changes in range(rng.integers(0, 3)):
            letters = list(text)
            for place in rng.integers(0, len(text), changes):
                letters[place] = "X"
            strings.append("".join(letters))
    return [strings[i] for i in rng.permutation(len(strings))]


def naive_clusters(strings: list[str]) -> list[int]:
    labels = list(range(len(strings)))
    for one, other in itertools.combinations(range(len(strings)), 2):
        if jaccard(strings[one], strings[other]) >= THRESHOLD:
            old, new = sorted((labels[one], labels[other]), reverse=True)
            labels = [new if label == old else label for label in labels]
    return labels


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_the_connected_near_duplicates(seed: int) -> None:
    strings = families(seed, 60)
    groups = duplicate_groups(open_data(strings))
    expected = naive_clusters(strings)
    # Pairs right at the threshold may be overlooked, but nothing is joined that should not be.
    for group in np.unique(groups):
        assert len({expected[i] for i in np.flatnonzero(groups == group)}) == 1
    assert len(np.unique(groups)) <= len(set(expected)) + 1
    assert (groups <= np.arange(len(strings))).all()


@pytest.mark.parametrize("seed", range(2))
def test_counts_agree_with_a_loop(seed: int) -> None:
    strings = families(seed, 60)
    found = find_duplicates(open_data(strings))
    distinct = len(set(strings))
    assert found.exact == len(strings) - distinct
    near = distinct - len(set(naive_clusters(sorted(set(strings)))))
    assert near - 1 <= found.near <= near
    assert found.compared == len(strings)


def test_long_rows_are_hashed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK_INPUTS", 1000)
    series = np.random.default_rng(0).normal(size=(20, 200, 1))
    dataset = open_data(series, DataConfig(length=10))
    blocks = list(duplicates.row_blocks(dataset, np.arange(20)))
    assert np.concatenate(blocks).tolist() == list(range(20))
    assert {dataset.whole(rows).inputs.size for rows in blocks} == {1000}


def test_near_duplicates_among_equal_strings_are_counted_once() -> None:
    text = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 3
    found = find_duplicates(open_data([text, text, text[:-1], "short", "sho"]))
    assert (found.exact, found.near) == (1, 1)


def test_zeros_are_equal_whatever_their_sign() -> None:
    dataset = open_data(np.array([[0.0, 1.0], [-0.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]))
    assert duplicate_groups(dataset).tolist() == [0, 0, 2, 3]


def test_rows_of_a_table_are_equal_where_all_inputs_are() -> None:
    table = pa.table({"a": [1.5, 1.5, 2.5, None, 1.5], "b": ["x", "x", "x", "x", "y"]})
    dataset = open_data(table, DataConfig(kind="table", column=("a", "b")))
    assert find_duplicates(dataset).exact == 1
    assert find_duplicates(dataset).near is None
    assert duplicate_groups(dataset).tolist() == [0, 0, 2, 3, 4]


def test_ends_of_long_rows_count_too() -> None:
    dataset = open_data(["A" * 50 + "B", "A" * 50 + "C", "A" * 50 + "B"], DataConfig(length=8))
    hashes = row_hashes(dataset, np.arange(3))
    assert hashes[0] == hashes[2] != hashes[1]


def test_shared_rows_agree_with_a_loop() -> None:
    mine, theirs = families(5, 50), families(6, 30)
    theirs = [*theirs, *mine[:7], *(text[:-1] + "Y" for text in mine[7:20])]
    dataset = open_data(mine)
    shared = shared_rows(dataset, open_data(theirs, preparation=dataset.preparation, config=LONG))
    equal = [text for text in mine if text in theirs]
    near = [
        text
        for text in mine
        if text not in theirs and max(jaccard(text, other) for other in theirs) >= THRESHOLD
    ]
    assert shared.exact == len(equal)
    assert len(near) - 1 <= shared.near <= len(near)
    assert len(near) > 5


def test_relatives_in_a_bucket_hide_no_near_duplicate() -> None:
    """Half of each family's members share most pieces, but not enough, with the one looked for."""
    rng = np.random.default_rng(0)
    mine, theirs = [], []
    for _ in range(30):
        text = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 120))
        mine.append(text)
        theirs += [text[: 100 + rng.integers(0, 4)] + "W" * 20 for _ in range(40)]
        theirs.append(text[:-2] + "XX")
    dataset = open_data(mine)
    shared = shared_rows(dataset, open_data(theirs, preparation=dataset.preparation, config=LONG))
    near = sum(max(jaccard(text, other) for other in theirs) >= THRESHOLD for text in mine)
    assert near == 30 and shared.near >= near - 1


LONG = DataConfig(too_long="truncate")


def test_long_data_are_compared_on_a_sample_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_BYTES", 1000)
    dataset = open_data(families(0, 100))
    found = find_duplicates(dataset)
    assert 10 < found.compared < len(dataset)


def test_small_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_data(families(1, 40))
    groups = duplicate_groups(dataset).tolist()
    monkeypatch.setattr(duplicates, "_BLOCK_INPUTS", 300)
    assert duplicate_groups(dataset).tolist() == groups


def test_a_missing_cell_is_no_copy_of_the_first_category() -> None:
    table = pa.table({"a": [1.5, 1.5, 2.5, 4.0], "c": ["x", None, "y", "y"]})
    dataset = open_data(table, DataConfig(kind="table", column=("a", "c")))
    assert find_duplicates(dataset).exact == 0
