"""Metrics equal naive loops and the field's implementations."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics as sk

from anymae import metrics
from anymae.metrics import METRICS, Estimate, measure
from anymae.task import TaskConfig

BINARY = TaskConfig(type="binary", targets=("y",), classes=("0", "1"))
LABELS = TaskConfig(type="multilabel", targets=("a", "b"))
CLASSES = TaskConfig(type="multiclass", targets=("y",), classes=("a", "b", "c"))
NUMBERS = TaskConfig(type="regression", targets=("y",), mean=(0.0,), std=(1.0,))


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def test_binary_metrics_are_those_of_scikit_learn(draw: np.random.Generator) -> None:
    truth = draw.integers(0, 2, 200).astype(float)
    # Rounded, so that there are ties.
    found = np.clip(np.round(0.3 * truth + 0.7 * draw.random(200), 2), 0.01, 0.99)
    weights = draw.random(200)
    chosen = found > 0.5
    assert metrics.roc_auc(truth, found, weights) == pytest.approx(
        sk.roc_auc_score(truth, found, sample_weight=weights)
    )
    assert metrics.average_precision(truth, found, weights) == pytest.approx(
        sk.average_precision_score(truth, found, sample_weight=weights)
    )
    assert metrics.log_loss(truth, found, weights) == pytest.approx(
        sk.log_loss(truth, found, sample_weight=weights)
    )
    assert metrics.accuracy(truth, found, weights) == pytest.approx(
        sk.accuracy_score(truth, chosen, sample_weight=weights)
    )
    assert metrics.mcc(truth, found, weights) == pytest.approx(
        sk.matthews_corrcoef(truth, chosen, sample_weight=weights)
    )


def test_class_metrics_are_those_of_scikit_learn(draw: np.random.Generator) -> None:
    truth = draw.integers(0, 3, 200).astype(float)
    found = draw.dirichlet([1, 1, 1], 200)
    ones = np.ones(200)
    assert metrics.accuracy(truth, found, ones) == sk.accuracy_score(truth, found.argmax(1))
    assert metrics.mcc(truth, found, ones) == pytest.approx(
        sk.matthews_corrcoef(truth, found.argmax(1))
    )
    assert metrics.roc_auc(truth, found, ones) == pytest.approx(
        sk.roc_auc_score(truth, found, multi_class="ovr")
    )
    assert metrics.log_loss(truth, found, ones) == pytest.approx(sk.log_loss(truth, found))


def test_regression_metrics_are_those_of_scikit_learn(draw: np.random.Generator) -> None:
    truth = np.round(draw.normal(size=100), 1)
    found = truth + draw.normal(size=100)
    weights = draw.random(100)
    given = {"sample_weight": weights}
    assert metrics.rmse(truth, found, weights) == pytest.approx(
        sk.root_mean_squared_error(truth, found, **given)
    )
    assert metrics.mae(truth, found, weights) == pytest.approx(
        sk.mean_absolute_error(truth, found, **given)
    )
    assert metrics.r2(truth, found, weights) == pytest.approx(sk.r2_score(truth, found, **given))
    assert metrics.spearman(truth, found, np.ones(100)) == pytest.approx(
        spearmanr(truth, found).statistic
    )


def average_precision_by_loop(truth: np.ndarray, found: np.ndarray, weights: np.ndarray) -> float:
    """Precision at each cut, weighed by the recall that the cut adds."""
    total = weights[truth == 1].sum()
    result = recall = 0.0
    for cut in sorted(set(found), reverse=True):
        kept = found >= cut
        hits = weights[kept & (truth == 1)].sum()
        result += hits / weights[kept].sum() * (hits / total - recall)
        recall = hits / total
    return float(result)


def test_average_precision_of_classes_is_the_mean_over_those_that_occur(
    draw: np.random.Generator,
) -> None:
    # The fourth class does not occur.
    truth, found = draw.integers(0, 3, 80).astype(float), np.round(draw.random((80, 4)), 1)
    weights = draw.random(80)
    each = [
        average_precision_by_loop((truth == number).astype(float), found[:, number], weights)
        for number in range(3)
    ]
    assert metrics.average_precision(truth, found, weights) == pytest.approx(np.mean(each))


def test_weighted_spearman_is_that_of_a_naive_loop(draw: np.random.Generator) -> None:
    truth, found = np.round(draw.normal(size=60), 1), np.round(draw.normal(size=60), 1)
    weights = draw.random(60)

    def ranks(values: np.ndarray) -> list[float]:
        """The weight of the smaller ones, ties in the middle of theirs."""
        return [weights[values < v].sum() + weights[values == v].sum() / 2 for v in values]

    pairs = list(zip(ranks(truth), ranks(found), weights, strict=True))
    total = sum(weight for *_, weight in pairs)
    means = [sum(pair[side] * pair[2] for pair in pairs) / total for side in (0, 1)]
    moment = [[0.0, 0.0], [0.0, 0.0]]
    for x, y, weight in pairs:
        apart = (x - means[0], y - means[1])
        for one in (0, 1):
            for other in (0, 1):
                moment[one][other] += weight * apart[one] * apart[other]
    expected = moment[0][1] / (moment[0][0] * moment[1][1]) ** 0.5
    assert metrics.spearman(truth, found, weights) == pytest.approx(expected)


def test_weighted_enrichment_is_that_of_a_naive_loop(draw: np.random.Generator) -> None:
    truth = (draw.random(300) < 0.2).astype(float)
    found, weights = np.round(truth + draw.normal(size=300), 2), draw.random(300)
    end = weights.sum() * 15 / 300
    taken = hits = 0.0
    for value in sorted(set(found), reverse=True):
        tied = found == value
        part = min(1.0, (end - taken) / weights[tied].sum())
        taken += part * weights[tied].sum()
        hits += part * weights[tied & (truth == 1)].sum()
        if part < 1:
            break
    base = weights[truth == 1].sum() / weights.sum()
    assert metrics.enrichment(0.05)(truth, found, weights) == pytest.approx(hits / end / base)


@pytest.mark.parametrize("name", ["spearman", "enrichment_1"])
def test_rows_of_weight_0_change_no_rank_and_no_share(name: str, draw: np.random.Generator) -> None:
    metric = {**metrics.BINARY, **metrics.REGRESSION}[name]
    truth = draw.integers(0, 2, 300).astype(float)
    found = np.round(truth + draw.normal(size=300), 2)
    kept = metric(truth, found, np.ones(300))
    # Above all others and below, where they would shift ranks and fill the best hundredth.
    more = np.r_[truth, np.zeros(40)], np.r_[found, np.full(20, 9.0), np.full(20, -9.0)]
    assert metric(*more, np.r_[np.ones(300), np.zeros(40)]) == pytest.approx(kept)


def test_a_weight_counts_like_so_many_rows(draw: np.random.Generator) -> None:
    counts = draw.permutation(np.tile([1, 3], 30))
    truth, found = draw.integers(0, 2, 60).astype(float), np.round(draw.random(60), 1)
    # Of so few rows a hundredth is a whole one, and that of the repeated rows is smaller.
    every = {**metrics.BINARY, **metrics.REGRESSION, "enrichment_1": metrics.enrichment(0.1)}
    for name, metric in every.items():
        repeated = metric(truth.repeat(counts), found.repeat(counts), np.ones(counts.sum()))
        assert metric(truth, found, counts.astype(float)) == pytest.approx(repeated), name


def test_background_rejection_is_that_of_a_naive_cut(draw: np.random.Generator) -> None:
    truth = draw.integers(0, 2, 400).astype(float)
    found = draw.normal(size=400) + truth
    weights = draw.random(400)
    for efficiency in (0.3, 0.5):
        best = None
        for cut in sorted(found, reverse=True):
            kept = weights[(truth == 1) & (found >= cut)].sum() / weights[truth == 1].sum()
            if kept >= efficiency:
                best = cut
                break
        background = weights[(truth == 0) & (found >= best)].sum() / weights[truth == 0].sum()
        assert metrics.rejection(efficiency)(truth, found, weights) == pytest.approx(1 / background)


def test_enrichment_compares_the_best_rows_with_all(draw: np.random.Generator) -> None:
    truth = (draw.random(1000) < 0.1).astype(float)
    found = truth + draw.normal(size=1000)
    best = np.argsort(-found)[:10]
    expected = truth[best].mean() / truth.mean()
    assert metrics.enrichment(0.01)(truth, found, np.ones(1000)) == pytest.approx(expected)
    assert metrics.enrichment(0.01)(truth, truth, np.ones(1000)) == pytest.approx(1 / truth.mean())


def test_negative_weights_cancel_rows(draw: np.random.Generator) -> None:
    truth = draw.integers(0, 2, 50).astype(float)
    found = draw.random(50)
    ones = np.ones(50)
    double = np.r_[truth, truth[:7]], np.r_[found, found[:7]]
    cancelling = np.r_[ones, -ones[:7]]
    for metric in (metrics.accuracy, metrics.log_loss, metrics.roc_auc, metrics.rmse):
        kept = metric(truth[7:], found[7:], ones[7:])
        assert metric(*double, cancelling) == pytest.approx(kept), metric.__name__


def test_unknown_answers_do_not_count_and_targets_are_apart(draw: np.random.Generator) -> None:
    truth = draw.integers(0, 2, (80, 2)).astype(float)
    answers = draw.random((80, 2))
    truth[draw.random((80, 2)) < 0.3] = np.nan
    weights = draw.random(80)
    found = measure(LABELS, truth, answers, weights).targets
    for column, name in enumerate("ab"):
        known = ~np.isnan(truth[:, column])
        expected = sk.roc_auc_score(
            truth[known, column], answers[known, column], sample_weight=weights[known]
        )
        assert found[name]["roc_auc"].value == pytest.approx(expected)


def test_what_is_not_defined_is_none_and_not_a_number() -> None:
    ones = np.ones((5, 1))
    answers = np.tile([0.4, 0.6], (5, 1))
    found = measure(BINARY, ones, answers, np.ones(5), resamples=20).targets["y"]
    assert found["roc_auc"] == Estimate(None)
    assert found["accuracy"].value == 1
    nothing = measure(CLASSES, np.full((5, 1), np.nan), np.full((5, 3), 0.3), np.ones(5)).targets[
        "y"
    ]
    assert all(estimate.value is None for estimate in nothing.values())


@pytest.mark.parametrize("count", [3, 8, 9])
def test_of_what_is_constant_no_share_is_explained_whatever_its_rounding(
    count: int, draw: np.random.Generator
) -> None:
    same, other, ones = np.full(count, 0.1), draw.normal(size=count), np.ones(count)
    weights = draw.random(count)
    for given in (ones, weights):
        assert np.isnan(metrics.r2(same, other, given))
        for truth, found in ((same, same), (same, other), (other, same)):
            assert np.isnan(metrics.spearman(truth, found, given))
    # Rows that do not count do not make the others differ.
    weights[0], same[0] = 0.0, 5.0
    assert np.isnan(metrics.r2(same, other, weights))


def test_intervals_hold_the_truth_about_19_times_in_20(draw: np.random.Generator) -> None:
    hits = 0
    for repeat in range(50):
        truth = draw.normal(size=(100, 1))
        answers = truth + draw.normal(size=(100, 1))
        found = measure(NUMBERS, truth, answers, np.ones(100), resamples=60, seed=repeat).targets[
            "y"
        ]
        rmse = found["rmse"]
        assert rmse.low is not None
        assert rmse.high is not None
        assert rmse.low < rmse.value < rmse.high  # type: ignore[operator]
        hits += rmse.low <= 1 <= rmse.high
    assert 42 <= hits <= 50


def test_enrichment_needs_no_order_among_ties() -> None:
    truth = np.r_[np.ones(5), np.zeros(95)]
    compute = metrics.enrichment(0.01)
    ones = np.ones(100)
    for order in (np.arange(100), np.arange(100)[::-1]):
        assert compute(truth[order], np.full(100, 0.3), ones) == pytest.approx(1)
    assert np.isnan(compute(truth, np.full(100, 0.3), np.zeros(100)))


def test_a_rejection_that_no_sample_bounds_has_no_upper_end() -> None:
    truth = np.r_[np.ones(20), np.zeros(20)]
    found = np.r_[np.linspace(0.6, 1, 20), np.linspace(0, 0.5, 19), 0.95]
    task = TaskConfig(type="binary", targets=("y",), classes=("0", "1"))
    answers = np.stack([1 - found, found], 1)
    measured = metrics.measure(task, truth[:, None], answers, np.ones(40), resamples=100)
    estimate = measured.targets["y"]["rejection_30"]
    assert estimate.value == 20 and estimate.high is None
    assert estimate.low is not None and estimate.low <= 20
    assert str(estimate).endswith("no end]")


def test_the_mean_over_targets_has_an_interval_of_its_own(draw: np.random.Generator) -> None:
    truth = draw.integers(0, 2, (80, 2)).astype(float)
    answers = np.clip(truth + draw.normal(size=(80, 2)), 0, 1)
    found = measure(LABELS, truth, answers, np.ones(80), resamples=100)
    each, mean = [found.targets[name]["accuracy"] for name in "ab"], found.mean["accuracy"]
    assert mean.value == pytest.approx(np.mean([one.value for one in each]))
    width = mean.high - mean.low  # type: ignore[operator]
    assert mean.low < mean.value < mean.high  # type: ignore[operator]
    assert width < min(one.high - one.low for one in each)  # type: ignore[operator]


def test_errors_of_several_numbers_are_averaged_in_standard_deviations(
    draw: np.random.Generator,
) -> None:
    task = TaskConfig(type="regression", targets=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1000.0))
    truth = draw.normal(size=(40, 2)) * task.std
    answers = truth + draw.normal(size=(40, 2)) * task.std
    found = measure(task, truth, answers, np.ones(40), resamples=20)
    for name in ("rmse", "mae"):
        small, large = (found.targets[target][name].value for target in "ab")
        mean = found.mean[name]
        assert mean.value == pytest.approx((small + large / 1000) / 2)
        assert mean.low < mean.value < mean.high < 10  # type: ignore[operator]
    for name in ("r2", "spearman"):
        each = [found.targets[target][name].value for target in "ab"]
        assert found.mean[name].value == pytest.approx(np.mean(each))


def test_a_mean_over_targets_is_over_the_same_ones_in_every_sample() -> None:
    draw = np.random.default_rng(0)
    truth = np.stack([draw.integers(0, 2, 400), np.arange(400) == 0], 1).astype(float)
    found = np.stack([0.2 * truth[:, 0] + draw.random(400), truth[:, 1]], 1)
    measured = measure(LABELS, truth, found, np.ones(400), resamples=200)
    both, common = measured.mean["roc_auc"], measured.targets["a"]["roc_auc"]
    assert both.low is not None and common.high is not None
    # Samples without the only positive of the rare label say nothing of the mean of both.
    assert both.low > common.high


def test_metrics_of_classes_that_weigh_nothing_are_not_defined() -> None:
    truth, found = np.array([1.0, 0, 0]), np.array([0.1, 0.9, 0.5])
    for weights in (np.array([0.0, 1, 1]), np.array([-1.0, 1, 1])):
        for name in ("roc_auc", "average_precision", "rejection_30"):
            assert np.isnan(METRICS["binary"][name](truth, found, weights)), name
    assert np.isnan(metrics.rejection(0.3)(truth, found, np.array([1.0, 0, 0])))


def test_a_mean_over_classes_is_over_those_that_weigh_something(draw: np.random.Generator) -> None:
    task = TaskConfig(type="multiclass", targets=("y",), classes=("a", "b", "c", "d"))
    truth, found = np.arange(90) % 4.0, draw.random((90, 4))
    weights = np.where(truth == 3, 0.0, 1.0)
    for name in metrics.OVER_CLASSES:
        expected = METRICS["multiclass"][name](
            truth[truth < 3], found[truth < 3], weights[truth < 3]
        )
        assert METRICS["multiclass"][name](truth, found, weights) == pytest.approx(expected)
        measured = measure(task, truth[:, None], found, weights).mean[name]
        assert measured.value == pytest.approx(expected)


def test_a_mean_over_classes_is_over_the_same_ones_in_every_sample() -> None:
    draw = np.random.default_rng(0)
    task = TaskConfig(type="multiclass", targets=("y",), classes=("a", "b", "c"))
    truth = np.where(np.arange(400) == 0, 2, draw.integers(0, 2, 400)).astype(float)
    # Only the rare class is told from the others.
    found = draw.random((400, 3)) * 0.5
    found[0, 2] = 1
    measured = measure(task, truth[:, None], found, np.ones(400), resamples=200).mean["roc_auc"]
    assert measured.value is not None and measured.low is not None
    # Samples without its only row say nothing: they would be at about a half.
    assert measured.value > 0.65 and measured.low > 0.6


def test_a_rejection_that_is_finite_in_hardly_a_sample_has_no_interval() -> None:
    assert metrics._estimate(50.0, [float("inf")] * 99 + [50.0]) == Estimate(50.0)


def test_a_single_row_tells_no_interval(draw: np.random.Generator) -> None:
    task = TaskConfig(type="regression", targets=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0))
    truth, answers = draw.normal(size=(2, 30, 2))
    truth[1:, 0] = np.nan
    found = measure(task, truth, answers, np.ones(30), resamples=20).targets
    assert found["a"]["rmse"].low is None and found["b"]["rmse"].low is not None
    weights = np.r_[1.0, np.zeros(29)]
    assert measure(NUMBERS, truth[:, 1:], answers[:, 1:], weights, resamples=20).mean[
        "mae"
    ] == Estimate(abs(float(truth[0, 1] - answers[0, 1])))


def test_a_rejection_of_all_background_is_infinite_and_not_undefined() -> None:
    truth = np.r_[np.ones(20), np.zeros(20)]
    answers = np.stack([1 - truth, truth], 1)
    for resamples in (0, 20):
        measured = measure(BINARY, truth[:, None], answers, np.ones(40), resamples=resamples)
        found = measured.mean["rejection_50"]
        assert found == Estimate(None, infinite=True) and str(found) == "infinite"
    # It is the best there is of one of two labels, and undefined where there is no background.
    labels = np.stack([truth, np.ones(40)], 1)
    measured = measure(LABELS, labels, labels, np.ones(40))
    assert measured.mean["rejection_30"].infinite
    assert measured.targets["b"]["rejection_30"] == Estimate(None)
    assert str(metrics._estimate(float("inf"), [7.0, *[float("inf")] * 20])) == "infinite"
