"""Means over seeds, and paired differences: the seeds are shared by the arms.

A positive difference is an improvement, whatever the metric.
"""

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import NamedTuple

from scipy import stats

CONFIDENCE, POWER = 0.95, 0.8


class Summary(NamedTuple):
    """Values of one arm over seeds."""

    seeds: int
    mean: float
    deviation: float | None
    """Sample standard deviation; `None` for a single seed."""

    def __str__(self) -> str:
        """Return `0.8123 ± 0.01`."""
        return f"{self.mean:.4g}" + ("" if self.deviation is None else f" ± {self.deviation:.2g}")


class Difference(NamedTuple):
    """What one arm is better by than another, seed by seed."""

    seeds: int
    """Seeds that both have."""
    mean: float
    deviation: float
    low: float
    """Lower end of the 95 % interval (Student's t)."""
    high: float
    detectable: float
    """True difference that so many seeds with this deviation find with a chance of 80 %."""

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the interval excludes zero, else `undecided`."""
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
    mine: Mapping[int, float], other: Mapping[int, float], *, smaller_is_better: bool
) -> Difference | None:
    """Compare two arms over the seeds that both have; `None` with fewer than two.

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
    error = deviation / count**0.5
    width = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1))
    return Difference(
        seeds=count,
        mean=mean,
        deviation=deviation,
        low=mean - width * error,
        high=mean + width * error,
        detectable=(width + float(stats.t.ppf(POWER, count - 1))) * error,
    )
