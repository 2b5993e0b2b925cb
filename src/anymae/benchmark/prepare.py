"""From a suite to the rows of one job: label budget, row limits, a corpus without leaks."""

import hashlib
import logging
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from anymae.benchmark.leaks import clean, contents, count_shared
from anymae.benchmark.location import REPLACE
from anymae.benchmark.suite import Budget, Corpus, Suite, Task, TaskData, draw, num_rows, take
from anymae.data.batch import IntArray
from anymae.data.sources.base import reading
from anymae.data.splits import Parts

logger = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """The rows of one task for one seed."""

    data: TaskData
    rows: IntArray
    """Where each row of `data` stands in what the suite has loaded."""
    split: str
    """Hash of which rows, by content, train, validate and test."""
    counts: dict[str, int]
    """Rows of each part, and how many of the validation and test rows also occur in training."""


def prepare_task(suite: Suite, task: Task, budget: Budget, seed: int) -> Prepared:
    """Read a task and draw the labelled training rows.

    The label budget is drawn by `seed`, alike for all arms. Limits of the budget on validation
    and test rows are drawn by a fixed seed, so that the test stays the same.
    """
    with reading(_name(suite), REPLACE):
        data = suite.load(task, seed)
    most_train, most_valid, most_test = budget.most_rows
    train = draw(data.parts.train, most_train, seed=seed, purpose="train")
    parts = Parts(
        draw(train, budget.num_labels(task), seed=seed, purpose="labels"),
        draw(data.parts.valid, most_valid, seed=0, purpose="valid"),
        draw(data.parts.test, most_test, seed=0, purpose="test"),
    )
    rows: IntArray = np.concatenate(list(parts))
    data = replace(_keep(data, parts, rows), config=budget.read(data.config))
    shared = count_shared(data)
    for name, count in shared.items():
        if count:
            logger.info("%s: %d %s rows also occur in training", task.name, count, name)
    counts = {name: len(part) for name, part in data.parts._asdict().items()}
    return Prepared(
        data, rows, _digest(data), {**counts, **{f"{k} in train": v for k, v in shared.items()}}
    )


def prepare_corpus(suite: Suite, name: str, budget: Budget, seed: int) -> Corpus:
    """Read a corpus without the validation and test rows of any task that is pretrained on it."""
    with reading(_name(suite), REPLACE):
        # Tasks of one curve differ in their labels only, so one of them stands for all.
        kept = {task.curve or task.name: task for task in suite.tasks.values()}
        alike = [task for task in kept.values() if task.corpus == name]
        tasks, whole = [suite.load(task, seed) for task in alike], suite.corpus(name, seed)
    corpus = clean(whole, tasks)
    rows = draw(np.arange(num_rows(corpus.inputs)), budget.corpus_rows, seed=seed, purpose="corpus")
    if len(rows) < num_rows(corpus.inputs):
        corpus = replace(corpus, inputs=take(corpus.inputs, rows))
    return replace(corpus, config=budget.read(corpus.config))


def _name(suite: Suite) -> str:
    """Name what is read where a suite is loaded."""
    return f"one of {', '.join(suite.files)} in {suite.folder}"


def _keep(data: TaskData, parts: Parts, rows: IntArray) -> TaskData:
    """Keep the rows of `parts` only, so that nothing else is read or computed."""
    ends = np.cumsum([len(part) for part in parts])
    kept = Parts(*(np.arange(end - len(part), end) for end, part in zip(ends, parts, strict=True)))
    return replace(
        data, inputs=take(data.inputs, rows), parts=kept, labels=data.labels.keep(rows, kept)
    )


def _digest(data: TaskData) -> str:
    digest = hashlib.sha256()
    for part in data.parts:
        digest.update(len(part).to_bytes(8, "little"))
        for value in contents(take(data.inputs, part)).to_pylist():
            content = value if isinstance(value, bytes) else value.encode()
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
