"""Means over seeds, and paired differences: the seeds are shared by the arms.

A positive difference is an improvement, whatever the metric.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean, stdev
from typing import NamedTuple

from scipy import optimize, stats

CONFIDENCE, POWER = 0.95, 0.8
ROUNDING = 1e-12
"""A deviation below this share of the values is that of equal differences."""
SINGLE = 1e-6
"""A deviation of at most this share of the mean is rounding in single precision."""


class Summary(NamedTuple):
    """Values of one arm over seeds."""

    seeds: int
    mean: float
    deviation: float | None
    """Sample standard deviation; `None` for a single seed."""

    def __str__(self) -> str:
        """Return `0.8123 ± 0.01`; a deviation that single precision explains is shown as 0."""
        if self.deviation is None:
            return f"{self.mean:.4g}"
        spread = self.deviation if self.deviation > SINGLE * abs(self.mean) else 0.0
        return f"{self.mean:.4g} ± {spread:.2g}"


class Difference(NamedTuple):
    """What one arm is better by than another, seed by seed."""

    seeds: int
    """Seeds that both have."""
    splits: int
    """Splits of the rows that these seeds have."""
    mean: float
    deviation: float
    """Over seeds."""
    low: float
    """Lower end of the 95 % interval (Student's t)."""
    high: float
    detectable: float
    """True difference that so many seeds with this spread find with a chance of 80 %."""
    p: float
    """Chance of a mean at least as far from zero where there is no difference."""

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the interval excludes zero, else `undecided`.

        A deviation of zero, by which few accuracies happen to agree, decides nothing.
        """
        if self.deviation == 0:
            return "undecided"
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "undecided"

    def __str__(self) -> str:
        """Return `+0.012 [+0.003, +0.021]`."""
        return f"{self.mean:+.2g} [{self.low:+.2g}, {self.high:+.2g}]"


def summarise(values: Mapping[int, float]) -> Summary:
    """Describe values by seed.

    >>> summarise({0: 1.0, 1: 3.0}).mean
    2.0
    """
    numbers = list(values.values())
    return Summary(len(numbers), fmean(numbers), stdev(numbers) if len(numbers) > 1 else None)


def paired_difference(
    mine: Mapping[int, float],
    other: Mapping[int, float],
    *,
    smaller_is_better: bool,
    splits: Mapping[int, str] | None = None,
    overlap: float = 0.0,
) -> Difference | None:
    """Compare two arms over the seeds that both have; `None` with fewer than two.

    Differences on one split may be alike. So where some seeds share one of several splits,
    interval, chance and what can be found are each the more careful of two: those of as many
    values as seeds, and those whose standard error comes from the splits' sums (Liang and Zeger
    1986, with the factor G / (G - 1) for G splits).

    Args:
        mine: Values of an arm by seed.
        other: Those of another one.
        smaller_is_better: Whether they are errors.
        splits: Name of each seed's split; `None` takes every seed for itself.
        overlap: Test rows for each other row, where every seed draws its test rows anew from the
            same ones: differences are alike then, and the standard error is wider by
            `sqrt(1 + seeds * overlap)` (Nadeau and Bengio 2003). In general `r / (1 - r)`, where
            `r` is the correlation of two seeds' differences.

    >>> found = paired_difference({0: 1.0, 1: 2.0}, {0: 0.0, 1: 1.5}, smaller_is_better=False)
    >>> found.mean, found.verdict
    (0.75, 'undecided')
    """
    seeds = sorted(mine.keys() & other.keys())
    if len(seeds) < 2:
        return None
    sign = -1 if smaller_is_better else 1
    differences = [sign * (mine[seed] - other[seed]) for seed in seeds]
    count, mean, deviation = len(seeds), fmean(differences), stdev(differences)
    if deviation < ROUNDING * max(abs(values[seed]) for values in (mine, other) for seed in seeds):
        deviation = 0.0
    spreads = [(deviation * (1 / count + overlap) ** 0.5, count)]
    names = [str(seed) if splits is None else splits[seed] for seed in seeds]
    num_splits = len(set(names))
    if 1 < num_splits < count and deviation:
        sums = dict.fromkeys(names, 0.0)
        for name, difference in zip(names, differences, strict=True):
            sums[name] += difference - mean
        squares = sum(one**2 for one in sums.values())
        spreads.append(((num_splits / (num_splits - 1) * squares) ** 0.5 / count, num_splits))
    width = max(error * _critical(values) for error, values in spreads)
    return Difference(
        seeds=count,
        splits=num_splits,
        mean=mean,
        deviation=deviation,
        low=mean - width,
        high=mean + width,
        detectable=max(error * _detectable(values) for error, values in spreads),
        p=max((_chance(mean, *spread) for spread in spreads if spread[0]), default=1.0),
    )


def holm(chances: Sequence[float]) -> list[bool]:
    """Return which of several differences are left when all are looked at together.

    Holm's step-down procedure: with a chance of 95 % none of what is left is there by chance.

    >>> holm([0.01, 0.04, 0.03])
    [True, False, False]
    """
    order = sorted(range(len(chances)), key=lambda place: chances[place])
    left = [False] * len(chances)
    for rank, place in enumerate(order):
        if chances[place] > (1 - CONFIDENCE) / (len(chances) - rank):
            break
        left[place] = True
    return left


def _chance(mean: float, error: float, values: int) -> float:
    """Return the chance of so large a mean of so many values where there is no difference."""
    return float(2 * stats.t.sf(abs(mean) / error, values - 1))


@cache
def _critical(count: int) -> float:
    """Return half of the interval's width in standard errors."""
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1))


@cache
def _detectable(count: int) -> float:
    """Return the true difference, in standard errors, that is found with a chance of `POWER`.

    The t statistic of a true difference has a noncentral t distribution.
    """

    def surplus(true: float) -> float:
        return float(stats.nct.sf(_critical(count), count - 1, true)) - POWER

    return float(optimize.brentq(surplus, 0, 100))
