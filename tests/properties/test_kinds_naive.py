"""Batches equal what a naive loop reads, whatever the strings, the chunks and the batch."""

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anymae.config import DataConfig
from anymae.data.batch import Arrays, pack, packed_rows
from anymae.data.dataset import Dataset, Windows, open_data
from anymae.data.frame import Frame
from anymae.data.kinds.bytes import ByteRows
from anymae.data.roles import Roles
from anymae.data.rows import Rows
from anymae.randomness import Draws, row_keys

SKIP = DataConfig(on_bad_row="skip", column=("text",))
CHECK = settings(deadline=None, max_examples=40)
STRINGS = st.lists(st.text(max_size=20), min_size=1, max_size=12)
EIGHTHS = st.integers(-99, 99).map(lambda number: number / 8)
WHITE = " \t\n\r\v\f"


def naive_tokens(text: str) -> list[int]:
    """The bytes of a string, plus 6, and the SEP."""
    return [byte + 6 for byte in text.strip(WHITE).encode()] + [5]


def real(dataset: Dataset, index: list[int], **choice: object) -> list[list[int]]:
    """The valid tokens of each row of a batch."""
    batch = dataset.batch(np.array(index), **choice)
    valid = torch.ones_like(batch.inputs, dtype=torch.bool) if batch.valid is None else batch.valid
    assert (batch.inputs[~valid] == 0).all()
    return [row[here].tolist() for row, here in zip(batch.inputs, valid, strict=True)]


@CHECK
@given(strings=STRINGS, data=st.data())
def test_tokens_equal_a_naive_loop(strings: list[str], data: st.DataObject) -> None:
    kept = [row for row, text in enumerate(strings) if text.strip(WHITE)]
    if not kept:
        return
    dataset = open_data(strings, DataConfig(on_bad_row="skip"))
    index = data.draw(st.lists(st.integers(0, len(kept) - 1), min_size=1, max_size=6))
    assert real(dataset, index) == [naive_tokens(strings[kept[i]]) for i in index]
    assert dataset.batch(np.array(index)).rows.tolist() == [kept[i] for i in index]
    assert dataset.lengths.tolist() == [len(naive_tokens(strings[row])) for row in kept]
    assert dataset.preparation.restore(dataset.batch(np.array(index)).inputs) == [
        strings[kept[i]].strip(WHITE) for i in index
    ]


@CHECK
@given(strings=STRINGS, cut=st.integers(0, 12), skip=st.integers(0, 3))
def test_chunks_slices_and_nulls_change_nothing(strings: list[str], cut: int, skip: int) -> None:
    cells = [None, "out of sight", None, *strings, None]
    column = pa.array(cells, pa.large_string())[skip:]
    table = pa.table({"text": pa.chunked_array([column[:cut], column[cut:]])})
    roles = Roles(kind="bytes", why="", inputs=("text",))
    rows = ByteRows(Frame(table=table, name="t", format="t"), roles, DataConfig())
    expected = [naive_tokens(c) if c and c.strip(WHITE) else [] for c in cells[skip:]]
    assert rows.lengths.tolist() == [len(tokens) for tokens in expected]
    full = np.flatnonzero(rows.lengths)
    if len(full):
        read = rows.read(full, np.zeros_like(full), rows.longest)
        valid = read.valid if read.valid is not None else np.ones(read.inputs.shape, bool)
        found = [row[here].tolist() for row, here in zip(read.inputs, valid, strict=True)]
        assert found == [expected[row] for row in full]


