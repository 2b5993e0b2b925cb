"""What an evaluation of a masked autoencoder looks at.

Guided masks are a moving exam: they get harder as the model learns what belongs together. So the
loss that decides is taken under uniformly random masks that never change; the one under the
model's own masks stands beside it, and each beside what the trivial predictor would lose.

Shapes: B rows, N inputs, D width.
"""

import math
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from anymae.data.batch import Batch, IntArray, valid_of
from anymae.data.dataset import Dataset
from anymae.data.sampler import by_length, spaced
from anymae.errors import DataError, NonFiniteError
from anymae.masking.random import RandomMasking
from anymae.model import MaskedAutoencoder, Reconstruction
from anymae.nn.readout import mean_pool
from anymae.randomness import Draws, Purpose, row_keys
from anymae.training.objective import Counters, Look
from anymae.training.online_probe import OnlineProbe
from anymae.training.processes import Processes
from anymae.training.trivial import fit_trivial, trivial_losses

MOST_EMBEDDED = 256
"""Rows whose embeddings are compared."""


class _Sums(NamedTuple):
    """Sums over validation rows; 0-D, but `(N,)` for the last two."""

    loss: Tensor
    trivial: Tensor
    own_loss: Tensor
    own_trivial: Tensor
    terms: Tensor
    own_terms: Tensor
    rows: Tensor
    """Rows in which something was hidden."""
    gain_squares: Tensor
    """Of what each row's losses are under the trivial ones."""
    gain_terms: Tensor
    terms_squares: Tensor
    again: Tensor
    """Inputs hidden by both of two masks of a row."""
    hidden_at: Tensor
    valid_at: Tensor


