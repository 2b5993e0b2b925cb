"""How good answers are: metrics by task, weighted, with bootstrap intervals.

Metrics take scores (probabilities or numbers) and the truth; unknown answers (NaN) do not count.
Weights may be negative, as simulated events have them, where a weighted mean means something.

Shapes: R rows, A numbers of an answer, T targets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from anymae.task import TaskConfig, TaskType

Array = npt.NDArray[np.float64]
Metric = Callable[[Array, Array, Array], float]
"""(truth, answers, weights) to a number; NaN where it is not defined."""

SMALL = 1e-7
"""Probabilities stay this far from 0 and 1 in a log-loss."""


@dataclass(frozen=True)
class Estimate:
    """A metric and its bootstrap 95 % interval."""

    value: float | None
    """`None` where the metric is not defined, as of a single class or no rows, or is infinite."""
    low: float | None = None
    """`None` without bootstrap samples, of a single row, or with hardly a finite sample."""
    high: float | None = None
    """`None`, beside a number in `low`, where no background is left in so many of the samples
    that the interval has no upper end."""
    infinite: bool = False
    """True where no background is left at all, which is the best; `value` is `None` then."""

    def __str__(self) -> str:
        """Return `0.812 [0.79, 0.83]`."""
        rest = "infinite" if self.infinite else "not defined"
        value = rest if self.value is None else f"{self.value:.4g}"
        if self.low is None:
            return value
        high = "no end" if self.high is None else f"{self.high:.4g}"
        return f"{value} [{self.low:.4g}, {high}]"


def rmse(truth: Array, found: Array, weights: Array) -> float:
    """Return the root of the mean squared error, in the target's units."""
    mean = float(np.average(np.square(found - truth), weights=weights))
    return mean**0.5 if mean >= 0 else float("nan")


def mae(truth: Array, found: Array, weights: Array) -> float:
    """Return the mean absolute error, in the target's units."""
    return float(np.average(np.abs(found - truth), weights=weights))


def r2(truth: Array, found: Array, weights: Array) -> float:
    """Return the share of the variance that is explained; 1 is best, a constant guess gives 0."""
    centre = np.average(truth, weights=weights)
    total = float(np.average(np.square(truth - centre), weights=weights))
    error = float(np.average(np.square(found - truth), weights=weights))
    return 1 - error / total if total > 0 and _differ(truth, weights) else float("nan")


def spearman(truth: Array, found: Array, weights: Array) -> float:
    """Return the rank correlation; a weight counts like so many rows, in ranks too."""
    x, y = _ranks(truth, weights), _ranks(found, weights)
    x, y = x - np.average(x, weights=weights), y - np.average(y, weights=weights)
    scale = float(np.average(x * x, weights=weights) * np.average(y * y, weights=weights))
    known = scale > 0 and _differ(truth, weights) and _differ(found, weights)
    return float(np.average(x * y, weights=weights)) / scale**0.5 if known else float("nan")


def _differ(values: Array, weights: Array) -> bool:
    """Say whether rows that count differ, which a variance tells to rounding only."""
    kept = values[weights != 0]
    return bool(kept.max(initial=-np.inf) > kept.min(initial=np.inf))


def accuracy(truth: Array, found: Array, weights: Array) -> float:
    """Return the share of rows whose most probable class is the true one."""
    return float(np.average(_chosen(found) == truth, weights=weights))


def log_loss(truth: Array, found: Array, weights: Array) -> float:
    """Return the mean of -log(probability of the true class), in nats."""
    table = found if found.ndim == 2 else np.stack([1 - found, found], 1)
    true = np.take_along_axis(table, truth.astype(np.int64)[:, None], 1)[:, 0]
    return float(np.average(-np.log(np.clip(true, SMALL, 1 - SMALL)), weights=weights))


def mcc(truth: Array, found: Array, weights: Array) -> float:
    """Return Matthews' correlation of true and most probable classes (Gorodkin's for several)."""
    size = int(max(_chosen(found).max(), truth.max())) + 1
    table = confusion(truth, found, weights, size)
    total, true, guessed = table.sum(), table.sum(1), table.sum(0)
    scale = (total**2 - guessed @ guessed) * (total**2 - true @ true)
    return float((np.trace(table) * total - true @ guessed) / scale**0.5) if scale > 0 else 0.0


def roc_auc(truth: Array, found: Array, weights: Array) -> float:
    """Return the chance that a positive row is ranked above a negative one (ties count half).

    Of several classes, the mean over those that weigh something of each against the others.
    """
    if found.ndim == 2:
        return _over_classes(roc_auc, truth, found, weights)
    positive, negative = _cumulate(truth, found, weights)
    if positive[-1] <= 0 or negative[-1] <= 0:
        return float("nan")
    return float(np.trapezoid(np.r_[0, positive], np.r_[0, negative])) / float(
        positive[-1] * negative[-1]
    )


