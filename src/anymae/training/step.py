"""One optimizer step: exact over processes and forward passes, and never with a number lost.

The mean of the step is over all its terms, whichever process and forward pass they fall to: the
total is known before the first forward pass, each piece goes backward on its sum times
`world / total` (joining gradients averages them over `world`), then the norm is clipped.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Generic, NamedTuple

import torch
from torch import Tensor, nn

from anymae.config import TrainingConfig
from anymae.randomness import Purpose, row_keys
from anymae.training.loader import Piece
from anymae.training.objective import BatchT, Counters, Objective
from anymae.training.optim import learning_rate, set_learning_rate
from anymae.training.processes import Processes


class StepResult(NamedTuple):
    """What one step was like, over all processes."""

    loss: float
    """Mean over all terms of the step."""
    terms: float
    """Number of terms."""
    grad_norm: float
    """Before clipping."""

    @property
    def is_finite(self) -> bool:
        """False where the step must not be taken."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


@dataclass(eq=False)
class Stepper(Generic[BatchT]):
    """Takes optimizer steps.

    Args:
        model: Prepared by `processes`.
        objective: The loss.
        optimizer: Of the model's parameters.
        config: Learning rate, clipping, precision, seed.
        processes: This process among the others.
    """

    model: nn.Module
    objective: Objective[BatchT]
    optimizer: torch.optim.Optimizer
    config: TrainingConfig
    processes: Processes

    def __post_init__(self) -> None:
        self._trained = [p for p in self.model.parameters() if p.requires_grad]

    def compute(
        self, pieces: Sequence[Piece[BatchT]], counters: Counters, total: float
    ) -> StepResult:
        """Compute the step's loss and gradients, clipped, and leave the weights as they are.

        Args:
            pieces: This process's forward passes.
            counters: Where training stands.
            total: Terms of the whole step, over all processes.
        """
        self.optimizer.zero_grad()
        scale = self.processes.world / (total or 1.0)
        sums = []
        for number, piece in enumerate(pieces):
            is_last = number + 1 == len(pieces)
            alone = nullcontext() if is_last else self.processes.alone(self.model)
            with self.processes.peers(), alone:
                sums.append(self._backward(piece, counters, number, scale))
        limit = self.config.clip if self.config.clip is not None else math.inf
        norm = nn.utils.clip_grad_norm_(self._trained, limit)
        # One wait for the device in each step: both numbers come over together.
        *losses, grad_norm = torch.stack([*sums, norm.to(sums[0].dtype)]).tolist()
        loss = self.processes.sum([math.fsum(losses)])[0] / (total or 1.0)
        return StepResult(loss, total, grad_norm)

    def _backward(
        self, piece: Piece[BatchT], counters: Counters, number: int, scale: float
    ) -> Tensor:
        processes = self.processes
        seed_dropout(self.config.seed, counters.step, rank=processes.rank, piece=number)
        batch = processes.send(piece.batch)
        with self.autocast():
            loss_sum = self.objective.loss_sum(self.model, batch, counters)
        loss_sum = loss_sum * piece.weight
        (loss_sum * scale).backward()
        return loss_sum.detach()

    def autocast(self) -> torch.autocast:
        """Return the context in which a forward pass has the run's precision."""
        is_bf16 = self.config.precision == "bf16"
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=is_bf16)

    def apply(self, counters: Counters) -> float:
        """Take the step that was computed; returns its learning rate."""
        rate = learning_rate(self.config, counters.step, counters.steps)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        return rate


def seed_dropout(seed: int, step: int, *, rank: int, piece: int) -> None:
    """Seed torch's global generator for one forward pass.

    Dropout then follows from where training stands, and no random state has to be stored.
    """
    place = torch.tensor([rank * 4096 + piece])
    key = row_keys(place, seed=seed, epoch=step) ^ int(Purpose.DROP)
    torch.manual_seed(int(key) & (2**63 - 1))
