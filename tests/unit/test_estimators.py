"""The estimators follow scikit-learn's rules, take strings and tables, and pickle without torch."""

import copy
import pickle
import signal
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from anymae.config import DataConfig
from anymae.errors import AnymaeWarning, ConfigError, DataError
from anymae.estimators import Classifier, Embedder, Regressor
from anymae.hub import save
from anymae.inference import ComputeConfig, embed
from anymae.model import MaskedAutoencoder
from anymae.training.fit import fit
from anymae.training.requests import Requests
from models import pretrained, strings
from runs import Cut

QUICK = {
    "preset": "tiny", "encoder.depth": 1, "encoder.width": 16, "encoder.num_heads": 2,
    "training.steps": 2, "training.batch_size": 16,
}  # fmt: skip
COMMON: dict[str, Any] = {"pretraining": QUICK, "device": "cpu", "random_state": 0}

ROUNDED = {
    "check_methods_subset_invariance": "asks for 1e-7, and float32 products of matrices of other "
    "sizes are rounded otherwise; see test_rows_are_predicted_alike_alone_and_together"
}
REPEATED = {
    "check_sample_weight_equivalence_on_dense_data": "without a run, X is pretrained on, and "
    "repeating a row changes both that and the folds of the cross-validation"
}


def expected_failures(estimator: object) -> dict[str, str]:
    return ROUNDED if isinstance(estimator, Embedder) else ROUNDED | REPEATED


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@parametrize_with_checks(
    [Embedder(**COMMON), Classifier(**COMMON), Regressor(**COMMON)],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_rules_hold_for_arrays(estimator: Any, check: Any) -> None:
    check(estimator)


def test_rows_of_other_lengths_and_missing_strings_are_no_matrix() -> None:
    draw = np.random.default_rng(0)
    jets = [draw.normal(size=(3 + n % 3, 2)) for n in range(24)]
    assert Embedder(**COMMON).fit(jets).transform(jets).shape == (24, 16)
    words = pd.Series(["CCO", None, "CC"] * 8)
    with pytest.raises(DataError, match="row 1 is empty or missing"):
        Embedder(**COMMON).fit(words)


@pytest.mark.parametrize("kind", [str, object])
def test_a_column_of_strings_is_taken_as_strings(
    kind: Any, model: MaskedAutoencoder, texts: list[str]
) -> None:
    column = np.array(texts, kind)[:, None]
    fitted = Embedder(model).fit(column)
    np.testing.assert_array_equal(fitted.transform(column), fitted.transform(texts))
    assert fitted.n_features_in_ == 1
    with pytest.raises(DataError, match="in 2 dimensions; expected are numbers, or strings in 1"):
        Embedder(model).fit(np.concatenate([column, column], 1))


def test_names_of_an_earlier_fit_are_forgotten() -> None:
    frame = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0) % 3})
    embedder = Embedder(**COMMON).fit(frame)
    assert embedder.feature_names_in_.tolist() == ["a", "b"]
    embedder.fit(["C" * (n % 5 + 1) for n in range(20)])
    assert not hasattr(embedder, "feature_names_in_")


@pytest.mark.parametrize(
    "asked", [{"finetuning": {"seeds": 5}}, {"training": {"precision": "bf16"}}]
)
def test_what_an_estimator_has_other_words_for_is_refused(asked: dict[str, Any]) -> None:
    rows, y = ["C" * (n % 5 + 1) for n in range(20)], np.arange(20.0)
    with pytest.raises(ConfigError, match="has no place in an estimator"):
        Regressor(freeze=False, **asked, **COMMON).fit(rows, y)


