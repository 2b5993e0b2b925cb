"""Whether new data look like those a model was trained on; what it says of others is a guess.

What is compared: the bytes that occur, the length of the median row, and the reconstruction loss
of the median row, which pretraining has measured on its validation rows in the same way and left
in `data.json`. A fine-tuned model has no decoder, so there only bytes and lengths are compared.
"""

import sys
import warnings

import numpy as np
import numpy.typing as npt

from anymae.config import NUM_SPECIAL
from anymae.data.dataset import Dataset
from anymae.data.kinds.base import sample
from anymae.errors import AnymaeWarning
from anymae.hub import Model
from anymae.inference.computations import Scores
from anymae.inference.compute import ComputeConfig, compute
from anymae.model import MaskedAutoencoder

MOST_READ, MOST_SCORED = 20_000, 256
"""Rows whose bytes are compared, and rows that are reconstructed."""

FEWEST_MEASURED = 20
"""Rows whose lengths are compared at least: a single short one is nothing odd."""

ODD = 1.5
"""Multiple of the median validation row's loss above which reconstruction is called poor."""

_BEGIN = "the data look unlike the training data: "


def unlike_training(
    model: Model, dataset: Dataset, config: ComputeConfig | None = None
) -> tuple[str, ...]:
    """Say in what data differ from a model's training data, in sentences.

    Of a fine-tuned model, which has no decoder, only bytes and lengths are checked.

    Args:
        model: A model with its `data`.
        dataset: Opened for the model.
        config: Device and precision.

    Returns:
        One sentence for each: bytes that did not occur, lengths beyond 98 % of the training rows,
        a median row that is reconstructed far worse than the median validation row was.
    """
    notes = unlike_inputs(model, dataset)
    trained = (model.data or {}).get("median_score")
    if trained is None or not isinstance(model, MaskedAutoencoder):
        return notes
    found = median_score(model, dataset, np.arange(len(dataset)), config)
    if found is None or found <= ODD * trained:
        return notes
    return (
        *notes,
        f"{_BEGIN}reconstruction costs {found:.3g} an input in the median row; in the median "
        f"validation row of the training it was {trained:.3g}",
    )


def unlike_inputs(model: Model, dataset: Dataset) -> tuple[str, ...]:
    """Say which bytes and lengths differ from a model's training data, at hardly any cost."""
    notes = []
    statistics = (model.data or {}).get("statistics", {})
    if "alphabet" in statistics:
        index = sample(np.arange(len(dataset)), MOST_READ)
        new = sorted(_bytes_of(dataset, index) - set(statistics["alphabet"]))
        if new:
            shown = ", ".join(repr(bytes([byte]))[1:] for byte in new[:10])
            notes.append(f"{len(new)} bytes did not occur in training: {shown}")
    many = len(dataset) >= FEWEST_MEASURED
    if "lengths" in statistics and dataset.full_lengths is not None and many:
        low, _, high = statistics["lengths"]
        middle = float(np.median(dataset.full_lengths))
        if not low <= middle <= high:
            notes.append(
                f"rows have {middle:g} inputs in the median; 98 % of the training rows had {low} "
                f"to {high}"
            )
    return tuple(_BEGIN + note for note in notes)


def warn_unlike(model: Model, dataset: Dataset) -> None:
    """Warn of new categories, and of bytes and lengths that differ.

    The warning points at the line that called this package.
    """
    for note in (*dataset.unseen, *unlike_inputs(model, dataset)):
        warn(note)


def warn(note: str) -> None:
    """Warn at the line that called this package."""
    warnings.warn(note, AnymaeWarning, stacklevel=_levels_inside())


def median_score(
    model: MaskedAutoencoder,
    dataset: Dataset,
    rows: npt.NDArray[np.int64],
    config: ComputeConfig | None = None,
) -> float | None:
    """Return the median, over a sample of rows, of the mean loss of reconstructing an input.

    Args:
        model: A pretrained model.
        dataset: Opened for the model.
        rows: Positions to sample from.
        config: Device and precision.

    Returns:
        As `score` says it; `None` where no row has two inputs.
    """
    scores, config = Scores(model), config or ComputeConfig()
    values = compute(scores, dataset, sample(rows, MOST_SCORED), config).values
    each = scores.matrix(values)
    each = each[~np.isnan(each)]
    return float(np.median(each)) if len(each) else None


def _bytes_of(dataset: Dataset, index: np.ndarray) -> set[int]:
    found: set[int] = set()
    for part in np.array_split(index, -(-len(index) // 1024)):
        tokens = np.unique(dataset.batch(part).inputs.numpy())
        found |= set((tokens[tokens >= NUM_SPECIAL] - NUM_SPECIAL).tolist())
    return found


def _levels_inside() -> int:
    """Count the callers up to the first outside this package and the estimators' wrappers."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("anymae", "sklearn"):
            break
        level, frame = level + 1, frame.f_back
    return level