class ReconstructionMonitor:
    """Evaluates on the same rows under the same masks, whenever it is called.

    Args:
        dataset: The data.
        rows: Positions of the validation rows to look at.
        train_rows: Positions of training rows, for the trivial predictor.
        model: What will be evaluated.
        batch_size: Rows of a forward pass.
        seed: The run's seed.
        processes: Share the rows.
        probe: Judges embeddings by a known column; `None` doesn't.

    Raises:
        DataError: Nothing can be hidden in any of the validation rows.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        rows: IntArray,
        train_rows: IntArray,
        model: MaskedAutoencoder,
        batch_size: int,
        seed: int,
        processes: Processes,
        probe: OnlineProbe | None = None,
    ) -> None:
        self._dataset, self._processes, self._seed = dataset, processes, seed
        self._batch_size, self._probe = batch_size, probe
        self._batches = by_length(rows, dataset.lengths, batch_size)
        # The longest rows first, so that a look at one batch is mostly all.
        if all(_most_valid(dataset, index) < 2 for index in reversed(self._batches)):
            raise DataError(
                "no validation row has two inputs, so nothing can be hidden in them; name other "
                "validation rows with --split or --valid"
            )
        # How far embeddings are apart takes many rows, of which there may be few held out.
        self._embedded = spaced(train_rows, MOST_EMBEDDED)
        self._trivial = fit_trivial(dataset, train_rows)
        self._random = RandomMasking(model.config.masking, model.config.input)

    @torch.no_grad()
    def __call__(self, model: nn.Module, counters: Counters) -> Look:
        """Evaluate `model`, a `MaskedAutoencoder`.

        Raises:
            NonFiniteError: The weights went too far: what they compute is no number.
        """
        model = cast("MaskedAutoencoder", model)
        model.eval()
        sums = self._sum(model)
        loss = float(sums.loss / sums.terms.clamp(min=1))
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"the validation loss is not finite after step {counters.step}; these weights are "
                "not saved and the last good checkpoint is kept: lower training.learning_rate"
            )
        embeddings = self._embed(model, self._embedded)
        rank, std = spread(embeddings)
        probed = {}
        if self._probe is not None:
            probed[self._probe.name] = self._probe(lambda rows: self._embed(model, rows).numpy())
        model.train()
        values: dict[str, Tensor | float] = {
            "trivial_loss": sums.trivial / sums.terms.clamp(min=1),
            "gain_error": _gain_error(sums),
            "valid_rows": sums.rows,
            "valid_loss_own_masks": sums.own_loss / sums.own_terms.clamp(min=1),
            "trivial_loss_own_masks": sums.own_trivial / sums.own_terms.clamp(min=1),
            "mask_entropy": _relative_entropy(sums.hidden_at, sums.valid_at),
            "mask_overlap": sums.again / sums.own_terms.clamp(min=1),
            "effective_rank": rank,
            "embedding_std": std,
            "embedded_rows": len(embeddings),
            **probed,
        }
        return Look(loss, {name: float(value) for name, value in values.items()})

    def _sum(self, model: MaskedAutoencoder) -> _Sums:
        """Add up over all validation rows and processes."""
        scalars = len(_Sums._fields) - 2
        totals = torch.zeros(scalars + 2 * model.config.input.length, dtype=torch.float64)
        rank, world = self._processes.rank, self._processes.world
        for index in self._batches[rank::world]:
            batch = self._processes.send(self._dataset.batch(index))
            totals += torch.cat(
                [part.reshape(-1).double().cpu() for part in self._look(model, batch)]
            )
        summed = torch.tensor(self._processes.sum(totals.tolist()), dtype=torch.float64)
        return _Sums(*summed[:scalars], *summed[scalars:].chunk(2))

    def _look(self, model: MaskedAutoencoder, batch: Batch) -> _Sums:
        """Evaluate one batch."""
        valid, first, second = valid_of(batch), self._draws(batch, 0), self._draws(batch, 1)
        embedded = model.embedding(batch.inputs)
        chance = first.bits(Purpose.HIDE, valid.shape[1])
        at_random = self._random.hide(chance, valid, first)
        fixed: Reconstruction = model(batch.inputs, valid=batch.valid, masked=at_random)
        own: Reconstruction = model(batch.inputs, valid=batch.valid, draws=first)
        again = model.mask(embedded, batch.valid, second, 1.0)
        trivial = trivial_losses(self._trivial, model.head, batch.inputs, fixed)
        gains = (trivial - fixed.losses).sum(1).double()
        terms = fixed.filled.sum(1)
        return _Sums(
            loss=fixed.loss_sum,
            trivial=trivial.sum(),
            own_loss=own.loss_sum,
            own_trivial=trivial_losses(self._trivial, model.head, batch.inputs, own).sum(),
            terms=fixed.count,
            own_terms=own.count,
            rows=(terms > 0).sum(),
            gain_squares=gains.square().sum(),
            gain_terms=(gains * terms).sum(),
            terms_squares=terms.square().sum(),
            again=(own.masked & again).sum(),
            hidden_at=_per_position(own.masked, model.config.input.length),
            valid_at=_per_position(valid, model.config.input.length),
        )

    def _embed(self, model: MaskedAutoencoder, rows: IntArray) -> Tensor:
        """Return mean-pooled embeddings of ascending positions, `(R, D)`, the same in each process.

        Packed strings give fewer embeddings, in another order.
        """
        parts, pooled = by_length(rows, self._dataset.lengths, self._batch_size), []
        for index in parts:
            batch = self._processes.send(self._dataset.batch(index))
            encoded = model.encode(batch.inputs, valid=batch.valid)
            pooled.append(mean_pool(encoded).float().cpu())
        found = torch.cat(pooled)
        if len(found) != len(rows):
            return found
        return found[torch.from_numpy(np.argsort(np.concatenate(parts)))]

    def _draws(self, batch: Batch, epoch: int) -> Draws:
        return Draws(row_keys(batch.rows, seed=self._seed, epoch=epoch))


def spread(embeddings: Tensor) -> tuple[float, float]:
    """Measure how far embeddings `(R, D)` are apart.

    Returns:
        Their effective rank, exp of the entropy of the normalised singular values (Roy and
        Vetterli 2007), from 1 to D; and the standard deviation over rows, mean over features.
        NaN where an embedding is not finite.
    """
    if not embeddings.isfinite().all():
        return math.nan, math.nan
    centred = embeddings.double() - embeddings.double().mean(0)
    values = torch.linalg.svdvals(centred)
    share = values / values.sum().clamp(min=1e-300)
    entropy = -(share * share.clamp(min=1e-300).log()).sum()
    std = centred.square().mean(0).sqrt().mean()
    return float(entropy.exp()), float(std)


def _gain_error(sums: _Sums) -> float:
    """Return the standard error of trivial loss minus loss, row for row; NaN for fewer than 2 rows.

    Both are ratios of sums over rows, so each row strays by its gain minus the mean gain of as many
    terms (Cochran 1977, section 6.3).
    """
    rows, terms = float(sums.rows), float(sums.terms)
    if rows < 2:
        return math.nan
    mean = float(sums.trivial - sums.loss) / terms
    squares = sums.gain_squares - 2 * mean * sums.gain_terms + mean**2 * sums.terms_squares
    return math.sqrt(max(0.0, float(squares)) * rows / (rows - 1)) / terms


def _relative_entropy(hidden_at: Tensor, valid_at: Tensor) -> Tensor:
    """Return how evenly masks fall over positions: 1 as evenly as inputs do, 0 on one alone."""
    return _entropy(hidden_at) / _entropy(valid_at).clamp(min=1e-12)


def _entropy(counts: Tensor) -> Tensor:
    share = counts / counts.sum().clamp(min=1)
    return -(share * share.clamp(min=1e-300).log()).sum()


def _most_valid(dataset: Dataset, index: IntArray) -> int:
    return int(valid_of(dataset.batch(index)).sum(1).max())


def _per_position(flags: Tensor, length: int) -> Tensor:
    return nn.functional.pad(flags.sum(0), (0, length - flags.shape[1]))
