"""What a comparison or a search says of its rows and its results, without training anything."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anymae
from anymae import comparison, tuning
from anymae.benchmark.statistics import summarise
from anymae.cli import main
from anymae.comparison import Comparison, run
from anymae.comparison.result import GUIDED, JOINED, NONE, RANDOM, RAW
from anymae.config import DataConfig
from anymae.task import TaskConfig
from studies import COUNT, TINY, table

VERBS = ("compare", "tune")


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ([range(9)], (0, 0.0)),
        ([range(9), range(9, 18)], (0, 0.2 / 0.8)),
        ([range(10), range(6, 16)], (4, 0.4 / 0.6)),
        ([range(4), range(2, 18)], (2, 0.25 / 0.75)),
        ([range(10), range(4, 14)], (6, 0.0)),
        ([range(9), range(9)], (9, 0.0)),
    ],
)
def test_intervals_are_widened_by_the_share_of_test_rows_in_common(
    tests: list[range], expected: tuple[int, float]
) -> None:
    assert run._in_common([np.array(test) for test in tests]) == pytest.approx(expected)


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A comparison or a search that ends where its first run would begin."""
    monkeypatch.setattr(run, "_compare", lambda *words: None)
    monkeypatch.setattr(tuning._Search, "go_on", lambda *words: None)

    def prepare(verb: str, data: object, **options: Any) -> None:
        if verb == "tune":
            pytest.importorskip("optuna", reason="needs anymae[tune]")
        options = {"target": "y", "preset": "tiny", "steps": 2, "settings": TINY, **options}
        getattr(anymae, verb)(data, out=tmp_path / verb, **options)

    return prepare


def parts(train: int, valid: int, test: int) -> list[str]:
    return ["train"] * train + ["valid"] * valid + ["test"] * test


