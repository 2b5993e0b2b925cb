"""The order of rows: a function of (seed, epoch, position), computed where it is needed.

Nothing is stored and nothing is drawn in sequence, so a run goes on from any step at no cost and
the order does not depend on workers or processes. The permutation is a Feistel network, which is
a bijection of [0, 2**bits) whatever its round function, and positions that leave [0, count) walk
on along their cycle until they are back (Black and Rogaway 2002).
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anymae.data.batch import IntArray
from anymae.randomness import Draws, Purpose, mix, row_keys

ROUNDS = 8
WINDOW = 64
"""Batches whose rows are sorted by length together, at most."""

WINDOWS = 8
"""An epoch has so many of these windows at least: rows that are always sorted together would meet
in the same batches in every epoch."""


class Permutation:
    """A random order of `0 .. count - 1`, each number once, without memory.

    >>> order = Permutation(5, seed=0)
    >>> sorted(order(np.arange(5)).tolist())
    [0, 1, 2, 3, 4]
    """

    def __init__(
        self, count: int, *, seed: int, epoch: int = 0, purpose: Purpose = Purpose.ORDER
    ) -> None:
        self.count = count
        # Four bits at least: smaller halves mix badly.
        bits = max(4, (count - 1).bit_length())
        self._left, self._right = bits - bits // 2, bits // 2
        draws = Draws(row_keys(torch.arange(ROUNDS), seed=seed, epoch=epoch))
        self._keys = mix(draws.keys ^ draws.bits(purpose, 1).squeeze(1))

    def __call__(self, positions: IntArray) -> IntArray:
        """Return the numbers at `positions`, which lie in [0, count), in the same shape."""
        flat = torch.from_numpy(np.ascontiguousarray(positions).reshape(-1))
        numbers = self._scramble(flat)
        outside = (numbers >= self.count).nonzero().squeeze(1)
        while len(outside):
            walked = self._scramble(numbers[outside])
            numbers[outside] = walked
            outside = outside[walked >= self.count]
        return numbers.numpy().reshape(positions.shape)

    def _scramble(self, numbers: Tensor) -> Tensor:
        """Permute [0, 2**bits)."""
        left_bits, right_bits = self._left, self._right
        left, right = numbers >> right_bits, numbers & ((1 << right_bits) - 1)
        for key in self._keys:
            left, right = right, left ^ (mix(right ^ key) & ((1 << left_bits) - 1))
            left_bits, right_bits = right_bits, left_bits
        return (left << right_bits) | right


class Order:
    """Which rows make up the global batch of each step.

    An epoch takes each row once. Its last batch is shorter where `batch_size` does not divide
    `count`, and any row may be in it; none is dropped or repeated. With `lengths`, the rows of up
    to 64 batches at a time, and an eighth of an epoch at most, are sorted by length, cut into
    batches of similar lengths, and these batches shuffled: little padding, and still random.

    >>> order = Order(10, batch_size=4, seed=0)
    >>> order.steps_per_epoch, [len(order.batch(step)) for step in range(3)]
    (3, [4, 4, 2])
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        seed: int,
        lengths: npt.NDArray[np.integer] | None = None,
    ) -> None:
        """Set up an order.

        Args:
            count: Number of rows, at least 1.
            batch_size: Rows of a global batch, that of all processes together.
            seed: The run's seed.
            lengths: Inputs of each row, `(count,)`, to put rows of similar length together.
        """
        self.count, self.batch_size, self.seed, self.lengths = count, batch_size, seed, lengths
        self.steps_per_epoch = -(-count // batch_size)
        self._steps = min(WINDOW, max(1, self.steps_per_epoch // WINDOWS))
        self._window: tuple[tuple[int, int], list[IntArray]] | None = None

    def epoch_of(self, step: int) -> int:
        """Return the pass over the data, from 0, to which a step belongs."""
        return step // self.steps_per_epoch

    def batch(self, step: int) -> IntArray:
        """Return the rows of global step `step`, `(batch_size,)`, fewer at an epoch's end."""
        epoch, place = divmod(step, self.steps_per_epoch)
        window, within = divmod(place, self._steps)
        # Steps mostly follow each other: the window at hand is kept, others are recomputed.
        if self._window is None or self._window[0] != (epoch, window):
            self._window = (epoch, window), self._batches(epoch, window)
        return self._window[1][within]

    def _batches(self, epoch: int, window: int) -> list[IntArray]:
        """Return the batches of one window."""
        most = self._steps * self.batch_size
        first = window * most
        positions = np.arange(first, min(first + most, self.count))
        rows = Permutation(self.count, seed=self.seed, epoch=epoch)(positions)
        if self.lengths is None:
            return by_length(rows, None, self.batch_size)
        # The epoch's shorter batch stays last, and is cut off before the others are sorted: it
        # would have the longest rows in every epoch.
        full = len(rows) // self.batch_size
        whole, rest = np.split(rows, [full * self.batch_size])
        batches = by_length(whole, self.lengths, self.batch_size)
        shuffled = torch.argsort(
            row_keys(torch.arange(first, first + full), seed=self.seed, epoch=epoch)
        )
        return [batches[place] for place in shuffled.tolist()] + ([rest] if len(rest) else [])


def share(batch: IntArray, *, rank: int, world: int) -> IntArray:
    """Return the rows of a global batch that process `rank` of `world` takes.

    Shares differ by one row at most; the last batch of an epoch may leave some empty.

    >>> share(np.arange(5), rank=1, world=2).tolist()
    [1, 3]
    """
    return batch[rank::world]


def spaced(rows: IntArray, most: int) -> IntArray:
    """Return at most `most` rows, evenly spaced."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def by_length(
    rows: IntArray, lengths: npt.NDArray[np.integer] | None, batch_size: int
) -> list[IntArray]:
    """Cut rows into batches, those of similar length together; `lengths` are those of all rows."""
    if lengths is not None:
        rows = rows[np.argsort(lengths[rows], kind="stable")]
    return [rows[cut : cut + batch_size] for cut in range(0, len(rows), batch_size)]
