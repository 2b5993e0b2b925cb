"""`compare` and `benchmark` print what the library found, and say what is next."""

import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from anymae.cli.console import progress
from anymae.cli.evaluations import show_evaluation
from anymae.evaluation import Evaluation
from anymae.metrics import measure
from anymae.task import TaskConfig
from commands import TINY, Command

SMALL = ("--column", "smiles", "--target", "y", "--preset", "tiny", "--steps", 2, *TINY[-6:])
DIGITS = ("digits", "--budget", "mini", "--task", "50", "--arms", "none,baseline")


def test_compare_prints_table_and_verdict_and_goes_on(
    command: Command, molecules: Path, tmp_path: Path
) -> None:
    features = tmp_path / "own.csv"
    features.write_text("a,b\n" + "".join(f"{row % 5},{row % 7}.5\n" for row in range(60)))
    words = ("compare", molecules, *SMALL, "--seeds", 2, "--device", "cpu", "--out", tmp_path / "c")
    words = (*words, "--baseline", f"mine={features}")
    outcome = command(*words)
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith("regression of y; rows: 48 pretrained, 48 fitted, 12 test")
    for name in ("guided pretraining", "raw features + embedding", "mine + embedding"):
        assert f"│ {name} " in outcome.out
    assert outcome.out.splitlines()[-1].startswith("mine + embedding ")
    assert f"pretrained on the 48 rows of {molecules} that do not test" in outcome.out
    found = command(*words, "--json")
    scores = {name: one["mean"] for name, one in found.json["scores"].items()}
    best = min(("guided", "random"), key=lambda name: scores[f"{name} pretraining"])
    run = tmp_path / "c" / f"{best}-seed0"
    assert outcome.err.splitlines()[-1].startswith(f"next: anymae finetune {run} {molecules}")
    assert len(found.json["verdicts"]) == 5
    assert "pretraining " not in found.err


@pytest.mark.parametrize("terminal", [True, False])
def test_evaluate_shows_many_labels_and_groups_with_whole_numbers(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TaskConfig(type="multilabel", targets=tuple(f"label {place}" for place in range(12)))
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 2, (60, 12)).astype(float)
    targets, mean = measure(task, truth, draw.random((60, 12)), np.ones(60), resamples=20)
    groups = {f"group [{place}]": mean for place in range(3)}
    found = Evaluation(
        data="d.csv", part="all", rows=60, task=task.type, overall=mean, targets=targets,
        groups=groups, num_groups=1203, group_rows=dict.fromkeys(groups, 7), confusion={},
        classes=("0", "1"), seen_in_training=None,
    )  # fmt: skip
    assert found.to_json()["num_groups"] == 1203
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    show_evaluation(found)
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80 or not terminal
    assert lines[-1] == "and 1,200 smaller groups"
    cells = [[cell.strip() for cell in line.split("│")] for line in lines if "│" in line]
    for name, estimates in {"all": mean, **targets, **groups}.items():
        shown = [cell for line in cells if line[1] == name for cell in line[2:-1]]
        count = ["7"] if name in groups else []
        assert shown == [*count, *(str(estimate) for estimate in estimates.values())]
    heads = [line.split("┃")[1].strip() for line in lines if "┃" in line]
    parts = 4 if terminal else 1
    assert heads == ["target"] * parts + ["group"] * parts


def test_speed_and_time_left_are_of_what_is_done_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter((100.0, 110.0))
    # Others ask the process's clock too.
    monkeypatch.setattr("anymae.cli.console.time", SimpleNamespace(monotonic=lambda: next(clock)))
    told: list[object] = []
    shown = nullcontext(lambda *now: told.append(now))
    monkeypatch.setattr("anymae.cli.console._shown", lambda verb: shown)
    with progress("embed") as update:
        update(900, 1000)
        update(950, 1000)
    assert told == [(900, 1000, "0 rows/s"), (950, 1000, "5 rows/s, 10 s left")]


