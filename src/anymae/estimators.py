"""scikit-learn estimators: embed, classify, regress; frozen by default, fine-tuned on request.

They take strings, arrays and tables, and a run folder, a hub id, a model, or nothing: then a
small model is pretrained on X first. They pickle (joblib, copy, GridSearchCV with processes)
through plain data: JSON and the bytes of a safetensors file.
"""

import tempfile
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names,
    _check_sample_weight,
    _check_y,
    _num_samples,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from anymae.config import parse
from anymae.data.dataset import Dataset
from anymae.errors import ConfigError
from anymae.hub import Model, pack, unpack
from anymae.inference.api import open_model
from anymae.inference.computations import Answers, Embeddings, Reading, one_encoder
from anymae.inference.compute import Computation, ComputeConfig, compute
from anymae.inference.novelty import warn_unlike
from anymae.inference.rows import open_rows
from anymae.predictor import to_answers
from anymae.task import FinetuneConfig, ReadoutConfig, TaskConfig
from anymae.training.fit import Rows, finetune_training, fit
from anymae.training.labelling import split_labels
from anymae.training.linear import LinearFit, fit_linear
from anymae.training.pretrain import pretrain
from anymae.training.processes import Processes
from anymae.training.requests import Requests
from anymae.training.targets import Labelled, standardise

Array = npt.NDArray[Any]
Settings = Mapping[str, Any]


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What the three share: opening models and data, and pickling."""

    run: Model | str | Path | None
    pretraining: Settings | None
    device: str
    precision: Literal["auto", "fp32", "bf16"]
    random_state: Any
    n_features_in_: int
    model_: Model

    def _prepare(self, X: Any) -> Dataset:  # noqa: ANN401, N803 - scikit-learn's habit
        """Check X, set `model_`, and open X as its inputs."""
        X = self._checked(X, reset=True)  # noqa: N806
        number = self.random_state
        if not isinstance(number, Integral):
            number = check_random_state(number).randint(2**31 - 1)
        self.seed_ = int(number)
        self.model_ = _pretrain(X, self) if self.run is None else open_model(self.run)
        dataset = open_rows(self.model_, X)
        if self.run is not None:
            warn_unlike(self.model_, dataset)
        self._fitted_on = dataset.preparation.fingerprint
        return dataset

    def _open(self, X: Any) -> Dataset:  # noqa: ANN401, N803
        check_is_fitted(self, "model_")
        dataset = open_rows(self.model_, self._checked(X, reset=False))
        if dataset.preparation.fingerprint != self._fitted_on:
            warn_unlike(self.model_, dataset)
        return dataset

    def _checked(self, X: Any, *, reset: bool) -> Any:  # noqa: ANN401, N803
        """Hold numbers in two dimensions to scikit-learn's rules; the rest is checked later."""
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
        config = ComputeConfig(device=self.device, precision=self.precision)
        return compute(computation, dataset, np.arange(len(dataset)), config).values

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        for name in ("model_", "run"):
            if not isinstance(state.get(name), str | Path | None):
                state[name] = pack(state[name])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in ("model_", "run"):
            if isinstance(state.get(name), dict):
                state = {**state, name: unpack(state[name])}
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        return tags