@pytest.mark.parametrize("kind", [Embedder, Classifier, Regressor])
def test_rows_are_predicted_alike_alone_and_together(kind: Any) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    fitted = kind(**COMMON).fit(x, (x[:, 0] > 0).astype(int))
    method = {Embedder: "transform", Classifier: "predict_proba", Regressor: "predict"}[kind]
    predict = getattr(fitted, method)
    alone = np.concatenate([predict(row[None]) for row in x])
    np.testing.assert_allclose(alone, predict(x), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def model() -> MaskedAutoencoder:
    torch.manual_seed(1)
    return pretrained(strings(50), width=32)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return strings(60)


@pytest.fixture(scope="module")
def oxygens(texts: list[str]) -> np.ndarray:
    return np.array([text.count("O") for text in texts])


def test_a_folder_and_a_model_embed_alike(
    model: MaskedAutoencoder, texts: list[str], tmp_path: Path
) -> None:
    save(model, tmp_path / "run")
    from_folder = Embedder(str(tmp_path / "run")).fit_transform(texts)
    np.testing.assert_array_equal(from_folder, embed(model, texts))
    np.testing.assert_array_equal(Embedder(model).fit(texts).transform(texts), from_folder)
    frame = pd.DataFrame({"smiles": texts})
    np.testing.assert_array_equal(Embedder(model).fit(frame).transform(frame), from_folder)


def test_few_labels_are_learned_frozen_and_fine_tuned(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray
) -> None:
    many = np.where(oxygens >= np.median(oxygens), "many", "few")
    for freeze in (True, False):
        classifier = Classifier(
            model, freeze=freeze, device="cpu", random_state=0,
            training=None if freeze else {"steps": 30, "learning_rate": 3e-3},
        ).fit(texts, many)  # fmt: skip
        assert classifier.classes_.tolist() == ["few", "many"]
        assert classifier.score(texts, many) > 0.9
        chances = classifier.predict_proba(texts)
        np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)
        chosen = classifier.classes_[chances.argmax(1)]
        np.testing.assert_array_equal(classifier.predict(texts), chosen)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    regressor = Regressor(
        model, freeze=False, device="cpu", random_state=0,
        training={"steps": 30, "learning_rate": 3e-3},
    ).fit(texts, oxygens)  # fmt: skip
    assert regressor.score(texts, oxygens) > 0.7
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_several_numbers_are_predicted_together(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray
) -> None:
    both = np.stack([oxygens, [100 + 10 * len(text) for text in texts]], 1)
    fitted = Regressor(model).fit(texts, both)
    assert fitted.predict(texts).shape == (60, 2)
    assert fitted.score(texts, both) > 0.9


def test_they_work_in_pipelines_grids_and_cross_validation(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray
) -> None:
    some = (oxygens > 2).astype(int)
    pipeline = make_pipeline(Embedder(model), StandardScaler(), LogisticRegression())
    assert cross_val_score(pipeline, texts, some, cv=3).mean() > 0.7
    grid = GridSearchCV(Classifier(model), {"reading": ["mean", "layers", "kernel"]}, cv=3)
    grid.fit(np.array(texts), some)
    assert set(grid.cv_results_["param_reading"]) == {"mean", "layers", "kernel"}
    assert grid.best_estimator_.predict(texts).shape == (60,)


def test_parameters_survive_clone_and_setting(model: MaskedAutoencoder) -> None:
    estimator = Classifier("runs/x", freeze=False, reading="mean", random_state=3)
    assert clone(estimator).get_params() == estimator.get_params()
    assert clone(Classifier(model)).get_params()["run"] is not None
    assert estimator.set_params(reading="layers").reading == "layers"
    with pytest.raises(NotFittedError):
        estimator.predict(["CCO"])


@pytest.mark.parametrize("freeze", [True, False])
def test_pickles_hold_plain_data_and_predict_alike(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray, freeze: bool, tmp_path: Path
) -> None:
    estimator = Regressor(
        model, freeze=freeze, device="cpu",
        training=None if freeze else {"steps": 2, "learning_rate": 1e-3},
    ).fit(texts, oxygens)  # fmt: skip
    expected = estimator.predict(texts)
    data = pickle.dumps(estimator)
    assert b"torch" not in data
    joblib.dump(estimator, tmp_path / "e.joblib")
    for again in (pickle.loads(data), joblib.load(tmp_path / "e.joblib"), copy.deepcopy(estimator)):
        np.testing.assert_array_equal(again.predict(texts), expected)
        assert isinstance(again.run, MaskedAutoencoder)
        assert (again.run is again.model_) == freeze
    assert data.count(b"encoder.blocks.0.norm.weight") in ((1,) if freeze else (2,))


@pytest.mark.parametrize("freeze", [True, False])
def test_numbers_far_from_zero_are_answered_to_the_last_digit(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray, freeze: bool
) -> None:
    """Seconds since 1970, which float32 counts by 128."""
    training = None if freeze else {"steps": 2, "learning_rate": 1e-3}
    found = []
    for since in (0.0, 1.7e9):
        regressor = Regressor(model, freeze=freeze, device="cpu", random_state=0, training=training)
        found.append(regressor.fit(texts, since + oxygens).predict(texts) - since)
    assert len(np.unique(found[0])) > 50
    np.testing.assert_allclose(found[1], found[0], atol=1e-3)


