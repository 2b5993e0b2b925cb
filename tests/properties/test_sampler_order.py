"""The order of rows: every row once an epoch, whatever the batch, the process and the position."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymae.data.sampler import WINDOWS, Order, Permutation, share
from anymae.randomness import Purpose

CHECK = settings(deadline=None, max_examples=40)
COUNTS = st.integers(1, 400)
SEEDS = st.integers(0, 2**31)


def whole_epoch(order: Order, epoch: int = 0) -> list[int]:
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    return np.concatenate([order.batch(step) for step in steps]).tolist()


@CHECK
@given(count=COUNTS, seed=SEEDS, epoch=st.integers(0, 10))
def test_permutation_takes_each_number_once(count: int, seed: int, epoch: int) -> None:
    order = Permutation(count, seed=seed, epoch=epoch)
    assert sorted(order(np.arange(count)).tolist()) == list(range(count))


@CHECK
@given(
    count=COUNTS, batch_size=st.integers(1, 9), seed=SEEDS, epoch=st.integers(0, 3),
    bucketed=st.booleans(),
)  # fmt: skip
def test_epoch_takes_each_row_once(
    count: int, batch_size: int, seed: int, epoch: int, bucketed: bool
) -> None:
    lengths = np.arange(count) * 7 % 31 if bucketed else None
    order = Order(count, batch_size=batch_size, seed=seed, lengths=lengths)
    assert sorted(whole_epoch(order, epoch)) == list(range(count))
    sizes = {len(order.batch(step)) for step in range(order.steps_per_epoch - 1)}
    assert sizes <= {batch_size}


@CHECK
@given(count=COUNTS, world=st.integers(1, 5), step=st.integers(0, 50))
def test_shares_of_processes_make_up_the_global_batch(count: int, world: int, step: int) -> None:
    batch = Order(count, batch_size=8, seed=1).batch(step)
    shares = [share(batch, rank=rank, world=world) for rank in range(world)]
    assert sorted(np.concatenate(shares).tolist()) == sorted(batch.tolist())
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@CHECK
@given(steps=st.lists(st.integers(0, 600), min_size=1, max_size=8))
def test_batch_depends_on_the_step_alone(steps: list[int]) -> None:
    lengths = np.arange(1000) % 13
    used = Order(1000, batch_size=4, seed=5, lengths=lengths)
    for step in steps:
        fresh = Order(1000, batch_size=4, seed=5, lengths=lengths)
        assert used.batch(step).tolist() == fresh.batch(step).tolist()
        assert used.epoch_of(step) == step // 250


def test_epochs_seeds_and_purposes_differ() -> None:
    def numbers(**choice: int) -> list[int]:
        made = {"seed": 0, "epoch": 0, **choice}
        return Permutation(1000, **made)(np.arange(1000)).tolist()

    assert len({tuple(order) for order in (numbers(), numbers(seed=1), numbers(epoch=1))}) == 3
    assert numbers() != Permutation(1000, seed=0, purpose=Purpose.SPLIT)(np.arange(1000)).tolist()


def test_billion_rows_cost_a_batch_only() -> None:
    order = Order(10**9, batch_size=4, seed=0)
    first, far = order.batch(0), order.batch(order.steps_per_epoch - 1)
    assert len({*first.tolist(), *far.tolist()}) == 8
    assert max(first.max(), far.max()) < 10**9
    numbers = Permutation(10**9, seed=3)(np.arange(100_000))
    assert len(np.unique(numbers)) == 100_000


@pytest.mark.parametrize("count", [3, 4])
def test_every_order_of_few_rows_comes_equally_often(count: int) -> None:
    orders = [tuple(Permutation(count, seed=seed)(np.arange(count))) for seed in range(600)]
    counts = np.unique([str(order) for order in orders], return_counts=True)[1]
    expected = 600 / len(counts)
    assert len(counts) == {3: 6, 4: 24}[count]
    # Chi-square with at most 23 degrees of freedom: 50 is past its 99.9 % quantile.
    assert (np.square(counts - expected) / expected).sum() < 50


def test_places_are_uniform_over_seeds() -> None:
    firsts = np.array([Permutation(100, seed=seed)(np.array([7]))[0] for seed in range(2000)])
    counts = np.bincount(firsts, minlength=100)
    assert (np.square(counts - 20) / 20).sum() < 170


def test_bucketed_batches_hold_rows_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(10, 500, 5000)
    plain = Order(5000, batch_size=16, seed=0)
    bucketed = Order(5000, batch_size=16, seed=0, lengths=lengths)

    def padded(order: Order) -> int:
        return sum(
            len(batch) * lengths[batch].max()
            for batch in map(order.batch, range(order.steps_per_epoch))
        )

    assert padded(bucketed) < 1.1 * lengths.sum() < 0.6 * padded(plain)
    # Within a window batches come in no order of length.
    window = bucketed.steps_per_epoch // WINDOWS
    means = [lengths[bucketed.batch(step)].mean() for step in range(window)]
    assert abs(np.corrcoef(means, np.arange(window))[0, 1]) < 0.4


def test_last_batch_of_an_epoch_is_the_short_one() -> None:
    order = Order(1037, batch_size=16, seed=0, lengths=np.arange(1037) % 50)
    sizes = [len(order.batch(step)) for step in range(order.steps_per_epoch)]
    assert sizes == [16] * 64 + [13]


def test_rows_of_every_length_come_last_and_meet_others_in_the_next_epoch() -> None:
    lengths = np.random.default_rng(0).integers(5, 80, 513)
    order = Order(513, batch_size=32, seed=0, lengths=lengths)
    last = [int(order.batch(17 * epoch + 16).item()) for epoch in range(40)]
    # With the longest row alone in the last batch of each epoch it counted 32-fold.
    assert len(set(last)) > 30
    assert abs(lengths[last].mean() - lengths.mean()) < 3 * lengths.std() / np.sqrt(40)

    def mates(epoch: int) -> set[tuple[int, ...]]:
        batches = (sorted(order.batch(17 * epoch + step).tolist()) for step in range(17))
        return {pair for batch in batches for pair in itertools.combinations(batch, 2)}

    first = mates(0)
    # By chance 0.06 of them; where all were sorted together 0.6.
    assert len(first & mates(1)) < 0.15 * len(first)


def test_batches_of_similar_length_come_in_another_order_in_each_window_and_epoch() -> None:
    lengths = np.arange(8 * 16 * 4)

    def ranks(order: Order, first: int) -> tuple[int, ...]:
        means = [lengths[order.batch(first + place)].mean() for place in range(16)]
        return tuple(np.argsort(np.argsort(means)))

    orders = [Order(len(lengths), batch_size=4, seed=seed, lengths=lengths) for seed in (0, 1)]
    found = {ranks(order, 16 * window) for order in orders for window in range(16)}
    assert len(found) == 32
