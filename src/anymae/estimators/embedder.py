"""Rows to vectors, for pipelines of scikit-learn."""

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from anymae.estimators.base import Array, Estimator, Settings
from anymae.hub import Model
from anymae.inference.computations import Embeddings, Reading
from anymae.recipes import DataSettings


class Embedder(TransformerMixin, Estimator):  # type: ignore[misc]
    """Rows to vectors, by an encoder that needed no labels.

    Args:
        run: A run folder, hub id or model; `None` pretrains on X.
        reading: `mean` over latents; `layers`: mean and deviation after each layer; `kernel`:
            averaged random cosines after each layer.
        pretraining: Settings of `anymae.pretrain` for `run=None`, such as
            `{"preset": "tiny", "training.steps": 500}`.
        data_config: Keys of `DataConfig` that say how X is read: `too_long`, `missing` ... Where
            it says nothing of long rows, they are an error with a run, and truncated with a
            warning where the model was pretrained on other rows.
        device: `auto`, `cpu`, `cuda` ...
        precision: `auto`, `fp32` or `bf16`.
        random_state: Seed of the pretraining.

    Attributes:
        model_: The encoder.
        n_features_in_: Columns of X; 1 for strings.
    """

    def __init__(
        self,
        run: Model | str | Path | None = None,
        *,
        reading: Reading = "mean",
        pretraining: Settings | None = None,
        data_config: DataSettings | None = None,
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "fp32",
        random_state: Any = None,  # noqa: ANN401 - an int or a generator, as everywhere there
    ) -> None:
        self.run = run
        self.reading = reading
        self.pretraining = pretraining
        self.data_config = data_config
        self.device = device
        self.precision = precision
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ANN401, N803
        """Load the encoder, or pretrain one on X; y is not used."""
        self._prepare(X)
        self._num_numbers = Embeddings(self.model_, self.reading).num_numbers
        return self

    def transform(self, X: Any) -> Array:  # noqa: ANN401, N803
        """Return float32 `(rows, width)`."""
        dataset = self._open(X)
        return self._numbers(Embeddings(self.model_, self.reading), dataset)

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def get_feature_names_out(self, input_features: Any = None) -> Array:  # noqa: ANN401
        """Return `e0`, `e1` ..."""
        check_is_fitted(self, "model_")
        return np.array([f"e{number}" for number in range(self._num_numbers)], dtype=object)
