"""The objective of pretraining: reconstruct what the masking has hidden.

Shapes: B rows, N inputs.
"""

from typing import cast

import torch
from torch import Tensor, nn

from anymae.data.batch import Batch, IntArray, valid_of
from anymae.data.dataset import Dataset
from anymae.model import MaskedAutoencoder, Reconstruction
from anymae.randomness import Draws, row_keys
from anymae.training.objective import Counters


class ReconstructionObjective:
    """Masks and crops follow from (seed, epoch, row), so nothing else has to be remembered.

    Args:
        dataset: The rows.
        model: Says how many inputs of a row will be hidden.
        seed: The run's seed.
    """

    def __init__(self, dataset: Dataset, model: MaskedAutoencoder, *, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self._masking = model.masking

    def load(self, index: IntArray, epoch: int) -> Batch:
        """Read rows; those that are too long show another window in each epoch."""
        rows = torch.from_numpy(self.dataset.rows.numbers_of(index))
        return self.dataset.batch(index, crop=self._draws(rows, epoch))

    def count(self, batch: Batch, counters: Counters) -> float:
        """Return the number of inputs that will be hidden."""
        valid = valid_of(batch)
        return float(self._masking.counts(valid, self._draws(batch.rows, counters.epoch)).sum())

    def loss_sum(self, model: nn.Module, batch: Batch, counters: Counters) -> Tensor:
        """Hide inputs, reconstruct them, and return the sum of their losses."""
        return self._reconstruct(model, batch, counters).loss_sum

    def capture(self, model: nn.Module, batch: Batch, counters: Counters) -> dict[str, Tensor]:
        """Return rows, inputs and masks of a batch."""
        masked = self._reconstruct(model, batch, counters).masked
        found = {"rows": batch.rows, "inputs": batch.inputs, "masked": masked}
        return found if batch.valid is None else {**found, "valid": batch.valid}

    def _reconstruct(self, model: nn.Module, batch: Batch, counters: Counters) -> Reconstruction:
        draws = self._draws(batch.rows, counters.epoch)
        made = model(batch.inputs, valid=batch.valid, progress=counters.progress, draws=draws)
        return cast("Reconstruction", made)

    def _draws(self, rows: Tensor, epoch: int) -> Draws:
        return Draws(row_keys(rows, seed=self.seed, epoch=epoch))
