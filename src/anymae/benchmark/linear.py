"""Linear models on features, one candidate for each strength of the penalty.

Shapes: R rows, F features, C classes.
"""

from collections.abc import Iterator

import numpy as np
import torch

from anymae.benchmark.candidates import Candidate, Floats, describe_task
from anymae.benchmark.labels import Array
from anymae.benchmark.suite import Task, TaskData
from anymae.predictor import to_answers
from anymae.task import TaskConfig
from anymae.training.linear import fit_each

STRENGTHS = tuple(10.0**power for power in range(-5, 1))
"""Inverse penalties that are tried."""

MANY_CLASSES = 20
"""More classes than these are fitted by least squares: logistic regression would take hours."""


def linear_candidates(task: Task, data: TaskData, features: Floats) -> Iterator[Candidate]:
    """Fit the training rows at each strength.

    Args:
        task: What is predicted.
        data: Parts and labels.
        features: `(R, F)` of all rows.
    """
    train, rest = features[data.parts.train], features[data.answered]
    known = data.labels.of(data.parts.train)
    if data.num_classes > MANY_CLASSES:
        yield from _least_squares(train, known, rest, data.num_classes)
        return
    config = describe_task(task, data)
    targets = standardise(config, known)[:, None]
    for found in fit_each(config, train, targets, STRENGTHS):
        outputs = torch.from_numpy(found.outputs(rest))
        yield Candidate({"strength": found.strength}, to_answers(config, outputs).numpy())


def standardise(config: TaskConfig, labels: Array) -> Array:
    """Return what a network is to give: standardised numbers, or class numbers."""
    if config.type != "regression":
        return labels
    return (labels - config.mean[0]) / config.std[0]


def _least_squares(
    train: Floats, known: Array, rest: Floats, num_classes: int
) -> Iterator[Candidate]:
    """Regress each class's indicator on the features, all penalties from one decomposition."""
    shift, scale = train.mean(0), train.std(0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    train, rest = (train - shift) / scale, (rest - shift) / scale
    indicator = np.zeros((len(train), num_classes), np.float32)
    indicator[np.arange(len(train)), known.astype(np.int64)] = 1
    left, singular, right = np.linalg.svd(train.astype(np.float32), full_matrices=False)
    inner, outer = left.T @ indicator, rest.astype(np.float32) @ right.T
    for strength in (10.0**power for power in range(-6, 1)):
        shrunk = singular / (singular**2 + 1 / strength)
        yield Candidate({"strength": strength}, outer @ (shrunk[:, None] * inner))
