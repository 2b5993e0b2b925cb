"""The results page says what the records say, and nothing else."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from anymae.benchmark.page import command, share_by_attention, write_page
from anymae.benchmark.record import JobName, Method, Record, read_records, write_record
from anymae.benchmark.summary import group_records

MACHINE = {"processor": "a CPU", "threads": 1}
NUM_LABELS = {"50": 50, "200": 200, "all": 1_097}
SCORES = {
    ("50", "guided"): [0.80, 0.82, 0.84, 0.85, 0.81],
    ("50", "random"): [0.78, 0.80, 0.83, 0.83, 0.78],
    ("50", "random-again"): [0.79, 0.80, 0.81, 0.84, 0.78],
    ("50", "none"): [0.70, 0.71, 0.72, 0.75, 0.69],
    ("50", "baseline"): [0.75, 0.75, 0.75, 0.75, 0.75],
    ("200", "guided"): [0.90, 0.92, 0.91],
    ("200", "random"): [0.91, 0.90, 0.93],
}


def add(out: Path, task: str, arm: str, seed: int, score: float, stage: str = "final") -> None:
    job = JobName(
        suite="digits",
        budget="cpu",
        stage=stage,
        task=task,
        arm=arm,
        seed=seed,  # type: ignore[arg-type]
    )
    test = {"accuracy": score} if stage == "final" else None
    best = Method(settings={}, tried=3, validation=score + 0.01, test=test, seconds=2.0)
    other = best.model_copy(update={"validation": 0.0, "test": test and {"accuracy": 0.111}})
    write_record(
        out,
        Record(
            job=job, command=job.command, machine=MACHINE, asked={}, settings={}, seconds=3.0,
            data={"rows": {"train": NUM_LABELS[task], "valid in train": 0, "test in train": 7}},
            methods={"probe": best, "finetune": other},
            best="probe",
        ),
    )  # fmt: skip


def add_pretraining(out: Path, arm: str, seed: int, steps: int) -> None:
    job = JobName(
        suite="digits", budget="cpu", stage="final", task="pretraining", arm=arm, seed=seed
    )
    write_record(
        out,
        Record(
            job=job, command=job.command, machine=MACHINE | {"gpu": "NVIDIA H200"}, seconds=60.0,
            asked={}, settings={},
            data={"rows": 1000, "flagged": 30, "removed": 2},
            facts={
                "weights": 1234, "steps": steps, "rows_visited": 64 * steps, "valid_loss": 0.25,
                "masking": {
                    "kind": "guided", "ratio": 0.5, "draw": "sample", "random_floor": 0.5,
                    "hide_queries": True, "inputs_per_query": 4.0,
                },
            },
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("masking", "share"),
    [
        ({}, 0.25),
        ({"hide_queries": False}, 0.5),
        ({"inputs_per_query": 1.0}, 0.0),
        ({"random_floor": 0.0}, 0.75),
    ],
)
def test_sampled_queries_and_the_floor_are_not_by_attention(
    tmp_path: Path, masking: dict[str, object], share: float
) -> None:
    add_pretraining(tmp_path, "guided", 0, 10)
    (record,) = read_records(tmp_path)
    record.facts["masking"].update(masking)
    assert share_by_attention(record) == pytest.approx(share)


def test_a_page_names_the_machines(tmp_path: Path) -> None:
    add(tmp_path, "50", "guided", 0, 0.8)
    add_pretraining(tmp_path, "guided", 0, 10)
    write_page(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "one thread each: NVIDIA H200 1, a CPU 1; seconds on different machines" in page


@pytest.fixture
def results(tmp_path: Path) -> Path:
    out = tmp_path / "results"
    for (task, arm), scores in SCORES.items():
        for seed, score in enumerate(scores):
            add(out, task, arm, seed, score)
    for seed in range(5):
        add_pretraining(out, "guided", seed, 100)
    for ratio, score in ((0.2, 0.7), (0.5, 0.8), (0.7, 0.75)):
        add(out, "50", f"guided:ratio={ratio}", 0, score, "tune")
    return out


def read(results: Path, page: Path) -> str:
    write_page(results, page)
    return page.read_text()


def test_the_same_records_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    one, two = (tmp_path / name / "results.md" for name in "ab")
    assert read(results, one) == read(results, two)
    figures = [sorted((page.parent / "figures").iterdir()) for page in (one, two)]
    assert [f.name for f in figures[0]] == ["labels-digits-cpu.svg"]
    assert figures[0][0].read_bytes() == figures[1][0].read_bytes()


def test_rows_hold_means_and_paired_intervals(results: Path, tmp_path: Path) -> None:
    text = read(results, tmp_path / "results.md")
    row = next(line for line in text.splitlines() if line.startswith("| 50 (accuracy) | guided |"))
    guided, random = (np.array(SCORES["50", arm]) for arm in ("guided", "random"))
    interval = stats.ttest_rel(guided, random).confidence_interval()
    assert f"{guided.mean():.4f} ± {guided.std(ddof=1):.4f}" in row
    assert f"{(guided - random).mean():+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]" in row
    assert "0.1110" in row  # fine-tuning, which validation did not choose


def test_only_intervals_without_zero_are_bold(results: Path, tmp_path: Path) -> None:
    text = read(results, tmp_path / "results.md")
    found = re.findall(r"(\**)([+-]\d\.\d+) \[([+-]\d\.\d+), ([+-]\d\.\d+)\]", text)
    assert len(found) > 5
    for stars, _, low, high in found:
        assert bool(stars) == (float(low) > 0 or float(high) < 0)


def test_words_follow_from_the_numbers(results: Path, tmp_path: Path) -> None:
    text = read(results, tmp_path / "results.md")
    assert "of 2 comparisons guided masks are better on 1: digits/50 (cpu) +0.0200" in text
    assert "undecided on 1: digits/200 (cpu)" in text
    assert "of 1 tasks, better on 1: digits/50 (cpu; guided) +0.0740" in text
    assert "Noise floor" in text
    # Three pretraining runs an arm: the page says what they could have found.
    assert re.search(r"fewer than 5 pretraining runs.*200 \d\.\d+", text)


def test_a_sweep_shows_validation_and_names_the_best_ratio(results: Path, tmp_path: Path) -> None:
    text = read(results, tmp_path / "results.md")
    assert "| 50 (accuracy) | `guided:ratio=0.5` | 1 | 0.8100 |" in text
    assert "guided 0.5" in text


def test_longer_pretraining_gives_a_table_of_compute(results: Path, tmp_path: Path) -> None:
    assert "Score against compute" not in read(results, tmp_path / "results.md")
    add(results, "50", "guided:training.steps=400", 0, 0.9)
    add_pretraining(results, "guided:training.steps=400", 0, 400)
    text = read(results, tmp_path / "results.md")
    assert "| 50 | guided:training.steps=400 | 25,600 | cpu | 60 | 0.9000 |" in text


def test_no_records_make_a_page_that_says_so(tmp_path: Path) -> None:
    assert "no records yet" in read(tmp_path / "nothing", tmp_path / "results.md")


def test_one_seed_of_each_arm_is_no_comparison(tmp_path: Path) -> None:
    for arm, score in (("guided", 0.8), ("none", 0.7)):
        add(tmp_path / "results", "50", arm, 0, score)
    add_pretraining(tmp_path / "results", "guided", 0, 100)
    text = read(tmp_path / "results", tmp_path / "results.md")
    assert "No two seeds compare guided masks with no pretraining yet." in text
    assert "| 50 (accuracy) | guided | 1 | 0.8000 |" in text


def test_miniature_runs_are_not_shown(tmp_path: Path) -> None:
    job = JobName(suite="digits", budget="mini", stage="final", task="50", arm="none", seed=0)
    record = Record(job=job, command="", machine={}, data={}, asked={}, settings={}, seconds=0.0)
    assert group_records([record]) == []


def test_leaks_and_masks_are_told(results: Path, tmp_path: Path) -> None:
    page = read(results, tmp_path / "results.md")
    assert "all: 30 by its flags, 2 by content." in page
    assert "50 7 test rows, 200 7 test rows." in page
    assert "| 6,400 | 0.5 | sample, 25% |" in page


def test_the_command_of_record_runs_what_is_stored_and_no_other_task(results: Path) -> None:
    (group,) = group_records(read_records(results))
    asked = "--arms baseline,guided,none,random,random-again --budget cpu --seeds 5"
    assert command(group) == f"anymae benchmark digits --task 50 --task 200 {asked}"
    add(results, "all", "none", 0, 0.9)
    (group,) = group_records(read_records(results))
    assert command(group) == f"anymae benchmark digits {asked}"