class Embedder(TransformerMixin, _Estimator):  # type: ignore[misc]
    """Rows to vectors, by an encoder that needed no labels.

    Args:
        run: A run folder, hub id or model; `None` pretrains on X.
        reading: `mean` over latents, or `layers`: mean and deviation after each layer.
        pretraining: Settings of `anymae.pretrain` for `run=None`, such as
            `{"preset": "tiny", "training.steps": 500}`.
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
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "fp32",
        random_state: Any = None,  # noqa: ANN401 - an int or a generator, as everywhere there
    ) -> None:
        self.run = run
        self.reading = reading
        self.pretraining = pretraining
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


class _Supervised(_Estimator):
    """Learns targets: a linear model on frozen features, or all weights."""

    freeze: bool
    reading: Reading
    finetuning: Settings | None
    training: Settings | None
    task_: TaskConfig
    linear_: LinearFit | None

    def __init__(
        self,
        run: Model | str | Path | None = None,
        *,
        freeze: bool = True,
        reading: Reading = "layers",
        finetuning: Settings | None = None,
        training: Settings | None = None,
        pretraining: Settings | None = None,
        device: str = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "fp32",
        random_state: Any = None,  # noqa: ANN401
    ) -> None:
        self.run = run
        self.freeze = freeze
        self.reading = reading
        self.finetuning = finetuning
        self.training = training
        self.pretraining = pretraining
        self.device = device
        self.precision = precision
        self.random_state = random_state

    def _learn(self, X: Any, task: TaskConfig, truth: Array, sample_weight: Any) -> Self:  # noqa: ANN401, N803
        dataset = self._prepare(X)
        targets = standardise(task, truth)
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, targets, dtype=np.float32, ensure_non_negative=True
            )
        self.task_, self.linear_ = task, None
        if self.freeze:
            features = self._numbers(Embeddings(self.model_, self.reading), dataset)
            self.linear_ = fit_linear(task, features, targets, weights=weights, seed=self.seed_)
        else:
            self._finetune(Labelled(dataset, targets, weights), truth)
        return self

    def _finetune(self, labelled: Labelled, truth: Array) -> None:
        """Replace the encoder by one trained on the targets."""
        defaults = {"readout": ReadoutConfig(kind=self.reading)}
        config = parse(FinetuneConfig, {**defaults, **(self.finetuning or {})}, where="finetuning")
        _refuse_elsewhere({"finetuning": self.finetuning or {}, "training": self.training or {}})
        given = {**(self.training or {}), "seed": self.seed_, "device": self.device}
        training = finetune_training({**given, "precision": self.precision})
        named = "learning_rate" in given
        rates = (training.learning_rate,) if named else config.learning_rates
        count = len(labelled.dataset)
        share = max(1, round(config.valid_share * count))
        train, valid = split_labels(self.task_, truth, np.arange(count), share, self.seed_)
        task = self.task_.model_copy(update={"readout": config.readout})
        with Processes(training.device) as processes, Requests() as requests:
            fitted = fit(
                one_encoder(self.model_), task, Rows(labelled, train, valid), config=config,
                training=training, rates=rates, processes=processes, requests=requests,
            )  # fmt: skip
        self.model_ = fitted.predictor
        self.task_ = task

    def _answers(self, X: Any) -> Array:  # noqa: ANN401, N803
        """Return `(rows, A)`, see `TaskConfig.answers`."""
        dataset = self._open(X)
        if self.linear_ is None:
            return self._numbers(Answers(self.model_), dataset)
        features = self._numbers(Embeddings(self.model_, self.reading), dataset)
        outputs = torch.from_numpy(self.linear_.outputs(features))
        return to_answers(self.task_, outputs).numpy()


class Classifier(ClassifierMixin, _Supervised):  # type: ignore[misc]
    """Classes of rows, from few labels.

    Args:
        run: A run folder, hub id or model; `None` pretrains on X.
        freeze: `True` fits a logistic regression to frozen features (seconds), `False` fine-tunes
            all weights.
        reading: `layers` (mean and deviation after each layer) or `mean`.
        finetuning: Keys of `FinetuneConfig` for `freeze=False`.
        training: Keys of `TrainingConfig` for `freeze=False`: `epochs`, `batch_size` ...
        pretraining: Settings of `anymae.pretrain` for `run=None`, such as
            `{"preset": "tiny", "training.steps": 500}`.
        device: `auto`, `cpu`, `cuda` ...
        precision: `auto`, `fp32` or `bf16`.
        random_state: Seed of everything random.

    Attributes:
        classes_: The classes, sorted.
        model_: The encoder, or the fine-tuned network.
        n_features_in_: Columns of X; 1 for strings.
    """

    classes_: Array

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: ANN401, N803
        """Learn the classes `y` of the rows of `X`."""
        check_classification_targets(_targets(y))
        y = column_or_1d(y, warn=True)
        _same_length(X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has {len(self.classes_)} class; at least 2 classes are needed")
        names = tuple(map(str, self.classes_))
        kind: Literal["binary", "multiclass"] = "binary" if len(names) == 2 else "multiclass"
        task = TaskConfig(type=kind, targets=("y",), classes=names)
        return self._learn(X, task, codes[:, None].astype(np.float64), sample_weight)

    def predict_proba(self, X: Any) -> Array:  # noqa: ANN401, N803
        """Return the probability of each class, `(rows, classes)`."""
        return self._answers(X)

    def predict(self, X: Any) -> Array:  # noqa: ANN401, N803
        """Return the most probable class of each row."""
        answers = self._answers(X)
        return np.asarray(self.classes_[answers.argmax(1)])


class Regressor(RegressorMixin, _Supervised):  # type: ignore[misc]
    """One number or several for each row, from few labels.

    Takes what `Classifier` takes; frozen features go to a ridge regression.

    Attributes:
        model_: The encoder, or the fine-tuned network.
        n_features_in_: Columns of X; 1 for strings.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: ANN401, N803
        """Learn the numbers `y`, `(rows,)` or `(rows, targets)`, of the rows of `X`."""
        y = _check_y(_targets(y), multi_output=True, y_numeric=True, estimator=self)
        _same_length(X, y)
        self._single = y.ndim == 1
        truth = np.asarray(y, np.float64).reshape(len(y), -1)
        std = truth.std(0)
        task = TaskConfig(
            type="regression",
            targets=tuple(f"y{number}" for number in range(truth.shape[1])),
            mean=tuple(truth.mean(0).tolist()),
            std=tuple(np.where(std > 0, std, 1.0).tolist()),
        )
        return self._learn(X, task, truth, sample_weight)

    def predict(self, X: Any) -> Array:  # noqa: ANN401, N803
        """Return the numbers of each row, shaped like `y`."""
        answers = self._answers(X).astype(np.float64)
        return answers[:, 0] if self._single else answers

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
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
    words = array.dtype == object and array.ndim == 1 and any(isinstance(s, str) for s in array)
    return array.dtype.kind not in "US" and array.ndim <= 2 and not words


_ELSEWHERE = {
    "finetuning": {"task", "num_labels", "test_share", "seeds", "negative_weights"},
    "training": {"seed", "device", "precision"},
}
"""Keys of what the arguments of an estimator and of `fit` say, or scikit-learn's own tools do."""


def _refuse_elsewhere(given: Mapping[str, Mapping[str, object]]) -> None:
    for name, keys in _ELSEWHERE.items():
        for key in sorted(keys & given[name].keys()):
            raise ConfigError(f"{name}.{key} has no place in an estimator; see its own arguments")


def _targets(y: Any) -> Any:  # noqa: ANN401
    if y is None:
        raise ValueError("this estimator requires y to be passed, but the target y is None")
    return y


def _same_length(X: Any, y: Array) -> None:  # noqa: ANN401, N803
    rows = _num_samples(X)
    if rows != len(y):
        raise ValueError(f"X has {rows} rows and y has {len(y)}; they must be the same number")


def _pretrain(X: Any, estimator: _Estimator) -> Model:  # noqa: ANN401, N803
    """Pretrain a model on X in a folder that is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        run = pretrain(
            X,
            out=Path(folder) / "run",
            seed=estimator.seed_,
            device=estimator.device,
            precision=estimator.precision,
            settings=estimator.pretraining,
        )
        return run.model
