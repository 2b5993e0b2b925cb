"""Arrays of floats, `(N, K)` a row: time series, spectra, and sets of N points that differ in N.

Each of the K numbers is standardised over all inputs of the training rows. An input whose K
numbers are all NaN is not valid; NaN elsewhere and infinity make a row bad.

Shapes: B rows, N inputs, K numbers an input.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from anymae.config import DataConfig, InputConfig
from anymae.data.batch import Arrays, IntArray
from anymae.data.frame import Frame
from anymae.data.kinds.base import FAR, KINDS, BadRows, Stack, Statistics, pieces, sample
from anymae.data.roles import Roles
from anymae.errors import DataError

MOST_LOOKED_AT = 1 << 22
"""Numbers checked together."""


class _FixedPoints:
    """Arrays `(rows, N, K)`, one under the other."""

    def __init__(self, array: Stack) -> None:
        self._array = array
        self.longest, self.channels = array.shape[1:]
        self.lengths = None

    def take(self, rows: IntArray, first: IntArray, width: int) -> npt.NDArray[Any]:
        """Return `(B, width, K)`."""
        if width == self.longest:
            return self._array.take(rows)
        return self._array.take(rows, first[:, None] + np.arange(width))


class _RaggedPoints:
    """A column of lists of numbers, or of lists of lists of K numbers."""

    def __init__(self, column: pa.ChunkedArray, name: str) -> None:
        # Chunks are read where they lie: side by side they would be copied.
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        lengths = [_lengths(chunk) for chunk in chunks]
        points = [chunk.flatten() for chunk in chunks]
        self.channels = _common_size(points, name)
        numbers = [one.flatten() if _is_list(one) else one for one in points]
        if any(map(_is_list, numbers)):
            raise DataError(f"column {name!r} holds lists nested three deep; expected two")
        none = np.zeros(0, np.int64)
        self.lengths = np.concatenate([none, *lengths]).astype(np.int32)
        self.longest = int(self.lengths.max(initial=0))
        self._starts = np.cumsum([0, *map(len, chunks)])[:-1]
        self._ends = np.concatenate([none, *map(np.cumsum, lengths)])
        """Where the points of each row end in those of its chunk."""
        self._flat = [
            one.to_numpy(zero_copy_only=False).reshape(-1, self.channels) for one in numbers
        ]

    def take(self, rows: IntArray, first: IntArray, width: int) -> npt.NDArray[Any]:
        """Return `(B, width, K)`, NaN behind the end of a row."""
        left = self.lengths[rows] - first
        starts = self._ends[rows] - left
        real = np.arange(width) < left[:, None]
        places = starts[:, None] + np.arange(width)
        values = np.full((len(rows), width, self.channels), np.nan)
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(which):
            here = real & (which == number)[:, None]
            values[here] = self._flat[number][places[here]]
        return values


_Points = _FixedPoints | _RaggedPoints


@KINDS.register("values")
class ValueRows:
    """Rows of `(N, K)` numbers."""

    notes: tuple[str, ...] = ()

    def __init__(self, frame: Frame, roles: Roles, config: DataConfig) -> None:
        self._points: _Points
        if frame.shape is not None:
            parts = [part if part.ndim == 3 else part[:, :, None] for part in frame.arrays()]
            self._points = _FixedPoints(Stack(parts))
        else:
            self._points = _RaggedPoints(frame.table[roles.inputs[0]], roles.inputs[0])
        self.lengths = self._points.lengths
        self.longest = self._points.longest
        self.complete = self.lengths is None
        """True while every input of every row is real."""
        self.bad = self._scan(frame.table.num_rows)

    def _scan(self, count: int) -> tuple[BadRows, ...]:
        infinite, broken, empty = [], [], []
        for rows, width in self._pieces(np.arange(count)):
            values = self._points.take(rows, np.zeros_like(rows), width)
            is_nan = np.isnan(values)
            invalid = is_nan.all(2)
            self.complete &= not invalid.any()
            infinite.append(rows[np.isinf(values).any((1, 2))])
            broken.append(rows[(is_nan.any(2) & ~invalid).any(1)])
            empty.append(rows[invalid.all(1)])
        none = np.zeros(0, np.int64)
        found = (
            ("holds an infinite number", np.concatenate([*infinite, none])),
            ("holds NaN beside other numbers of one input", np.concatenate([*broken, none])),
            ("has no input that is real", np.concatenate([*empty, none])),
        )
        return tuple(BadRows(why, np.sort(rows)) for why, rows in found if len(rows))

    def _pieces(self, rows: IntArray) -> Iterator[tuple[IntArray, int]]:
        """Cut rows into pieces to look at together, each with the width of its longest row."""
        most = MOST_LOOKED_AT // max(1, self._points.channels)
        return pieces(rows, self.lengths, self.longest, most)

    def fit(self, rows: IntArray) -> Statistics:
        """Learn mean and standard deviation of each of the K numbers, from 200,000 rows at most."""
        count, total, squares = 0, np.zeros(self._points.channels), np.zeros(self._points.channels)
        shift: npt.NDArray[np.float64] | None = None
        low, high = np.full((2, self._points.channels), [[np.inf], [-np.inf]])
        for piece, width in self._pieces(sample(rows)):
            values = self._points.take(piece, np.zeros_like(piece), width)
            points = values[~np.isnan(values).any(2)].astype(np.float64)
            if shift is None:
                # Squares of what is left after the first rows' mean lose no digits.
                shift = points.mean(0)
            count += len(points)
            total += (points - shift).sum(0)
            squares += np.square(points - shift).sum(0)
            low = np.minimum(low, points.min(0, initial=np.inf))
            high = np.maximum(high, points.max(0, initial=-np.inf))
        assert shift is not None, "fit needs rows"
        mean = total / count
        spread = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
        # Of equal numbers the spread is a rounding error, or 0.
        scale = np.where((spread > 0) & (low < high), spread, 1.0)
        return {"mean": (mean + shift).tolist(), "std": scale.tolist()}

    def differences(self, statistics: Statistics) -> list[str]:
        """Tell if inputs have another number of numbers."""
        expected = len(statistics["mean"])
        if self._points.channels == expected:
            return []
        return [f"inputs have {self._points.channels} numbers each, not {expected}"]

    def reader(self, statistics: Statistics) -> "ValueReader":
        """Return what reads batches with `statistics`."""
        return ValueReader(self._points, statistics, self.complete)

    @staticmethod
    def restore(statistics: Statistics, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return `(B, N, K)` in the user's units."""
        restored: npt.NDArray[np.float64] = inputs * np.asarray(statistics["std"])
        restored += np.asarray(statistics["mean"])
        return restored


