"""The objective of fine-tuning: answer what is known about each row.

Shapes: B rows, N inputs, O outputs, T targets, C classes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anymae.data.batch import Batch, IntArray
from anymae.inference.computations import Answers
from anymae.inference.compute import Computation, ComputeConfig, compute
from anymae.predictor import Predictor, to_outputs
from anymae.randomness import Draws, row_keys
from anymae.task import FinetuneConfig, TaskConfig
from anymae.training.labelling import Labelled
from anymae.training.losses import task_losses
from anymae.training.memory import within_device
from anymae.training.objective import Counters, Look
from anymae.training.processes import Processes


class AnswerBatch(NamedTuple):
    """Rows with what is known about them."""

    inputs: Tensor
    """`(B, N)` or `(B, N, K)`."""
    valid: Tensor | None
    """`(B, N)`."""
    targets: Tensor
    """`(B, T)`, NaN where unknown."""
    weights: Tensor | None
    """`(B,)`."""


class AnswerObjective:
    """Loss of the known answers, weighted by row and class.

    Args:
        rows: The rows and their targets; by those to learn from, classes are balanced.
        task: What is predicted.
        config: Which loss.
        seed: Of the windows that rows too long are cut to.
    """

    def __init__(
        self, rows: Labelled, task: TaskConfig, *, config: FinetuneConfig, seed: int
    ) -> None:
        self._rows, self._task, self._seed = rows, task, seed
        self._squared_error = config.loss == "squared_error"
        self._class_weights: Tensor | None = None
        if config.imbalance == "balanced" and task.is_classification:
            weights = None if rows.weights is None else rows.weights[rows.train]
            self._class_weights = balance(task, rows.targets[rows.train], weights)

    def load(self, index: IntArray, epoch: int) -> AnswerBatch:
        """Read rows; those that are too long show another window in each epoch."""
        numbers = torch.from_numpy(self._rows.dataset.rows.numbers_of(index))
        return self.read(index, Draws(row_keys(numbers, seed=self._seed, epoch=epoch)))

    def read(self, index: IntArray, crop: Draws | None = None) -> AnswerBatch:
        """Read rows; those that are too long show their beginning, unless `crop` draws a window."""
        rows = self._rows
        batch = rows.dataset.batch(index, crop=crop)
        weights = None if rows.weights is None else torch.from_numpy(rows.weights[index])
        targets = torch.from_numpy(rows.targets[index])
        return AnswerBatch(batch.inputs, batch.valid, targets, weights)

    def count(self, batch: AnswerBatch, counters: Counters) -> float:
        """Return the weight of the batch's known answers."""
        outputs = torch.zeros(len(batch.targets), self._task.num_outputs)
        return float(self.losses(outputs, batch)[1])

    def loss_sum(self, model: nn.Module, batch: AnswerBatch, counters: Counters) -> Tensor:
        """Return the weighted sum of the losses."""
        return self.losses(model(batch.inputs, batch.valid), batch)[0]

    def losses(self, outputs: Tensor, batch: AnswerBatch) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the losses and the sum of the weights."""
        balanced = self._class_weights
        return task_losses(
            self._task,
            outputs,
            batch.targets,
            weights=batch.weights,
            class_weights=None if balanced is None else balanced.to(outputs.device),
            squared_error=self._squared_error,
        )

    def outputs(self, model: nn.Module, batch: AnswerBatch, index: IntArray) -> Tensor:
        """Return what a model says of rows that were `read`, long ones as it will answer them."""
        dataset = self._rows.dataset
        # What is squared as published are logits, of which a mean of probabilities tells nothing.
        if not dataset.reads_windows or self._squared_error:
            found: Tensor = model(batch.inputs, batch.valid)
            return found
        assert isinstance(model, Predictor)
        device = batch.targets.device
        answers = compute(Answers(model), dataset, index, computed_on(device)).values
        return to_outputs(self._task, torch.from_numpy(answers).to(device))

    def row_weights(self, index: IntArray) -> npt.NDArray[np.float32] | None:
        """Return what each row counts, its class included, `(R,)`; `(R, T)` for several labels."""
        weights = self._rows.weights
        found = None if weights is None else weights[index]
        balanced = self._class_weights
        if balanced is None:
            return found
        codes = np.nan_to_num(self._rows.targets[index]).astype(np.int64)
        table = balanced.numpy().reshape(len(balanced), -1)
        of_class = np.take_along_axis(table, codes, 0)
        return np.asarray(of_class if found is None else found[:, None] * of_class)


@dataclass
class AnswerMonitor:
    """Loss over the validation rows.

    Args:
        objective: Knows the loss.
        batches: Positions of the validation rows, batch by batch.
        processes: Share the rows.
        looks: Step and loss of each look, those of an earlier part of the training first.
    """

    objective: AnswerObjective
    batches: list[IntArray]
    processes: Processes
    looks: list[tuple[int, float]]

    @torch.no_grad()
    def __call__(self, model: nn.Module, counters: Counters) -> Look:
        """Evaluate; the model stays in training mode."""
        processes, was_training = self.processes, model.training
        model.eval()
        sums = [0.0, 0.0]
        for index in self.batches[processes.rank :: processes.world]:
            # These batches do not follow from the settings.
            with within_device(processes.device, "a look at the validation rows"):
                batch = processes.send(self.objective.read(index))
                outputs = self.objective.outputs(model, batch, index)
                found = self.objective.losses(outputs, batch)
            sums = [total + float(part) for total, part in zip(sums, found, strict=True)]
        model.train(was_training)
        total, weight = processes.sum(sums)
        loss = total / weight if weight else float("nan")
        self.looks.append((counters.step, loss))
        return Look(loss, {})


class Features(Computation):
    """What the head of a predictor sees of each row, for `compute`."""

    model: Predictor

    def __init__(self, model: Predictor) -> None:
        self.model = model
        self.num_numbers = model.readout.num_features

    def __call__(self, batch: Batch) -> Tensor:
        """Return `(B, F)`."""
        return self.model.features(batch.inputs, batch.valid)


def computed_on(device: torch.device) -> ComputeConfig:
    """Compute where a training runs: of several processes each names its own GPU."""
    # A CPU is numbered then, too.
    return ComputeConfig(device=str(device) if device.type == "cuda" else device.type)


def balance(task: TaskConfig, targets: np.ndarray, weights: np.ndarray | None) -> Tensor:
    """Weigh classes so that each counts alike, and the known answers as much as before.

    Args:
        task: `binary`, `multiclass` or `multilabel`.
        targets: `(R, T)`, NaN where unknown.
        weights: `(R,)` or `None`.

    Returns:
        `(C,)` for `multiclass`, else `(2, T)`: weight of no and of yes. A class that does not
        occur gets 0.
    """
    importance = np.ones(len(targets)) if weights is None else weights
    known = ~np.isnan(targets)
    classes = len(task.classes) if task.type == "multiclass" else 2
    columns = []
    for column, is_known in zip(targets.T, known.T, strict=True):
        codes = column[is_known].astype(np.int64)
        counts = np.bincount(codes, importance[is_known], minlength=classes)
        share = counts.sum() / max(1, (counts > 0).sum())
        columns.append(np.divide(share, counts, out=np.zeros(classes), where=counts > 0))
    table = torch.tensor(np.stack(columns, 1), dtype=torch.float32)
    return table[:, 0] if task.type == "multiclass" else table
