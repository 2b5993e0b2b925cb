"""Which labels are learned from: task, targets and weights of rows, and which rows are for what.

Shapes: R rows, T targets.
"""

import hashlib
import logging
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from anymae.config import DataConfig
from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset
from anymae.data.splits import Parts, row_groups, split_rows
from anymae.errors import DataError
from anymae.task import FinetuneConfig, TaskConfig
from anymae.training.judges import tell_absent
from anymae.training.targets import (
    Labels,
    encode_labels,
    infer_task,
    read_labels,
    read_weights,
    refuse_names,
    standardise,
)

logger = logging.getLogger(__name__)


class Labelled(NamedTuple):
    """Rows with their targets, and which of them to learn from."""

    dataset: Dataset
    targets: npt.NDArray[np.float32]
    """`(rows, T)`: standardised numbers, class numbers, or 0 and 1; NaN is unknown."""
    weights: npt.NDArray[np.float32] | None
    """`(rows,)`, weight of each row; `None` counts all alike."""
    train: IntArray
    """Positions in the data set."""
    valid: IntArray
    """Likewise; they choose the best look."""

    @property
    def digest(self) -> str:
        """Hash of the inputs, of what is known about them, and of which rows are for what."""
        split = Parts(self.train, self.valid, np.arange(0)).digest
        found = hashlib.sha256(f"{self.dataset.preparation.fingerprint} {split}".encode())
        for array in (self.targets, self.weights):
            found.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


def label(
    dataset: Dataset, data_config: DataConfig, config: FinetuneConfig, *, seed: int
) -> tuple[TaskConfig, Labelled, IntArray]:
    """Find the task, each row's targets, and which rows are for what.

    Args:
        dataset: Opened for the model; its roles name the targets.
        data_config: How the rows are split.
        config: Task, shares, number of labels.
        seed: Draws rows where the data do not say which.

    Returns:
        The task; the rows to learn from, with a known target; the positions of the test rows.

    Raises:
        DataError: No target is named, or it holds nothing to learn from.
    """
    # Rows without a label say nothing here, where nothing is pretrained on.
    labels = read_labels(dataset, dataset.roles.target)
    parts = draw_parts(dataset, data_config, config, seed=seed, among=_known(labels))
    if config.num_labels is not None and len(parts.valid):
        logger.warning(
            "the %s validation rows that the data name have no part in this: the %s labels "
            "that are asked for are drawn from the training rows",
            f"{len(parts.valid):,}", f"{config.num_labels:,}",
        )  # fmt: skip
    return label_parts(dataset, parts, config, seed=seed, labels=labels)


def draw_parts(
    dataset: Dataset,
    data_config: DataConfig,
    config: FinetuneConfig,
    *,
    seed: int,
    among: npt.NDArray[np.bool_] | None = None,
) -> Parts:
    """Say which rows are for what, those without a known target too.

    Args:
        dataset: Its roles name the targets.
        data_config: How the rows are split.
        config: Shares, number of labels.
        seed: Draws rows where the data do not say which.
        among: Rows that may validate or test, `(R,)`; `None` is all.

    Raises:
        DataError: No target is named, or the rows cannot be split so.
    """
    if not dataset.roles.target:
        raise DataError("no target is named; say which column to predict with --target")
    # A number of labels counts those that validate, so these are drawn from it.
    share = 0.0 if config.num_labels is not None else config.valid_share
    return split_rows(
        dataset.rows, data_config, seed, valid_share=share, test_share=config.test_share,
        among=among,
    )  # fmt: skip