class ValueReader:
    """Reads batches of standardised values."""

    unseen: tuple[str, ...] = ()

    def __init__(self, points: _Points, statistics: Statistics, complete: bool) -> None:
        self._points, self._complete = points, complete
        self._mean = np.asarray(statistics["mean"], np.float64)
        self._std = np.asarray(statistics["std"], np.float64)

    def input(self, length: int) -> InputConfig:
        """Describe the inputs for the model."""
        return InputConfig(kind="values", length=length, channels=self._points.channels)

    def read(self, rows: IntArray, first: IntArray, width: int) -> Arrays:
        """Return `(B, width, K)` of each row from its input `first` on, 0 where not valid."""
        raw = self._points.take(rows, first, width)
        values = np.clip((raw - self._mean) / self._std, -FAR, FAR).astype(np.float32)
        if self._complete:
            return Arrays(values, None)
        valid = ~np.isnan(values[:, :, 0])
        if valid.all():
            return Arrays(values, None)
        values[~valid] = 0
        return Arrays(values, valid)


def _is_list(array: pa.Array) -> bool:
    return hasattr(array.type, "value_type")


def _common_size(points: list[pa.Array], name: str) -> int:
    """Return how many numbers each point has; refuse points that differ in it."""
    nested = [one for one in points if _is_list(one)]
    sizes = np.unique([size for one in nested for size in np.unique(_lengths(one))])
    if len(sizes) > 1 or any(one.null_count for one in nested):
        raise DataError(
            f"column {name!r} holds points of {sizes[0]} to {sizes[-1]} numbers; "
            "each needs the same number of them"
        )
    return int(sizes[0]) if len(sizes) else 1


def _lengths(array: pa.Array) -> IntArray:
    """Return the number of elements of each list, 0 for null."""
    lengths = pc.list_value_length(array).fill_null(0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)