def test_slow_work_is_told_by_the_hour_and_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The clock of the lines, and before each that of the speed.
    clock = iter((0.0, 100.0, 100.0, 1900.0, 1900.0, 2000.0, 2000.0))
    monkeypatch.setattr("anymae.cli.console.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    with progress("digits", "jobs") as update:
        update(0, 6)
        update(1, 6)
        update(1, 6)
    assert capsys.readouterr().err == "digits: 1 of 6, 2 jobs/h, 2 h 30 min left\n"


def test_compare_refuses_a_baseline_without_a_file(
    command: Command, molecules: Path, tmp_path: Path
) -> None:
    outcome = command("compare", molecules, *SMALL, "--baseline", "own", "--out", tmp_path / "c")
    assert outcome.status == 2
    assert "--baseline NAME=FILE" in outcome.err
    assert not (tmp_path / "c").exists()


def test_benchmark_prints_each_arm_with_its_gain(command: Command, tmp_path: Path) -> None:
    words = ("benchmark", *DIGITS, "--seeds", 2, "--out", tmp_path / "r")
    outcome = command(*words)
    assert outcome.status == 0, outcome.err
    rows = [line.split("│") for line in outcome.out.splitlines() if "50 (accuracy)" in line]
    assert [(row[2].strip(), row[3].strip()) for row in rows] == [("none", "2"), ("baseline", "2")]
    assert " ± " in rows[1][4] and rows[1][5].strip() == "" and "[" in rows[1][6]
    # What is in miniature is on no page.
    once_more = f"--task 50 --arms none,baseline --seeds 2 --out {tmp_path / 'r'}"
    assert f"next: anymae benchmark digits {once_more}\n" in outcome.err
    found = command(*words, "--json").json["results"]
    assert [score["arm"] for score in found] == ["none", "baseline"]
    assert found[1]["over"]["none"]["seeds"] == 2
    tuned = command(*words, "--arms", "baseline", "--stage", "tune", "--json")
    assert tuned.json["results"][0]["metric"] == "accuracy"
    assert set(tuned.json["results"][0]["by_seed"]) == {"0", "1"}


def test_benchmark_names_the_page_or_what_is_left_to_do(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anymae.benchmark.suite.MINI", "none of the budgets")
    words = ("benchmark", "digits", "--budget", "mini", "--task", "50", "--arms", "baseline")
    words = (*words, "--seeds", 1, "--out", tmp_path / "r")
    tuned = command(*words, "--data", tmp_path, "--stage", "tune")
    rest = f"--task 50 --arms baseline --budget mini --seeds 1 --out {tmp_path / 'r'}"
    assert f"next: anymae benchmark digits --data {tmp_path} {rest}\n" in tuned.err
    assert f"next: python -m anymae.benchmark {tmp_path / 'r'}" in command(*words).err


def test_benchmark_fetch_says_that_nothing_is_missing(command: Command) -> None:
    outcome = command("benchmark", "fetch", "digits")
    assert outcome.out == "all files are there\n"
    assert outcome.err == "next: anymae benchmark digits\n"
    assert command("benchmark", "fetch", "digits", "--json").json == {"built": []}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("digts",), "did you mean 'digits'"),
        (("fetch",), "benchmark fetch SUITE"),
        (("digits", "tape"), "'digits tape'"),
        (("fetch", "digits", "--seeds", 3), "--data alone"),
        (("digits", "--arms", "guidd"), "did you mean 'guided'"),
        (("digits", "--task", "51"), "unknown task"),
        (("digits", "--budget", "huge"), "unknown budget"),
        (("digits", "--seeds", 0), "--seeds is 0"),
        (("digits", "--stage", "middle"), "--stage"),
    ],
)
def test_benchmark_refuses_what_is_not_there(
    words: tuple[object, ...], said: str, command: Command, tmp_path: Path
) -> None:
    outcome = command("benchmark", *words, *(() if words[0] == "fetch" else ("--out", tmp_path)))
    assert outcome.status == 2
    assert said in outcome.err
    assert not any(tmp_path.iterdir())
