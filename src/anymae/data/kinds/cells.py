"""One column of a table: cells to numbers and back.

A numeric column is standardised by mean and standard deviation, or, where its tails are heavy, by
the normal score of its quantiles; a categorical one holds codes. Both can be inverted.
"""

import shlex
from statistics import NormalDist
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from anymae.config import Floats, Names, Section
from anymae.errors import DataError

FloatArray = npt.NDArray[np.float64]

MOST_CATEGORIES = 256
"""Categories a column keeps; the rarer ones share the code `other`."""

MOST_CODES = 10
"""An integer column with no more distinct values than this holds codes, not amounts."""

HEAVY_TAIL = 5.0
"""Tail weight beyond which a column is read by its quantiles: the range of its values without the
0.1 % at either end, over that without 10 % at either end. 2.4 for a normal distribution."""

KNOT_SCORES = np.linspace(-3.5, 3.5, 57)
"""Normal scores at which a heavy-tailed column's quantiles are stored."""

# The ends stand for the least and the greatest value.
_SHARES = [0.0, *(NormalDist().cdf(score) for score in KNOT_SCORES[1:-1]), 1.0]

CellType = Literal["number", "integer", "datetime", "category", "code", "boolean"]


class CellStatistics(Section):
    """What the training rows say about a column."""

    name: str
    type: CellType
    center: float = 0.0
    scale: float = 1.0
    """A number is stored as `(number - center) / scale`, after the knots if there are any."""
    knots: Floats = ()
    """Quantiles, ascending, of a heavy-tailed column."""
    scores: Floats = ()
    """The normal score of each knot."""
    categories: Names = ()
    """Codes in order; `other`, if the column has it, is the code after the last."""
    other: bool = False

    @property
    def num_codes(self) -> int:
        """Number of codes, 0 for a numeric column."""
        return len(self.categories) + self.other

    @property
    def method(self) -> str:
        """How the column is read: `codes`, `standard` or `quantile`."""
        return "codes" if self.categories else "quantile" if self.knots else "standard"

    @classmethod
    def fit(cls, name: str, cells: pa.Array) -> Self:
        """Learn from the training cells of a column, in which missing ones are null."""
        kind = cell_type(cells)
        if kind in ("category", "code", "boolean"):
            return cls._fit_categories(name, kind, cells)
        numbers = _numbers(cells)
        return cls._fit_numbers(name, kind, numbers[~np.isnan(numbers)])

    @classmethod
    def _fit_numbers(cls, name: str, kind: CellType, numbers: FloatArray) -> Self:
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return cls(name=name, type=kind)
        with np.errstate(over="ignore"):
            center, spread = float(numbers.mean()), float(numbers.std())
        lowest, low, high, highest = np.quantile(numbers, [0.001, 0.1, 0.9, 0.999])
        if highest - lowest <= HEAVY_TAIL * (high - low):
            if not np.isfinite([center, spread]).all():
                largest = np.abs(numbers).max()
                raise DataError(
                    f"column {name!r} holds numbers of up to {largest:.2g}, too large to be "
                    f"scaled; divide them, or leave the column out with --drop {shlex.quote(name)}"
                )
            if numbers.min() == numbers.max():
                # The sum of many 0.1 is rounded, and a spread of 1e-17 would be its error.
                return cls(name=name, type=kind, center=float(numbers[0]))
            return cls(name=name, type=kind, center=center, scale=spread or 1.0)
        quantiles = np.quantile(numbers, _SHARES)
        # Ties, such as the many zeros of a count, share the middle of their scores.
        knots, tie = np.unique(quantiles, return_inverse=True)
        scores = np.bincount(tie, KNOT_SCORES) / np.bincount(tie)
        rough = cls(name=name, type=kind, knots=tuple(knots), scores=tuple(scores))
        scored = rough._score(numbers)
        return rough.model_copy(
            update={"center": float(scored.mean()), "scale": float(scored.std()) or 1.0}
        )

    @classmethod
    def _fit_categories(cls, name: str, kind: CellType, cells: pa.Array) -> Self:
        counted = pc.value_counts(_words(cells.drop_null()))
        found = sorted(
            zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True),
            key=lambda pair: (-pair[1], pair[0]),
        )
        kept = [word for word, _ in found[:MOST_CATEGORIES]]
        order = sorted(kept, key=int) if kind == "code" else sorted(kept)
        other = len(found) > MOST_CATEGORIES
        return cls(name=name, type=kind, categories=tuple(order), other=other)

    def encode(self, cells: pa.Array) -> FloatArray:
        """Return the number the model sees for each cell; NaN where it is missing.

        A category that training did not see is `other` where the column has that, else missing.
        """
        if not self.num_codes:
            if self.type in ("category", "code", "boolean"):
                return np.full(len(cells), np.nan)
            numbers = self._score(_numbers(cells)) if self.knots else _numbers(cells)
            return (numbers - self.center) / self.scale
        codes = pc.index_in(_words(cells), pa.array(self.categories, pa.large_string()))
        if self.other:
            rest = pa.scalar(len(self.categories), pa.int32())
            codes = pc.if_else(pc.and_(codes.is_null(), cells.is_valid()), rest, codes)
        return _numbers(codes)

    def decode(self, numbers: FloatArray, noise: float = 0.0) -> pa.Array:
        """Return the cells, in the user's units, for which the model sees `numbers`; NaN is null.

        A category is given by its code; `other` has no name of its own and reads `other`.

        Args:
            numbers: Standardised numbers, or codes.
            noise: Relative error of `numbers`. Where it lets all cells be multiples of a unit
                (a day, a second, 0.01 ...) they are, so that none moves by more than it.
        """
        missing = np.isnan(numbers)
        if self.num_codes:
            names = pa.array([*self.categories, "other"], pa.large_string())
            codes = np.where(missing, 0, numbers).round().astype(np.int64)
            cells = names.take(pa.array(codes, mask=missing))
            if self.type == "code":
                return cells.cast(pa.int64())
            return pc.equal(cells, "true") if self.type == "boolean" else cells
        numbers = np.where(missing, 0, numbers)
        found = self._unscaled(numbers)
        if noise:
            width = np.abs(self._unscaled(numbers * (1 + noise)) - found)
            units = _UNITS if self.type == "datetime" else _POWERS
            found[~missing] = _rounded(found[~missing], width[~missing], units)
        if self.type == "number":
            return pa.array(found, mask=missing)
        whole = pa.array(found.round().astype(np.int64), mask=missing)
        return whole.cast(pa.timestamp("us")) if self.type == "datetime" else whole

    def _unscaled(self, numbers: FloatArray) -> FloatArray:
        numbers = numbers * self.scale + self.center
        return _interpolate(numbers, self.scores, self.knots) if self.knots else numbers

    def _score(self, numbers: FloatArray) -> FloatArray:
        return _interpolate(numbers, self.knots, self.scores)

    def unseen(self, cells: pa.Array) -> int:
        """Count the cells whose category training did not see."""
        if not self.categories:
            return 0
        known = pc.is_in(_words(cells), pa.array(self.categories, pa.large_string()))
        return int(len(cells) - cells.null_count - (pc.sum(known).as_py() or 0))