@pytest.mark.parametrize(
    ("verb", "few", "options", "said"),
    [
        ("compare", parts(54, 3, 3), {}, "judged on 3 rows (test): so few tell little; name more"),
        ("tune", parts(54, 3, 3), {}, "judged on 3 rows (valid): so few tell little; name more"),
        (
            "tune",
            parts(50, 0, 10),
            {"num_labels": 10},
            "judged on 2 rows (valid): so few tell little; ask for more with --n-labels",
        ),
    ],
)
def test_that_hardly_any_rows_judge_is_told_once(
    verb: str,
    few: list[str],
    options: dict[str, Any],
    said: str,
    prepare: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepare(verb, table(part=few), data_config=DataConfig(split="part"), **options)
    told = [words for words in caplog.messages if words.startswith("judged on ")]
    assert len(told) == 1 and told[0].startswith(said)
    assert "interval" not in told[0]


@pytest.mark.parametrize("verb", VERBS)
def test_rows_enough_to_judge_are_no_matter(
    verb: str, prepare: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = DataConfig(split="part")
    prepare(verb, table(part=parts(30, 15, 15)), data_config=config)
    assert not [words for words in caplog.messages if "judged on " in words or "fit" in words]


def test_a_class_that_one_seed_lacks_and_another_has_is_not_told(
    prepare: Any, caplog: pytest.LogCaptureFixture
) -> None:
    kind = ["a", "b"] * (COUNT // 2)
    kind[5] = kind[20] = kind[35] = kind[50] = "rare"
    data = table(kind=kind).drop_columns("y")
    prepare("compare", data, target="kind", seeds=8)
    assert "occur in none" not in caplog.text
    prepare("tune", data, target="kind", seed=1)
    assert caplog.text.count("classes of target 'kind' occur in none of them") == 1


@pytest.mark.parametrize("verb", VERBS)
def test_validation_rows_that_are_not_fitted_to_are_told_once(
    verb: str, prepare: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = DataConfig(split="part")
    prepare(verb, table(part=parts(40, 10, 10)), data_config=config, num_labels=20)
    told = [words for words in caplog.messages if "validation rows" in words]
    assert told == [
        "the 10 validation rows that the data name take no part in the fit, as the 20 labels that "
        "are asked for are drawn from the training rows; they only choose the weights of each run"
    ]


def by_hand(scores: dict[str, list[float]], **more: Any) -> Comparison:
    """What a comparison of three seeds found, where guided pretraining is no better than none."""
    made = {GUIDED: [3.0, 2.0, 3.0], RANDOM: [3.1, 2.0, 3.2], NONE: [3.1, 1.9, 2.9]}
    made = {**made, RAW: [2.0, 1.9, 2.0], RAW + JOINED: [2.1, 1.9, 2.0], **scores}
    by_seed = {name: dict(enumerate(values)) for name, values in made.items()}
    task = TaskConfig(type="regression", targets=("y",), mean=(0.0,), std=(1.0,))
    rows = {"pretrained": 48, "fitted": 40, "test": 12}
    return Comparison(task, "rmse", rows, by_seed, 0.0, Path("runs"), 0.0, **more)


DENIED = "pretraining has not been shown to help here: "


@pytest.mark.parametrize(
    ("scores", "denied"),
    [
        ({}, True),
        # Guided pretraining helps over none, and random pretraining has the better mean.
        ({NONE: [4.1, 3.0, 4.0], RANDOM: [1.0, 0.0, 4.0]}, False),
        ({NONE: [4.1, 3.0, 4.0]}, False),
        ({RANDOM: [4.1, 3.0, 4.0]}, False),
        ({RAW + JOINED: [1.0, 0.8, 0.9]}, False),
    ],
)
def test_the_last_sentence_denies_no_verdict(scores: dict[str, list[float]], denied: bool) -> None:
    found = by_hand(scores)
    assert any(" helps by " in words for words in found.verdicts()) != denied
    doubt = found.doubt()
    assert doubt is not None
    assert doubt.startswith(DENIED) == denied
    assert f"{found.best}, the better of the two encoders, is not told to be better" in doubt
    assert "the best" not in doubt


@pytest.mark.parametrize("unlabelled", [0, 1200])
def test_compare_prints_what_intervals_are_about_and_which_rows_have_no_label(
    unlabelled: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = by_hand({}, shared=9, unlabelled=unlabelled)
    monkeypatch.setattr(comparison, "compare", lambda *words, **keywords: found)
    assert main(["compare", "a.csv", "--target", "y"]) == 0
    printed = capsys.readouterr().out
    told = "pretrained on the 48 rows of a.csv that do not test"
    assert told + ", 1,200 without labels among them" * bool(unlabelled) + "\n" in printed
    assert printed.splitlines()[-1].startswith("two seeds have 9 of 12 test rows in common: ")


def test_rows_without_labels_are_counted_where_they_are_pretrained_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trials: list[Any] = []
    monkeypatch.setattr(run, "_compare", lambda study, found, *words: trials.extend(found))
    data = table(part=parts(48, 0, 12))
    y = [None if row in (3, 4, 50) else value for row, value in enumerate(data["y"].to_pylist())]
    data = data.set_column(1, "y", [y])
    config = DataConfig(split="part")
    anymae.compare(data, target="y", out=tmp_path / "c", seeds=1, num_labels=20, preset="tiny",
                   data_config=config)  # fmt: skip
    assert [(len(one.pool), one.unlabelled) for one in trials] == [(48, 2)]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1.055, 1.055 + 5e-8], "1.055 ± 0"),
        ([-1.055, -1.055 - 5e-8], "-1.055 ± 0"),
        ([1.055, 1.057], "1.056 ± 0.0014"),
        ([0.0, 0.0], "0 ± 0"),
        ([1.055], "1.055"),
    ],
)
def test_rounding_is_no_spread(values: list[float], shown: str) -> None:
    assert str(summarise(dict(enumerate(values)))) == shown
