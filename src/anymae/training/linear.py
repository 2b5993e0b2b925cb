"""Linear models on frozen features, their strength chosen by cross-validation.

What `probe` judges features by, what the scikit-learn estimators fit, and what a task head can
start from: ridge regression for numbers, logistic regression for classes and labels.

Shapes: R rows, F features, O outputs, T targets.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from anymae.data.batch import IntArray
from anymae.predictor import Answered, members_of, to_probabilities
from anymae.task import TaskConfig
from anymae.training.losses import task_losses

Array = npt.NDArray[np.float64]

STRENGTHS = tuple(10.0**power for power in range(-5, 2))
"""Inverse penalties that are tried: C of the logistic regression, 1 / alpha of the ridge."""

MOST_CHOOSING = 6_000
"""Rows that choose the strength at most; all rows fit the final model."""

FOLDS = 5


class LinearFit(NamedTuple):
    """`((x - shift) / scale) @ weight.T + bias`: logits or standardised numbers."""

    shift: Array
    """`(F,)`."""
    scale: Array
    """`(F,)`."""
    weight: Array
    """`(O, F)`."""
    bias: Array
    """`(O,)`."""
    strength: float
    """The inverse penalty that was chosen."""

    def outputs(self, features: npt.NDArray[np.floating]) -> Array:
        """Return `(R, O)`."""
        return np.asarray((features - self.shift) / self.scale @ self.weight.T + self.bias)

    def answers(self, task: TaskConfig, features: npt.NDArray[np.floating]) -> Answered:
        """Return `(R, A)`: probabilities, or numbers in the user's units, see `members_of`."""
        found = to_probabilities(task, torch.from_numpy(self.outputs(features)))
        return np.asarray(members_of(task, found.numpy())[0])