def test_weights_count_rows(model: MaskedAutoencoder, texts: list[str]) -> None:
    y = np.r_[np.zeros(30), np.ones(30)]
    heavy = np.r_[np.ones(30), np.full(30, 50.0)]
    plain = Classifier(model).fit(texts, y).predict_proba(texts)[:, 1].mean()
    assert (
        Classifier(model).fit(texts, y, sample_weight=heavy).predict_proba(texts)[:, 1].mean()
        > plain
    )


def test_weights_that_are_all_equal_change_nothing_however_small(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray
) -> None:
    def fitted(weight: float) -> np.ndarray:
        regressor = Regressor(
            model, freeze=False, device="cpu", random_state=0,
            training={"steps": 10, "learning_rate": 3e-3},
        )  # fmt: skip
        regressor.fit(texts, oxygens, sample_weight=np.full(len(texts), weight))
        return np.asarray(regressor.predict(texts))

    np.testing.assert_allclose(fitted(1e-3), fitted(1.0), atol=1e-2)


def test_tables_of_several_columns_are_taken_by_name() -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({
        "x": draw.normal(size=40), "w": draw.normal(size=40),
        "color": draw.choice(["red", "blue"], 40), "hole": draw.normal(size=40),
    })  # fmt: skip
    frame.loc[::3, "hole"] = np.nan
    y = np.where(frame.x + (frame.color == "red") > 0.5, "on", "off")
    for freeze in (True, False):
        classifier = Classifier(
            **COMMON, freeze=freeze,
            training=None if freeze else {"steps": 2, "learning_rate": 1e-3},
        ).fit(frame, y)  # fmt: skip
        assert classifier.n_features_in_ == 4
        assert classifier.feature_names_in_.tolist() == ["x", "w", "color", "hole"]
        assert classifier.predict_proba(frame).shape == (40, 2)
    embedder = Embedder(**COMMON).fit(frame)
    found = embedder.transform(frame)
    assert found.shape == (40, 16) and np.isfinite(found).all()
    some = frame.iloc[5:9]
    np.testing.assert_allclose(embedder.transform(some), found[5:9], atol=1e-5)
    with pytest.raises(ValueError, match="same order"):
        embedder.transform(frame[["w", "x", "color", "hole"]])
    with pytest.raises(ValueError, match="Feature names"):
        embedder.transform(frame[["x", "w", "color"]])


def test_series_of_vectors_are_taken_as_arrays_of_three_dimensions() -> None:
    x = np.random.default_rng(0).normal(size=(40, 6, 2))
    y = x[:, :, 0].mean(1)
    regressor = Regressor(**COMMON).fit(x, y)
    assert regressor.predict(x).shape == (40,)
    np.testing.assert_allclose(regressor.predict(x[3:5]), regressor.predict(x)[3:5], rtol=1e-3)
    assert Embedder(**COMMON).fit_transform(x).shape == (40, 16)
    scores = cross_val_score(Classifier(**COMMON), x, (y > 0).astype(int), cv=2)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", [Embedder, Regressor])
def test_strings_longer_than_those_pretrained_on_are_cut_with_a_warning(kind: Any) -> None:
    short = ["CO" * (n % 3 + 1) for n in range(20)]
    fitted = kind(**COMMON).fit(short, np.arange(20.0) % 7)
    ask = fitted.transform if kind is Embedder else fitted.predict
    long = "CO" * 30
    with pytest.warns(AnymaeWarning, match="8 inputs.* 1 of 2, are truncated") as told:
        found = ask(["CO", long])
    assert told[0].filename == __file__
    with pytest.warns(AnymaeWarning, match="truncated"):
        np.testing.assert_allclose(found[1:], ask(["CO" * 4 + "N"]), rtol=1e-4, atol=1e-5)
    scores = cross_val_score(Regressor(**COMMON, data_config={"too_long": "crop"}),
                             [*short, long], np.arange(21.0), cv=3)  # fmt: skip
    assert np.isfinite(scores).all()
    strict = kind(**COMMON, data_config={"too_long": "error"}).fit(short, np.arange(20.0))
    with pytest.raises(DataError, match="too long"):
        (strict.transform if kind is Embedder else strict.predict)([long])