def cell_type(cells: pa.Array) -> CellType:
    """Tell how a column's cells are read, from its training cells."""
    if pa.types.is_boolean(cells.type):
        return "boolean"
    if pa.types.is_large_string(cells.type) or pa.types.is_null(cells.type):
        return "category"
    if pa.types.is_timestamp(cells.type):
        return "datetime"
    if pa.types.is_integer(cells.type):
        return "code" if pc.count_distinct(cells).as_py() <= MOST_CODES else "integer"
    return "number"


def _numbers(cells: pa.Array) -> FloatArray:
    """Return cells as float64, NaN where null; a datetime is its microseconds since 1970."""
    if pa.types.is_timestamp(cells.type):
        cells = cells.view(pa.int64())
    return np.asarray(cells.to_numpy(zero_copy_only=False), np.float64)


def _words(cells: pa.Array) -> pa.Array:
    """Return cells as the strings that name their categories."""
    if pa.types.is_large_string(cells.type):
        return cells
    words = cells.cast(pa.large_string())
    if not pa.types.is_floating(cells.type):
        return words
    # Integer codes come as floats from programs whose integers cannot be missing, and Arrow
    # writes long ones as 1.2e+11.
    whole = cells.cast(pa.int64(), safe=False)
    same = pc.equal(whole.cast(cells.type, safe=False), cells)
    return pc.if_else(same, whole.cast(pa.large_string()), words)


_UNITS = (8.64e10, 3.6e9, 6e7, 1e6, 1e3)
"""Day, hour, minute, second and millisecond, in microseconds."""
_POWERS = tuple(10.0**power for power in range(18, -13, -1))


def _rounded(numbers: FloatArray, noise: FloatArray, units: tuple[float, ...]) -> FloatArray:
    """Round numbers to the coarsest unit of which all are multiples, as far as noise lets tell."""
    noise = noise + 4 * np.finfo(np.float64).eps * np.abs(numbers)
    for unit in units:
        # A power of ten below one is no float, but its inverse is.
        inverse = round(1 / unit)
        near = np.round(numbers * inverse) / inverse if inverse else np.round(numbers / unit) * unit
        if (np.abs(near - numbers) <= noise).all():
            return near
    return numbers


def _interpolate(
    numbers: FloatArray, at: tuple[float, ...], values: tuple[float, ...]
) -> FloatArray:
    """Interpolate linearly; beyond the ends, go on at the slope of the whole range."""
    points, targets = np.asarray(at), np.asarray(values)
    if len(points) == 1:
        shifted: FloatArray = numbers - points[0] + targets[0]
        return shifted
    slope = (targets[-1] - targets[0]) / (points[-1] - points[0])
    inside: FloatArray = np.interp(numbers, points, targets)
    outside = np.minimum(numbers - points[0], 0) + np.maximum(numbers - points[-1], 0)
    inside += slope * outside
    return inside
