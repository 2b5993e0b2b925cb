"""The plain baselines of each field: what a practitioner would try first, without an encoder.

Each is a function of the rows that yields candidates; the best on the validation rows is kept, as
for everything else. With `extra` features, those of an encoder, it learns from both.

Shapes: R rows, F features.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from anymae.benchmark.candidates import Candidate, Floats
from anymae.benchmark.linear import MANY_CLASSES, STRENGTHS, linear_candidates
from anymae.benchmark.suite import Task, TaskData
from anymae.errors import require_extra
from anymae.registry import Registry

Baseline = Callable[[Task, TaskData, int, Floats | None], Iterator[Candidate]]
"""(task, rows, seed, features of an encoder `(R, F)` or `None`) to candidates."""

BASELINES: Registry[Baseline] = Registry("baseline")

COMPONENTS = 64
"""Principal components of an encoder's features that a baseline learns from besides its own."""
PENALTIES = (0.1, 1.0, 10.0, 100.0)
"""Of a ridge on sparse features, the weakest first."""
NGRAM_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Inverse penalties on counts of characters, the weakest penalty last."""
TREES = 200
ROUNDS = 300
"""Boosting rounds at most; their number is chosen on validation, every tenth is looked at."""


@BASELINES.register("morgan_forest")
def morgan_forest(
    task: Task, data: TaskData, seed: int, extra: Floats | None
) -> Iterator[Candidate]:
    """Random forest on Morgan fingerprint counts (radius 2, 1024 bins)."""
    features = join(_morgan_counts(_strings(data)), extra, data)
    forest = RandomForestRegressor if task.type == "regression" else RandomForestClassifier
    train, rest = data.parts.train, data.answered
    known = data.labels.of(data.parts.train)
    settings_tried: list[tuple[str | float, int]] = [("sqrt", 1), ("sqrt", 3), (0.2, 1)]
    if task.type == "regression":
        settings_tried.append((1.0, 1))  # The usual choice for numbers.
    for share, leaf in settings_tried:
        model = forest(TREES, max_features=share, min_samples_leaf=leaf, random_state=seed)
        model.fit(features[train], known)
        settings = {"max_features": share, "min_samples_leaf": leaf}
        yield Candidate(settings, answers(model, features[rest], data.num_classes))


@BASELINES.register("boosted_trees")
def boosted_trees(
    task: Task, data: TaskData, seed: int, extra: Floats | None
) -> Iterator[Candidate]:
    """Histogram gradient boosting on the columns."""
    features = join(_columns(data), extra, data)
    boosting = (
        HistGradientBoostingRegressor
        if task.type == "regression"
        else HistGradientBoostingClassifier
    )
    train, rest = data.parts.train, data.answered
    for rate in (0.05, 0.1):
        for leaves in (15, 31):
            model = boosting(
                max_iter=ROUNDS, learning_rate=rate, max_leaf_nodes=leaves,
                early_stopping=False, random_state=seed,
            )  # fmt: skip
            model.fit(features[train], data.labels.of(data.parts.train))
            staged = getattr(model, "staged_predict_proba", model.staged_predict)
            for rounds, found in enumerate(staged(features[rest]), 1):
                if rounds % 10 == 0:
                    settings = {"learning_rate": rate, "leaves": leaves, "rounds": rounds}
                    answered = found.reshape(len(rest), -1)
                    if task.type != "regression":
                        answered = _by_class(answered, model.classes_, data.num_classes)
                    yield Candidate(settings, answered)


@BASELINES.register("kmers")
def kmers(task: Task, data: TaskData, seed: int, extra: Floats | None) -> Iterator[Candidate]:
    """Ridge on one-hot positions, or on counts of one, two and three letters in a row."""
    vectorizers: dict[str, CountVectorizer] = {
        "k-mers": TfidfVectorizer(
            analyzer="char", ngram_range=(1, 3), lowercase=False, max_features=4096,
            dtype=np.float32,
        ),
    }  # fmt: skip
    if data.num_classes <= MANY_CLASSES:
        # Places say something where sequences are aligned, not across a thousand folds.
        vectorizers["one-hot"] = CountVectorizer(analyzer=_places, binary=True, dtype=np.float32)
    for name, vectorizer in vectorizers.items():
        for candidate in _sparse_ridge(task, data, _counts(vectorizer, extra, data)):
            yield candidate._replace(settings={"features": name, **candidate.settings})


@BASELINES.register("ngrams")
def ngrams(task: Task, data: TaskData, seed: int, extra: Floats | None) -> Iterator[Candidate]:
    """Logistic regression on weighted counts of one to four characters in a row."""
    train, rest = data.parts.train, data.answered
    vectorizer = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(1, 4), max_features=50_000, sublinear_tf=True
    )
    features = _counts(vectorizer, extra, data)
    known = data.labels.of(train)
    for strength in NGRAM_STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(features[train], known)
        found = answers(model, features[rest], data.num_classes)
        yield Candidate({"strength": strength}, found)


@BASELINES.register("pixels")
def pixels(task: Task, data: TaskData, seed: int, extra: Floats | None) -> Iterator[Candidate]:
    """Logistic regression on the pixels, or a random forest on them."""
    features = join(data.inputs.reshape(len(data.inputs), -1).astype(np.float32), extra, data)
    yield from linear_candidates(task, data, features)
    train, rest = data.parts.train, data.answered
    model = RandomForestClassifier(TREES, random_state=seed)
    model.fit(features[train], data.labels.of(data.parts.train))
    yield Candidate({"model": "forest"}, answers(model, features[rest], data.num_classes))


def join(features: Floats, extra: Floats | None, data: TaskData) -> Floats:
    """Put features of an encoder, their principal components, beside those of the field.

    Scales and components are those of the training rows.
    """
    if extra is None:
        return features
    train = extra[data.parts.train]
    scaler = StandardScaler().fit(train)
    count = min(COMPONENTS, *train.shape)
    components = PCA(count, svd_solver="randomized", random_state=0).fit(scaler.transform(train))
    found = components.transform(scaler.transform(extra))
    return np.concatenate([features, found.astype(features.dtype)], 1)


def answers(model: Any, features: Any, num_classes: int) -> Floats:  # noqa: ANN401 - any estimator
    """Return numbers `(R, 1)` or probabilities `(R, C)`, also of classes it has not seen."""
    if hasattr(model, "predict_proba"):
        return _by_class(np.asarray(model.predict_proba(features)), model.classes_, num_classes)
    return np.asarray(model.predict(features)).reshape(features.shape[0], -1)


def _by_class(found: Floats, classes: npt.NDArray[Any], num_classes: int) -> Floats:
    """Give every class its column; those that no training row had are never expected."""
    out = np.zeros((len(found), num_classes), found.dtype)
    out[:, np.asarray(classes).astype(np.int64)] = found
    return out


def _strings(data: TaskData) -> list[str]:
    assert isinstance(data.inputs, pa.Table)
    strings: list[str] = data.inputs.column(0).to_pylist()
    return strings


def _places(string: str) -> list[str]:
    """Name each letter with its place."""
    return [f"{place}{letter}" for place, letter in enumerate(string)]


def is_weakest(method: str, settings: Mapping[str, object]) -> bool:
    """Say whether a linear model has the weakest penalty that its method tries."""
    if "penalty" in settings:
        return settings["penalty"] == PENALTIES[0]
    return settings["strength"] == (NGRAM_STRENGTHS if method == "ngrams" else STRENGTHS)[-1]


def _counts(vectorizer: CountVectorizer, extra: Floats | None, data: TaskData) -> Any:  # noqa: ANN401
    """Count what training strings hold, a sparse matrix; features of an encoder stand beside."""
    strings, train = _strings(data), data.parts.train
    vectorizer.fit([strings[row] for row in train])
    counts = vectorizer.transform(strings)
    if extra is None:
        return counts
    scaled = (extra - extra[train].mean(0)) / np.maximum(extra[train].std(0), 1e-6)
    # As long as a row of the sparse features, so that one penalty suits both.
    scaled *= 1 / np.sqrt(scaled.shape[1])
    return sparse.hstack([counts, sparse.csr_array(scaled.astype(np.float32))], format="csr")


def _sparse_ridge(task: Task, data: TaskData, features: Any) -> Iterator[Candidate]:  # noqa: ANN401
    train, rest = data.parts.train, data.answered
    known = data.labels.of(train)
    if data.num_classes > MANY_CLASSES:
        yield from linear_candidates(task, data, features.toarray())
        return
    targets = known if task.type == "regression" else np.eye(data.num_classes)[known.astype(int)]
    for penalty in PENALTIES:
        model = Ridge(penalty, solver="sparse_cg", tol=1e-4).fit(features[train], targets)
        yield Candidate({"penalty": penalty}, answers(model, features[rest], data.num_classes))


def _columns(data: TaskData) -> npt.NDArray[np.float64]:
    """Return numbers as they are and categories as indicators."""
    if not isinstance(data.inputs, pa.Table):
        plain: npt.NDArray[np.float64] = data.inputs.reshape(len(data.inputs), -1).astype("f8")
        return plain
    numeric, categories = [], []
    for column in data.inputs.columns:
        if pa.types.is_large_string(column.type):
            categories.append(np.array(column.fill_null("").to_pylist(), dtype=object))
        else:
            numeric.append(np.asarray(column.cast(pa.float64()).to_numpy()))
    parts = [np.stack(numeric, 1)] if numeric else []
    if categories:
        encoder = OneHotEncoder(min_frequency=20, sparse_output=False, handle_unknown="ignore")
        table = np.stack(categories, 1)
        parts.append(encoder.fit(table[data.parts.train]).transform(table))
    return np.concatenate(parts, 1)


def _morgan_counts(strings: list[str]) -> npt.NDArray[np.float32]:
    require_extra("chem", "the baseline needs RDKit", "rdkit")
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    counts = np.zeros((len(strings), 1024), np.float32)
    with rdBase.BlockLogs():
        for row, string in enumerate(strings):
            molecule = Chem.MolFromSmiles(string)
            if molecule is not None:
                counts[row] = generator.GetCountFingerprintAsNumPy(molecule)
    return counts
