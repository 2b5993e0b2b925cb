"""Whether new data look like those a model was trained on; what it says of others is a guess."""

from pathlib import Path

import numpy as np

from anymae.config import NUM_SPECIAL
from anymae.data.dataset import Dataset
from anymae.data.kinds.base import sample
from anymae.hub import Model
from anymae.inference.computations import Scores
from anymae.inference.compute import ComputeConfig, compute, placed
from anymae.model import MaskedAutoencoder
from anymae.training.log import read_metrics

MOST_READ, MOST_SCORED = 20_000, 256
"""Rows whose bytes are compared, and rows that are reconstructed."""

ODD = 1.5
"""Multiple of the validation loss above which reconstruction is called poor."""


def unlike_training(
    model: Model, dataset: Dataset, *, run: Path | None = None, config: ComputeConfig | None = None
) -> tuple[str, ...]:
    """Say in what data differ from a model's training data, in sentences.

    Args:
        model: A model with its `data`.
        dataset: Opened for the model.
        run: The model's folder; its log has the loss that reconstruction is compared with.
        config: Device and precision.

    Returns:
        One sentence for each: bytes that did not occur, lengths beyond 98 % of the training rows,
        reconstruction far worse than on the validation rows.
    """
    notes = []
    statistics = (model.data or {}).get("statistics", {})
    index = sample(np.arange(len(dataset)), MOST_READ)
    if "alphabet" in statistics:
        new = sorted(_bytes_of(dataset, index) - set(statistics["alphabet"]))
        if new:
            shown = ", ".join(repr(bytes([byte]))[1:] for byte in new[:10])
            notes.append(f"{len(new)} bytes did not occur in training: {shown}")
    if "lengths" in statistics and dataset.full_lengths is not None:
        low, _, high = statistics["lengths"]
        middle = float(np.median(dataset.full_lengths))
        if not low <= middle <= high:
            notes.append(
                f"rows have {middle:g} inputs in the median; 98 % of the training rows had {low} "
                f"to {high}"
            )
    trained = None if run is None else _validation_loss(run)
    if trained is not None and isinstance(model, MaskedAutoencoder):
        loss = _loss(model, dataset, sample(index, MOST_SCORED), config or ComputeConfig())
        if loss > ODD * trained:
            notes.append(
                f"reconstruction costs {loss:.3g} an input; on the validation rows of the "
                f"training it was {trained:.3g}"
            )
    return tuple(f"the data look unlike the training data: {note}" for note in notes)


def _bytes_of(dataset: Dataset, index: np.ndarray) -> set[int]:
    found: set[int] = set()
    for part in np.array_split(index, -(-len(index) // 1024)):
        tokens = np.unique(dataset.batch(part).inputs.numpy())
        found |= set((tokens[tokens >= NUM_SPECIAL] - NUM_SPECIAL).tolist())
    return found


def _validation_loss(run: Path) -> float | None:
    losses = [e["valid_loss"] for e in read_metrics(run / "metrics.jsonl") if "valid_loss" in e]
    known = [loss for loss in losses if loss is not None]
    return min(known) if known else None


def _loss(
    model: MaskedAutoencoder, dataset: Dataset, index: np.ndarray, config: ComputeConfig
) -> float:
    with placed(model, config):
        values = compute(Scores(model), dataset, index, config).values
    scored = values[~np.isnan(values[:, 0])]
    return float(scored[:, 0].sum() / max(scored[:, 1].sum(), 1))