def test_rows_that_no_model_will_read_are_refused_before_pretraining(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = ["CO" * 600, *strings(20)]
    settings = {**QUICK, "encoder.kind": "transformer"}
    with monkeypatch.context() as patched:
        patched.setattr("anymae.training.pretrain.Session", None)
        with pytest.raises(DataError, match="reads 1,024"):
            Embedder(pretraining=settings, data_config={"too_long": "error"}).fit(long)
    embedder = Embedder(**{**COMMON, "pretraining": settings})
    with pytest.warns(AnymaeWarning, match="1,024 inputs.* 1 of 21, are truncated"):
        assert embedder.fit(long).model_.config.input.length == 1024


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("freeze", [True, False])
def test_a_signal_stops_a_search_and_not_one_of_its_fits(
    model: MaskedAutoencoder, texts: list[str], number: int, freeze: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Frozen, the model is pretrained when the signal comes; else it is fine-tuned."""
    begun = []

    def stop(requests: Requests) -> Requests:
        begun.append(requests)
        entered = enter(requests)
        signal.raise_signal(number)
        return entered

    enter = Requests.__enter__
    monkeypatch.setattr(Requests, "__enter__", stop)
    estimator = Regressor(None if freeze else model, freeze=freeze, **COMMON)
    grid = GridSearchCV(estimator, {"reading": ["mean", "layers"]}, cv=3)
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step 0 of .*nothing is kept") as told:
        grid.fit(texts, np.arange(60.0))
    assert len(begun) == 1 and "resume" not in str(told.value)


def test_how_data_are_read_is_said_as_elsewhere(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray
) -> None:
    asked = {"too_long": "window"}
    found = Embedder(model, data_config=asked).fit(texts).transform(["C" * 40])
    np.testing.assert_array_equal(found, embed(model, ["C" * 40], data_config=asked))
    table = np.stack([np.where(np.arange(20) % 5, np.arange(20.0), -999), np.arange(20.0)], 1)
    config = DataConfig(missing=("-999",))
    fitted = Embedder(**COMMON, data_config=config).fit(table)
    assert clone(fitted).data_config == config
    assert fitted.model_.data is not None and fitted.model_.data["missing"] == ["-999"]
    blank = np.where(table == -999, np.nan, table)
    np.testing.assert_array_equal(fitted.transform(table), fitted.transform(blank))
    for given, said in (
        ({"split": "x"}, "data_config.split has no place in an estimator"),
        ({"on_bad_row": "skip"}, "leave bad rows out of X and y"),
        ({"too_lang": "crop"}, "unknown key 'too_lang'"),
    ):
        with pytest.raises(ConfigError, match=said):
            Regressor(model, data_config=given).fit(texts, oxygens)


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"training": {"stepz": 2}}, "training: unknown key 'stepz'"),
        ({"finetuning": {"learning_rates": []}}, "finetuning: learning_rates"),
        ({"finetuning": {"seeds": 5}}, "has no place in an estimator"),
        ({"precision": "fp16"}, "precision is 'fp16'; it should be 'auto', 'fp32' or 'bf16'"),
        ({"reading": "median"}, "reading is 'median'; expected .*mean or layers or kernel"),
    ],
)
def test_settings_are_checked_before_anything_is_computed(
    asked: dict[str, Any], said: str, freeze: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anymae.estimators.base.pretrain", None)
    with pytest.raises(ConfigError, match=said) as told:
        Regressor(freeze=freeze, **{**COMMON, **asked}).fit(strings(20), np.arange(20.0))
    assert "\n" not in str(told.value)
    if {"precision", "reading"} & asked.keys():
        with pytest.raises(ConfigError, match=said):
            Embedder(**{**COMMON, **asked}).fit(strings(20))


def test_settings_of_fine_tuning_are_told_to_do_nothing_where_all_is_frozen(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray
) -> None:
    plain = Regressor(model, random_state=0).fit(texts, oxygens).predict(texts)
    with pytest.warns(AnymaeWarning, match="no effect where the encoder is frozen") as told:
        found = Regressor(model, random_state=0, training={"steps": 2}).fit(texts, oxygens)
    assert told[0].filename == __file__
    np.testing.assert_array_equal(found.predict(texts), plain)


def test_rows_that_weigh_nothing_do_not_validate(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = []

    def noted(encoder: Any, task: Any, rows: Any, **named: Any) -> Any:
        parts.append(rows)
        return fit(encoder, task, rows, **named)

    monkeypatch.setattr("anymae.estimators.supervised.fit", noted)
    weights = (np.arange(60) % 6 == 0).astype(float)
    training = {"steps": 1, "learning_rate": 1e-3}
    regressor = Regressor(model, freeze=False, device="cpu", random_state=0, training=training)
    regressor.fit(texts, oxygens, sample_weight=weights)
    assert len(parts[0].valid) == 1 and weights[parts[0].valid].all()
    assert len(parts[0].train) == 59
    for freeze, some, said in (
        (True, np.zeros(60), "above 0|non-zero"),
        (False, np.zeros(60), "above 0|non-zero"),
        (False, np.r_[1.0, np.zeros(59)], "1 of 60 rows has a weight above 0"),
    ):
        with pytest.raises(ValueError, match=said):
            Regressor(model, freeze=freeze).fit(texts, oxygens, sample_weight=some)


def test_mistakes_are_one_sentence(model: MaskedAutoencoder, texts: list[str]) -> None:
    with pytest.raises(ValueError, match="1 class"):
        Classifier(model).fit(texts, np.ones(60))
    with pytest.raises(ValueError, match="2 of the 60 labels in y are missing"):
        Classifier(model).fit(texts, ["a", "b"] * 29 + [None, float("nan")])
    with pytest.raises(ValueError, match="X has 60 rows and y has 3"):
        Regressor(model).fit(texts, [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="too long"):
        Embedder(model).fit(texts).transform(["C" * 999])
    frame = pd.DataFrame({"smiles": texts})
    fitted = Embedder(model).fit(frame)
    with pytest.raises(ValueError, match="Feature names unseen at fit time"):
        fitted.transform(frame.assign(more=1))


def test_data_unlike_the_training_data_are_warned_of_once(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray
) -> None:
    strange = ["x" + text[1:] for text in texts]
    embedder, classifier = Embedder(model).fit(texts), Classifier(model)
    calls = (
        lambda: embedder.transform(strange),
        lambda: Embedder(model).fit_transform(strange),
        lambda: classifier.fit(strange, oxygens > 2).predict(strange),
    )
    for call in calls:
        with pytest.warns(AnymaeWarning, match="1 bytes did not occur") as told:
            call()
        assert len(told) == 1
        assert told[0].filename == __file__


def test_a_file_is_read_where_rows_are_expected(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("\n".join(texts))
    some = (oxygens > 2).astype(int)
    for source in (path, str(path)):
        found = Classifier(model).fit(source, some).predict(texts)
        np.testing.assert_array_equal(found, Classifier(model).fit(texts, some).predict(texts))
        with pytest.raises(ValueError, match="X has 60 rows and y has 59"):
            Classifier(model).fit(source, some[1:])


def test_a_row_at_least_is_learned_from(
    model: MaskedAutoencoder, texts: list[str], oxygens: np.ndarray
) -> None:
    estimator = Regressor(
        model, freeze=False, finetuning={"valid_share": 0.99}, training={"steps": 1}
    )
    assert np.isfinite(estimator.fit(texts[:24], oxygens[:24]).predict(texts[:3])).all()


def test_row_weights_reach_the_fine_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def noted(encoder: Any, task: Any, rows: Any, **named: Any) -> Any:
        seen.append(rows.weights)
        return fit(encoder, task, rows, **named)

    monkeypatch.setattr("anymae.estimators.supervised.fit", noted)
    texts, weights = strings(24), np.linspace(0.5, 2, 24)
    training = {"steps": 1, "learning_rate": 1e-3}
    regressor = Regressor(
        pretrained(texts), freeze=False, device="cpu", random_state=0, training=training
    )
    regressor.fit(texts, np.arange(24.0), sample_weight=weights)
    np.testing.assert_allclose(seen[0], weights, rtol=1e-6)


def test_pretraining_is_asked_for_what_the_estimator_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def noted(data: object, **named: Any) -> None:
        asked.append(named)
        raise Cut

    monkeypatch.setattr("anymae.estimators.base.pretrain", noted)
    with pytest.raises(Cut):
        Embedder(device="cpu", precision="bf16", random_state=3).fit(strings())
    assert {"seed": 3, "device": "cpu", "precision": "bf16"}.items() <= asked[0].items()


def test_an_estimator_computes_in_the_precision_that_it_has() -> None:
    texts = strings()
    model = pretrained(texts, spread=0.3)
    found = Embedder(model, device="cpu", precision="bf16").fit(texts).transform(texts)
    np.testing.assert_array_equal(
        found, embed(model, texts, config=ComputeConfig(precision="bf16"))
    )
    assert (found != embed(model, texts)).any()


def test_rows_that_validate_an_estimator_follow_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []

    def noted(encoder: Any, task: Any, rows: Any, **named: Any) -> None:
        parts.append(rows.valid.tolist())
        raise Cut

    monkeypatch.setattr("anymae.estimators.supervised.fit", noted)
    texts = strings(60)
    for seed in (0, 0, 1):
        with pytest.raises(Cut):
            Regressor(pretrained(texts), freeze=False, random_state=seed).fit(texts, np.arange(60))
    assert parts[0] == parts[1] != parts[2]