def fit_linear(
    task: TaskConfig,
    features: npt.NDArray[np.floating],
    targets: npt.NDArray[np.floating],
    *,
    weights: npt.NDArray[np.floating] | None = None,
    groups: IntArray | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> LinearFit:
    """Fit outputs to standardised features.

    Args:
        task: Says which loss: ridge for `regression`, logistic otherwise.
        features: `(R, F)`.
        targets: `(R, T)`, standardised numbers, class numbers, or 0 and 1; NaN is unknown.
        weights: `(R,)`, or `(R, T)` for `multilabel`, not negative; only their ratios count, as
            the penalty does not grow with them. Rows of weight 0 are as if they were not there.
        groups: `(R,)`, number of each row's group, which stays in one fold; `None` deals row by
            row.
        strengths: Inverse penalties, of which cross-validation takes the best.
        seed: Deals rows to folds.
    """
    truth = np.asarray(targets, np.float64)
    importance: Array = np.ones(truth.shape)
    if weights is not None:
        importance = np.asarray(weights, np.float64).reshape(len(truth), -1)
        counts = importance.any(1)
        if counts.any() and not counts.all():
            features, truth, importance = features[counts], truth[counts], importance[counts]
            groups = None if groups is None else groups[counts]
        counted = importance > 0
        if importance.shape[1] > 1:
            counted &= ~np.isnan(truth)
        unit = importance[counted].mean() if counted.any() else 1.0
        importance = np.asarray(np.broadcast_to(importance / unit, truth.shape))
    rows, shift, scale = _standardised(features)
    strength = strengths[0]
    # Small fits gain nothing from threads, and lose much where these wait for a processor.
    with threadpool_limits(1, user_api="blas"):
        if len(strengths) > 1:
            strength = _choose(
                task, rows, truth, importance, strengths, _folds(groups, len(rows), seed)
            )
        weight, bias = next(_fits(task, rows, truth, importance, [strength]))
    return LinearFit(shift, scale, weight, bias, strength)


def fit_each(
    task: TaskConfig,
    features: npt.NDArray[np.floating],
    targets: npt.NDArray[np.floating],
    strengths: Sequence[float],
) -> Iterator[LinearFit]:
    """Fit outputs as `fit_linear` does, once at each strength; the caller chooses."""
    rows, shift, scale = _standardised(features)
    truth = np.asarray(targets, np.float64)
    importance = np.ones(truth.shape)
    with threadpool_limits(1, user_api="blas"):
        found = list(_fits(task, rows, truth, importance, strengths))
    for strength, (weight, bias) in zip(strengths, found, strict=True):
        yield LinearFit(shift, scale, weight, bias, strength)


def _standardised(features: npt.NDArray[np.floating]) -> tuple[Array, Array, Array]:
    """Return the rows with mean 0 and deviation 1, and what was taken off and divided by."""
    rows = np.asarray(features, np.float64)
    shift, scale = rows.mean(0), rows.std(0)
    scale = np.where(scale > 1e-6 * np.abs(shift) + 1e-12, scale, 1.0)
    return (rows - shift) / scale, shift, scale


def _folds(groups: IntArray | None, count: int, seed: int) -> list[tuple[IntArray, IntArray]]:
    """Deal rows to folds; return the rows kept and held out for each."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(count)[:MOST_CHOOSING]
    parts = np.array_split(order, FOLDS)
    if groups is not None and count and groups[order].min() < groups[order].max():
        _, codes, sizes = np.unique(groups[order], return_inverse=True, return_counts=True)
        queue = draw.permutation(len(sizes))
        fold = np.empty(len(sizes), np.int64)
        # Of the queue of all rows each group is where its middle is; two are in two folds.
        fold[queue] = (np.cumsum(sizes[queue]) - sizes[queue] / 2) * FOLDS // len(order)
        parts = [order[fold[codes] == number] for number in range(FOLDS)]
    return [(np.setdiff1d(order, held), held) for held in parts]


def _choose(
    task: TaskConfig,
    rows: Array,
    truth: Array,
    weights: Array,
    strengths: Sequence[float],
    folds: Sequence[tuple[IntArray, IntArray]],
) -> float:
    """Return the strength with the least loss over held-out folds."""
    best, least, worse = strengths[0], np.inf, 0
    ordered, used = sorted(strengths), [fold for fold in folds if all(map(len, fold))]

    def losses(fold: tuple[IntArray, IntArray], tried: Sequence[float]) -> Array:
        """Return the loss of the rows held out, by a fit to those kept at each strength."""
        kept, held = fold
        wanted, counted = torch.from_numpy(truth[held]), torch.from_numpy(weights[held])
        found = []
        for weight, bias in _fits(task, rows[kept], truth[kept], weights[kept], tried):
            outputs = torch.from_numpy(rows[held] @ weight.T + bias)
            found.append(float(task_losses(task, outputs, wanted, weights=counted)[0]))
        return np.array(found)

    if task.type == "regression":  # by fold: all strengths share what is slow about one
        curve = iter(sum((losses(fold, ordered) for fold in used), np.zeros(len(ordered))))
    else:  # by strength, up to where the loop stops
        curve = (float(sum(losses(fold, [strength])[0] for fold in used)) for strength in ordered)
    for strength, loss in zip(ordered, curve, strict=False):
        worse = worse + 1 if loss >= least else 0
        if loss < least:
            best, least = strength, loss
        # The curve has one valley, and beyond it fits only get slower.
        if worse == 2:
            break
    return best


def _fits(
    task: TaskConfig, rows: Array, truth: Array, weights: Array, strengths: Sequence[float]
) -> Iterator[tuple[Array, Array]]:
    """Return, by strength, weight `(O, F)` and bias `(O,)`; columns of targets are fitted apart.

    What has weight 0, `(R, T)`, is left out: answers that only such rows have are none.
    """
    known = ~np.isnan(truth) & (weights > 0)
    if task.type == "regression":
        yield from _ridges(rows, truth, weights[:, 0], known, strengths)
        return
    for strength in strengths:
        if task.type == "multiclass":
            kept, count = known[:, 0], len(task.classes)
            yield _classes(rows[kept], truth[kept, 0], weights[kept, 0], strength, count)
            continue
        parts = [
            _logistic(rows[kept], column[kept], each[kept], strength)
            for column, each, kept in zip(truth.T, weights.T, known.T, strict=True)
        ]
        yield np.stack([weight for weight, _ in parts]), np.array([bias for _, bias in parts])


def _ridges(
    rows: Array,
    truth: Array,
    weights: Array,
    known: npt.NDArray[np.bool_],
    strengths: Sequence[float],
) -> Iterator[tuple[Array, Array]]:
    """Solve ridge regression for all columns that are known of the same rows together."""
    shape = (len(strengths), truth.shape[1])
    weight, bias = np.zeros((*shape, rows.shape[1])), np.zeros(shape)
    alike: dict[bytes, list[int]] = {}
    for number, kept in enumerate(known.T):
        alike.setdefault(kept.tobytes(), []).append(number)
    for columns in alike.values():
        kept = known[:, columns[0]]
        if kept.any():
            path = _ridge(rows[kept], truth[kept][:, columns], weights[kept], strengths)
            for at, found in enumerate(path):
                weight[at, columns], bias[at, columns] = found
    yield from zip(weight, bias, strict=True)


def _ridge(
    rows: Array, truth: Array, weights: Array, strengths: Sequence[float]
) -> Iterator[tuple[Array, Array]]:
    """Solve one Gram matrix, the smaller of rows and features, at each strength."""
    total = weights.sum()
    centre, level = weights @ rows / total, weights @ truth / total
    root = np.sqrt(weights)[:, None]
    scaled, wanted = (rows - centre) * root, (truth - level) * root
    wide = len(rows) < rows.shape[1]
    gram = scaled @ scaled.T if wide else scaled.T @ scaled
    right = wanted if wide else scaled.T @ wanted
    for strength in strengths:
        penalised = gram.copy()
        penalised.flat[:: len(gram) + 1] += 1 / strength
        solved = np.linalg.solve(penalised, right)
        weight = (scaled.T @ solved if wide else solved).T
        yield weight, level - weight @ centre


def _logistic(rows: Array, truth: Array, weights: Array, strength: float) -> tuple[Array, float]:
    if len(np.unique(truth)) < 2:
        # One answer is all there is: say it with the confidence of so many rows.
        positives = float((truth == 1).sum())
        chance = (positives + 0.5) / (len(truth) + 1)
        return np.zeros(rows.shape[1]), float(np.log(chance / (1 - chance)))
    weight, bias = _solve(rows, truth, weights, strength)
    return weight[0], float(bias[0])


def _classes(
    rows: Array, truth: Array, weights: Array, strength: float, count: int
) -> tuple[Array, Array]:
    """Fit the classes that occur; the others get the logit of half a row."""
    occurring = np.unique(truth).astype(np.int64)
    weight = np.zeros((count, rows.shape[1]))
    bias = np.full(count, np.log(0.5 / (len(truth) + 1)))
    if len(occurring) == 1:
        bias[occurring] = 0.0
    elif len(occurring) == 2:
        half, shift = _solve(rows, truth, weights, strength)
        weight[occurring] = np.r_[-half, half] / 2
        bias[occurring] = np.r_[-shift, shift] / 2
    elif len(occurring):
        weight[occurring], bias[occurring] = _solve(rows, truth, weights, strength)
    return weight, bias


MANY_CLASSES = "The number of unique classes is greater than 50%"
"""Begins a warning of scikit-learn; which labels are classes was decided before."""


def _solve(rows: Array, truth: Array, weights: Array, strength: float) -> tuple[Array, Array]:
    model = LogisticRegression(C=strength, max_iter=300)
    with warnings.catch_warnings():
        # A weak penalty on separable rows has no minimum to converge to; it is only tried.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", MANY_CLASSES, UserWarning)
        model.fit(rows, truth, sample_weight=weights)
    return np.asarray(model.coef_), np.asarray(model.intercept_)
