"""The protocol of the benchmarks, piece by piece, against naive computations."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats

from anymae.benchmark import SUITES
from anymae.benchmark.arms import parse_arm
from anymae.benchmark.asked import asked_of, finetuning_of
from anymae.benchmark.baselines import BASELINES, join
from anymae.benchmark.candidates import Candidate, blends, choose, final_metrics
from anymae.benchmark.encoder_features import Reader, _Flat
from anymae.benchmark.finetuning import NEXT_SEED, finetuned, num_steps
from anymae.benchmark.labels import Labels, SealedError
from anymae.benchmark.leaks import clean, contents, count_shared
from anymae.benchmark.linear import linear_candidates
from anymae.benchmark.location import data_folder
from anymae.benchmark.prepare import prepare_corpus, prepare_task
from anymae.benchmark.record import JobName, Method, Record, read_record, read_records, write_record
from anymae.benchmark.run import plan
from anymae.benchmark.scores import scores
from anymae.benchmark.statistics import holm, paired_difference, summarise
from anymae.benchmark.suite import Corpus, FineTuning, Inputs, Task, TaskData, draw, take
from anymae.benchmark.suites.digits import Digits
from anymae.config import DataConfig
from anymae.data.dataset import open_data
from anymae.data.splits import Parts
from anymae.errors import ConfigError, DataError
from anymae.inference.api import embed
from anymae.inference.computations import Reading
from anymae.metrics import METRICS
from anymae.model import MaskedAutoencoder
from anymae.presets import build_config
from anymae.recipes import apply_settings, make_recipe
from anymae.training.pretrain import pretrain
from runs import encoder, strings

PARTS = Parts(np.arange(6), np.arange(6, 9), np.arange(9, 12))


def make_task(**options: object) -> Task:
    defaults = {"name": "t", "type": "regression", "metric": "rmse", "baseline": "boosted_trees"}
    return Task(**{**defaults, **options})  # type: ignore[arg-type]


def make_data(inputs: Inputs | None = None, labels: np.ndarray | None = None) -> TaskData:
    values = np.arange(12.0) if labels is None else labels
    return TaskData(
        inputs=np.arange(12.0)[:, None] if inputs is None else inputs,
        config=DataConfig(),
        parts=PARTS,
        labels=Labels(values, PARTS),
    )


def test_labels_of_test_rows_are_sealed_and_open_once() -> None:
    labels = Labels(np.arange(12.0), PARTS)
    assert labels.of(np.array([0, 8])).tolist() == [0.0, 8.0]
    with pytest.raises(SealedError):
        labels.of(np.array([0, 9]))
    assert labels.open_test().tolist() == [9.0, 10.0, 11.0]
    with pytest.raises(SealedError):
        labels.open_test()


def test_kept_labels_stay_sealed() -> None:
    rows = np.array([1, 3, 7, 11])
    kept = Labels(np.arange(12.0), PARTS).keep(
        rows, Parts(np.arange(2), np.array([2]), np.array([3]))
    )
    with pytest.raises(SealedError):
        kept.of(np.array([3]))
    assert kept.of(np.array([0, 2])).tolist() == [1.0, 7.0]
    assert kept.open_test().tolist() == [11.0]


def test_arms_read_settings_and_refuse_what_says_nothing() -> None:
    arm = parse_arm("guided:ratio=0.5:draw=sample:training.steps=30")
    assert arm.name == "guided"
    assert arm.settings == {
        "masking.ratio": 0.5,
        "masking.draw": "sample",
        "training.steps": 30,
    }
    assert parse_arm("random-again").pretraining_seed(3) == 1003
    assert parse_arm("baseline").encoder is None
    assert parse_arm("baseline+embedding").encoder == parse_arm("guided")
    assert parse_arm("baseline+random").encoder == parse_arm("random")
    assert parse_arm("baseline+none").encoder == parse_arm("none")
    assert parse_arm("baseline+none").joins and not parse_arm("baseline").joins
    with pytest.raises(ConfigError, match="did you mean 'guided'"):
        parse_arm("gided")
    with pytest.raises(ConfigError, match="says nothing"):
        parse_arm("none:ratio=0.5")


def test_an_arm_that_is_read_in_one_way_has_the_encoder_of_the_arm_without() -> None:
    arm = parse_arm("guided:ratio=0.5: probe.reading=kernel")
    assert (arm.reading, arm.settings) == ("kernel", {"masking.ratio": 0.5})
    assert arm.encoder == parse_arm("guided:ratio=0.5")
    assert parse_arm("none:probe.reading=mean").encoder == parse_arm("none")
    budget, task = SUITES["digits"].budgets["mini"], SUITES["digits"].tasks["50"]
    assert arm.readings(budget) == ("kernel",)
    assert parse_arm("guided").readings(budget) == budget.readings
    assert finetuning_of(budget, task, arm) is None
    assert finetuning_of(budget, task, parse_arm("guided")) is not None
    with pytest.raises(ConfigError, match=r"probe\.reading 'kernl'; did you mean 'kernel'"):
        parse_arm("guided:probe.reading=kernl")
    for name in ("baseline", "baseline+embedding"):
        with pytest.raises(ConfigError, match=r"probe\.reading says nothing"):
            parse_arm(f"{name}:probe.reading=kernel")


def test_each_arm_has_its_own_ratio_and_settings_win() -> None:
    budget = SUITES["higgs"].budgets["cpu"]
    guided = parse_arm("guided").recipe_settings(budget)
    assert guided["masking.kind"] == "guided"
    assert guided["masking.ratio"] == budget.masking["guided"]["ratio"]
    again = parse_arm("random-again").recipe_settings(budget)
    assert again == parse_arm("random").recipe_settings(budget)
    assert parse_arm("guided:ratio=0.11").recipe_settings(budget)["masking.ratio"] == 0.11
    assert parse_arm("none").recipe_settings(budget) == {}


def test_paired_differences_agree_with_a_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    mine, other = rng.normal(size=5), rng.normal(size=5)
    found = paired_difference(
        dict(enumerate(mine)), dict(enumerate(other)), smaller_is_better=False
    )
    assert found is not None
    interval = stats.ttest_rel(mine, other).confidence_interval(0.95)
    assert np.allclose([found.low, found.high], [interval.low, interval.high])
    assert np.isclose(found.mean, (mine - other).mean())
    assert np.isclose(found.p, stats.ttest_rel(mine, other).pvalue)


def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    found = paired_difference(
        dict(enumerate(rng.normal(size=5))), dict.fromkeys(range(5), 0.0), smaller_is_better=False
    )
    assert found is not None
    true = found.detectable / found.deviation
    runs = rng.normal(true, 1, size=(20_000, 5))
    assert np.isclose((stats.ttest_1samp(runs, 0, axis=1).pvalue < 0.05).mean(), 0.8, atol=0.01)


def test_differences_without_spread_decide_nothing() -> None:
    same = paired_difference({0: 0.9, 1: 0.8}, {0: 0.75, 1: 0.65}, smaller_is_better=False)
    assert same is not None and same.mean > 0.1
    assert (same.verdict, same.p) == ("undecided", 1.0)


def test_draws_from_the_same_rows_widen_the_interval() -> None:
    mine, other = dict(enumerate([0.8, 0.82, 0.81, 0.84])), dict.fromkeys(range(4), 0.7)
    plain, drawn = (
        paired_difference(mine, other, smaller_is_better=False, overlap=overlap)
        for overlap in (0.0, 0.25)
    )
    assert plain is not None and drawn is not None and plain.mean == drawn.mean
    # Four seeds, a fifth of the rows tested each time: the square root of 1 + 4 / 4.
    for of in (lambda found: found.high - found.mean, lambda found: found.detectable):
        assert of(drawn) == pytest.approx(of(plain) * 2**0.5)
    assert drawn.p > plain.p


def test_small_numbers_differ_like_large_ones() -> None:
    mine, other = dict(enumerate([1e-13, 1.1e-13, 0.9e-13])), dict.fromkeys(range(3), 9e-13)
    found = paired_difference(mine, other, smaller_is_better=True)
    assert found is not None and found.verdict == "better"


def test_a_candidate_without_a_number_is_never_the_best() -> None:
    task = make_task(metric="spearman")
    data = make_data(labels=np.arange(12.0))
    constant = Candidate({"s": 1}, np.zeros((6, 1)))
    right = Candidate({"s": 2}, np.arange(6.0)[:, None])
    assert choose(task, data, [constant, right, constant]).settings == {"s": 2}
    with pytest.raises(DataError, match="spearman of t is not defined"):
        choose(task, data, [constant])


def test_arms_do_not_decide_what_others_do() -> None:
    for text in (
        "guided:kind=random",
        "random:training.seed=7",
        "random:training.keep=best",
        "random:data.length=64",
        "guided:encoder.width=32",
    ):
        with pytest.raises(ConfigError, match=r"leave .* out"):
            parse_arm(text)


def test_latents_stand_where_their_inputs_do() -> None:
    rows = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    rows[::2, 0] = np.nan
    dataset = open_data(rows)
    model = MaskedAutoencoder(build_config("tiny", dataset.input)).eval()
    readings = _Flat(model, 3)
    with torch.no_grad():
        every = readings(dataset.batch(np.arange(8))).reshape(8, 3, -1)
        for row in range(8):
            alone = readings(dataset.batch(np.array([row]))).reshape(3, -1)
            torch.testing.assert_close(alone, every[row])
    assert (every[::2, 0] == 0).all() and (every[1::2, 0] != 0).any(-1).all()


def test_holm_keeps_what_stands_among_many() -> None:
    assert holm([]) == []
    assert holm([0.02, 0.04]) == [True, True]
    assert holm([0.04, 0.03]) == [False, False]
    assert holm([0.049, 0.0001, 0.02, 0.3]) == [False, True, False, False]


def test_an_improvement_is_positive_whatever_the_metric() -> None:
    lower, higher = {0: 1.0, 1: 1.1, 2: 1.2}, {0: 2.0, 1: 2.1, 2: 2.3}
    error = paired_difference(lower, higher, smaller_is_better=True)
    score = paired_difference(lower, higher, smaller_is_better=False)
    assert error is not None and score is not None
    assert error.verdict == "better" and score.verdict == "worse"
    assert paired_difference(lower, {0: 1.0}, smaller_is_better=True) is None
    assert summarise({4: 2.0}).deviation is None


def test_seeds_on_one_split_do_not_count_twice() -> None:
    gains = {0: 0.05, 1: 0.31, 2: 0.29, 3: 0.02, 4: 0.19}
    nothing = dict.fromkeys(gains, 0.0)
    splits = {0: "a", 1: "b", 2: "c", 3: "a", 4: "b"}
    alone = paired_difference(gains, nothing, smaller_is_better=False)
    found = paired_difference(gains, nothing, smaller_is_better=False, splits=splits)
    assert alone is not None and found is not None
    mean = np.mean(list(gains.values()))
    # The published formula, split by split.
    total = 0.0
    for split in "abc":
        total += sum(gain - mean for seed, gain in gains.items() if splits[seed] == split) ** 2
    error = np.sqrt(3 / 2 * total) / 5
    width = stats.t.ppf(0.975, 2) * error
    assert (found.low, found.high) == pytest.approx((mean - width, mean + width))
    assert found.p == pytest.approx(2 * stats.t.sf(mean / error, 2))
    assert (alone.verdict, found.verdict) == ("better", "undecided")
    assert (found.mean, found.seeds, found.splits) == (alone.mean, 5, 3)


def test_the_more_careful_chance_counts_where_seeds_share_splits() -> None:
    # By the interval of 95 % five values are more careful here, by the chance three splits.
    gains, splits = dict(enumerate((2.6, 5.2, 4.6, 6.4, 6.0))), dict(enumerate("abcab"))
    nothing = dict.fromkeys(gains, 0.0)
    alone = paired_difference(gains, nothing, smaller_is_better=False)
    found = paired_difference(gains, nothing, smaller_is_better=False, splits=splits)
    assert alone is not None and found is not None
    assert (found.low, found.high) == (alone.low, alone.high)
    assert found.p > 3 * alone.p
    assert found.detectable >= alone.detectable


def test_splits_that_balance_leave_the_chance_of_the_seeds() -> None:
    gains, nothing = dict(enumerate((1.25, 1.75, 1.25, 1.75))), dict.fromkeys(range(4), 0.0)
    alone = paired_difference(gains, nothing, smaller_is_better=False)
    found = paired_difference(
        gains, nothing, smaller_is_better=False, splits=dict(enumerate("aabb"))
    )
    assert alone is not None and found is not None
    assert (found.p, found.low) == (alone.p, alone.low) and found.p < 0.01


@pytest.mark.parametrize("splits", ["aaaaa", "abcde"])
def test_one_split_or_one_each_changes_no_interval(splits: str) -> None:
    gains = {0: 0.05, 1: 0.31, 2: 0.29, 3: 0.02, 4: 0.19}
    nothing = dict.fromkeys(gains, 0.0)
    alone = paired_difference(gains, nothing, smaller_is_better=False)
    found = paired_difference(
        gains, nothing, smaller_is_better=False, splits=dict(enumerate(splits))
    )
    assert alone is not None and found is not None
    assert found._replace(splits=alone.splits) == alone


def test_splits_that_happen_to_agree_make_no_interval_narrower() -> None:
    # The differences of each split cancel, which five values cannot show to be no accident.
    gains, splits = {0: 0.1, 1: 0.3, 2: 0.2, 3: 0.3, 4: 0.1}, dict(enumerate("abcab"))
    nothing = dict.fromkeys(gains, 0.0)
    alone = paired_difference(gains, nothing, smaller_is_better=False)
    found = paired_difference(gains, nothing, smaller_is_better=False, splits=splits)
    assert alone is not None and found is not None
    assert (found.low, found.high) == (alone.low, alone.high)


def test_label_budgets_are_nested_and_depend_on_the_seed() -> None:
    rows = np.arange(50, 150)
    few, many = (draw(rows, count, seed=3, purpose="labels") for count in (10, 40))
    assert set(few) <= set(many) <= set(rows) and len(set(many)) == 40
    assert few.tolist() != draw(rows, 10, seed=4, purpose="labels").tolist()
    assert draw(rows, 1000, seed=0, purpose="labels") is rows


@pytest.mark.parametrize("kind", ["array", "strings", "table"])
def test_planted_leaks_are_removed_and_counted(kind: str) -> None:
    numbers = np.arange(12)
    numbers[[9, 6]] = 2  # a test row and a validation row that are also in training
    more = np.array([100, 101, 9, 10, 2])
    if kind == "array":
        inputs, unlabelled = (np.stack([n, n], 1).astype(np.float32) for n in (numbers, more))
    elif kind == "strings":
        inputs, unlabelled = (pa.table({"s": [f"C{n}" for n in part]}) for part in (numbers, more))
    else:
        inputs, unlabelled = (
            pa.table({"a": part, "b": [None if n == 2 else str(n) for n in part]})
            for part in (numbers, more)
        )
    data = make_data(inputs)
    assert count_shared(data) == {"valid": 1, "test": 1}
    cleaned = clean(Corpus(inputs=unlabelled, config=DataConfig()), [data])
    kept = contents(cleaned.inputs).to_pylist()
    assert kept == contents(unlabelled).take(pa.array([0, 1, 2])).to_pylist()
    assert cleaned.removed == 2


def test_the_best_candidate_on_validation_is_chosen_and_then_tested() -> None:
    task, data = make_task(), make_data()
    rest = np.arange(6.0, 12.0)[:, None]
    wrong = rest.copy()
    wrong[:3] += 1
    chosen = choose(
        task,
        data,
        [Candidate({"n": 0}, wrong), Candidate({"n": 1}, rest + 0.1), Candidate({"n": 2}, wrong)],
    )
    assert chosen.settings == {"n": 1} and chosen.tried == 3
    assert np.isclose(chosen.validation, 0.1)
    assert np.isclose(final_metrics(task, data, {"m": chosen})["m"]["rmse"], 0.1)
    with pytest.raises(SealedError):
        final_metrics(task, data, {"m": chosen})


def test_settings_chosen_before_count_among_those_tried() -> None:
    task, data = make_task(), make_data()
    right = np.arange(6.0, 12.0)[:, None]
    rates = Candidate({"learning_rate": 1e-3}, right, looked_at=3)
    assert choose(task, data, [rates, Candidate({}, right + 1)]).tried == 4


def test_a_metric_may_choose_for_another() -> None:
    task = make_task(type="binary", metric="accuracy", chosen_by="roc_auc")
    data = make_data(labels=np.array([0.0, 1] * 6))
    truth = np.array([0.0, 1, 0, 1, 0, 1])
    ordered = np.stack([1 - (0.6 + 0.1 * truth), 0.6 + 0.1 * truth], 1)  # accuracy 1/3, AUC 1
    accurate = np.stack([1 - truth, truth], 1)
    accurate[0] = [0.45, 0.55]  # accuracy 2/3, AUC 1 as well: the first of equals stays
    chosen = choose(task, data, [Candidate({"n": 0}, ordered), Candidate({"n": 1}, accurate)])
    assert chosen.settings == {"n": 0} and chosen.validation == 1.0


def test_blends_go_from_one_to_the_other() -> None:
    data = make_data()
    one, other = (
        choose(make_task(), data, [Candidate({}, np.full((6, 1), value))]) for value in (1.0, 3.0)
    )
    found = [candidate.answers[0, 0] for candidate in blends(one, other)]
    assert np.allclose(found, np.linspace(3, 1, 11))


def test_many_classes_are_fitted_as_a_ridge_of_indicators() -> None:
    rng = np.random.default_rng(0)
    classes = 30
    features = rng.normal(size=(200, 12)).astype(np.float32)
    labels = rng.integers(0, classes, 200).astype(float)
    parts = Parts(np.arange(150), np.arange(150, 180), np.arange(180, 200))
    data = TaskData(
        inputs=features, config=DataConfig(), parts=parts, labels=Labels(labels, parts),
        num_classes=classes,
    )  # fmt: skip
    task = make_task(type="multiclass", metric="accuracy")
    train = features[:150].astype(np.float64)
    shift, scale = train.mean(0), train.std(0)
    train, rest = (train - shift) / scale, (features[150:] - shift) / scale
    for candidate in linear_candidates(task, data, features):
        penalty = 1 / float(str(candidate.settings["strength"]))
        gram = train.T @ train + penalty * np.eye(12)
        naive = rest @ np.linalg.solve(gram, train.T @ np.eye(classes)[labels[:150].astype(int)])
        assert np.allclose(candidate.answers, naive, atol=1e-4)


def test_steps_follow_from_labels_within_bounds() -> None:
    bounds = FineTuning(
        learning_rates=(1.0,), epochs=3, batch_size=10, least_steps=20, most_steps=60
    )
    assert [num_steps(bounds, labels) for labels in (10, 105, 1000)] == [20, 33, 60]


def test_several_seeds_answer_together_at_the_rate_of_the_first() -> None:
    rows, parts = strings(60), Parts(np.arange(40), np.arange(40, 50), np.arange(50, 60))
    labels = np.array([float(len(row) > 15) for row in rows])
    task, model = make_task(type="binary", metric="accuracy"), encoder()

    def tune(seed: int, seeds: int, rates: tuple[float, ...]) -> Candidate:
        data = TaskData(
            inputs=rows, config=DataConfig(), parts=parts, labels=Labels(labels, parts),
            num_classes=2,
        )  # fmt: skip
        plan = FineTuning(learning_rates=rates, epochs=2, batch_size=16, seeds=seeds)
        return finetuned(task, data, model, plan, seed=seed, device="cpu")

    both = tune(3, 2, (1e-2, 1e-5))
    rate = float(str(both.settings["learning_rate"]))
    first, second = tune(3, 1, (1e-2, 1e-5)), tune(3 + NEXT_SEED, 1, (rate,))
    assert first.settings == {key: both.settings[key] for key in first.settings}
    assert both.settings["seeds"] == both.looked_at == 2
    assert both.settings["best_steps"] == [first.settings["step"], second.settings["step"]]
    assert not np.allclose(first.answers, second.answers)
    np.testing.assert_allclose(both.answers, (first.answers + second.answers) / 2, atol=1e-6)


def test_features_of_rows_are_kept_by_the_name_of_the_row() -> None:
    every = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    dataset = open_data(every)
    model = MaskedAutoencoder(build_config("tiny", dataset.input)).eval()
    model.data = dataset.preparation.to_json()
    reader = Reader(model, Corpus(inputs=every, config=DataConfig()), ("mean",), "cpu")

    def read(*rows: int) -> np.ndarray:
        data = replace(make_data(), inputs=every[list(rows)])
        return np.asarray(reader.read("key", data, np.array(rows))["mean"])

    five, two = read(5, 2)
    kept = read(3, 5, 2)
    assert (kept[1] == five).all() and (kept[2] == two).all()
    np.testing.assert_allclose(kept, embed(model, every[[3, 5, 2]]), atol=1e-5)
    # Rows that were read are not read again, whatever is behind their names now.
    again = replace(make_data(), inputs=every[[0, 1, 4]])
    assert (reader.read("key", again, np.array([3, 5, 2]))["mean"] == kept).all()


def make_record(job: JobName) -> Record:
    method = Method(settings={}, tried=1, validation=0.5, test={"accuracy": 0.4}, seconds=0.1)
    return Record(
        job=job, command=job.command(), machine={}, data={}, asked={}, settings={}, seconds=1.0,
        methods={"probe": method}, best="probe",
    )  # fmt: skip


def test_records_come_back_as_written_and_nothing_unknown_is_read(tmp_path: Path) -> None:
    job = JobName(
        suite="higgs", budget="cpu", stage="tune", task="1k", arm="guided:ratio=0.5", seed=2
    )
    assert job.command() == (
        "anymae benchmark higgs --task 1k --arms guided:ratio=0.5 --budget cpu --seeds 3"
        " --stage tune"
    )
    path = write_record(tmp_path, make_record(job))
    assert read_record(path) == make_record(job)
    assert read_records(tmp_path) == [make_record(job)]
    path.write_text(path.read_text().replace('"best"', '"bets"'))
    with pytest.raises(ConfigError, match="did you mean 'best'"):
        read_record(path)


def test_joined_arms_are_scored_against_joined_ones() -> None:
    joined = {"baseline+embedding": 0.9, "baseline+random": 0.8, "baseline+none": 0.7}
    found = {**joined, "guided": 0.5, "random": 0.3, "none": 0.1}
    records = []
    for (arm, value), seed in itertools.product(found.items(), range(2)):
        job = JobName(suite="digits", budget="cpu", stage="final", task="50", arm=arm, seed=seed)
        record = make_record(job)
        method = record.methods["probe"].model_copy(update={"test": {"accuracy": value + seed}})
        records.append(record.model_copy(update={"methods": {"probe": method}}))
    over = {score.arm: score.over for score in scores(records)}
    means = {
        arm: {name: None if made is None else round(made.mean, 6) for name, made in each.items()}
        for arm, each in over.items()
    }
    assert means["baseline+embedding"] == {"random": 0.1, "none": 0.2}
    assert means["guided"] == {"random": 0.2, "none": 0.4}
    assert means["baseline+random"] == {"none": 0.1}
    assert means["none"] == {"random": -0.2}


def test_chains_share_an_encoder_and_go_seed_by_seed(tmp_path: Path) -> None:
    chains = plan(
        "digits", tasks=(), arms=("guided", "baseline+embedding", "baseline"), budget="mini",
        seeds=2, data=tmp_path, out=tmp_path,
    )  # fmt: skip
    assert [{job.seed for job in chain.jobs} for chain in chains] == [{0}, {0}, {1}, {1}]
    assert {job.arm for job in chains[0].jobs} == {"guided", "baseline+embedding"}
    assert len(chains[0].missing) == 6
    write_record(tmp_path, make_record(chains[0].jobs[0]))
    assert len(chains[0].missing) == 5


def test_what_is_named_twice_is_planned_once(tmp_path: Path) -> None:
    (chain,) = plan(
        "digits", tasks=("50", "50"), arms=("guided", " guided"), budget="mini", seeds=1,
        data=tmp_path, out=tmp_path,
    )  # fmt: skip
    assert [(job.task, job.arm) for job in chain.jobs] == [("50", "guided")]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"budget": "cpy"}, "did you mean 'cpu'"),
        ({"tasks": ("al",)}, "did you mean 'all'"),
        ({"arms": ("rndom",)}, "did you mean 'random'"),
        ({"arms": ("",)}, "unknown arm ''"),
        ({"seeds": 0}, "at least one"),
        ({"device": "cuda:99"}, "not on this machine"),
    ],
)
def test_unknown_names_are_refused(changed: dict[str, object], message: str) -> None:
    asked = {"tasks": (), "arms": (), "budget": "cpu", "seeds": 1, "data": ".", "out": "."}
    with pytest.raises(ConfigError, match=message):
        plan("digits", **{**asked, **changed})  # type: ignore[arg-type]


def test_missing_data_are_named_with_the_way_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="or run: anymae benchmark fetch images"):
        data_folder(tmp_path, "images")
    with pytest.raises(DataError, match="several sources, so `anymae benchmark fetch` cannot"):
        data_folder(tmp_path, "moleculenet")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mnist_t10k.npz").touch()
    monkeypatch.setenv("ANYMAE_DATA", str(tmp_path))
    assert data_folder(None, "images") == tmp_path
    with pytest.raises(DataError):
        data_folder(tmp_path / "images", "images")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PAR1PAR1"])
def test_damaged_data_are_told_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    for file in SUITES["tape"].files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    suite = SUITES["tape"](tmp_path)
    budget = suite.budgets["mini"]
    with pytest.raises(DataError, match=r"cannot be read .* damaged or something else"):
        prepare_task(suite, suite.tasks["stability"], budget, 0)
    with pytest.raises(DataError, match=r"cannot be read .* damaged or something else"):
        prepare_corpus(suite, "all", budget, 0)


@pytest.mark.parametrize("name", list(SUITES))
def test_every_suite_is_complete(name: str) -> None:
    kind = SUITES[name]
    assert {"mini", "cpu"} <= set(kind.budgets)
    assert {"guided", "random", "none", "baseline"} <= set(kind.arms)
    for task in kind.tasks.values():
        assert task.baseline in BASELINES
        assert {task.metric, task.chosen_by or task.metric} <= set(METRICS[task.type])
    for budget in kind.budgets.values():
        for arm in kind.arms:
            apply_settings(make_recipe(budget.recipe), parse_arm(arm).recipe_settings(budget))
        named = set() if budget.finetune is None else set(budget.finetune.tasks or ())
        assert named <= set(kind.tasks)


@pytest.mark.parametrize("name", list(SUITES))
def test_splits_of_real_data_are_disjoint_and_the_corpus_is_clean(
    name: str, data_folder: Path
) -> None:
    suite = SUITES[name](data_folder)
    budget = replace(SUITES[name].budgets["mini"], corpus_rows=None)
    corpora = {}
    for corpus in {task.corpus for task in SUITES[name].tasks.values()}:
        cleaned = prepare_corpus(suite, corpus, budget, 1)
        corpora[corpus] = set(contents(cleaned.inputs).to_pylist())
    for task in SUITES[name].tasks.values():
        data = suite.load(task, seed=1)
        every = np.concatenate(list(data.parts))
        assert len(every) == len(set(every.tolist())) and all(len(part) for part in data.parts)
        known = data.labels.of(np.concatenate(data.parts[:2]))
        if data.num_classes:
            assert set(known) <= set(range(data.num_classes))
        again = prepare_task(suite, task, budget, 1)
        assert again.split == prepare_task(suite, task, budget, 1).split
        held = contents(again.data.inputs).take(
            pa.array(np.concatenate([again.data.parts.valid, again.data.parts.test]))
        )
        assert not set(held.to_pylist()) & corpora[task.corpus]


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SUITES if "paper" in SUITES[n].budgets])
def test_published_budgets_build_and_step(name: str, data_folder: Path, tmp_path: Path) -> None:
    budget = SUITES[name].budgets["paper"]
    corpus = SUITES[name](data_folder).corpus("all", 0)
    settings = parse_arm("guided").recipe_settings(budget)
    recipe = apply_settings(make_recipe(budget.recipe), settings)
    recipe = recipe.model_copy(update={"data": budget.read(corpus.config)})
    length = {"training.epochs": None, "training.steps": 1, "training.batch_size": 2}
    run = pretrain(
        take(corpus.inputs, np.arange(8)), out=tmp_path / "run", recipe=recipe, settings=length
    )
    assert run.metrics["steps"] == 1 and run.model.config.masking.draw == "top"
    published = {"higgs": 28, "moleculenet": 512, "tape": 1024}
    assert run.model.config.input.length == published.get(name, run.model.config.input.length)


def test_published_budgets_learn_from_all_labels_but_on_curves() -> None:
    paper = SUITES["moleculenet"].budgets["paper"]
    assert paper.num_labels(SUITES["moleculenet"].tasks["hiv"]) is None
    higgs = SUITES["higgs"]
    assert higgs.budgets["paper"].num_labels(higgs.tasks["1k"]) == 1_000


def test_proteins_are_pretrained_on_training_sequences_but_no_others(data_folder: Path) -> None:
    suite = SUITES["tape"](data_folder)
    corpus = set(contents(suite.corpus("all", 0).inputs).to_pylist())
    for name in ("fluorescence", "stability"):
        data = suite.load(suite.tasks[name], 0)
        train, *held = (set(contents(take(data.inputs, p)).to_pylist()) for p in data.parts)
        # Doubles across TAPE's own parts are left out of every corpus afterwards.
        assert train <= corpus and not (set().union(*held) & corpus) - train


def test_published_sizes_of_the_splits(data_folder: Path) -> None:
    def sizes(suite: str, task: str) -> tuple[int, ...]:
        data = SUITES[suite](data_folder).load(SUITES[suite].tasks[task], 0)
        return tuple(len(part) for part in data.parts)

    assert sizes("higgs", "10k") == (33_984, 4_000, 19_610)
    assert sizes("tape", "remote_homology") == (12_312, 736, 718)
    assert sizes("tape", "fluorescence") == (21_446, 5_362, 27_217)
    assert sizes("tape", "stability") == (53_614, 2_512, 12_851)
    assert sizes("moleculenet", "esol") == (902, 113, 113)
    assert sizes("moleculenet", "hiv") == (32_901, 4_113, 4_113)
    assert sizes("language", "1k") == (60_614, 2_000, 872)
    assert sizes("tables", "adult")[2] == 16_281


def task_data(labels: np.ndarray, train: int) -> TaskData:
    count = len(labels)
    parts = Parts(np.arange(train), np.arange(train, train + 5), np.arange(train + 5, count))
    inputs = np.random.default_rng(0).random((count, 4, 4)).astype(np.float32)
    known = Labels(labels.astype(np.float64), parts)
    return TaskData(inputs=inputs, config=DataConfig(), parts=parts, labels=known, num_classes=3)


def test_a_baseline_answers_for_classes_that_no_training_row_has() -> None:
    data = task_data(np.r_[np.zeros(10), np.full(10, 2), [0, 1, 2, 0, 1], [1, 2]], train=20)
    task = Task(name="t", type="multiclass", metric="accuracy", baseline="pixels")
    found = list(BASELINES["pixels"](task, data, 0, None))
    assert {candidate.answers.shape for candidate in found} == {(7, 3)}
    assert (found[-1].answers[:, 1] == 0).all()


def test_features_joined_to_a_baseline_are_scaled_by_training_rows() -> None:
    data = task_data(np.arange(30.0) % 3, train=20)
    features = np.random.default_rng(1).normal(size=(30, 6)).astype(np.float32)
    other = features.copy()
    other[25:] += 100.0
    plain = np.zeros((30, 1), np.float32)
    one, two = join(plain, features, data), join(plain, other, data)
    np.testing.assert_array_equal(one[:25], two[:25])


def test_readings_are_those_of_the_library_side_by_side() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    dataset = open_data(rows)
    model = MaskedAutoencoder(build_config("tiny", dataset.input)).eval()
    model.data = dataset.preparation.to_json()
    corpus = Corpus(inputs=rows, config=DataConfig())
    reader = Reader(model, corpus, ("layers", "kernel", "flat", "mean"), "cpu")
    data = replace(make_data(), inputs=rows, config=DataConfig())
    found = reader.read("key", data, np.arange(12))
    assert list(found) == ["mean", "layers", "kernel", "flat"]
    for reading in get_args(Reading):
        expected = embed(model, rows, reading=reading)
        np.testing.assert_allclose(found[reading], expected, atol=1e-5)
    assert list(Reader(model, corpus, ("kernel",), "cpu").read("key", data, np.arange(12))) == [
        "kernel"
    ]


def test_readings_that_a_budget_names_are_asked_for() -> None:
    job = JobName(
        suite="digits", budget="cpu", stage="final", task="50", arm="guided", seed=0
    )  # fmt: skip
    asked = asked_of(Digits, job)
    assert "readings" not in asked
    budget = replace(Digits.budgets["cpu"], readings=("layers", "kernel"))
    other = type("Other", (Digits,), {"budgets": {"cpu": budget}})
    assert asked_of(other, job) == asked | {"readings": ["layers", "kernel"]}
    assert "readings" not in asked_of(other, job.model_copy(update={"arm": "baseline"}))
