"""What a comparison or a search says of its rows and its results, without training anything."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anymae
from anymae import tuning
from anymae.comparison import run
from anymae.config import DataConfig
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
