"""Which rows this process reads in each step, and reading them ahead of time.

The global batch of a step follows from the seed; processes take equal shares of it and cut them
into forward passes. Nothing is drawn in sequence, so loading starts at any step.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from anymae.data.batch import IntArray
from anymae.data.sampler import Order, share
from anymae.training.objective import BatchT, Objective


class Piece(NamedTuple, Generic[BatchT]):
    """One forward pass of one process."""

    batch: BatchT
    positions: IntArray
    """Positions of the rows in the data set, `(B,)`."""
    weight: float
    """1, or 0 where a process without rows of its own computes along for the others."""


@dataclass(eq=False)
class StepLoader(Dataset[list[Piece[BatchT]]]):
    """The pieces of each step.

    Args:
        objective: Reads rows.
        order: Which of `rows` make up the global batch of each step.
        rows: Positions of the training rows in the data set.
        piece: Rows of one forward pass at most.
        rank: This process.
        world: Number of processes.
    """

    objective: Objective[BatchT]
    order: Order
    rows: IntArray
    piece: int
    rank: int = 0
    world: int = 1

    def __getitem__(self, step: int) -> list[Piece[BatchT]]:
        """Read this process's pieces of global step `step`."""
        return self.pieces(step, self.rank)

    def index(self, step: int) -> IntArray:
        """Return the rows of the global batch of a step, as positions in the data set."""
        return self.rows[self.order.batch(step)]

    def pieces(self, step: int, rank: int) -> list[Piece[BatchT]]:
        """Read the pieces of process `rank`."""
        whole = self.index(step)
        mine = share(whole, rank=rank, world=self.world)
        # Every process has to take part in every step, also one that is left without rows.
        weight, mine = (1.0, mine) if len(mine) else (0.0, whole[:1])
        epoch = self.order.epoch_of(step)
        cuts = np.split(mine, range(self.piece, len(mine), self.piece))
        return [Piece(self.objective.load(cut, epoch), cut, weight) for cut in cuts]

    def from_step(self, first: int, end: int, *, workers: int) -> Iterator[list[Piece[BatchT]]]:
        """Read steps `first` to `end` in order, in `workers` other processes if not 0."""
        if not workers:
            return (self[step] for step in range(first, end))
        # Workers start from a copy of this process: nothing has to be sent to them.
        context = "fork" if sys.platform == "linux" else None
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=range(first, end),
            num_workers=workers,
            multiprocessing_context=context,
            # Without an own generator the loader would draw from torch's global one.
            generator=torch.Generator(),
        )
        return iter(loader)
