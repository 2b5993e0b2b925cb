"""Choosing on validation: everything that could answer is a candidate, and the best one is kept.

Shapes: V validation rows, T test rows, A numbers of an answer.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from anymae.benchmark.labels import Array
from anymae.benchmark.suite import Task, TaskData
from anymae.errors import DataError
from anymae.metrics import HEADLINE, METRICS
from anymae.task import TaskConfig

Floats = npt.NDArray[np.floating]


class Candidate(NamedTuple):
    """Answers of one way to predict, with one choice of settings."""

    settings: Mapping[str, object]
    answers: Floats
    """`(V + T, A)`, validation rows first: numbers, or probabilities of the classes."""
    looked_at: int = 1
    """Settings among which this one was itself chosen on validation rows."""


class Chosen(NamedTuple):
    """The best of a method's candidates."""

    settings: Mapping[str, object]
    answers: Floats
    """`(V + T, A)`."""
    validation: float
    """The metric that chooses, on the validation rows."""
    tried: int
    """Settings that were looked at."""


def describe_task(task: Task, data: TaskData) -> TaskConfig:
    """Return the task as models know it, scaled by the labelled training rows."""
    if task.type == "regression":
        train = data.labels.of(data.parts.train)
        return TaskConfig(
            type="regression",
            targets=(task.name,),
            mean=(float(train.mean()),),
            std=(float(train.std()) or 1.0,),
        )
    classes = tuple(str(number) for number in range(data.num_classes))
    return TaskConfig(type=task.type, targets=(task.name,), classes=classes)


def choose(task: Task, data: TaskData, candidates: Iterable[Candidate]) -> Chosen:
    """Keep the candidate that is best on the validation rows; the first of equals."""
    truth = data.labels.of(data.parts.valid)
    best: Chosen | None = None
    tried = 0
    for candidate in candidates:
        tried += candidate.looked_at
        value = measure(task.choice_metric, task, truth, candidate.answers[: len(truth)])
        # One that is no number is the worst.
        if (
            best is None
            or math.isnan(best.validation)
            or task.gain(value) > task.gain(best.validation)
        ):
            best = Chosen(candidate.settings, candidate.answers, value, 0)
    assert best is not None, "a method offers at least one candidate"
    if math.isnan(best.validation):
        raise DataError(
            f"{task.choice_metric} of {task.name} is not defined on the validation rows for any "
            "setting; take more of them, or other ones"
        )
    return best._replace(tried=tried)


def measure(metric: str, task: Task, truth: Array, answers: Floats) -> float:
    """Compute a metric."""
    found = np.asarray(answers, np.float64)
    if task.type != "multiclass":
        found = found[:, -1]
    return METRICS[task.type][metric](truth, found, np.ones(len(truth)))


def final_metrics(
    task: Task, data: TaskData, chosen: dict[str, Chosen]
) -> dict[str, dict[str, float]]:
    """Open the test labels, once, and measure each method's answers.

    Returns:
        The task's metric, and the usual one of its type where that is another, by method.
    """
    truth = data.labels.open_test()
    names = dict.fromkeys((task.metric, HEADLINE[task.type]))
    first = len(data.parts.valid)
    return {
        method: {name: measure(name, task, truth, best.answers[first:]) for name in names}
        for method, best in chosen.items()
    }


def blends(one: Chosen, other: Chosen) -> Iterator[Candidate]:
    """Mix the answers of two methods."""
    for tenths in range(11):
        share = tenths / 10
        yield Candidate({"share": share}, share * one.answers + (1 - share) * other.answers)
