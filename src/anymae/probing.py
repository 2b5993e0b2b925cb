"""What frozen features are worth: linear models and neighbours on top of them.

An encoder is judged beside what needs no pretraining: the raw inputs, and the same encoder with
random weights, which is a strong baseline for simple tasks.

Shapes: R rows, F features, N inputs, K numbers an input.
"""

import copy
import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from anymae.config import parse
from anymae.data.batch import IntArray, valid_of
from anymae.data.dataset import Dataset
from anymae.data.splits import row_groups
from anymae.errors import ConfigError, DataError
from anymae.hub import Model
from anymae.inference.api import open_model
from anymae.inference.computations import Embeddings, Reading
from anymae.inference.compute import ComputeConfig, Progress, compute
from anymae.inference.rows import open_rows
from anymae.inference.seen import count_seen
from anymae.metrics import HEADLINE, Estimate, measure
from anymae.model import MaskedAutoencoder
from anymae.nn.initial import initialise
from anymae.recipes import DataSettings, data_settings
from anymae.task import FinetuneConfig, TaskConfig, TaskType
from anymae.training.judges import are_drawn, tell_few
from anymae.training.labelling import Labelled, check_weights, label
from anymae.training.linear import MANY_CLASSES, fit_linear
from anymae.training.targets import encode_labels, read_labels, read_weights

logger = logging.getLogger(__name__)

Features = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

NEIGHBOURS = 10
HASHED = 1024
"""Features that runs of one to three bytes are hashed to."""
READINGS: tuple[Reading, ...] = ("mean", "layers")
"""How encoders are read unless something else is asked for."""


@dataclass(frozen=True)
class ProbeRow:
    """One kind of features under one model."""

    features: str
    """`encoder`, `random encoder`, `raw` or `encoder + raw`."""
    reading: str
    """How the encoder was read (`Embeddings`); empty for raw features."""
    model: str
    """`linear` or `neighbours`."""
    num_features: int
    metrics: dict[str, dict[str, Estimate]]
    """By target and name."""
    mean: dict[str, Estimate]
    """By name over all targets, see `metrics.Measured`."""


@dataclass(frozen=True)
class Probe:
    """What a probe found."""

    task: TaskConfig
    rows: dict[str, int]
    """Labelled rows: fitted to, and judged on."""
    judged_on: str
    """`test` where the data name such rows, else `valid`."""
    results: tuple[ProbeRow, ...]
    seconds: float

    def headline(self, features: str, reading: str = "", model: str = "linear") -> float | None:
        """Return one row's main metric over all targets (`ProbeRow.mean`)."""
        for row in self.results:
            if (row.features, row.reading, row.model) == (features, reading, model):
                return row.mean[HEADLINE[self.task.type]].value
        raise KeyError((features, reading, model))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "task": self.task.model_dump(mode="json"),
            "rows": self.rows,
            "judged_on": self.judged_on,
            "results": [asdict(row) for row in self.results],
            "seconds": self.seconds,
        }

    def _repr_html_(self) -> str:
        name = HEADLINE[self.task.type]
        lines = [
            f"<tr><td>{row.features} {row.reading}</td><td>{row.model}</td>"
            f"<td>{self.headline(row.features, row.reading, row.model)}</td></tr>"
            for row in self.results
        ]
        return f"<table><tr><th>features</th><th></th><th>{name}</th></tr>{''.join(lines)}</table>"


