"""What the loop asks of a method, so that pretraining and fine-tuning share it.

Shapes: B rows.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from torch import Tensor, nn

from anymae.data.batch import IntArray

BatchT = TypeVar("BatchT")


class Counters(NamedTuple):
    """Where training stands; everything random about a step follows from these and the seed."""

    step: int
    """Optimizer steps done."""
    steps: int
    """Optimizer steps in all."""
    epoch: int
    """Passes over the training rows done."""

    @property
    def progress(self) -> float:
        """How far training has come, in [0, 1]."""
        return self.step / self.steps


class Objective(Protocol[BatchT]):
    """A loss that is a sum over things that can be counted before the forward pass.

    The count of the whole step, over all processes and forward passes, is known before the first
    of them, so that each contributes its exact share of one mean.
    """

    def load(self, index: IntArray, epoch: int) -> BatchT:
        """Read the rows at positions `index` `(B,)`; may run in another process."""
        ...

    def count(self, batch: BatchT, counters: Counters) -> float:
        """Return how many terms (or how much weight) the batch adds to the mean."""
        ...

    def loss_sum(self, model: nn.Module, batch: BatchT, counters: Counters) -> Tensor:
        """Return the sum of the loss over the batch's terms, 0-D.

        Args:
            model: The network, perhaps wrapped for several processes: call it, read nothing off.
            batch: On the model's device.
            counters: Where training stands.
        """
        ...


class Look(NamedTuple):
    """What an evaluation found."""

    loss: float
    """Decides which checkpoint is the best; smaller is better."""
    values: dict[str, float]
    """Numbers to log, by name."""


Monitor = Callable[[nn.Module, Counters], Look]
"""Evaluates a model while it trains; it comes in, and stays in, training mode."""
