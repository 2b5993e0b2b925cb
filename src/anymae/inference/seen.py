"""Which rows a fine-tuned model was trained on, by hashes of their inputs."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anymae.data.batch import IntArray, valid_of
from anymae.data.dataset import Dataset
from anymae.files import read_tensors

SEEN = "train_rows.safetensors"
"""In a fine-tuned model's folder: hashes of the rows that it was trained on."""


def read_seen(folder: Path) -> npt.NDArray[np.uint64] | None:
    """Return the hashes of the rows that a model was trained on, if its folder has them."""
    if not (folder / SEEN).exists():
        return None
    return np.asarray(read_tensors(folder / SEEN)["hashes"].numpy().view(np.uint64))


def count_seen(
    dataset: Dataset, index: IntArray, trained_on: npt.NDArray[np.uint64] | Path | None
) -> int | None:
    """Count rows whose inputs also occur among the training rows.

    Args:
        dataset: Opened for the model.
        index: Positions of the rows.
        trained_on: Hashes of the training rows, or a model folder that remembers them.

    Returns:
        `None` where the training rows are not known, as those of a pretraining.
    """
    known = read_seen(trained_on) if isinstance(trained_on, Path) else trained_on
    if known is None:
        return None
    return int(np.isin(row_hashes(dataset, index), known).sum())


def row_hashes(dataset: Dataset, index: IntArray) -> npt.NDArray[np.uint64]:
    """Return a hash of the inputs of each row, `(R,)`: equal where a model sees the same."""
    out = np.empty(len(index), np.uint64)
    for cut in range(0, len(index), 1024):
        batch = dataset.seen(index[cut : cut + 1024])
        inputs = batch.inputs.numpy()
        valid = valid_of(batch).numpy()
        for row in range(len(inputs)):
            kept = np.ascontiguousarray(inputs[row][valid[row]])
            digest = hashlib.blake2b(kept.tobytes(), digest_size=8)
            if dataset.input.kind == "table":
                # Which cells are missing, also where this batch has none.
                digest.update(valid[row].tobytes())
            out[cut + row] = int.from_bytes(digest.digest(), "little")
    return out
