"""A search in miniature: what it looks at, what it leaves alone, what a cut costs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest

import anymae
from anymae import tuning
from anymae.comparison import study
from anymae.config import DataConfig
from anymae.data.dataset import open_data
from anymae.data.frame import Frame
from anymae.data.splits import split_rows
from anymae.errors import (
    ConfigError,
    DataError,
    FolderError,
    MissingExtraError,
    NonFiniteError,
)
from anymae.proposals import SPACE, propose
from anymae.recipes import load_recipe
from anymae.tuning import TunedTrial, Tuning
from runs import Cut, strings, weights
from studies import COUNT, TINY, CutAfter, Watch, table

pytest.importorskip("optuna", reason="needs anymae[tune]")


def tune(out: Path, data: object = None, **options: Any) -> Tuning:
    options = {"settings": TINY, "steps": 2, "trials": 4, "preset": "tiny", **options}
    options = {"target": "y", **options}
    return anymae.tune(table() if data is None else data, out=out, **options)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    return tune(tmp_path_factory.mktemp("tune") / "out")


def test_the_best_trial_is_the_one_with_the_least_error(done: Tuning) -> None:
    assert done.metric == "rmse"
    scores = [trial.score for trial in done.trials]
    assert done.best.score == min(score for score in scores if score is not None)
    assert len(set(scores)) == len(scores) == 4
    assert done.trials[0].settings == {}
    for trial in done.trials[1:]:
        assert set(trial.settings) <= set(SPACE)
        floor = "masking.random_floor" in trial.settings
        assert floor == (trial.settings["masking.kind"] == "guided")


def test_the_recipe_is_that_of_the_best_trial(done: Tuning, tmp_path: Path) -> None:
    recipe = load_recipe(done.recipe)
    ours = anymae.pretrain(strings(), out=tmp_path / "run", recipe=done.recipe)
    theirs = done.recipe.parent / f"trial-{done.best.number:03}"
    mine, other = anymae.load(ours.folder).config, anymae.load(theirs).config
    assert (mine.encoder, mine.masking) == (other.encoder, other.masking)
    assert recipe.training["steps"] == 2
    assert recipe.data == DataConfig(), "it is for other data too"
    assert "on which it was chosen" in done.recipe.read_text()
    assert done.drawn == COUNT - done.rows["pretrained"] == 12
    assert done.doubt is not None and f"\n# Note: {done.doubt}.\n" in done.recipe.read_text()
    assert "A run of `anymae tune` of the table" in (theirs / "run.yaml").read_text()


def test_no_test_row_is_pretrained_on_fitted_to_or_judged_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ["train"] * 40 + ["valid"] * 10 + ["test"] * 10
    watch = Watch(monkeypatch)
    found = tune(
        tmp_path / "out", table(part=parts), trials=2, data_config=DataConfig(split="part")
    )
    assert [len(pool) for pool in watch.pools] == [50, 50]
    assert len(watch.judged) == 2
    for fitted, held in watch.judged:
        assert fitted.tolist() == list(range(40))
        assert held.tolist() == list(range(40, 50))
    assert found.rows == {"pretrained": 50, "fitted": 40, "judged": 10}
    assert (found.drawn, found.doubt) == (0, None)
    assert "--split" not in found.recipe.read_text()


def test_a_cut_search_goes_on_and_ends_the_same(done: Tuning, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Cut):
        tune(out, progress=CutAfter(3))  # the first step of the second trial
    again = tune(out, trials=3)
    timeless = [(trial.settings, trial.score) for trial in again.trials]
    assert timeless == [(trial.settings, trial.score) for trial in done.trials[:3]]
    assert len(tune(out, trials=4).trials) == 4
    with pytest.raises(FolderError, match=r"num_labels is 20, not None"):
        tune(out, num_labels=20)


def test_another_space_is_another_search(done: Tuning) -> None:
    folder = done.recipe.parent
    before = (folder / "tune.json").read_bytes()
    for name, default in (("masking.ratio", 0.3), ("encoder.depth", 4)):
        with pytest.raises(FolderError, match=rf"space\.{name} is None, not \["):
            tune(folder, settings={**TINY, name: default}, trials=5)
    assert (folder / "tune.json").read_bytes() == before


def test_a_finished_run_of_other_settings_is_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*words: object) -> float:
        raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(tuning._Search, "judge", cut)
        tune(tmp_path / "out", trials=1)
    run = tmp_path / "out" / "trial-000" / "run.yaml"
    run.write_text(run.read_text().replace("ratio: 0.3", "ratio: 0.4"))
    with pytest.raises(FolderError, match=r"trial-000 is a run of .*ratio is 0\.3, not 0\.4"):
        tune(tmp_path / "out", trials=1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda stored: stored["result"]["trials"][1].pop("seconds"),
        lambda stored: stored["result"].pop("trials"),
        lambda stored: stored.update(result=[]),
        lambda stored: stored.pop("asked"),
    ],
)
def test_a_damaged_record_is_told(
    damage: Callable[[dict[str, Any]], object], done: Tuning, tmp_path: Path
) -> None:
    stored = json.loads((done.recipe.parent / "tune.json").read_text())
    damage(stored)
    (tmp_path / "tune.json").write_text(json.dumps(stored))
    with pytest.raises(FolderError, match=r"tune\.json is damaged; name a new folder"):
        tune(tmp_path)


def test_what_is_set_is_not_varied(tmp_path: Path) -> None:
    settings = {**TINY, "masking.kind": "random", "encoder.depth": 1}
    found = tune(tmp_path / "out", settings=settings, trials=2)
    assert set(found.trials[1].settings) == {"masking.ratio", "training.learning_rate"}


def test_a_section_sets_each_of_its_keys(tmp_path: Path) -> None:
    sections = {"masking": {"kind": "span", "ratio": 0.4}, "encoder": {"depth": 1}}
    found = tune(tmp_path / "out", settings={**sections, **TINY}, trials=2)
    assert set(found.trials[1].settings) == {"training.learning_rate"}
    recipe = load_recipe(found.recipe)
    assert recipe.masking == {"kind": "span", "ratio": 0.4}
    assert recipe.training["seed"] == 0


def test_no_settings_are_tried_twice_and_a_search_ends_where_none_are_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fixed = {"masking.kind": "random", "masking.ratio": 0.3, "training.learning_rate": 1e-3}
    with caplog.at_level("INFO", "anymae"):
        found = tune(tmp_path / "out", settings={**TINY, **fixed}, trials=5)
    tried = [trial.settings.get("encoder.depth", 4) for trial in found.trials]
    assert sorted(tried) == [2, 4, 6] and tried[0] == 4, "which `tiny` has"
    assert "3 trials are all that there are to try" in caplog.text


def test_a_space_is_used_up_though_the_sampler_sticks_to_what_was_good() -> None:
    space = ("masking.kind", "masking.draw", "masking.random_floor", "encoder.depth")
    tried = [({"encoder.depth": 12}, 0.0)]
    while (settings := propose(space, tried, direction="maximize", seed=0)) is not None:
        good = settings["masking.kind"] == "guided" and settings["encoder.depth"] == 2
        tried.append((settings, 1.0 + good))
    assert len(tried) == 1 + 3 * (2 * 4 + 1)
    assert len({str(sorted(settings.items())) for settings, _ in tried}) == len(tried)


def test_proposals_know_the_settings_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def spy(space: Any, tried: Any, **keywords: Any) -> Any:
        seen.append(tried)
        return propose(space, tried, **keywords)

    monkeypatch.setattr(tuning, "propose", spy)
    settings = {**TINY, "encoder.depth": 3, "training.learning_rate": 1e-2}
    found = tune(tmp_path / "out", settings=settings, trials=2)
    given = {"masking.kind": "guided", "masking.ratio": 0.3}
    given |= {"masking.draw": "sample", "masking.random_floor": 0.5}
    assert seen == [[(given, found.trials[0].score)]]
    outside = [({"masking.ratio": 0.9}, 1.0)]
    assert propose(("masking.ratio",), outside, direction="minimize", seed=0) is not None


def test_seeds_share_no_proposals_and_may_be_the_largest() -> None:
    space = ("masking.ratio", "training.learning_rate")
    found = []
    for seed in (0, 1, 2**32 - 1):
        tried: list[tuple[dict[str, Any], float | None]] = [({}, 1.0)]
        for _ in range(5):
            settings = propose(space, tried, direction="minimize", seed=seed)
            assert settings is not None
            tried.append((settings, 1.0))
        found += [str(settings) for settings, _ in tried[1:]]
    assert len(set(found)) == 15


def test_a_trial_that_diverges_is_told_and_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_pretrain, calls = study.pretrain, 0

    def pretrain(pool: Frame, **keywords: Any) -> object:
        nonlocal calls
        calls += 1
        if calls in (1, 3, 4):
            raise NonFiniteError("the loss is not finite")
        return run_pretrain(pool, **keywords)

    monkeypatch.setattr(study, "pretrain", pretrain)
    found = tune(tmp_path / "out", trials=3)
    assert [trial.score is None for trial in found.trials] == [True, False, True]
    assert found.best.number == 1
    with pytest.raises(NonFiniteError, match="all 1 trials"):
        tune(tmp_path / "other", trials=1)


def test_scores_are_ranked_by_what_the_metric_means(done: Tuning, tmp_path: Path) -> None:
    trials = tuple(TunedTrial(n, {}, score, 1.0) for n, score in enumerate([0.7, None, 0.9, 0.9]))
    found = Tuning(done.task, "roc_auc", {}, trials, tmp_path)
    assert [trial.number for trial in found.ranked] == [2, 3, 0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": ()}, DataError, "no target"),
        ({"trials": 0}, ConfigError, "--trials is 0"),
        ({"settings": {**TINY, **dict.fromkeys(SPACE, 1)}}, ConfigError, "every setting"),
        ({"settings": {**TINY, "training.seed": 7}}, ConfigError, "training.seed is set by --seed"),
        ({"settings": {"training": {"seed": 7}}}, ConfigError, "training.seed is set by --seed"),
        (
            {"settings": {**TINY, "masking.ratio_low": 0.3}},
            ConfigError,
            r"the search may try masking\.ratio=0\.1, and masking\.ratio_low is 0\.3, above "
            r"masking\.ratio 0\.1; set masking\.ratio too",
        ),
    ],
)
def test_what_cannot_be_searched_writes_nothing(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        tune(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_validation_rows_of_one_class_are_refused(tmp_path: Path) -> None:
    parts = ["train"] * 40 + ["valid"] * 10 + ["test"] * 10
    classes = [row % 2 for row in range(40)] + [0] * 20
    with pytest.raises(DataError, match="10 validation rows have one class"):
        tune(
            tmp_path / "out", table(part=parts, active=classes), target="active",
            data_config=DataConfig(split="part"),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_no_unit_outweighs_another(tmp_path: Path) -> None:
    config = DataConfig(column=("smiles",))
    share = np.array(table()["y"].to_pylist())
    found = [
        tune(tmp_path / str(unit), table(z=share[::-1] * unit), target=("y", "z"), trials=2,
             data_config=config)
        for unit in (1.0, 1e6)
    ]  # fmt: skip
    small, large = ([trial.score for trial in each.trials] for each in found)
    assert small == pytest.approx(large, rel=1e-3)


def test_files_split_rows_as_a_column_does(tmp_path: Path) -> None:
    parts, files = ["train"] * 40 + ["valid"] * 10 + ["test"] * 10, {}
    for name, rows in (("train", (0, 40)), ("valid", (40, 10)), ("test", (50, 10))):
        files[name] = str(tmp_path / f"{name}.csv")
        pyarrow.csv.write_csv(table().slice(*rows), files[name])
    by_file = DataConfig(valid=files["valid"], test=files["test"], column=("smiles",))
    by_column = DataConfig(split="part", column=("smiles",))
    one = tune(tmp_path / "a", files["train"], trials=1, data_config=by_file)
    other = tune(tmp_path / "b", table(part=parts), trials=1, data_config=by_column)
    assert one.rows == other.rows == {"pretrained": 50, "fitted": 40, "judged": 10}
    assert weights(tmp_path / "a" / "trial-000") == weights(tmp_path / "b" / "trial-000")
    assert one.best.score == other.best.score


def test_labels_of_test_rows_change_nothing(tmp_path: Path) -> None:
    parts = ["train"] * 40 + ["valid"] * 10 + ["test"] * 10
    classes = [("no", "yes")[row % 2] for row in range(50)]
    found = []
    for name, others in (("a", ["yes"] * 10), ("b", ["zzz"] * 10), ("c", [None] * 10)):
        data = table(part=parts, active=[*classes, *others])
        config = DataConfig(split="part", column=("smiles",))
        options = {"target": "active", "trials": 1, "data_config": config}
        found.append(tune(tmp_path / name, data, **options))
    assert [each.task.classes for each in found] == [("no", "yes")] * 3
    assert len({each.best.score for each in found}) == 1
    # The rows are drawn as they are, whatever is hidden after.
    config = DataConfig(split_by="stratified")
    stratified = tune(tmp_path / "d", trials=1, data_config=config)
    assert stratified.rows["pretrained"] == 48
    assert stratified.rows["fitted"] + stratified.rows["judged"] == 48


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([1.0] * 40 + [0.0] * 10 + [1.0] * 10, r"weights of the 10 validation rows add up to 0"),
        ([0.0] * 40 + [1.0] * 20, r"all 40 training rows have the weight 0"),
    ],
)
def test_rows_that_do_not_count_are_refused(
    cells: list[float], message: str, tmp_path: Path
) -> None:
    parts = ["train"] * 40 + ["valid"] * 10 + ["test"] * 10
    config = DataConfig(split="part", weight="w")
    with pytest.raises(DataError, match=message):
        tune(tmp_path / "out", table(part=parts, w=cells), data_config=config)
    assert not (tmp_path / "out").exists()


def test_negative_weights_are_only_measured_with(tmp_path: Path) -> None:
    data = table(w=[-0.1, *[1.0] * (COUNT - 1)])
    found = tune(tmp_path / "out", data, trials=1, data_config=DataConfig(weight="w"))
    assert found.best.score is not None


def test_a_missing_optuna_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"anymae\[tune\]"):
        tune(tmp_path / "out")


def test_rows_that_a_column_calls_test_are_in_no_trial_beside_a_file_of_validation_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    part = ["test" if row % 5 == 0 else "train" for row in range(COUNT)]
    data, valid = tmp_path / "data.csv", tmp_path / "valid.csv"
    pyarrow.csv.write_csv(table(part=part), data)
    pyarrow.csv.write_csv(table().slice(0, 10), valid)
    config = DataConfig(target=("y",), column=("smiles",), split="part", valid=str(valid))
    tuning.tune(
        data, out=tmp_path / "out", trials=1, steps=1, preset="tiny", settings=TINY,
        data_config=config,
    )  # fmt: skip
    pool = watch.pools[0].rows
    assert pool is not None
    assert pool.tolist() == [row for row in range(COUNT + 10) if row >= COUNT or row % 5]


def test_rows_that_a_search_sets_apart_are_in_none_of_its_trials_whatever_the_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    watch = Watch(monkeypatch)
    config = DataConfig(target=("y",), column=("smiles",))
    tuning.tune(
        table(), out=tmp_path / "out", trials=1, steps=1, preset="tiny", settings=TINY,
        data_config=config, seed=3,
    )  # fmt: skip
    used = np.union1d(*watch.judged[0])
    assert watch.pools[0].rows is not None
    assert watch.pools[0].rows.tolist() == used.tolist()
    dataset = open_data(table(), config)
    drawn = split_rows(dataset.rows, config, 3, valid_share=0.0, test_share=0.2)
    assert used.tolist() == drawn.train.tolist()