def probe(
    run: Model | str | Path,
    data: object,
    *,
    target: str | Sequence[str] = (),
    task: TaskType | None = None,
    data_config: DataSettings | None = None,
    num_labels: int | None = None,
    readings: Sequence[Reading] = READINGS,
    resamples: int = 200,
    seed: int = 0,
    config: ComputeConfig | None = None,
    progress: Progress | None = None,
) -> Probe:
    """Judge frozen embeddings beside raw features and an encoder with random weights.

    All are standardised and given to a ridge or logistic regression whose strength is chosen by
    cross-validation, and (the mean embedding) to the nearest neighbours.

    Args:
        run: A model, or a run folder or hub id.
        data: Rows with labels: a path or a Python object.
        target: Columns to predict; may be named in `data_config` instead.
        task: The task, where the values of the targets do not tell.
        data_config: Columns, roles, splits.
        num_labels: Labels to fit to, of which a fifth judge instead where there are no test rows;
            `None` takes all.
        readings: How encoders are read.
        resamples: Bootstrap samples for the intervals.
        seed: Draws splits, labels, folds and the random encoder.
        config: Device and precision.
        progress: Told how many rows are encoded, each once for each encoder and reading.

    Raises:
        ConfigError: `task`, `num_labels` or `readings` is none that can be.
        DataError: The data do not fit the model, or the targets hold nothing to learn from.
    """
    started = time.perf_counter()
    _check_readings(readings)
    data_config = data_settings(data_config).aimed_at(target)
    model = open_model(run)
    dataset = open_rows(model, data, data_config)
    # Linear models take no negative weights; metrics do.
    asked = {"task": task, "num_labels": num_labels}
    shares = parse(FinetuneConfig, {**asked, "valid_share": 0.2, "negative_weights": "zero"})
    found, rows, test = label(dataset, data_config, shares, seed=seed)
    judged_on, held = ("test", test) if len(test) else ("valid", rows.valid)
    fitted = np.union1d(rows.train, rows.valid) if len(test) else rows.train
    if not len(held):
        raise DataError("there are no rows to judge the probe on; name a split column")
    # Of test rows metrics say that they are not defined.
    check_weights(rows._replace(train=fitted, valid=held if judged_on == "valid" else held[:0]))
    if not isinstance(model, MaskedAutoencoder) and {*found.targets} & {*model.task.targets}:
        _warn_of_seen(run, dataset, held)
    judge = Judge(rows._replace(train=fitted, valid=held), found, resamples=resamples, seed=seed)
    judge.tell_few(judged_on, drawn=are_drawn(dataset, judged_on, data_config, num_labels))
    here, index = config or ComputeConfig(), np.r_[fitted, held]
    features = _all_features(model, dataset, index, readings, here, seed, progress)
    results = tuple(judge.all_of(features))
    counts = {"fitted": len(fitted), judged_on: len(held)}
    return Probe(found, counts, judged_on, results, round(time.perf_counter() - started, 2))


def _warn_of_seen(run: Model | str | Path, dataset: Dataset, held: IntArray) -> None:
    """Tell where a fine-tuned model is judged by rows whose labels it has learned."""
    seen = count_seen(dataset, held, Path(run)) if isinstance(run, str | Path) else None
    if seen:
        logger.warning(
            "the model was fine-tuned on %s of the %s rows that judge it, and on their labels: "
            "probe the run it began with, or judge on other rows",
            f"{seen:,}",
            f"{len(held):,}",
        )


def _check_readings(readings: Sequence[str]) -> None:
    known = get_args(Reading)
    odd = [reading for reading in readings if reading not in known]
    if odd or not readings:
        found = f"holds {odd[0]!r}" if odd else "is empty"
        raise ConfigError(f"readings {found}; expected one or more of {', '.join(known)}")


def raw_features(dataset: Dataset, index: IntArray) -> Features:
    """Return the inputs themselves as features, `(R, F)`.

    Strings become counts of runs of one to three bytes, hashed; numbers stand side by side, each
    with a flag where some are missing; a category becomes a flag for each of its codes.
    """
    if dataset.input.kind == "bytes":
        return _hashed_runs(dataset, index)
    batch = dataset.seen(index)
    inputs, valid = batch.inputs.numpy(), valid_of(batch).numpy()
    full = np.where(valid[:, :, None], inputs, 0)
    features = np.concatenate([_codes_apart(dataset, full), valid.astype(np.float32)], 1)
    return features[:, features.std(0) > 0] if len(features) > 1 else features


def _codes_apart(dataset: Dataset, full: Features) -> Features:
    """Lay numbers side by side, `(R, N * K)`, categories as flags."""
    counts = dataset.input.categories
    if not any(counts):
        return full.reshape(len(full), -1)
    columns = []
    for number, count in enumerate(counts):
        cells = full[:, number, 0]
        flags = cells[:, None] == np.arange(count) if count else cells[:, None]
        columns.append(flags.astype(np.float32))
    return np.concatenate(columns, 1)


def _hashed_runs(dataset: Dataset, index: IntArray) -> Features:
    hashed = HashingVectorizer(
        analyzer=_runs, n_features=HASHED, lowercase=False, alternate_sign=False, norm=None
    )
    parts = []
    for cut in range(0, len(index), 4096):
        tokens = dataset.seen(index[cut : cut + 4096]).inputs.numpy()
        texts = ["".join(map(chr, row[row > 5] - 6)) for row in tokens]
        parts.append(hashed.transform(texts).toarray().astype(np.float32))
    return np.asarray(np.log1p(np.concatenate(parts)))


def _runs(text: str) -> list[str]:
    """Cut one to three bytes in a row out of a string, blanks too, as they stand."""
    return [text[at : at + size] for size in (1, 2, 3) for at in range(len(text) - size + 1)]


