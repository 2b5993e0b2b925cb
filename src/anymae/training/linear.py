"""Linear models on frozen features, their strength chosen by cross-validation.

What `probe` judges features by, what the scikit-learn estimators fit, and what a task head can
start from: ridge regression for numbers, logistic regression for classes and labels.

Shapes: R rows, F features, O outputs, T targets.
"""

import warnings
from collections.abc import Callable, Sequence
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
        weights: `(R,)`, not negative; only their ratios count, as the penalty does not grow with
            them.
        groups: `(R,)`, number of each row's group, which stays in one fold; `None` deals row by
            row.
        strengths: Inverse penalties, of which cross-validation takes the best.
        seed: Deals rows to folds.
    """
    rows = np.asarray(features, np.float64)
    truth = np.asarray(targets, np.float64)
    importance = np.ones(len(rows))
    if weights is not None and np.any(weights):
        # Rows of weight 0 are as if they were not there: they thin nothing out.
        importance = np.asarray(weights, np.float64)
        importance = importance / importance[importance > 0].mean()
    elif weights is not None:
        importance = np.zeros(len(rows))
    shift, scale = rows.mean(0), rows.std(0)
    scale = np.where(scale > 1e-6 * np.abs(shift) + 1e-12, scale, 1.0)
    rows = (rows - shift) / scale
    strength = strengths[0]
    # Small fits gain nothing from threads, and lose much where these wait for a processor.
    with threadpool_limits(1, user_api="blas"):
        if len(strengths) > 1:
            strength = _choose(
                task, rows, truth, importance, strengths, _folds(groups, len(rows), seed)
            )
        weight, bias = _fit(task, rows, truth, importance, strength)
    return LinearFit(shift, scale, weight, bias, strength)


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
    for strength in sorted(strengths):
        loss = sum(
            _held_out(task, rows, truth, weights, strength, kept, held)
            for kept, held in folds
            if len(kept) and len(held)
        )
        worse = worse + 1 if loss >= least else 0
        if loss < least:
            best, least = strength, loss
        # The curve has one valley, and beyond it fits only get slower.
        if worse == 2:
            break
    return best


def _held_out(
    task: TaskConfig,
    rows: Array,
    truth: Array,
    weights: Array,
    strength: float,
    kept: IntArray,
    held: IntArray,
) -> float:
    """Return the loss of the rows held out, by a fit to those kept."""
    weight, bias = _fit(task, rows[kept], truth[kept], weights[kept], strength)
    total, _ = task_losses(
        task,
        torch.from_numpy(rows[held] @ weight.T + bias),
        torch.from_numpy(truth[held]),
        weights=torch.from_numpy(weights[held]),
    )
    return float(total)


def _fit(
    task: TaskConfig, rows: Array, truth: Array, weights: Array, strength: float
) -> tuple[Array, Array]:
    """Return weight `(O, F)` and bias `(O,)`; targets of several columns are fitted apart.

    Rows of weight 0 are left out, so that answers that only they have are none.
    """
    if task.type == "multiclass":
        known = ~np.isnan(truth[:, 0]) & (weights > 0)
        return _classes(rows[known], truth[known, 0], weights[known], strength, len(task.classes))
    fit: Callable[..., tuple[Array, float]] = _ridge if task.type == "regression" else _logistic
    parts = []
    for column in truth.T:
        known = ~np.isnan(column) & (weights > 0)
        parts.append(fit(rows[known], column[known], weights[known], strength))
    return np.stack([weight for weight, _ in parts]), np.array([bias for _, bias in parts])


def _ridge(rows: Array, truth: Array, weights: Array, strength: float) -> tuple[Array, float]:
    """Solve ridge regression in the smaller of rows and features."""
    total = weights.sum()
    if not total:
        return np.zeros(rows.shape[1]), 0.0
    centre, level = weights @ rows / total, weights @ truth / total
    root = np.sqrt(weights)
    scaled, wanted = (rows - centre) * root[:, None], (truth - level) * root
    wide = len(rows) < rows.shape[1]
    gram = scaled @ scaled.T if wide else scaled.T @ scaled
    gram.flat[:: len(gram) + 1] += 1 / strength
    right = wanted if wide else scaled.T @ wanted
    solved = np.linalg.solve(gram, right)
    weight = scaled.T @ solved if wide else solved
    return weight, float(level - centre @ weight)


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