@CHECK
@given(strings=st.lists(st.text("abc", min_size=1, max_size=60), min_size=1, max_size=8))
def test_windows_cover_every_token_of_a_row(strings: list[str]) -> None:
    dataset = open_data(strings, DataConfig(length=16, too_long="window"))
    index = np.arange(len(strings))
    windows: Windows = dataset.windows(index)
    covered = [np.zeros(len(text) + 1, bool) for text in strings]
    for position, first in zip(windows.rows, windows.first, strict=True):
        covered[position][first : first + 16] = True
        assert first == 0 or first + 16 <= len(covered[position])
    assert all(row.all() for row in covered)
    assert np.bincount(windows.rows).tolist() == [-(-(len(t) + 1) // 16) for t in strings]
    read = real(dataset, windows.rows.tolist(), first=windows.first)
    for tokens, position, first in zip(read, windows.rows, windows.first, strict=True):
        assert tokens == naive_tokens(strings[position])[first : first + 16]


@CHECK
@given(
    strings=st.lists(st.text("abc", min_size=1, max_size=60), min_size=1, max_size=8),
    epoch=st.integers(0, 3),
)
def test_crop_is_a_window_that_follows_from_seed_epoch_and_row(
    strings: list[str], epoch: int
) -> None:
    dataset = open_data(strings, DataConfig(length=16))
    index = list(range(len(strings)))
    draws = Draws(row_keys(torch.tensor(index), seed=3, epoch=epoch))
    crops = real(dataset, index, crop=draws)
    for crop, text in zip(crops, strings, strict=True):
        tokens = naive_tokens(text)
        windows = [tokens[first : first + 16] for first in range(max(1, len(tokens) - 15))]
        assert crop in windows
    alone = Draws(row_keys(torch.tensor(index[-1:]), seed=3, epoch=epoch))
    assert real(dataset, index[-1:], crop=alone) == crops[-1:]


def test_crops_start_anywhere_and_elsewhere_by_epoch_and_seed() -> None:
    text = "".join(chr(ord("!") + place) for place in range(40))  # no two windows are alike
    dataset = open_data([text] * 400, DataConfig(length=16))
    index, tokens = list(range(400)), naive_tokens(text)

    def firsts(seed: int, epoch: int) -> list[int]:
        draws = Draws(row_keys(torch.arange(400), seed=seed, epoch=epoch))
        return [tokens.index(crop[0]) for crop in real(dataset, index, crop=draws)]

    base = firsts(0, 0)
    # 40 characters and the token that ends a row have 26 windows of 16.
    assert len(tokens) == 41 and set(base) == set(range(26))
    for other in (firsts(0, 1), firsts(1, 0)):
        assert np.mean(np.equal(base, other)) < 0.2


@CHECK
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=30))
def test_packing_keeps_every_string_whole_and_apart(lengths: list[int]) -> None:
    numbers = np.array(lengths)
    row, place = packed_rows(numbers, 12)
    taken = {(r, p + i) for r, p, n in zip(row, place, lengths, strict=True) for i in range(n)}
    assert len(taken) == sum(lengths)
    assert max(position for _, position in taken) < 12
    # No string that starts a row would have fitted behind the one before.
    fills = [sum(numbers[row == r]) for r in range(row[-1] + 1)]
    starts = [numbers[row == r][0] for r in range(row[-1] + 1)]
    assert all(fill + start > 12 for fill, start in zip(fills, starts[1:], strict=False))
    tokens = np.where(np.arange(12) < numbers[:, None], np.arange(1, len(numbers) + 1)[:, None], 0)
    packed, begins = pack(Arrays(tokens, tokens > 0), 12)
    joined = packed.inputs if packed.valid is None else packed.inputs[packed.valid]
    assert joined.ravel().tolist() == np.repeat(np.arange(1, len(numbers) + 1), numbers).tolist()
    assert begins.tolist() == [int(np.flatnonzero(row == r)[0]) for r in range(row[-1] + 1)]


@CHECK
@given(
    jets=st.lists(
        st.lists(st.lists(EIGHTHS, min_size=2, max_size=2), max_size=5), min_size=1, max_size=8
    )
)  # fmt: skip
def test_ragged_values_equal_a_naive_loop(jets: list[list[list[float]]]) -> None:
    filled = [row for row, jet in enumerate(jets) if jet]
    if not filled:
        return
    kind = pa.list_(pa.list_(pa.float64()))
    dataset = open_data(pa.table({"jets": pa.array(jets, kind)}), DataConfig(on_bad_row="skip"))
    batch = dataset.batch(np.arange(len(dataset)))
    assert batch.inputs.shape[1] == max(len(jets[row]) for row in filled)
    restored = dataset.preparation.restore(batch.inputs.double().numpy())
    for position, row in enumerate(filled):
        count = len(jets[row])
        np.testing.assert_allclose(restored[position, :count], jets[row], rtol=1e-4, atol=1e-3)
        assert batch.valid is None or batch.valid[position].sum() == count
        assert (batch.inputs[position, count:] == 0).all()


def test_rows_of_a_filter_keep_their_numbers_in_the_source() -> None:
    table = pa.table({"text": ["aa", "", "cc", "dd"], "use": [True, True, False, True]})
    dataset = open_data(table, SKIP.model_copy(update={"where": "use"}))
    assert dataset.batch(np.array([1, 0])).rows.tolist() == [3, 0]
    assert dataset.column("text").to_pylist() == ["aa", "dd"]
    assert isinstance(dataset.rows, Rows)
    assert [(bad.problem, bad.rows.tolist()) for bad in dataset.rows.bad] == [
        ("is empty or missing", [1])
    ]
