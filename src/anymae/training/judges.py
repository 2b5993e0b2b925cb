"""What is said of rows that hardly judge, and of classes that none of them has.

Shapes: R rows, T targets.
"""

import logging

import numpy as np
import numpy.typing as npt

from anymae.config import DataConfig
from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset
from anymae.data.splits import named_parts
from anymae.task import TaskConfig
from anymae.training.targets import MOST_CLASSES, Array
from anymae.wording import counted

logger = logging.getLogger(__name__)

FEW = 10
"""Fewer rows than these tell little."""
NAME_MORE = "name more with --split, --valid or --test"


def tell_absent(task: TaskConfig, truth: Array, train: IntArray) -> None:
    """Warn of classes that no row to learn from has.

    Args:
        task: What is predicted.
        truth: `(R, T)`, class numbers of all rows.
        train: Positions of the rows that are learned from.
    """
    if task.type not in ("binary", "multiclass"):
        return
    if absent := _absent(task, truth[train, 0]):
        logger.warning(
            "%d of the %d classes of target %r occur in no training row and are not learned: %s",
            len(absent), len(task.classes), task.targets[0], _first(absent),
        )  # fmt: skip


def are_drawn(dataset: Dataset, part: str, config: DataConfig, num_labels: int | None) -> bool:
    """Say whether the rows that judge were drawn regardless of their classes.

    Args:
        dataset: May name parts.
        part: Which rows judge, `valid` or `test`.
        config: How rows are divided otherwise.
        num_labels: How many labels they were drawn from; these have classes in proportion.
    """
    if num_labels is not None or config.split_by == "stratified":
        return False
    named = named_parts(dataset.rows)
    return named is None or not len(getattr(named, part))


def tell_few(
    task: TaskConfig,
    truth: npt.NDArray[np.floating],
    weights: Array,
    part: str,
    *,
    drawn: bool,
    resampled: bool = True,
    more: str = NAME_MORE,
) -> None:
    """Warn where so few rows judge that hardly anything can be told, or a class has none.

    Args:
        task: What is predicted.
        truth: `(R, T)`, numbers, class numbers or 0 and 1, of the rows that judge.
        weights: `(R,)`.
        part: What to call these rows.
        drawn: Whether they were drawn, and regardless of their classes.
        resampled: Whether they are resampled for intervals.
        more: How there would be more of them.
    """
    known = ~np.isnan(truth).all(1) & (weights != 0)
    count, said, ways = int(known.sum()), [], []
    if count < FEW:
        narrow = ", and their intervals are too narrow" * (resampled and count > 1)
        said.append(f"so few tell little{narrow}")
        ways.append(more)
    # Of many classes some have no row that judges, however the rows are divided.
    few = task.type in ("binary", "multiclass") and len(task.classes) <= MOST_CLASSES
    if few and count and (absent := _absent(task, truth[known, 0])):
        said.append(
            f"{len(absent)} of the {len(task.classes)} classes of target {task.targets[0]!r} "
            f"occur in none of them, so that nothing is told of these: {_first(absent)}"
        )
        if drawn and count >= len(task.classes):
            ways.append("drawn rows hold each with --split-by stratified")
    if said:
        logger.warning("judged on %s (%s): %s", counted(count, "row"), part, "; ".join(said + ways))


def _absent(task: TaskConfig, numbers: npt.NDArray[np.floating]) -> list[str]:
    return [task.classes[one] for one in np.setdiff1d(np.arange(len(task.classes)), numbers)]


def _first(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + " ..." * (len(names) > 5)
