"""Comparisons in miniature: which rows are used for what, what is kept, what is refused."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from scipy import stats

import anymae
from anymae.comparison import Comparison, run, study
from anymae.comparison.baseline import read_baseline
from anymae.config import DataConfig
from anymae.data.dataset import open_data
from anymae.data.frame import Frame
from anymae.errors import ConfigError, DataError, FolderError, InterruptedRunError, UserInputError
from anymae.report import write_report
from anymae.training.progress import Progress
from runs import Cut, weights
from studies import COUNT, TINY, CutAfter, Watch, table

SMALL = {**TINY, "encoder.depth": 1}
GUIDED, NONE = "guided pretraining", "no pretraining"


def compare(out: Path, data: object = None, **options: Any) -> Comparison:
    options = {"seeds": 2, "steps": 3, "settings": SMALL, **options}
    options = {"preset": "tiny", "target": "y", **options}
    return anymae.compare(table() if data is None else data, out=out, **options)


def answers(data: pa.Table) -> np.ndarray:
    """Features that hold the answer."""
    return np.stack([data["y"].to_numpy(), np.arange(len(data)) % 3], 1)


def test_runs_of_no_named_length_have_one_that_is_decided_once(tmp_path: Path) -> None:
    found, notes = study.open_study(table(), DataConfig(target=("y",)), {}, tmp_path, "x.json")
    assert found.recipe.training["steps"] == 1_000
    assert any("10 passes" in note for note in notes)


def test_features_of_ones_own_keep_their_digits() -> None:
    seconds = 1.7e9 + np.arange(9.0)
    frame = open_data(pa.table({"x": seconds, "z": seconds})).rows.frame
    found = read_baseline("own", pa.table({"t": seconds, "n": range(9)}), frame)
    np.testing.assert_array_equal(found, np.stack([seconds, np.arange(9)], 1))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("compare") / "out"
    return compare(out, baselines={"answer": answers(table())})


def test_all_features_are_scored_on_the_same_seeds(done: Comparison) -> None:
    assert list(done.scores) == [
        *(GUIDED, "random pretraining", NONE, "raw features", "raw features + embedding"),
        *("answer", "answer + embedding"),
    ]
    assert {tuple(scores) for scores in done.scores.values()} == {(0, 1)}
    assert done.metric == "rmse"
    assert done.rows == {"pretrained": 48, "fitted": 48, "test": 12}
    assert len({str(scores) for scores in done.scores.values()}) == len(done.scores)


def test_differences_are_paired_and_positive_where_it_is_better(done: Comparison) -> None:
    found = done.difference("answer", NONE)
    assert found is not None
    gains = [done.scores[NONE][seed] - done.scores["answer"][seed] for seed in (0, 1)]
    # Each seed draws a fifth of the same rows for the test.
    half = stats.t.ppf(0.975, 1) * np.std(gains, ddof=1) * (1 / 2 + 0.2 / 0.8) ** 0.5
    np.testing.assert_allclose(
        (found.mean, found.low, found.high),
        (np.mean(gains), np.mean(gains) - half, np.mean(gains) + half),
    )
    assert found.mean > 0
    plain = done.to_json()
    assert {"features": "answer", "other": NONE, "verdict": found.verdict}.items() <= next(
        entry
        for entry in plain["differences"]
        if (entry["features"], entry["other"]) == ("answer", NONE)
    ).items()


RINGS = ["C1" + "C" * size + "1" for size in range(2, 17)]
OFTEN_THE_SAME = {
    "scaffold": ({"smiles": RINGS + ["C" * size for size in range(1, 46)]}, "scaffold"),
    "group": ({"group": [str(row // 3) if row < 15 else "rest" for row in range(COUNT)]}, "group"),
}
"""Whole groups are drawn for the test from 15 rows, for 12 of them."""


@pytest.mark.parametrize("by", OFTEN_THE_SAME)
def test_test_rows_that_mostly_stay_are_one_part(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, split_by = OFTEN_THE_SAME[by]
    if by == "scaffold":
        pytest.importorskip("rdkit", reason="needs anymae[chem]")
    watch = Watch(monkeypatch)
    data = pa.table({**dict(zip(table().column_names, table().columns, strict=True)), **columns})
    config = DataConfig(
        split_by=split_by, column=("smiles",), group="group" if by == "group" else None
    )
    found = compare(tmp_path / "out", data, seeds=3, steps=1, data_config=config)
    tests = [set(test) for _, test in watch.judged]
    assert tests[0] != tests[1] or tests[0] != tests[2]
    shared = [len(tests[a] & tests[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert found.overlap == 0.0
    assert found.shared == found.to_json()["shared"] == int(np.mean(shared)) >= 9
    assert found.scope() == (
        f"two seeds have {found.shared} of 12 test rows in common: intervals are about other "
        "trainings, not about other rows"
    )


@pytest.mark.parametrize(
    ("scores", "run", "doubted"),
    [
        ({}, "random-seed0", None),
        ({GUIDED: [1.5, 1.0, 1.4]}, "guided-seed0", None),
        ({"raw features": [2.9, 2.0, 2.9]}, "random-seed0", "better than raw features"),
        ({NONE: [1.9, 2.3, 2.8]}, "random-seed0", "better than no pretraining"),
        (
            {name: [value] for name, value in ((NONE, 9.0), ("raw features", 9.0))},
            "random-seed0",
            "than no pretraining and raw features",
        ),
    ],
)
def test_the_best_encoder_is_named_and_what_it_is_not_known_to_beat(
    tmp_path: Path, done: Comparison, scores: dict[str, list[float]], run: str, doubted: str | None
) -> None:
    made = {GUIDED: [3, 2.0, 3.0], "random pretraining": [2.9, 2.0, 2.8], NONE: [4.1, 3.0, 4.0]}
    made = {**made, "raw features": [5.1, 4.0, 5.1], **scores}
    found = Comparison(
        done.task, "rmse", done.rows, {n: dict(enumerate(v)) for n, v in made.items()}, 0.0,
        tmp_path, 0.0,
    )  # fmt: skip
    assert found.best_run == tmp_path / run
    doubt = found.doubt()
    assert doubt is None if doubted is None else doubt is not None and doubted in doubt


def test_sentences_say_what_the_intervals_say(tmp_path: Path, done: Comparison) -> None:
    made = {GUIDED: [3, 2.0, 2.9], NONE: [4.1, 3.0, 4.0], "random pretraining": [3, 2.1, 2.8]}
    made |= {"raw features": [1.0, 0.1, 1.0], "raw features + embedding": [3.0, 2.0, 2.9]}
    scores = {name: dict(enumerate(values)) for name, values in made.items()}
    words = Comparison(done.task, "rmse", done.rows, scores, 0.0, tmp_path, 0.0).verdicts()
    assert words[0].startswith(f"{GUIDED} helps by +1.1 [")
    assert words[0].endswith("rmse over no pretraining")
    assert "random pretraining cannot be told apart: " in words[1]
    assert words[2].startswith(f"{GUIDED} does worse than raw features: -1.9 [")
    assert words[3].startswith("raw features + embedding does worse than raw features")


@pytest.mark.parametrize("group", [None, "group"])
def test_no_test_row_is_pretrained_on_or_fitted_to(
    group: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    compare(tmp_path / "out", data_config=DataConfig(group=group))
    pools, judged = watch.pools, watch.judged
    assert len(pools) == 4 and len(judged) == 2
    groups = np.array(table()["group"].to_pylist())
    for seed, (fitted, test) in enumerate(judged):
        assert len(test) >= 6
        assert not set(fitted) & set(test)
        for pool in pools[2 * seed : 2 * seed + 2]:
            assert pool.rows is not None
            assert set(pool.rows) == set(range(COUNT)) - set(test)
            if group is not None:
                assert not set(groups[pool.rows]) & set(groups[test])
    if group is None:
        assert not np.array_equal(judged[0][1], judged[1][1])


def test_a_split_column_decides_the_test_and_features_keep_to_their_rows(tmp_path: Path) -> None:
    split = ["test" if row % 4 == 0 else "train" for row in range(COUNT)]
    data = table(split=split, keep=[int(row % 5 > 0) for row in range(COUNT)])
    config = DataConfig(split="split", drop=("keep",), where="keep == 1")
    found = compare(
        tmp_path / "out", data, seeds=1, data_config=config, baselines={"answer": answers(data)}
    )
    assert found.rows == {"pretrained": 36, "fitted": 36, "test": 12}
    assert found.scores["answer"][0] < 0.2 * found.scores[NONE][0]
    assert all("one seed tells no interval" in words for words in found.verdicts())


def test_rows_of_the_validation_file_validate_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {}
    for name, rows in (("train", (0, 40)), ("valid", (40, 10)), ("test", (50, 10))):
        files[name] = str(tmp_path / f"{name}.csv")
        pyarrow.csv.write_csv(table().slice(*rows), files[name])
    pools: list[Frame] = []
    run_pretrain = study.pretrain

    def pretrain(pool: Frame, **keywords: Any) -> object:
        pools.append(pool)
        return run_pretrain(pool, **keywords)

    monkeypatch.setattr(study, "pretrain", pretrain)
    config = DataConfig(valid=files["valid"], test=files["test"], column=("smiles",))
    compare(tmp_path / "out", files["train"], seeds=1, data_config=config)
    assert len(pools) == 2
    for pool in pools:
        parts = open_data(pool, DataConfig(column=("smiles",), target=("y",))).parts
        assert parts.valid.tolist() == list(range(40, 50)) and not len(parts.test)


def test_negative_weights_are_only_measured_with(tmp_path: Path) -> None:
    data = table(w=[-0.1, *[1.0] * (COUNT - 1)])
    found = compare(tmp_path / "out", data, seeds=1, data_config=DataConfig(weight="w"))
    assert found.scores[GUIDED][0] > 0


def test_pictures_with_labels_are_compared(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    label = np.arange(40) % 3
    images = draw.integers(0, 99, (40, 4, 4)).astype(np.uint8) + (80 * label[:, None, None] // 2)
    np.savez(tmp_path / "a.npz", images=images.astype(np.uint8), y=label)
    found = compare(tmp_path / "out", tmp_path / "a.npz", seeds=1, num_labels=20)
    assert found.metric == "accuracy"
    assert found.rows == {"pretrained": 32, "fitted": 20, "test": 8}
    assert found.scores["raw features"][0] > 0.7


def test_a_cut_comparison_goes_on_and_ends_the_same(
    done: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Cut):
        compare(out, progress=CutAfter(5))  # the second step of the second run
    first = out / "guided-seed0" / "model.safetensors"
    written = first.stat().st_mtime_ns
    assert not (out / "random-seed0" / "model.safetensors").exists()
    again = compare(out)
    assert first.stat().st_mtime_ns == written
    assert again.scores == {name: done.scores[name] for name in again.scores}
    assert weights(out / "random-seed1") == weights(done.folder / "random-seed1")
    monkeypatch.setattr(study, "pretrain", None)
    few = compare(out, num_labels=20)
    assert few.rows["fitted"] == 20
    assert few.scores != again.scores


def test_a_cut_with_more_seeds_leaves_the_result_of_before(
    done: Comparison, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done.folder, out)
    before = (out / "compare.json").read_bytes()
    with pytest.raises(Cut):
        compare(out, seeds=3, progress=CutAfter(2))
    assert (out / "compare.json").read_bytes() == before


def test_time_left_is_that_of_all_runs_that_are_not_finished(
    done: Comparison, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done.folder, out)
    shutil.rmtree(out / "random-seed0")
    shutil.rmtree(out / "guided-seed1")
    told: list[Progress] = []
    compare(out, progress=told.append)
    steps = 3 * 2
    assert [(now.step, now.steps) for now in told] == [(n, steps) for n in range(1, steps + 1)]
    assert told[-1].seconds_left == 0.0


def test_a_stopped_comparison_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*words: object, **keywords: Any) -> object:
        return run_pretrain(*words, **keywords, stop_after=0.0)

    run_pretrain = study.pretrain
    monkeypatch.setattr(study, "pretrain", stop)
    with pytest.raises(InterruptedRunError, match="the same command goes on from here"):
        compare(tmp_path / "out")


def test_a_run_says_that_it_is_part_of_a_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "data.csv", tmp_path / "out"
    pyarrow.csv.write_csv(table().drop_columns("group"), data)
    short: dict[str, Any] = {"seeds": 1, "steps": 2}
    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        patch.setattr(study, "pretrain", partial(study.pretrain, stop_after=0.0))
        compare(out, data, **short)
    compare(out, data, **short)  # the first run goes on, the second begins
    for name in ("guided-seed0", "random-seed0"):
        recipe = (out / name / "run.yaml").read_text()
        assert recipe.startswith(f"# A run of `anymae compare` of {data} on a part of the rows")
        assert "repeat that command" in recipe
        page = write_report([out / name]).read_text()
        assert f"shown: it is a run of `anymae compare` of {data} on a part of the rows" in page
        assert "anymae pretrain DATA" not in recipe
        assert "Python" not in recipe + page


def test_another_comparison_in_the_same_folder_is_refused(done: Comparison) -> None:
    before = (done.folder / "compare.json").read_bytes()
    with pytest.raises(FolderError, match=r"training\.steps is 4, not 3"):
        compare(done.folder, steps=4)
    words = r"other data or settings \(the data differ; the rows that are kept.* differ; rows is 50"
    with pytest.raises(FolderError, match=words):
        compare(done.folder, table().slice(0, 50))
    with pytest.raises(FolderError, match="holds something already"):
        compare(done.folder / "guided-seed0")
    assert (done.folder / "compare.json").read_bytes() == before


def test_as_many_other_rows_are_another_comparison(tmp_path: Path) -> None:
    data = table(fold=[number % 3 for number in range(COUNT)])

    def kept(where: str) -> Comparison:
        config = DataConfig(where=where, drop=("fold",), column=("smiles",))
        return compare(tmp_path / "out", data, data_config=config, seeds=2, steps=1)

    kept("fold != 0")
    with pytest.raises(FolderError, match="is of other data or settings"):
        kept("fold != 1")
    kept("fold != 0")


def without(cell: object) -> np.ndarray:
    features = answers(table())
    features[7, 0] = cell
    return features


def test_features_keep_the_digits_they_have(tmp_path: Path) -> None:
    target = [1_700_000_000.0 + row / 8 for row in range(COUNT)]
    data = table().drop_columns("y").append_column("y", pa.array(np.arange(COUNT) / 8))
    own = np.asarray(target)[:, None]
    found = compare(tmp_path / "out", data, seeds=1, baselines={"time": own})
    assert found.scores["time"][0] < 0.5


def test_without_pretraining_a_network_has_no_weights_of_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, made = tmp_path / "start", []
    begun = anymae.pretrain(
        table(), out=start, preset="tiny", steps=3, column="smiles", seed=7, settings=SMALL
    )
    build = run.make_model
    monkeypatch.setattr(run, "make_model", lambda job: made.append(build(job)) or made[-1])
    settings = {name: value for name, value in SMALL.items() if name.startswith("training")}
    compare(tmp_path / "out", seeds=1, preset=None,
            settings={**settings, "init": str(start)})  # fmt: skip
    pairs = zip(made[0].encoder.parameters(), begun.model.encoder.parameters(), strict=True)
    found = [(mine - theirs).abs().max() for mine, theirs in pairs if mine.dim() == 2]
    assert found and min(found) > 0.01
    assert "may have been pretrained on test rows" in caplog.text


REFUSED: dict[str, tuple[dict[str, Any], type[UserInputError], str]] = {
    "few rows": ({"baselines": {"a": answers(table())[:9]}}, DataError, "9 rows"),
    "a missing number": ({"baselines": {"a": without(np.nan)}}, DataError, "row 7"),
    "infinity": ({"baselines": {"a": without(np.inf)}}, DataError, "infinite"),
    "words": ({"baselines": {"a": table().select(["y", "group"])}}, DataError, "'group'"),
    "a name taken": ({"baselines": {GUIDED: answers(table())}}, ConfigError, "rename"),
    "no seeds": ({"seeds": 0}, ConfigError, "at least one"),
    "no target": ({"target": ()}, DataError, "--target"),
    "too many labels": ({"num_labels": 59}, DataError, "59 labels"),
    "a masking of its own": ({"settings": {"masking.kind": "span"}}, ConfigError, "masking.kind"),
    "a masking in a section": (
        {"settings": {"masking": {"kind": "span"}}}, ConfigError, "masking.kind is varied"
    ),
    "test rows that do not count": (
        {
            "data": table(w=[0.0, 1.0] * (COUNT // 2), split=["test", "train"] * (COUNT // 2)),
            "data_config": DataConfig(weight="w", split="split"),
        },
        DataError,
        "weights of the 30 test rows add up to 0",
    ),
    "rows too long": (
        {"settings": {**SMALL, "data.length": 8}}, DataError, "choose --too-long"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    case: str, tmp_path: Path
) -> None:
    options, error, words = REFUSED[case]
    with pytest.raises(error, match=words):
        compare(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_features_are_joined_to_the_guided_embedding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def noted(features: dict[str, Any], *words: Any) -> object:
        seen.append(features)
        return study.judge(features, *words)

    monkeypatch.setattr(run, "judge", noted)
    anymae.compare(table(), target="y", preset="tiny", steps=2, seeds=1, out=tmp_path / "out",
                   settings={**TINY, "encoder.depth": 1})  # fmt: skip
    (features,) = seen
    expected = np.concatenate([features["raw features"], features["guided pretraining"]], 1)
    np.testing.assert_array_equal(features["raw features + embedding"], expected)
