"""What a model hides of real rows, and what it makes of them.

Shapes: N inputs, K numbers an input, k hidden inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from anymae.data.batch import Batch, IntArray, valid_of
from anymae.data.dataset import Dataset
from anymae.model import MaskedAutoencoder, Reconstruction
from anymae.randomness import Draws, row_keys

Flags = npt.NDArray[np.bool_]

_AT_ONCE = 1 << 14
"""Inputs of the rows that are reconstructed together."""


@dataclass(frozen=True, eq=False)
class Example:
    """One row with some inputs hidden and reconstructed."""

    row: int
    """Number of the row in its source."""
    inputs: npt.NDArray[Any]
    """`(N,)` int64 tokens or `(N, K)` float32 values, as the model sees them."""
    valid: Flags
    """`(N,)`, True where an input is real."""
    masked: Flags
    """`(N,)`, True where an input was hidden."""
    filled: npt.NDArray[Any]
    """The inputs, with the model's best guess where one was hidden."""
    loss: float
    """Mean loss over the hidden inputs."""


def reconstruct(model: MaskedAutoencoder, batch: Batch, *, seed: int = 0) -> list[Example]:
    """Let a model hide a share of each row and reconstruct it.

    Args:
        model: Used as it is, without gradient, with its masking.
        batch: The rows.
        seed: Fixes the masks; a row's mask does not depend on the others.

    Returns:
        One example for each row, in order.
    """
    batch = batch.to(next(model.parameters()).device)
    inputs, valid = batch.inputs, valid_of(batch)
    with torch.no_grad():
        out = model(inputs, batch.valid, draws=Draws(row_keys(batch.rows, seed=seed)))
        guesses = best_guess(model, out)
        losses = out.losses.sum(1) / out.filled.sum(1).clamp(min=1)
    filled = inputs.clone()
    filled[out.masked] = guesses.to(inputs.dtype)
    if model.config.input.positions == "none":
        filled[out.masked] = _beside(inputs, filled, out.masked)
    return [
        Example(
            row=int(batch.rows[i]),
            inputs=inputs[i].cpu().numpy(),
            valid=valid[i].cpu().numpy(),
            masked=out.masked[i].cpu().numpy(),
            filled=filled[i].cpu().numpy(),
            loss=float(losses[i]),
        )
        for i in range(len(inputs))
    ]


def reconstruct_rows(
    model: MaskedAutoencoder, dataset: Dataset, rows: IntArray, *, seed: int = 0
) -> list[Example]:
    """Do so with rows of a data set, positions `(B,)`, a few at a time."""
    size = max(1, _AT_ONCE // dataset.input.length)
    return [
        example
        for first in range(0, len(rows), size)
        for example in reconstruct(model, dataset.batch(rows[first : first + size]), seed=seed)
    ]


def _beside(inputs: torch.Tensor, filled: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """Put guesses of a set's hidden members, in no order, each beside the member that it fits.

    Returned is `(masked.sum(), K)`: each guess once, so that they are least far off in all.
    """
    # Only sets need what takes a third of a second to import.
    from scipy.optimize import linear_sum_assignment

    found = []
    for row, guessed, hidden in zip(inputs, filled, masked, strict=True):
        members, guesses = row[hidden].cpu().double(), guessed[hidden].cpu().double()
        # What is not finite is as far off as can be.
        far = (torch.cdist(members, guesses) ** 2).nan_to_num(nan=1e300, posinf=1e300)
        _, order = linear_sum_assignment(far.numpy())
        found.append(guessed[hidden][torch.from_numpy(order)])
    return torch.cat(found)


def best_guess(model: MaskedAutoencoder, out: Reconstruction) -> torch.Tensor:
    """Return the likeliest input for each prediction: `(masked.sum(),)` tokens, or `(..., K)`."""
    predictions = out.predictions.float()
    kind = model.config.input.kind
    if kind == "bytes":
        return predictions.argmax(-1)
    if kind != "table":
        return predictions
    counts = torch.tensor(model.config.input.categories, device=predictions.device)
    is_category = counts[out.hidden[out.filled]] > 0
    codes = predictions.argmax(-1).to(predictions.dtype)
    return torch.where(is_category, codes, predictions[:, 0])[:, None]


def co_masking(examples: Sequence[Example]) -> npt.NDArray[np.float64]:
    """Count how often inputs are hidden together, against chance.

    Returns:
        `(N, N)`: chance of being hidden given that the row's input is, minus the chance of being
        hidden at all, both over the rows that have both inputs. 0 where no such row hides it.
    """
    # Rows that were read together are as wide as the longest of them.
    masked, valid = np.zeros((2, len(examples), max(len(each.masked) for each in examples)))
    for row, real, example in zip(masked, valid, examples, strict=True):
        row[: len(example.masked)] = example.masked
        real[: len(example.valid)] = example.valid
    hidden = masked.T @ valid  # rows that hide i and have j
    given = np.divide(masked.T @ masked, hidden, out=np.zeros_like(hidden), where=hidden > 0)
    both = valid.T @ valid
    chance = np.divide(hidden.T, both, out=np.zeros_like(both), where=both > 0)
    return np.where(hidden > 0, given - chance, 0.0)
