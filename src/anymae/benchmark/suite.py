"""What a suite is: tasks with fixed splits on one kind of data, and how much to spend on them.

A suite is one file in `suites/` with `@SUITES.register("name")`. It reads files of the data folder
and says which rows train, validate and test; all the rest is the same for every suite.

Shapes: R rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from anymae.benchmark.labels import Labels
from anymae.config import DataConfig
from anymae.data.batch import IntArray
from anymae.data.splits import Parts
from anymae.registry import Registry
from anymae.task import FinetuneConfig, ReadoutConfig, TaskType

Inputs: TypeAlias = pa.Table | npt.NDArray[Any]
"""Rows without their labels: a table, or an array whose first dimension counts rows."""

BASELINE, JOINED = "baseline", "baseline+embedding"

AT_ONCE = FinetuneConfig(
    readout=ReadoutConfig(kind="query"), head_first="none", layer_decay=1.0, drop_path=0.1
)
"""How every encoder is fine-tuned, pretrained or not: the published head on its output, all
weights learning at one rate from the start."""

THREADS = 1
"""Of every job, so that its numbers do not depend on how many run side by side."""

MINI = "mini"
"""The budget that shows that all works; its numbers are on no page."""

READINGS = ("mean", "layers", "flat")
"""How frozen encoders are read unless a budget says otherwise."""

EVERY_READING = ("mean", "layers", "kernel", "flat")
"""How they can be read (`encoder_features.Reader`)."""

ERRORS = ("rmse", "mae", "log_loss")
"""Metrics of which smaller values are better."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something to predict."""

    name: str
    type: TaskType
    metric: str
    """The metric that is reported first."""
    chosen_by: str | None = None
    """The metric by which everything is chosen on validation rows; `None` is `metric`."""
    baseline: str
    """The plain baseline of the field: a name in `BASELINES`."""
    num_classes: int = 2
    """Of a classification."""
    num_labels: int | None = None
    """Labelled training rows, drawn by seed; `None` takes all."""
    corpus: str = "all"
    """What it is pretrained on; tasks with the same name share their pretraining runs."""
    curve: str | None = None
    """Tasks of one curve differ in their number of labels only."""
    published: str = ""
    """Published numbers, and why they can or cannot be compared."""

    @property
    def choice_metric(self) -> str:
        """The metric by which everything is chosen."""
        return self.chosen_by or self.metric

    def gain(self, value: float) -> float:
        """Turn a value of the metric that chooses so that more is better."""
        return -value if self.choice_metric in ERRORS else value


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """The rows of a task."""

    inputs: Inputs
    """All rows, without the labels."""
    config: DataConfig
    """How the inputs are read."""
    parts: Parts
    """Positions of the labelled training rows, the validation rows and the test rows."""
    labels: Labels
    num_classes: int = 0
    """0 for regression."""

    @property
    def answered(self) -> IntArray:
        """Positions of the rows that every candidate answers: validation, then test."""
        return np.concatenate([self.parts.valid, self.parts.test])


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Unlabelled rows for pretraining."""

    inputs: Inputs
    config: DataConfig
    flagged: int = 0
    """Rows left out because the corpus says that a task has them too."""
    removed: int = 0
    """Rows left out because they were found in a validation or test part."""


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What fine-tuning may try; the same for every arm."""

    learning_rates: tuple[float, ...] = (3e-4, 1e-3)
    epochs: float
    batch_size: int = 32
    least_steps: int = 0
    """Steps at least, for tasks with few labels."""
    most_steps: int | None = None
    """Steps at most, for tasks with many."""
    tasks: tuple[str, ...] | None = None
    """Tasks that are fine-tuned; `None` is all. The others are probed only."""
    seeds: int = 1
    """Trainings whose answers are averaged; the first one finds the learning rate."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much to spend on a suite."""

    summary: str
    """For people: model, steps, rows."""
    recipe: Mapping[str, Any]
    """Sections of a `Recipe`, the same for every arm."""
    masking: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of the masking by arm, each validated on its own."""
    corpus_rows: int | None = None
    """Rows of the corpus, drawn by seed; `None` takes all."""
    most_rows: tuple[int | None, int | None, int | None] = (None, None, None)
    """Rows for training (drawn by the job's seed), validation and test (by seed 0) at most."""
    length: int | None = None
    """Longest row, where it is another than the suite's."""
    all_labels: bool = False
    """True learns from every label where `Task.num_labels` saves time only (`Task.curve` unset)."""
    readings: tuple[str, ...] = READINGS
    """How frozen encoders are read (`encoder_features.Reader`); validation chooses the best."""
    finetune: FineTuning | None = None
    """`None` probes frozen features only."""

    def num_labels(self, task: Task) -> int | None:
        """Return how many labels of a task are learned from; `None` for all."""
        return None if self.all_labels and task.curve is None else task.num_labels

    def read(self, config: DataConfig) -> DataConfig:
        """Return how rows are read, from how the suite reads them."""
        return config if self.length is None else config.model_copy(update={"length": self.length})


class Suite:
    """Tasks on one kind of data.

    Args:
        folder: Where the data are.
    """

    title: ClassVar[str]
    about: ClassVar[str]
    """Sentences for the results page: data, splits, what cannot be compared."""
    files: ClassVar[tuple[str, ...]]
    """Paths below the data folder that are read."""
    config: ClassVar[DataConfig]
    """How the rows are read."""
    arms: ClassVar[tuple[str, ...]]
    """What is compared unless others are named."""
    tasks: ClassVar[Mapping[str, Task]]
    budgets: ClassVar[Mapping[str, Budget]]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, task: Task, seed: int) -> TaskData:
        """Read a task with all its labels; `seed` decides splits that are not fixed."""
        inputs, labels, parts = self._read(task, seed)
        return TaskData(
            inputs=inputs, config=self.config, parts=parts, labels=Labels(labels, parts),
            num_classes=0 if task.type == "regression" else task.num_classes,
        )  # fmt: skip

    def _read(self, task: Task, seed: int) -> tuple[Inputs, npt.NDArray[Any], Parts]:
        """Return all rows, their labels and the parts: what a suite says itself."""
        raise NotImplementedError

    def corpus(self, name: str, seed: int) -> Corpus:
        """Read what tasks with this `corpus` are pretrained on: the rows that give them labels."""
        task = next(task for task in self.tasks.values() if task.corpus == name)
        data = self.load(task, seed)
        return Corpus(inputs=take(data.inputs, data.parts.train), config=data.config)


