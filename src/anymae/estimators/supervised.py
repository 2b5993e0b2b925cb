"""Classes and numbers of rows, learned from few labels."""

import math
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, _check_y, _num_samples, column_or_1d

from anymae.config import TrainingConfig, parse
from anymae.errors import ConfigError, DataError
from anymae.estimators.base import Array, Estimator, Settings, stopping_all
from anymae.hub import Model
from anymae.inference.computations import Answers, Embeddings, Reading, one_encoder
from anymae.inference.novelty import warn
from anymae.predictor import members_of
from anymae.recipes import DataSettings
from anymae.task import FinetuneConfig, TaskConfig
from anymae.training.fit import finetune_training, fit
from anymae.training.labelling import Labelled, check_weights, split_labels
from anymae.training.linear import LinearFit, fit_linear
from anymae.training.processes import Processes
from anymae.training.requests import Requests
from anymae.training.targets import standardise

_ELSEWHERE = {
    "finetuning": {"task", "num_labels", "test_share", "seeds", "negative_weights"},
    "training": {"seed", "device", "precision"},
}
"""Keys of what the arguments of an estimator and of `fit` say, or scikit-learn's own tools do."""


class _Supervised(Estimator):
    """Learns targets: a linear model on frozen features, or all weights."""

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
        data_config: DataSettings | None = None,
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
        self.data_config = data_config
        self.device = device
        self.precision = precision
        self.random_state = random_state

    def _learn(self, X: Any, task: TaskConfig, truth: Array, sample_weight: Any) -> Self:  # noqa: ANN401, N803
        targets = standardise(task, truth)
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, targets, dtype=np.float32, ensure_non_negative=True
            )
            if not weights.any():  # only newer versions of scikit-learn refuse it
                raise DataError("no row has a weight above 0; there is nothing to learn from")
        dataset = self._prepare(X)
        if len(dataset) != len(truth):
            raise ValueError(_unequal(len(dataset), len(truth)))
        self.task_, self.linear_ = task, None
        if self.freeze:
            features = self._numbers(Embeddings(self.model_, self.reading), dataset)
            self.linear_ = fit_linear(task, features, targets, weights=weights, seed=self.seed_)
        else:
            every = np.arange(len(dataset))
            self._finetune(Labelled(dataset, targets, weights, every, every[:0]), truth)
        return self

    def _check_settings(self) -> None:
        super()._check_settings()
        self._learning()
        if self.freeze and (self.finetuning or self.training):
            warn(
                "finetuning and training have no effect where the encoder is frozen; leave them "
                "out, or fine-tune it with freeze=False"
            )

    def _learning(self) -> tuple[FinetuneConfig, TrainingConfig, tuple[float, ...]]:
        """Return how all weights are trained, and the peak learning rates that compete."""
        finetuning, training = self.finetuning or {}, self.training or {}
        for name, given in (("finetuning", finetuning), ("training", training)):
            for key in sorted(_ELSEWHERE[name] & given.keys()):
                raise ConfigError(
                    f"{name}.{key} has no place in an estimator; see its own arguments"
                )
        readout = {"readout": {"kind": self.reading}}
        config = parse(FinetuneConfig, {**readout, **finetuning}, where="finetuning")
        about = {"seed": self.seed_, "device": self.device, "precision": self.precision}
        chosen = finetune_training({**training, **about})
        named = "learning_rate" in training
        return config, chosen, (chosen.learning_rate,) if named else config.learning_rates

    def _finetune(self, labelled: Labelled, truth: Array) -> None:
        """Replace the encoder by one trained on the targets."""
        config, training, rates = self._learning()
        rows = self._divide(labelled, truth, config.valid_share)
        task = self.task_.model_copy(update={"readout": config.readout})
        with Processes(training.device) as processes, stopping_all(), Requests() as requests:
            fitted = fit(
                one_encoder(self.model_), task, rows, config=config, training=training,
                rates=rates, processes=processes, requests=requests,
            )  # fmt: skip
        self.model_ = fitted.predictor
        self.task_ = task

    def _divide(self, labelled: Labelled, truth: Array, share: float) -> Labelled:
        """Draw validation rows among those that count."""
        every, weights = labelled.train, labelled.weights
        counted = every if weights is None else np.flatnonzero(weights)
        if weights is not None and len(counted) < 2:
            raise DataError(
                f"{len(counted)} of {len(every):,} rows has a weight above 0; at least 2 are "
                "needed, to learn from and to validate"
            )
        count = min(max(1, round(share * len(counted))), len(counted) - 1)
        _, valid = split_labels(self.task_, truth, counted, count, self.seed_)
        rows = labelled._replace(train=np.setdiff1d(every, valid), valid=valid)
        check_weights(rows)
        return rows

    def _answers(self, X: Any) -> Array:  # noqa: ANN401, N803
        """Return `(rows, A)`, see `TaskConfig.answers`."""
        dataset = self._open(X)
        if self.linear_ is not None:
            features = self._numbers(Embeddings(self.model_, self.reading), dataset)
            return self.linear_.answers(self.task_, features)
        return np.asarray(members_of(self.task_, self._numbers(Answers(self.model_), dataset))[0])


class Classifier(ClassifierMixin, _Supervised):  # type: ignore[misc]
    """Classes of rows, from few labels.

    Args:
        run: A run folder, hub id or model; `None` pretrains on X.
        freeze: `True` fits a logistic regression to frozen features (seconds), `False` fine-tunes
            all weights.
        reading: `layers` (mean and deviation after each layer), `mean`, or `kernel` (averaged
            random cosines after each layer).
        finetuning: Keys of `FinetuneConfig` for `freeze=False`.
        training: Keys of `TrainingConfig` for `freeze=False`: `epochs`, `batch_size` ...
        pretraining, data_config, device, precision: As `Embedder` takes them.
        random_state: Seed of everything random.

    Attributes:
        classes_: The classes, sorted.
        model_: The encoder, or the fine-tuned network.
        n_features_in_: Columns of X; 1 for strings.
    """

    classes_: Array

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: ANN401, N803
        """Learn the classes `y` of the rows of `X`."""
        _refuse_missing(_targets(y))
        check_classification_targets(y)
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
        answers = self._answers(X)
        return answers[:, 0] if self._single else answers

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _targets(y: Any) -> Any:  # noqa: ANN401
    if y is None:
        raise ValueError("this estimator requires y to be passed, but the target y is None")
    return y


def _refuse_missing(y: Any) -> None:  # noqa: ANN401
    """Refuse labels that are not there, which would pass for numbers or a class of their own."""
    cells = np.asarray(y).ravel().tolist()
    count = sum(cell is None or (isinstance(cell, float) and math.isnan(cell)) for cell in cells)
    if count:
        raise ValueError(
            f"{count:,} of the {len(cells):,} labels in y are missing (None or NaN); leave these "
            "rows out of X and y"
        )


def _same_length(X: Any, y: Array) -> None:  # noqa: ANN401, N803
    # What a file holds is known once it is open.
    if not isinstance(X, str | Path) and _num_samples(X) != len(y):
        raise ValueError(_unequal(_num_samples(X), len(y)))


def _unequal(rows: int, labels: int) -> str:
    return f"X has {rows} rows and y has {labels}; they must be the same number"
