"""What a frozen encoder says about rows, read in several ways in one pass.

Shapes: B rows of a batch, R rows, M latents, D width, F features.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from anymae.benchmark.candidates import Floats
from anymae.benchmark.suite import Corpus, TaskData, num_rows, take
from anymae.data.batch import Batch, IntArray
from anymae.data.dataset import Dataset
from anymae.inference.compute import Computation, ComputeConfig, compute, placed
from anymae.inference.rows import open_rows
from anymae.model import MaskedAutoencoder
from anymae.nn.encoder import Encoded
from anymae.nn.readout import KernelReadout, layer_statistics
from anymae.task import ReadoutConfig

COMPONENTS, FITTED_ON = 256, 4_000
"""Principal components of all latents side by side, and the unlabelled rows that give them."""


class Reader:
    """Encodes rows, each once, however many tasks they are in.

    The readings of a row: `mean` over its latents; `layers`, mean and deviation after each layer;
    `kernel`, averaged random cosines of the latents after each layer; and, where all rows have
    the same number of latents, `flat`, principal components of the latents side by side.

    Args:
        model: The encoder, in evaluation mode.
        corpus: Unlabelled rows, on which principal components are found.
        readings: Which of them.
        device: Where rows are encoded.
    """

    def __init__(
        self, model: MaskedAutoencoder, corpus: Corpus, readings: Sequence[str], device: str
    ) -> None:
        self._model, self._corpus, self._asked = model, corpus, readings
        self._compute = ComputeConfig(device=device)
        self._known: dict[str, dict[int, Floats]] = {}

    @cached_property
    def _readings(self) -> "_Readings":
        projection = self._fit_projection() if "flat" in self._asked else None
        return _Readings(self._model, self._asked, projection)

    def read(self, key: str, data: TaskData, rows: IntArray) -> dict[str, Floats]:
        """Return float32 `(R, F)` by reading.

        Args:
            key: Tasks with the same key share their rows.
            data: The rows to read.
            rows: What the rows are called among all rows with this key, `(R,)`.
        """
        known = self._known.setdefault(key, {})
        missing = np.array([place for place, row in enumerate(rows.tolist()) if row not in known])
        if len(missing):
            with placed(self._model, self._compute):
                dataset = open_rows(self._model, take(data.inputs, missing), data.config)
                index = np.arange(len(dataset))
                values = compute(self._readings, dataset, index, self._compute).values
            known.update(zip(rows[missing].tolist(), values, strict=True))
        return self._readings.split(np.stack([known[row] for row in rows.tolist()]))

    def _fit_projection(self) -> Tensor | None:
        """Find principal components of the latents; `None` where rows differ in their number."""
        count = num_rows(self._corpus.inputs)
        rows = np.linspace(0, count - 1, min(count, FITTED_ON)).astype(np.int64)
        inputs = take(self._corpus.inputs, rows)
        config = self._corpus.config.model_copy(update={"too_long": "truncate"})
        dataset = open_rows(self._model, inputs, config)
        num_latents = _num_latents(self._model, dataset)
        if num_latents is None:
            return None
        latents = _Flat(self._model, num_latents)
        flat = compute(latents, dataset, np.arange(len(rows)), self._compute).values
        components = min(COMPONENTS, *flat.shape)
        found = PCA(components, svd_solver="randomized", random_state=0).fit(flat).components_
        return torch.from_numpy(np.ascontiguousarray(found.T, np.float32))


class _Readings(Computation):
    """All readings side by side, from one pass: statistics of every layer first."""

    model: MaskedAutoencoder

    def __init__(
        self, model: MaskedAutoencoder, names: Sequence[str], projection: Tensor | None
    ) -> None:
        # The model is where it computes by now; the rest joins it once, not batch by batch.
        device = next(model.parameters()).device
        self.model = model
        config = model.config.encoder
        self._projection = None if projection is None else projection.to(device)
        self._kernel = (
            KernelReadout(ReadoutConfig(kind="kernel"), config).to(device)
            if "kernel" in names
            else None
        )
        width, count = config.width, 2 * (config.depth + 1) * config.width
        places = {"mean": slice(count - 2 * width, count - width), "layers": slice(0, count)}
        if self._kernel is not None:
            places["kernel"] = slice(count, count := count + self._kernel.num_features)
        if projection is not None:
            places["flat"] = slice(count, count := count + projection.shape[1])
        self.num_numbers = count
        self._places = {name: place for name, place in places.items() if name in names}

    def split(self, values: Floats) -> dict[str, Floats]:
        """Return the columns of each reading."""
        return {name: values[:, place] for name, place in self._places.items()}

    def __call__(self, batch: Batch) -> Tensor:
        """Return `(B, F)`."""
        layers = list(self.model.encode_layers(batch.inputs, batch.valid))
        parts = [layer_statistics(layers)]
        if self._kernel is not None:
            parts.append(self._kernel.raw(layers))
        if self._projection is not None:
            parts.append(_in_place(layers[-1], batch).flatten(1) @ self._projection)
        return torch.cat(parts, 1)


class _Flat(Computation):
    """All latents of a row side by side."""

    model: MaskedAutoencoder

    def __init__(self, model: MaskedAutoencoder, num_latents: int) -> None:
        self.model = model
        self.num_numbers = num_latents * model.config.encoder.width

    def __call__(self, batch: Batch) -> Tensor:
        """Return `(B, M D)`."""
        return _in_place(self.model.encode(batch.inputs, batch.valid), batch).flatten(1)


def _in_place(encoded: Encoded, batch: Batch) -> Tensor:
    """Return the latents `(B, M, D)`, those of a transformer where their inputs stand.

    It packs visible inputs to the left, so that behind a missing cell they are another column's.
    """
    latents, seen = encoded
    if seen is None or batch.valid is None:
        return latents
    placed = latents.new_zeros(*batch.valid.shape, latents.shape[2])
    placed[batch.valid] = latents[seen]
    return placed


def _num_latents(model: MaskedAutoencoder, dataset: Dataset) -> int | None:
    """Return M, or `None` where rows differ in it."""
    encoder = model.config.encoder
    if encoder.kind == "perceiver":
        return encoder.num_latents
    return None if dataset.lengths is not None else dataset.input.length