def label_parts(
    dataset: Dataset,
    parts: Parts,
    config: FinetuneConfig,
    *,
    seed: int,
    labels: Labels | None = None,
) -> tuple[TaskConfig, Labelled, IntArray]:
    """Find the task and each row's targets for rows that are split: `label` does both.

    Args:
        dataset: Its roles name the targets.
        parts: Which rows are for what.
        config: Task, number of labels.
        seed: Draws the labels, where a number of them is asked for.
        labels: The target columns, where they are read already.

    Raises:
        DataError: A target holds nothing to learn from.
    """
    if labels is None:
        labels = read_labels(dataset, dataset.roles.target)
    known = _known(labels)
    train, valid, test = (part[known[part]] for part in parts)
    task = infer_task(labels, train, others=(valid, test), type=config.task, readout=config.readout)
    if config.task is None:
        refuse_names(task, len(train) + len(valid) + len(test))
    truth = encode_labels(task, labels)
    if config.num_labels is not None:
        train, valid = _draw_labels(
            task,
            truth,
            train,
            config.num_labels,
            seed,
            groups=row_groups(dataset.rows, dataset.preparation.missing),
        )
        if task.type == "regression":
            task = infer_task(labels, train, type=task.type, readout=config.readout)
    tell_absent(task, truth, train)
    weights = _training_weights(read_weights(dataset), config)
    return task, Labelled(dataset, standardise(task, truth), weights, train, valid), test


def split_labels(
    task: TaskConfig, truth: npt.NDArray[np.float64], rows: IntArray, count: int, seed: int
) -> tuple[IntArray, IntArray]:
    """Set `count` of some labelled rows apart, classes in proportion where they allow it.

    Args:
        task: What is predicted.
        truth: `(R, T)`, targets of all rows.
        rows: Positions of the rows.
        count: How many to set apart.
        seed: Draws them.

    Returns:
        Positions of the other rows, and of those apart; ascending.
    """
    classes = truth[rows, 0] if task.type in ("binary", "multiclass") else None
    try:
        kept, apart = train_test_split(rows, test_size=count, stratify=classes, random_state=seed)
    except ValueError:  # a class is too rare to be on both sides
        kept, apart = train_test_split(rows, test_size=count, random_state=seed)
    return np.sort(kept), np.sort(apart)


def _known(labels: Labels) -> npt.NDArray[np.bool_]:
    """Tell the rows in which a target at least is known, `(R,)`."""
    known = [column.is_valid().to_numpy(zero_copy_only=False) for column in labels.values()]
    return np.asarray(np.any(known, 0), np.bool_)


def _draw_labels(
    task: TaskConfig,
    truth: npt.NDArray[np.float64],
    train: IntArray,
    count: int,
    seed: int,
    *,
    groups: npt.NDArray[np.int64] | None,
) -> tuple[IntArray, IntArray]:
    """Draw the labels to learn from, and a fifth of them to validate: whole groups of them."""
    if count > len(train):
        raise DataError(f"{count:,} labels are asked for and {len(train):,} rows have one")
    drawn = train
    if count < len(train):
        _, drawn = split_labels(task, truth, train, count, seed)
    apart = max(1, round(0.2 * count))
    if groups is None or len(np.unique(groups[drawn])) < 2:
        return split_labels(task, truth, drawn, apart, seed)
    splitter = GroupShuffleSplit(1, test_size=apart / count, random_state=seed)
    kept, held = next(splitter.split(drawn, groups=groups[drawn]))
    return drawn[kept], drawn[held]


def check_weights(rows: Labelled) -> None:
    """Refuse a part whose loss would be a sum of nothing.

    Raises:
        DataError: All training or all validation rows have the weight 0.
    """
    for name, index in (("training", rows.train), ("validation", rows.valid)):
        if rows.weights is not None and len(index) and not rows.weights[index].any():
            raise DataError(
                f"all {len(index):,} {name} rows have the weight 0; give some of them a weight "
                "above 0, or split the rows otherwise"
            )


def _training_weights(
    weights: npt.NDArray[np.float64] | None, config: FinetuneConfig
) -> npt.NDArray[np.float32] | None:
    if weights is None:
        return None
    negative = int((weights < 0).sum())
    if negative and config.negative_weights == "error":
        raise DataError(
            f"{negative:,} rows have a negative weight, which a loss cannot be trained with; "
            "set negative_weights to absolute or zero (--set negative_weights=zero)"
        )
    usable = np.abs(weights) if config.negative_weights == "absolute" else np.maximum(weights, 0)
    if not usable.sum() > 0:
        raise DataError("no row has a weight above 0; there is nothing to learn from")
    return np.asarray(usable / usable.mean(), np.float32)
