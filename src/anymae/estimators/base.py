"""What all estimators share: checking X, opening models and data, and pickling."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_feature_names, check_is_fitted, validate_data

from anymae.config import DataConfig, parse
from anymae.data.dataset import Dataset
from anymae.errors import ConfigError, InterruptedRunError
from anymae.hub import Model, pack, unpack
from anymae.inference.api import open_model
from anymae.inference.computations import Reading
from anymae.inference.compute import Computation, ComputeConfig, compute
from anymae.inference.novelty import warn, warn_unlike
from anymae.inference.rows import open_rows
from anymae.recipes import DataSettings, data_settings
from anymae.task import ReadoutKind
from anymae.training.pretrain import pretrain

Array = npt.NDArray[Any]
Settings = Mapping[str, Any]

_NO_PLACE = (
    "path", "target", "id", "split", "group", "weight", "where", "valid", "test", "split_by",
)  # fmt: skip
"""Keys of what X, y and `sample_weight` are, or what scikit-learn's own tools do."""


class Estimator(BaseEstimator):  # type: ignore[misc]
    """What the three share: opening models and data, and pickling."""

    run: Model | str | Path | None
    reading: Reading
    freeze: bool = True
    pretraining: Settings | None
    data_config: DataSettings | None
    device: str
    precision: Literal["auto", "fp32", "bf16"]
    random_state: Any
    n_features_in_: int
    model_: Model

    def _prepare(self, X: Any) -> Dataset:  # noqa: ANN401, N803 - scikit-learn's habit
        """Check X, set `model_`, and open X as its inputs."""
        number = self.random_state
        if not isinstance(number, Integral):
            number = check_random_state(number).randint(2**31 - 1)
        self.seed_ = int(number)
        self._check_settings()
        X = self._checked(X, reset=True)  # noqa: N806
        self.model_ = _pretrain(X, self) if self.run is None else open_model(self.run)
        dataset = self._read(X)
        if self.run is not None:
            warn_unlike(self.model_, dataset)
        self._fitted_on = dataset.preparation.fingerprint
        return dataset

    def _check_settings(self) -> None:
        """Refuse, before anything is computed, arguments that cannot be."""
        self._read_config()
        self._compute_config()
        # Other readings have to be trained.
        known = get_args(Reading) if self.freeze else get_args(ReadoutKind)
        if self.reading not in known:
            raise ConfigError(f"reading is {self.reading!r}; expected {' or '.join(known)}")

    def _read_config(self) -> DataConfig:
        """Return how X is read; refuse what has no place in an estimator."""
        given = self.data_config
        named = given.model_fields_set if isinstance(given, DataConfig) else given or {}
        for key in _NO_PLACE:
            if key in named:
                raise ConfigError(
                    f"data_config.{key} has no place in an estimator; rows are those of X, answers "
                    "and weights arguments of fit"
                )
        config = data_settings(given)
        if config.on_bad_row == "skip":
            raise ConfigError(
                "data_config.on_bad_row is 'skip', and an estimator answers for each row; leave "
                "bad rows out of X and y"
            )
        return config

    def _compute_config(self) -> ComputeConfig:
        return parse(ComputeConfig, {"device": self.device, "precision": self.precision})

    def _open(self, X: Any) -> Dataset:  # noqa: ANN401, N803
        check_is_fitted(self, "model_")
        dataset = self._read(self._checked(X, reset=False))
        if dataset.preparation.fingerprint != self._fitted_on:
            warn_unlike(self.model_, dataset)
        return dataset

    def _read(self, X: Any) -> Dataset:  # noqa: ANN401, N803
        """Open checked X for the model; what is too long for one pretrained here is truncated."""
        config = self._read_config()
        decided = self.run is not None or config.too_long is not None
        if not decided:
            config = config.model_copy(update={"too_long": "truncate"})
        dataset = open_rows(self.model_, X, config)
        limit, full = dataset.input.length, dataset.full_lengths
        longer = len(dataset) * (dataset.longest > limit) if full is None else (full > limit).sum()
        if longer and not decided:
            warn(
                f"the model that was pretrained here reads {limit:,} inputs, and rows that have "
                f"more, {longer:,} of {len(dataset):,}, are truncated; "
                'data_config={"too_long": ...} says what to do with them'
            )
        return dataset

    def _checked(self, X: Any, *, reset: bool) -> Any:  # noqa: ANN401, N803
        """Hold numbers in two dimensions to scikit-learn's rules; the rest is checked later.

        A column of strings, as scikit-learn's transformers return them, comes back flat.
        """
        X = X[:, 0] if _is_column_of_words(X) else X  # noqa: N806
        if _is_matrix(X):
            least = {"ensure_min_samples": 2, "ensure_min_features": 2} if reset else {}
            return validate_data(self, X, reset=reset, ensure_all_finite="allow-nan", **least)
        columns = getattr(X, "columns", None)
        if columns is not None or reset:
            _check_feature_names(self, X, reset=reset)
        count = 1 if columns is None else len(columns)
        if reset:
            self.n_features_in_ = count
        elif count != self.n_features_in_:
            raise ValueError(
                f"X has {count} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return X

    def _numbers(self, computation: Computation, dataset: Dataset) -> Array:
        rows = np.arange(len(dataset))
        return compute(computation, dataset, rows, self._compute_config()).values

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        # Frozen, the model that was handed over answers: one object has one copy.
        pack_once = cache(pack)
        for name in ("model_", "run"):
            if not isinstance(state.get(name), str | Path | None):
                state[name] = pack_once(state[name])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state, models = dict(state), dict[int, Model]()
        for name in ("model_", "run"):
            packed = state.get(name)
            if isinstance(packed, dict):
                if id(packed) not in models:
                    models[id(packed)] = unpack(packed)
                state[name] = models[id(packed)]
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        return tags


def _is_matrix(X: Any) -> bool:  # noqa: ANN401, N803
    """Tell numbers that scikit-learn has rules for from what only this package reads."""
    if isinstance(X, str | Path) or hasattr(X, "columns"):
        return False
    if hasattr(X, "toarray"):
        return True
    if isinstance(X, list) and all(isinstance(item, str | None) for item in X):
        return False
    try:
        array = X if isinstance(X, np.ndarray) else np.asarray(X)
    except ValueError:
        # Rows of different lengths: no array holds them.
        return False
    return array.dtype.kind not in "US" and array.ndim <= 2 and not _holds_words(array)


def _is_column_of_words(X: Any) -> bool:  # noqa: ANN401, N803
    """Tell an array of one column that holds strings."""
    if not isinstance(X, np.ndarray) or X.ndim != 2 or X.shape[1] != 1:
        return False
    return X.dtype.kind == "U" or (X.dtype == object and any(isinstance(c, str) for c in X.flat))


def _holds_words(array: Array) -> bool:
    """Tell objects among which are strings; in two dimensions, such as are no numbers."""
    if array.dtype != object or not any(isinstance(cell, str) for cell in array.flat):
        return False
    try:
        array.astype(np.float64)
    except (TypeError, ValueError):
        return True
    return array.ndim == 1


@contextmanager
def stopping_all() -> Iterator[None]:
    """Turn a training that was asked to stop into what ends a search with all of its fits.

    Raises:
        KeyboardInterrupt: It was asked to stop; scikit-learn would count an error as a failed fit.
    """
    try:
        yield
    except InterruptedRunError as error:
        stopped = str(error).partition(";")[0]
        raise KeyboardInterrupt(f"{stopped}; nothing is kept") from None


def _pretrain(X: Any, estimator: Estimator) -> Model:  # noqa: ANN401, N803
    """Pretrain a model on X in a folder that is not kept."""
    reading = estimator._read_config().model_dump(exclude_unset=True)
    with tempfile.TemporaryDirectory() as folder, stopping_all():
        run = pretrain(
            X,
            out=Path(folder) / "run",
            seed=estimator.seed_,
            device=estimator.device,
            precision=estimator.precision,
            settings={
                **(estimator.pretraining or {}),
                # Last, as a whole section before would put them away.
                **{f"data.{key}": value for key, value in reading.items()},
            },
        )
        return run.model