SUITES: Registry[type[Suite]] = Registry("suite")


def by_name(*tasks: Task) -> dict[str, Task]:
    """Return tasks by their names, in order."""
    return {task.name: task for task in tasks}


def mini_budget(tasks: tuple[str, ...], *, kind: str = "transformer") -> Budget:
    """Return a budget that shows within seconds that all works; `tasks` are fine-tuned."""
    return Budget(
        summary="a model of a few thousand parameters, 20 steps, a few hundred rows",
        recipe={
            "preset": "tiny",
            "encoder": {
                "kind": kind, "width": 16, "depth": 2, "num_heads": 2, "num_latents": 8,
            },
            "training": {"steps": 20, "batch_size": 32, "learning_rate": 2e-3},
        },
        corpus_rows=1_000,
        most_rows=(400, 200, 300),
        finetune=FineTuning(learning_rates=(1e-3,), epochs=1, batch_size=64, tasks=tasks),
    )  # fmt: skip


def named_parts(split: pa.ChunkedArray, names: Sequence[str] = ("train", "valid", "test")) -> Parts:
    """Return the rows that train, validate and test, from the column that says which do."""
    found = np.array(split.to_pylist())
    return Parts(*(np.flatnonzero(found == name) for name in names))


def hold_out(rows: IntArray, count: int, seed: int) -> tuple[IntArray, IntArray]:
    """Draw rows to validate on; returns the others and these, ascending."""
    mixed = np.random.default_rng([seed, 1]).permutation(rows)
    return np.sort(mixed[count:]), np.sort(mixed[:count])


def take(inputs: Inputs, rows: IntArray) -> Inputs:
    """Return some rows, in the order of `rows`."""
    return inputs.take(pa.array(rows)) if isinstance(inputs, pa.Table) else inputs[rows]


def num_rows(inputs: Inputs) -> int:
    """Return the number of rows."""
    return int(inputs.num_rows) if isinstance(inputs, pa.Table) else len(inputs)


def draw(rows: IntArray, count: int | None, *, seed: int, purpose: str) -> IntArray:
    """Draw rows without replacement, ascending; `None`, or more than there are, takes all.

    >>> draw(np.arange(4), 2, seed=0, purpose="labels").shape
    (2,)
    """
    if count is None or count >= len(rows):
        return rows
    generator = np.random.default_rng([seed, *purpose.encode()])
    return np.sort(generator.permutation(rows)[:count])
