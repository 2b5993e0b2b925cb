"""What every kind of input does: look at all rows once, fit statistics, read batches.

Shapes: B rows, N inputs, K numbers an input.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from anymae.config import DataConfig, InputConfig
from anymae.data.batch import Arrays, IntArray
from anymae.data.frame import Frame
from anymae.data.roles import Roles
from anymae.registry import Registry

Statistics = Mapping[str, Any]
"""What a kind learned from the training rows: plain JSON values, stored in `data.json`."""

BLOCK = 1 << 18
"""Rows looked at together where all are."""

FAR = 1e6
"""Where standardised numbers end: further out they would only overflow in the model."""

SAMPLE = 200_000
"""Rows that statistics are fitted on at most, evenly spread over the training rows."""


class BadRows(NamedTuple):
    """Rows that cannot be inputs."""

    problem: str
    """What is wrong with them, such as `is empty`."""
    rows: IntArray
    """Their numbers in the table, ascending."""


class Reader(Protocol):
    """Turns rows into inputs, with the statistics that belong to a model."""

    unseen: tuple[str, ...]
    """What the statistics do not know, such as categories that were not seen in training."""

    def input(self, length: int) -> InputConfig:
        """Describe the inputs for the model; `length` is N of the longest row."""
        ...

    def read(self, rows: IntArray, first: IntArray, width: int) -> Arrays:
        """Return `width` inputs of each row from its input `first` on, padded at the end."""
        ...


class Kind(Protocol):
    """The rows of a frame, seen as one kind of input."""

    lengths: npt.NDArray[np.int32] | None
    """Inputs of each row of the table, `(rows,)`; `None` where all have `longest`."""
    longest: int
    """Inputs of the longest row."""
    bad: tuple[BadRows, ...]
    """Rows that cannot be inputs."""
    notes: tuple[str, ...]
    """What was changed on the way, such as white space that was stripped."""

    def __init__(self, frame: Frame, roles: Roles, config: DataConfig) -> None: ...

    def fit(self, rows: IntArray) -> Statistics:
        """Learn from training rows (numbers in the table) what the inputs are scaled by."""
        ...

    def differences(self, statistics: Statistics) -> list[str]:
        """Say in what these rows cannot be read with the statistics of another data set."""
        ...

    def reader(self, statistics: Statistics) -> Reader:
        """Return what reads batches with `statistics`."""
        ...

    @staticmethod
    def restore(statistics: Statistics, inputs: npt.NDArray[Any]) -> object:
        """Turn inputs `(B, N)` or `(B, N, K)` back into the user's units."""
        ...


KINDS: Registry[type[Kind]] = Registry("kind")
"""Input kinds by name."""


class Stack:
    """Arrays one under the other, read by the row; none of them is copied.

    Args:
        parts: Of one shape and type but for their number of rows.
    """

    def __init__(self, parts: Sequence[npt.NDArray[Any]]) -> None:
        self.parts = parts
        self.shape = (len(self), *parts[0].shape[1:])
        self.dtype = parts[0].dtype
        self._starts = np.cumsum([0, *map(len, parts)])[:-1]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def take(self, rows: IntArray, places: IntArray | None = None) -> npt.NDArray[Any]:
        """Return a copy of rows.

        Args:
            rows: Their numbers, `(B,)`.
            places: What to read of the second axis, `(B, width)`; `None` reads all.
        """
        if len(self.parts) == 1 or not len(rows):
            return _taken(self.parts[0], rows, places)
        shape = self.shape[1:] if places is None else (places.shape[1], *self.shape[2:])
        found = np.empty((len(rows), *shape), self.dtype)
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(which):
            here = which == number
            inside = None if places is None else places[here]
            found[here] = _taken(self.parts[number], rows[here] - self._starts[number], inside)
        return found


def _taken(array: npt.NDArray[Any], rows: IntArray, places: IntArray | None) -> npt.NDArray[Any]:
    return np.asarray(array[rows] if places is None else array[rows[:, None], places])


def blocks(count: int) -> Iterator[slice]:
    """Cut `count` rows into slices of at most `BLOCK`."""
    for first in range(0, count, BLOCK):
        yield slice(first, min(first + BLOCK, count))


def pieces(
    rows: IntArray, lengths: npt.NDArray[np.int32] | None, longest: int, most: int
) -> Iterator[tuple[IntArray, int]]:
    """Cut rows into pieces of `most` inputs at most, or of one row; with the length of the longest.

    Rows of much the same length go together: a single long one would make all others long.

    Args:
        rows: Their numbers.
        lengths: Inputs by number of the row; `None` where all have `longest`.
        longest: Inputs of the longest row.
        most: Inputs that are looked at together, counting the shorter rows as long as the longest.
    """
    if lengths is None:
        size = max(1, most // max(1, longest))
        yield from ((rows[i : i + size], longest) for i in range(0, len(rows), size))
        return
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    ordered, first = lengths[rows], 0
    while first < len(rows):
        alike = int(np.searchsorted(ordered, 2 * max(1, ordered[first]), side="right"))
        last = min(alike, first + max(1, most // max(1, int(ordered[alike - 1]))))
        yield rows[first:last], int(ordered[last - 1])
        first = last


def sample(rows: IntArray, most: int = SAMPLE) -> IntArray:
    """Return at most `most` rows, evenly spread.

    >>> sample(np.arange(10), 4).tolist()
    [0, 2, 5, 7]
    """
    if len(rows) <= most:
        return rows
    return rows[np.arange(most) * len(rows) // most]