def _all_features(
    model: Model,
    dataset: Dataset,
    index: IntArray,
    readings: Sequence[Reading],
    config: ComputeConfig,
    seed: int,
    progress: Progress | None = None,
) -> Iterator[tuple[str, str, Features]]:
    """Yield name, reading and features `(R, F)` of everything to be judged."""
    raw = raw_features(dataset, index)
    untrained = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initialise(untrained, untrained.config)
    passes = iter(range(2 * len(readings)))

    def embedded(encoder: Model, reading: Reading) -> Features:
        before = next(passes)

        def told(done: int, total: int) -> None:
            if progress is not None:
                progress(before * total + done, 2 * len(readings) * total)

        return compute(Embeddings(encoder, reading), dataset, index, config, told).values

    for reading in readings:
        features = embedded(model, reading)
        yield "encoder", reading, features
        yield "random encoder", reading, embedded(untrained, reading)
    yield "raw", "", raw
    yield "encoder + raw", readings[-1], np.concatenate([features, raw], 1)


class Judge:
    """Fits models to features of some rows and measures them on others.

    Args:
        rows: Those of `train` are fitted to and come first among the features; those of `valid`
            judge and come after these. Their true answers and weights are read anew.
        task: What is predicted.
        resamples: Bootstrap samples for the intervals.
        seed: Draws folds and samples.
    """

    def __init__(self, rows: Labelled, task: TaskConfig, *, resamples: int, seed: int) -> None:
        self._task, self._resamples, self._seed = task, resamples, seed
        dataset, fitted, held = rows.dataset, rows.train, rows.valid
        self._fitted, self._count = rows.targets[fitted], len(fitted)
        self._truth = encode_labels(task, read_labels(dataset, task.targets))[held]
        given = read_weights(dataset)
        self._weights = None if given is None else np.maximum(given[fitted], 0)
        groups = row_groups(dataset.rows, dataset.preparation.missing)
        self._groups = None if groups is None else groups[fitted]
        self._held_weights = np.ones(len(held)) if given is None else given[held]

    def tell_few(self, part: str, *, drawn: bool) -> None:
        """Warn where the rows that judge, those of `part`, are too few or lack a class."""
        tell_few(self._task, self._truth, self._held_weights, part, drawn=drawn)

    def all_of(self, features: Iterable[tuple[str, str, Features]]) -> Iterator[ProbeRow]:
        """Judge all features linearly, and means by their neighbours too."""
        for name, reading, values in features:
            yield self.linear(name, reading, values)
            if reading == "mean":
                yield self.neighbours(name, reading, values)

    def linear(self, name: str, reading: str, features: Features) -> ProbeRow:
        """Judge a ridge or logistic regression."""
        fitted = fit_linear(
            self._task, features[: self._count], self._fitted, weights=self._weights,
            groups=self._groups, seed=self._seed,
        )  # fmt: skip
        answers = fitted.answers(self._task, features[self._count :]).astype(np.float64)
        return self._row(name, reading, "linear", features, answers)

    def neighbours(self, name: str, reading: str, features: Features) -> ProbeRow:
        """Judge the nearest rows of the standardised features."""
        shift, scale = features[: self._count].mean(0), features[: self._count].std(0) + 1e-6
        near = (features - shift) / scale
        outputs = [self._near(near, place) for place in range(self._fitted.shape[1])]
        answers = outputs[0] if self._task.type == "multiclass" else np.concatenate(outputs, 1)
        return self._row(name, reading, "neighbours", features, answers)

    def _near(self, near: Features, place: int) -> Array:
        """Average the answers of the nearest rows whose target number `place` is known."""
        task, targets = self._task, self._fitted[:, place]
        known = ~np.isnan(targets)
        if self._weights is not None and np.any(self._weights):
            known &= self._weights > 0
        rows, values = near[: self._count][known], targets[known]
        count = min(NEIGHBOURS, len(rows))
        if not count:
            # No row that was drawn and counts has this target known: there is nothing to say.
            nothing = task.mean[place] if task.type == "regression" else 0.5
            return np.full((len(near) - self._count, 1), nothing)
        if task.type == "regression":
            model = KNeighborsRegressor(count).fit(rows, values)
            found = model.predict(near[self._count :]).astype(np.float64)
            return np.asarray((found * task.std[place] + task.mean[place])[:, None])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", MANY_CLASSES, UserWarning)
            model = KNeighborsClassifier(count).fit(rows, values)
        shares = model.predict_proba(near[self._count :])
        classes = len(task.classes) if task.type == "multiclass" else 2
        table = np.zeros((len(shares), classes))
        table[:, model.classes_.astype(int)] = shares
        return table[:, 1:] if task.type == "multilabel" else table

    def _row(
        self, name: str, reading: str, model: str, features: Features, answers: Array
    ) -> ProbeRow:
        measured = measure(
            self._task, self._truth, answers, self._held_weights,
            resamples=self._resamples, seed=self._seed,
        )  # fmt: skip
        return ProbeRow(name, reading, model, features.shape[1], measured.targets, measured.mean)
