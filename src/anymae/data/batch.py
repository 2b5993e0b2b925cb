"""A batch, and how short strings are packed into one row of it.

Shapes: B rows, N inputs, K numbers an input, R strings.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]


class Arrays(NamedTuple):
    """What a kind of input reads: a batch before it becomes tensors."""

    inputs: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    """`(B, N)` int64 or `(B, N, K)` float32; 0 where not valid."""
    valid: npt.NDArray[np.bool_] | None
    """`(B, N)`, True where an input is real; `None` where all are."""


class Batch(NamedTuple):
    """Rows as the model takes them."""

    inputs: Tensor
    """`(B, N)` int64 tokens or `(B, N, K)` float32 values; 0 where not valid."""
    valid: Tensor | None
    """`(B, N)` bool, True where an input is real; `None` where all are."""
    rows: Tensor
    """`(B,)` int64, row numbers in the source: the key of masks and crops."""

    def to(self, device: torch.device) -> "Batch":
        """Return the same rows on a device."""
        valid = None if self.valid is None else self.valid.to(device)
        return Batch(self.inputs.to(device), valid, self.rows.to(device))


def to_batch(arrays: Arrays, rows: IntArray) -> Batch:
    """Make tensors of arrays, without a copy."""
    valid = None if arrays.valid is None else torch.from_numpy(arrays.valid)
    return Batch(torch.from_numpy(arrays.inputs), valid, torch.from_numpy(rows))


def valid_of(batch: Batch) -> Tensor:
    """Return where a batch is real, `(B, N)` bool, also where all of it is."""
    if batch.valid is not None:
        return batch.valid
    return torch.ones(batch.inputs.shape[:2], dtype=torch.bool, device=batch.inputs.device)


def packed_rows(lengths: IntArray, length: int) -> tuple[IntArray, IntArray]:
    """Put strings one after the other into rows of `length` inputs, none over two rows.

    A string that does not fit starts the next row, so that neighbours stay in order.

    Args:
        lengths: Inputs of each string, `(R,)`, at most `length` each.
        length: Inputs of a row.

    Returns:
        The row of each string and its first place there, `(R,)` each.

    >>> row, place = packed_rows(np.array([3, 4, 2, 6]), 8)
    >>> row.tolist(), place.tolist()
    ([0, 0, 1, 1], [0, 3, 0, 2])
    """
    ends = np.cumsum(lengths)
    row, place = np.empty_like(lengths), np.empty_like(lengths)
    first = count = 0
    while first < len(lengths):
        before = ends[first] - lengths[first]
        last = int(np.searchsorted(ends, before + length, side="right"))
        row[first:last] = count
        place[first:last] = ends[first:last] - lengths[first:last] - before
        first, count = last, count + 1
    return row, place


def pack(strings: Arrays, length: int) -> tuple[Arrays, IntArray]:
    """Join the strings of a batch into fewer, fuller rows; each ends with its own SEP.

    Args:
        strings: Tokens `(R, N)` and where they are real.
        length: Inputs of a packed row.

    Returns:
        The packed arrays `(B, length)` and, for each of their rows, the string it begins with,
        `(B,)`.
    """
    count, width = strings.inputs.shape
    valid = strings.valid if strings.valid is not None else np.ones((count, width), np.bool_)
    lengths = valid.sum(1)
    row, place = packed_rows(lengths, length)
    target = (row * length + place)[:, None] + np.arange(width)
    inputs = np.zeros((int(row[-1]) + 1, length), np.int64)
    filled = np.zeros(inputs.shape, np.bool_)
    inputs.reshape(-1)[target[valid]] = strings.inputs[valid]
    filled.reshape(-1)[target[valid]] = True
    return Arrays(inputs, None if filled.all() else filled), np.flatnonzero(place == 0)