def average_precision(truth: Array, found: Array, weights: Array) -> float:
    """Return the mean precision over recall; the share of positives is what chance gives.

    Of several classes, the mean over those that weigh something of each against the others.
    """
    if found.ndim == 2:
        return _over_classes(average_precision, truth, found, weights)
    positive, negative = _cumulate(truth, found, weights)
    if positive[-1] <= 0:
        return float("nan")
    kept = positive + negative
    precision = np.divide(positive, kept, out=np.zeros_like(kept), where=kept != 0)
    return float(precision @ np.diff(positive, prepend=0.0) / positive[-1])


def rejection(efficiency: float) -> Metric:
    """Return the metric 1 / (share of background kept) at a signal efficiency."""

    def rejected(truth: Array, found: Array, weights: Array) -> float:
        """Return it; infinite where no background is kept, NaN where a class weighs nothing."""
        signal, background = truth == 1, truth == 0
        if weights[signal].sum() <= 0 or weights[background].sum() <= 0:
            return float("nan")
        order = np.argsort(-found, kind="stable")
        kept = np.cumsum(np.where(signal[order], weights[order], 0))
        cut = found[order][np.argmax(kept >= efficiency * kept[-1])]
        share = weights[background & (found >= cut)].sum() / weights[background].sum()
        return float(1 / share) if share > 0 else float("inf")

    return rejected


def enrichment(share: float) -> Metric:
    """Return the metric: positives among the best-scored share, over what chance would give.

    The share is of the weight, to as many whole rows of a mean weight, one at least. Of rows that
    tie at its end each counts in part, so that their order says nothing.
    """

    def enriched(truth: Array, found: Array, weights: Array) -> float:
        """Return it; NaN where all rows, or the positives, weigh nothing."""
        positive, negative = (np.r_[0, sums] for sums in _cumulate(truth, found, weights))
        kept, rows = positive + negative, np.count_nonzero(weights)
        if kept[-1] <= 0 or positive[-1] <= 0:
            return float("nan")
        end = kept[-1] * max(1, round(share * rows)) / rows
        cut = int(np.argmax(kept >= end))
        part = (end - kept[cut - 1]) / (kept[cut] - kept[cut - 1])
        hits = positive[cut - 1] + part * (positive[cut] - positive[cut - 1])
        return float(hits / end / (positive[-1] / kept[-1]))

    return enriched


REGRESSION: Mapping[str, Metric] = {"rmse": rmse, "mae": mae, "r2": r2, "spearman": spearman}
CLASSES: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "mcc": mcc,
}
BINARY: Mapping[str, Metric] = {
    **CLASSES,
    "rejection_30": rejection(0.3),
    "rejection_50": rejection(0.5),
    "enrichment_1": enrichment(0.01),
}
OVER_CLASSES = ("roc_auc", "average_precision")
"""Metrics that are a mean over the classes where there are several."""

METRICS: Mapping[TaskType, Mapping[str, Metric]] = {
    "regression": REGRESSION,
    "binary": BINARY,
    "multiclass": CLASSES,
    "multilabel": BINARY,
}
"""Metrics of each task; the first is the headline, but see `HEADLINE`."""

HEADLINE: Mapping[TaskType, str] = {
    "regression": "rmse",
    "binary": "roc_auc",
    "multiclass": "accuracy",
    "multilabel": "roc_auc",
}
"""The metric to show where there is room for one."""

IN_UNITS = ("rmse", "mae")
"""Metrics in the target's units."""


class Measured(NamedTuple):
    """How good answers are."""

    targets: dict[str, dict[str, Estimate]]
    """By target and metric."""
    mean: dict[str, Estimate]
    """By metric, over the targets for which it is defined; a single target's own.

    What is in a target's units (`IN_UNITS`) is averaged in standard deviations of the training
    rows: else the target in the largest unit would decide alone."""


def columns_of(task: TaskConfig, answers: Array, target: int) -> Array:
    """Return what the metrics of one target look at.

    Returns:
        `(R,)`: numbers, or the probability of the second class or of the label; `(R, A)`, the
        probability of each class, for `multiclass`.
    """
    if task.type == "multiclass":
        return answers
    return answers[:, 1] if task.type == "binary" else answers[:, target]


def confusion(truth: Array, found: Array, weights: Array, size: int) -> Array:
    """Return the weight of the rows by true and most probable class, `(size, size)`."""
    table = np.zeros((size, size))
    np.add.at(table, (truth.astype(np.int64), _chosen(found).astype(np.int64)), weights)
    return table


