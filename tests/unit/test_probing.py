"""Probes measure what is linearly there, with fits that equal scikit-learn's."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from anymae.config import DataConfig
from anymae.data.dataset import open_data
from anymae.errors import ConfigError, DataError
from anymae.inference.compute import ComputeConfig
from anymae.probing import Judge, _all_features, probe, raw_features
from anymae.task import TaskConfig
from anymae.training.judges import tell_few
from anymae.training.labelling import Labelled
from anymae.training.linear import STRENGTHS, _folds, fit_each, fit_linear
from models import pretrained, strings

NUMBERS = TaskConfig(type="regression", targets=("a", "b"), mean=(0.0,) * 2, std=(1.0,) * 2)
BINARY = TaskConfig(type="binary", targets=("y",), classes=("0", "1"))
CLASSES = TaskConfig(type="multiclass", targets=("y",), classes=("a", "b", "c", "never"))
NAMES = CLASSES.model_copy(update={"classes": tuple(f"name {n:02}" for n in range(21))})
LABELS = TaskConfig(type="multilabel", targets=("a", "b"))


ONE_LACKS = "1 of the 4 classes of target 'y' occur in none of them"


@pytest.mark.parametrize(
    ("task", "rows", "drawn", "told"),
    [
        (CLASSES, 12, False, (f"12 rows (valid): {ONE_LACKS}", "'never'")),
        (CLASSES, 12, True, (ONE_LACKS, "; drawn rows hold each with --split-by stratified")),
        (CLASSES, 3, True, (f"too narrow; {ONE_LACKS}", "; name more with --split")),
        (NAMES, 12, True, ()),
    ],
)
def test_what_rows_that_judge_lack_is_told_once(
    task: TaskConfig,
    rows: int,
    drawn: bool,
    told: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    truth = (np.arange(rows) % 3).astype(float)[:, None]
    tell_few(task, truth, np.ones(rows), "valid", drawn=drawn)
    assert len(caplog.messages) == bool(told)
    assert all(words in caplog.text for words in told)
    assert ("stratified" in caplog.text) == (drawn and rows == 12 and bool(told))


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(60, 8), (12, 40)])
def test_ridge_equals_that_of_scikit_learn(
    draw: np.random.Generator, shape: tuple[int, int]
) -> None:
    features, targets = 3 + 2 * draw.normal(size=shape), draw.normal(size=(shape[0], 2))
    targets[:3, 1] = np.nan
    weights = draw.random(shape[0])
    found = fit_linear(NUMBERS, features, targets, weights=weights, strengths=[0.5])
    weights /= weights.mean()
    scaled = (features - features.mean(0)) / features.std(0)
    for column in range(2):
        known = ~np.isnan(targets[:, column])
        model = Ridge(alpha=2).fit(scaled[known], targets[known, column], weights[known])
        np.testing.assert_allclose(found.weight[column], model.coef_, atol=1e-8)
        np.testing.assert_allclose(found.bias[column], model.intercept_, atol=1e-8)


@pytest.mark.parametrize("task", [NUMBERS, BINARY, CLASSES, LABELS], ids=lambda task: task.type)
def test_fits_at_each_strength_are_those_at_one(
    draw: np.random.Generator, task: TaskConfig
) -> None:
    """What strengths share, a Gram matrix of rows or of features, changes no number."""
    targets = draw.integers(0, 2, (30, len(task.targets))).astype(float)
    for features in (draw.normal(size=(30, 4)), draw.normal(size=(30, 50))):
        path = list(fit_each(task, features, targets, STRENGTHS))
        assert [found.strength for found in path] == list(STRENGTHS)
        for found in path:
            alone = fit_linear(task, features, targets, strengths=[found.strength])
            np.testing.assert_array_equal(found.weight, alone.weight)
            np.testing.assert_array_equal(found.bias, alone.bias)


def test_numbers_known_of_the_same_rows_are_solved_together(
    draw: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, targets = draw.normal(size=(40, 3)), draw.normal(size=(40, 4))
    targets[::3, 1] = targets[::3, 3] = np.nan
    solved, solve = [], np.linalg.solve

    def counted(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
        solved.append(right.shape[1])
        return solve(matrix, right)

    monkeypatch.setattr(np.linalg, "solve", counted)
    together = fit_linear(NUMBERS, features, targets, strengths=[0.5])
    assert solved == [2, 2]
    for column in range(4):
        alone = fit_linear(NUMBERS, features, targets[:, [column]], strengths=[0.5])
        np.testing.assert_allclose(together.weight[column], alone.weight[0], atol=1e-12)
        np.testing.assert_allclose(together.bias[column], alone.bias[0], atol=1e-12)


def test_logistic_fits_equal_those_of_scikit_learn(draw: np.random.Generator) -> None:
    features = draw.normal(size=(90, 5))
    codes = draw.integers(0, 2, (90, 1)).astype(float)
    scaled = (features - features.mean(0)) / features.std(0)
    found = fit_linear(BINARY, features, codes, strengths=[0.3])
    model = LogisticRegression(C=0.3).fit(scaled, codes[:, 0])
    np.testing.assert_allclose(found.outputs(features)[:, 0], model.decision_function(scaled))
    codes = draw.integers(0, 3, (90, 1)).astype(float)
    found = fit_linear(CLASSES, features, codes, strengths=[0.3])
    chances = torch.from_numpy(found.outputs(features)).softmax(1).numpy()
    expected = LogisticRegression(C=0.3).fit(scaled, codes[:, 0]).predict_proba(scaled)
    np.testing.assert_allclose(chances[:, :3], expected, atol=0.02)
    assert (chances[:, 3] < 0.05).all()


def test_labels_are_fitted_apart_where_they_are_known(draw: np.random.Generator) -> None:
    features = draw.normal(size=(80, 4))
    targets = draw.integers(0, 2, (80, 2)).astype(float)
    targets[draw.random((80, 2)) < 0.4] = np.nan
    both = fit_linear(LABELS, features, targets, strengths=[1.0])
    scaled = (features - features.mean(0)) / features.std(0)
    known = ~np.isnan(targets[:, 1])
    alone = LogisticRegression(C=1).fit(scaled[known], targets[known, 1])
    np.testing.assert_allclose(both.outputs(features)[:, 1], alone.decision_function(scaled))


def test_a_label_with_one_answer_is_predicted_by_its_share(draw: np.random.Generator) -> None:
    targets = np.ones((20, 2))
    targets[:10, 1] = 0
    found = fit_linear(LABELS, draw.normal(size=(20, 3)), targets)
    assert (found.weight[0] == 0).all()
    assert 1 / (1 + np.exp(-found.bias[0])) == pytest.approx(20.5 / 21)


def test_cross_validation_penalises_what_is_noise(draw: np.random.Generator) -> None:
    features = draw.normal(size=(60, 50))
    noise = draw.normal(size=(60, 2))
    signal = features[:, :2] @ np.eye(2)
    assert (
        fit_linear(NUMBERS, features, noise).strength
        < fit_linear(NUMBERS, features, signal).strength
    )


@pytest.mark.parametrize("task", [NUMBERS, LABELS])
def test_weights_count_in_any_unit(draw: np.random.Generator, task: TaskConfig) -> None:
    features, weights = draw.normal(size=(40, 6)), draw.random(40)
    targets = (features[:, :2] + draw.normal(size=(40, 2)) > 0).astype(float)
    found = [fit_linear(task, features, targets, weights=unit * weights) for unit in (1e-6, 1, 1e6)]
    for other in found[1:]:
        assert other.strength == found[0].strength
        np.testing.assert_allclose(other.weight, found[0].weight, rtol=1e-3, atol=1e-6)
    plain = fit_linear(task, features, targets)
    even = fit_linear(task, features, targets, weights=np.full(40, 7.0))
    np.testing.assert_array_equal(even.weight, plain.weight)


@pytest.mark.parametrize("task", [NUMBERS, BINARY, CLASSES, LABELS], ids=lambda task: task.type)
def test_rows_of_weight_zero_are_as_if_unknown(draw: np.random.Generator, task: TaskConfig) -> None:
    count = len(task.targets)
    features = draw.normal(size=(30, 4))
    targets = draw.integers(0, 2, (30, count)).astype(float)
    weights = (np.arange(30) < 20).astype(float)
    targets[20:] = 1 - targets[:10] if task is not CLASSES else 2
    unknown = np.where(weights[:, None] > 0, targets, np.nan)
    found = fit_linear(task, features, targets, weights=weights, strengths=[1.0])
    expected = fit_linear(task, features, unknown, weights=weights, strengths=[1.0])
    np.testing.assert_array_equal(found.weight, expected.weight)
    if count > 1:
        # The second label is known only where nothing counts: no fold has anything to say of it.
        targets[:20, 1] = np.nan
        alone = fit_linear(task, features, targets, weights=weights)
        assert (alone.weight[1] == 0).all() and alone.bias[1] == 0
    nothing = fit_linear(task, features, targets, weights=np.zeros(30))
    assert (nothing.weight == 0).all()


def test_rows_of_weight_zero_are_as_if_they_were_not_there(draw: np.random.Generator) -> None:
    """They neither scale features, nor thin the penalty out, nor take places in folds."""
    features, targets = draw.normal(size=(30, 3)), draw.normal(size=(30, 2))
    more = np.vstack([1e3 * draw.normal(size=(7_000, 3)), features])
    weights, groups = np.repeat([0.0, 2.0], [7_000, 30]), np.arange(7_030) // 3
    unknown = np.vstack([np.zeros((7_000, 2)), targets])
    found = fit_linear(NUMBERS, more, unknown, weights=weights, groups=groups)
    expected = fit_linear(NUMBERS, features, targets, groups=groups[7_000:])
    assert found.strength == expected.strength
    np.testing.assert_allclose(found.outputs(features), expected.outputs(features))


def test_labels_are_weighted_apart(draw: np.random.Generator) -> None:
    features, weights = draw.normal(size=(60, 3)), draw.random((60, 2))
    targets = draw.integers(0, 2, (60, 2)).astype(float)
    both = fit_linear(LABELS, features, targets, weights=weights, strengths=[1.0])
    scaled = (features - features.mean(0)) / features.std(0)
    for label, each in enumerate((weights / weights.mean()).T):
        alone = LogisticRegression(C=1).fit(scaled, targets[:, label], each)
        found = both.outputs(features)[:, label]
        np.testing.assert_allclose(found, alone.decision_function(scaled), rtol=1e-6)


def test_a_group_stays_in_one_fold_while_the_strength_is_chosen(draw: np.random.Generator) -> None:
    """Each group has a target and features of its own: told from other groups, there is nothing."""
    groups = np.repeat(np.arange(12), 6)
    features = np.repeat(draw.normal(size=(12, 20)), 6, 0) + 1e-3 * draw.normal(size=(72, 20))
    targets = np.repeat(draw.normal(size=(12, 2)), 6, 0)
    rows = fit_linear(NUMBERS, features, targets).strength
    assert fit_linear(NUMBERS, features, targets, groups=groups).strength < rows
    for codes, most in ((groups, 12), (np.r_[np.zeros(70), 1, 1].astype(int), 2)):
        folds = _folds(codes, 72, seed=3)
        held = [set(codes[part]) for _, part in folds]
        assert sum(map(len, held)) == most == len(set().union(*held))
        assert sum(len(part) > 0 for part in held) == min(most, 5)
        assert all(not held[n] & set(codes[kept]) for n, (kept, _) in enumerate(folds))
    one = fit_linear(NUMBERS, features, targets, groups=np.zeros(72, int))
    assert one.strength == rows


def test_a_constant_feature_is_no_trouble(draw: np.random.Generator) -> None:
    features = draw.normal(size=(40, 3))
    features[:, 1] = 7
    found = fit_linear(NUMBERS, features, draw.normal(size=(40, 2)))
    assert np.isfinite(found.outputs(features)).all()


def test_a_probe_compares_the_encoder_with_what_needs_no_pretraining() -> None:
    texts = strings(200)
    data = {"smiles": texts, "y": [text.count("O") for text in texts]}
    found = probe(pretrained(texts, spread=0), data, target="y", task="regression", resamples=20)
    assert found.judged_on == "valid"
    assert found.rows == {"fitted": 160, "valid": 40}
    assert {(row.features, row.reading, row.model) for row in found.results} == {
        ("encoder", "mean", "linear"), ("encoder", "mean", "neighbours"),
        ("encoder", "layers", "linear"), ("random encoder", "mean", "linear"),
        ("random encoder", "mean", "neighbours"), ("random encoder", "layers", "linear"),
        ("raw", "", "linear"), ("encoder + raw", "layers", "linear"),
    }  # fmt: skip
    rmse = found.headline("raw")
    assert rmse is not None
    assert rmse < 1  # the number of O is a raw feature
    estimate = found.results[0].metrics["y"]["rmse"]
    assert estimate.low is not None
    json.dumps(found.to_json())
    assert "encoder" in found._repr_html_()


def test_errors_of_several_numbers_are_averaged_in_their_deviations() -> None:
    texts = strings(200)
    amount = [text.count("O") for text in texts]
    data = {"smiles": texts, "g": amount, "mg": [1000 * number for number in amount]}
    config = DataConfig(column=("smiles",))
    found = probe(
        pretrained(texts), data, target=("g", "mg"), data_config=config, task="regression",
        resamples=0,
    )  # fmt: skip
    row = found.results[0]
    errors = [row.metrics[target]["rmse"].value for target in ("g", "mg")]
    assert errors[1] == pytest.approx(1000 * errors[0], rel=1e-3)
    assert row.mean["rmse"].value == pytest.approx(errors[0] / found.task.std[0], rel=1e-3)


def test_of_few_labels_without_test_rows_a_fifth_judges() -> None:
    texts = strings(200)
    data = {"smiles": texts, "y": [text.count("O") for text in texts]}
    found = probe(
        pretrained(texts, spread=0), data, target="y", num_labels=50, readings=["mean"], resamples=0
    )
    assert found.rows == {"fitted": 40, "valid": 10}


def test_the_test_part_judges_and_the_others_fit() -> None:
    texts = strings(60)
    parts = ["train"] * 30 + ["valid"] * 10 + ["test"] * 20
    labels = np.where([("O" in text[:4]) for text in texts], "yes", "no")
    data = pa.table({"smiles": texts, "y": labels, "part": parts, "a": np.arange(60) % 2})
    config = DataConfig(split="part", column=("smiles",))
    found = probe(pretrained(texts, spread=0), data, target="y", data_config=config, resamples=0)
    assert found.rows == {"fitted": 40, "test": 20}
    assert found.task.type == "binary"
    few = probe(
        pretrained(texts, spread=0),
        data,
        target=("a",),
        data_config=config,
        num_labels=20,
        readings=["mean"],
        resamples=0,
    )
    assert few.rows == {"fitted": 20, "test": 20}
    with pytest.raises(DataError, match="no target is named"):
        probe(pretrained(texts, spread=0), data, data_config=config)


def test_groups_and_weights_count_in_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = strings(40)
    model = pretrained(texts)
    data = {"smiles": texts, "y": np.arange(40.0) % 7, "g": np.arange(40) // 4, "w": [0.0] * 40}
    seen = []

    def fitted(*args: Any, groups: Any, **named: Any) -> Any:
        seen.append(groups)
        return fit_linear(*args, groups=groups, **named)

    monkeypatch.setattr("anymae.probing.fit_linear", fitted)
    probe(model, data, target="y", data_config={"group": "g", "drop": ["w"]}, readings=["mean"],
          task="regression", resamples=0)  # fmt: skip
    counts = np.bincount(seen[0])
    assert set(counts) <= {0, 4} and counts.sum() == 32
    with pytest.raises(DataError, match="no row has a weight above 0"):
        probe(model, data, target="y", data_config={"weight": "w"}, task="regression")
    data["w"], data["part"] = [0.0] * 30 + [1.0] * 10, ["train"] * 30 + ["valid"] * 10
    asked = {"weight": "w", "split": "part"}
    with pytest.raises(DataError, match="all 30 training rows have the weight 0"):
        probe(model, data, target="y", data_config=asked, task="regression")


@pytest.mark.parametrize(("readings", "said"), [((), "is empty"), (("median",), "holds 'median'")])
def test_readings_that_are_none_are_one_sentence(readings: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"readings {said}; expected one or more of mean, "):
        probe(pretrained(strings(9)), {"x": strings(9), "y": [0, 1, 2] * 3}, readings=readings)


def test_raw_features_of_a_table_are_its_cells() -> None:
    random = np.random.default_rng(0)
    data = pa.table({
        "x": random.normal(size=40), "colour": random.choice(["red", "green", "blue"], 40),
    })  # fmt: skip
    holed = data.set_column(0, "x", pa.array([None, *data["x"].to_pylist()[1:]], pa.float64()))
    dataset = open_data(holed)
    features = raw_features(dataset, np.arange(40))
    # A number, three colours, and a flag for the cell that is missing.
    assert features.shape == (40, 5)
    assert features[0, 0] == 0
    assert features[0, 4] == 0
    assert (features[1:, 4] == 1).all()
    colours = np.array(holed["colour"].to_pylist())
    assert sorted(features[:, 1:4].sum(0)) == sorted(
        [float((colours == name).sum()) for name in set(colours)]
    )


def test_raw_features_of_strings_count_runs_of_bytes() -> None:
    dataset = open_data(["CCO", "OCC", "CCO"])
    features = raw_features(dataset, np.arange(3))
    np.testing.assert_array_equal(features[0], features[2])
    assert not np.array_equal(features[0], features[1])
    assert np.expm1(features[0]).sum() == pytest.approx(6)  # C C O CC CO CCO


def test_raw_features_of_strings_tell_blanks_apart() -> None:
    features = raw_features(open_data(["a  b", "a b", "a\tb"]), np.arange(3))
    assert len(np.unique(features, axis=0)) == 3
    assert np.expm1(features[0]).sum() == pytest.approx(4 + 3 + 2)


def test_raw_features_are_those_of_all_that_a_model_reads() -> None:
    texts = ["abcdefgh" * 10, "abcdefgh" * 2 + "z" * 64]
    config = DataConfig(kind="bytes", length=16, too_long="window")
    for too_long, same in (("window", False), ("truncate", True)):
        dataset = open_data(texts, config.model_copy(update={"too_long": too_long}))
        first, second = raw_features(dataset, np.arange(2))
        assert np.array_equal(first, second) == same


def test_numbers_far_from_zero_are_judged_as_those_near() -> None:
    texts = strings(80)
    model, count = pretrained(texts), np.array([float(text.count("O")) for text in texts])
    errors = []
    for shift in (0.0, 1.7e9):
        data = {"smiles": texts, "y": count + shift}
        found = probe(model, data, target="y", task="regression", readings=["mean"], resamples=0)
        errors.append([row.metrics["y"]["rmse"].value for row in found.results])
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-3)


def test_rows_of_weight_zero_are_no_neighbours() -> None:
    texts = strings(120)
    count = np.array([float(text.count("O")) for text in texts])
    weights = np.where(np.arange(120) < 60, 1.0, 0.0)
    parts = ["train"] * 40 + ["valid"] * 20 + ["train"] * 60
    data = {"smiles": texts, "y": np.where(weights > 0, count, 1e4), "w": weights, "part": parts}
    found = probe(
        pretrained(texts), data, target="y", task="regression", readings=["mean"], resamples=0,
        data_config={"weight": "w", "split": "part"},
    )  # fmt: skip
    for row in found.results:
        assert row.metrics["y"]["rmse"].value < 10, row


def test_neighbours_are_near_whatever_the_features_units() -> None:
    draw = np.random.default_rng(0)
    y = draw.normal(size=60)
    data = {"smiles": strings(60), "y": y}
    dataset = open_data(data, DataConfig(column=("smiles",), target=("y",)))
    task = TaskConfig(type="regression", targets=("y",), mean=(0.0,), std=(1.0,))
    parts = np.arange(40), np.arange(40, 60)
    rows = Labelled(dataset, y[:, None].astype(np.float32), None, *parts)
    judge = Judge(rows, task, resamples=0, seed=0)
    features = np.stack([y, draw.normal(size=60)], 1).astype(np.float32)
    errors = [
        judge.neighbours("x", "mean", features * np.float32([1, unit])).mean["rmse"].value
        for unit in (1, 1000)
    ]
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)


def test_what_joins_the_raw_features_is_the_encoder_and_random_ones_follow_the_seed() -> None:
    texts = strings(20)
    model, dataset = pretrained(texts), open_data(texts)

    def features(seed: int) -> dict[tuple[str, str], np.ndarray]:
        config, index = ComputeConfig(device="cpu"), np.arange(20)
        made = _all_features(model, dataset, index, ("mean", "layers"), config, seed)
        return {(name, reading): values for name, reading, values in made}

    one, same, other = features(0), features(0), features(1)
    joined = np.concatenate([one["encoder", "layers"], one["raw", ""]], 1)
    np.testing.assert_array_equal(one["encoder + raw", "layers"], joined)
    drawn = "random encoder", "mean"
    np.testing.assert_array_equal(one[drawn], same[drawn])
    assert not np.allclose(one[drawn], other[drawn])


def test_progress_counts_rows_of_both_encoders_and_all_readings() -> None:
    texts = strings(20)
    told: list[tuple[int, int]] = []
    data = {"smiles": texts, "y": np.arange(20.0)}
    probe(
        pretrained(texts), data, target="y", task="regression", resamples=0,
        readings=["mean", "layers"], config=ComputeConfig(batch_inputs=100),
        progress=lambda *now: told.append(now),
    )  # fmt: skip
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert {total for _, total in told} == {80} and told[-1] == (80, 80) and len(told) > 4