def measure(
    task: TaskConfig,
    truth: Array,
    answers: Array,
    weights: Array,
    *,
    resamples: int = 0,
    seed: int = 0,
) -> Measured:
    """Compute every metric of a task for every target, with intervals.

    Args:
        task: What was predicted.
        truth: `(R, T)`, numbers in the user's units, class numbers or 0 and 1; NaN is unknown.
        answers: `(R, A)`, see `TaskConfig.answers`.
        weights: `(R,)`, may be negative.
        resamples: Bootstrap samples for the intervals; 0 gives none.
        seed: Draws the samples.

    Returns:
        Estimates by target and metric, and of their mean over targets.
    """
    classes = _counted(truth, weights, len(task.classes)) if task.type == "multiclass" else None
    values = _by_target(task, truth, answers, weights, classes)
    draw, rows = np.random.default_rng(seed), len(truth)
    # Sample by sample: the index arrays of all of them would not fit beside many rows.
    samples = (draw.integers(0, rows, rows) for _ in range(resamples if rows else 0))
    drawn = [
        _by_target(task, truth[sample], answers[sample], weights[sample], classes)
        for sample in samples
    ]
    # All samples of a single row are that row: it tells no interval.
    single = np.sum(~np.isnan(truth) & (weights != 0)[:, None], 0) < 2
    targets = {
        name: {
            metric: _estimate(value, [one[name][metric] for one in ([] if alone else drawn)])
            for metric, value in found.items()
        }
        for (name, found), alone in zip(values.items(), single, strict=True)
    }
    if len(targets) == 1:
        return Measured(targets, dict(next(iter(targets.values()))))
    mean = {}
    for metric in next(iter(values.values())):
        # The same targets in every sample: where one has no value there, neither has the mean.
        defined = [name for name, found in values.items() if not np.isnan(found[metric])]
        units = dict(zip(task.targets, task.std, strict=True)) if metric in IN_UNITS else {}
        each = [
            [one[name][metric] / units.get(name, 1.0) for name in defined]
            for one in (values, *drawn)
        ]
        whole, *others = (float(np.mean(row)) if row else float("nan") for row in each)
        mean[metric] = _estimate(whole, others)
    return Measured(targets, mean)


def _by_target(
    task: TaskConfig,
    truth: Array,
    answers: Array,
    weights: Array,
    classes: npt.NDArray[np.int64] | None,
) -> dict[str, dict[str, float]]:
    """Compute every metric of every target on the rows where it is known.

    Means over classes are over `classes`, of which a sample may lack one.
    """
    out = {}
    for number, name in enumerate(task.targets):
        known = ~np.isnan(truth[:, number])
        rows = truth[known, number], columns_of(task, answers, number)[known], weights[known]
        if weights[known].sum() <= 0:
            out[name] = dict.fromkeys(METRICS[task.type], float("nan"))
            continue
        out[name] = {
            metric: compute(*rows)
            if classes is None or metric not in OVER_CLASSES
            else _over_classes(compute, *rows, classes)
            for metric, compute in METRICS[task.type].items()
        }
    return out


def _estimate(value: float, drawn: list[float]) -> Estimate:
    if not value > -np.inf:
        return Estimate(None)
    found = Estimate(value) if value < np.inf else Estimate(None, infinite=True)
    kept = np.array([number for number in drawn if not np.isnan(number)])
    # A rejection is infinite where a sample keeps no background: that is more, not nothing.
    low, high = (_quantile(kept, share) for share in (0.025, 0.975))
    if not np.isfinite(low):
        return found  # Of no sample, or hardly a finite one, there is no interval to tell.
    return replace(found, low=low, high=high if np.isfinite(high) else None)


def _quantile(values: Array, share: float) -> float:
    """Return a quantile; between a number and infinity, and of nothing, infinity."""
    with np.errstate(invalid="ignore"):
        found = float(np.quantile(values, share)) if len(values) else np.inf
    return float("inf") if np.isnan(found) else found


def _cumulate(truth: Array, found: Array, weights: Array) -> tuple[Array, Array]:
    """Sum the weights of positives and negatives from the best score down to each cut."""
    order = np.argsort(-found, kind="stable")
    edges = np.r_[np.flatnonzero(np.diff(found[order])), len(found) - 1]
    positive = np.cumsum(np.where(truth[order] == 1, weights[order], 0))[edges]
    negative = np.cumsum(np.where(truth[order] == 0, weights[order], 0))[edges]
    return positive, negative


def _counted(truth: Array, weights: Array, count: int) -> npt.NDArray[np.int64]:
    """Return the classes whose rows weigh something."""
    known, flat = ~np.isnan(truth).ravel(), truth.ravel()
    return np.flatnonzero(np.bincount(flat[known].astype(int), weights[known], count) > 0)


def _over_classes(
    metric: Metric,
    truth: Array,
    found: Array,
    weights: Array,
    classes: npt.NDArray[np.int64] | None = None,
) -> float:
    """Average a metric over classes, by themselves those that weigh something.

    NaN where one of those that are named does not, so that samples average over the same classes.
    """
    if classes is None:
        classes = _counted(truth, weights, found.shape[1])
    if len(classes) < 2:
        return float("nan")
    each = [metric((truth == c).astype(np.float64), found[:, c], weights) for c in classes]
    return float(np.mean(each))


def _chosen(found: Array) -> Array:
    return np.asarray(found.argmax(1) if found.ndim == 2 else found > 0.5, np.float64)


def _ranks(values: Array, weights: Array) -> Array:
    """Rank by the weight of smaller values, equal ones alike in the middle of theirs."""
    _, place = np.unique(values, return_inverse=True)
    each = np.bincount(place, weights)
    return np.asarray((np.cumsum(each) - each / 2)[place], np.float64)
