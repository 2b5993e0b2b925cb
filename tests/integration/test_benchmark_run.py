"""Whole benchmark runs in miniature: what is read when, what is kept, what comes out again."""

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from anymae.benchmark import run as run_module
from anymae.benchmark import run_benchmark
from anymae.benchmark.labels import Labels
from anymae.benchmark.record import ENCODER, JobName, Record, read_records
from anymae.benchmark.run import Chain
from anymae.benchmark.suite import Task
from anymae.benchmark.suites.digits import Digits
from anymae.data.splits import Parts
from anymae.errors import AnymaeError, ConfigError, InterruptedRunError

COMMITTED = Path(__file__).parents[2] / "results"
ARMS = ("guided", "none", "baseline")


def run(
    out: Path, *, arms: Sequence[str] = ARMS, seeds: int = 1, **options: object
) -> list[Record]:
    return run_benchmark(
        "digits",
        tasks=("50",),
        arms=arms,
        budget="mini",
        seeds=seeds,
        out=out,
        **options,  # type: ignore[arg-type]
    )


def numbers(records: Sequence[Record], *, test: bool = True) -> list[object]:
    """All that does not depend on the clock."""
    hidden = {"seconds"} if test else {"seconds", "test"}
    return [
        (r.job, r.data, {name: m.model_dump(exclude=hidden) for name, m in r.methods.items()})
        for r in records
    ]


@pytest.fixture(scope="module")
def looks() -> list[str]:
    """Which labels were asked for while `done` was made, `known` or `test`, and each job's end."""
    return []


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, looks: list[str]) -> tuple[Path, list[Record]]:
    out = tmp_path_factory.mktemp("results")
    of, open_test = Labels.of, Labels.open_test

    def spy_of(self: Labels, rows: np.ndarray) -> np.ndarray:
        looks.append("known")
        return of(self, rows)

    def spy_open(self: Labels) -> np.ndarray:
        looks.append("test")
        return open_test(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Labels, "of", spy_of)
        patch.setattr(Labels, "open_test", spy_open)
        return out, run(out, report=lambda done, total: looks.append(f"{done} of {total}"))


def test_each_job_leaves_one_record_and_the_encoder_another(
    done: tuple[Path, list[Record]],
) -> None:
    out, records = done
    assert [record.job.arm for record in records] == list(ARMS)
    stored = {record.job.task: record for record in read_records(out)}
    assert set(stored) == {"50", "pretraining"}
    assert stored["pretraining"].facts["masking"]["kind"] == "guided"
    guided = records[0]
    assert set(guided.methods) == {"probe", "finetune"}
    assert guided.pretraining_seconds == stored["pretraining"].seconds > 0
    assert guided.facts == {ENCODER: stored["pretraining"].facts[ENCODER]}
    assert records[2].facts == {}
    assert guided.data["rows"]["train"] == 50 and len(guided.data["split"]) == 64
    assert guided.machine["threads"] == 1
    assert {len(record.data["split"]) for record in records} == {64}
    assert len({record.data["split"] for record in records}) == 1


def test_every_encoder_is_tried_in_the_same_ways(done: tuple[Path, list[Record]]) -> None:
    tried = {}
    for record in done[1]:
        if "finetune" in record.methods:
            probe, finetune = record.methods["probe"], record.methods["finetune"]
            way = {k: v for k, v in finetune.settings.items() if k not in ("learning_rate", "step")}
            tried[record.job.arm] = (probe.tried, finetune.tried, way)
    assert set(tried) == {"guided", "none"}
    assert tried["guided"] == tried["none"]


def test_an_arm_that_is_read_in_one_way_shares_the_encoder_and_is_probed_only(
    done: tuple[Path, list[Record]], tmp_path: Path
) -> None:
    shutil.copytree(done[0], tmp_path, dirs_exist_ok=True)
    guided, kernel, layers = run(
        tmp_path,
        arms=("guided", "guided:probe.reading=kernel", "guided:probe.reading=layers"),
    )
    assert guided == done[1][0]
    assert set(kernel.methods) == set(layers.methods) == {"probe"}
    assert kernel.facts == layers.facts == guided.facts
    for record, reading in ((kernel, "kernel"), (layers, "layers")):
        assert record.asked["readings"] == [reading]
        assert record.asked["finetune"] is None
        assert record.methods["probe"].settings["reading"] == reading
    # What the budget tries holds this reading, so no more can come out of it on validation rows.
    assert layers.methods["probe"].validation <= guided.methods["probe"].validation
    assert layers.methods["probe"].tried < guided.methods["probe"].tried


def test_a_reading_that_rows_do_not_have_is_refused(tmp_path: Path) -> None:
    table = pa.table(
        {"sentence": [f"film {n}" * (n % 3 + 1) for n in range(80)], "label": [1, 0] * 40}
    )
    split = pa.array((["train"] * 6 + ["train_holdout", "glue_dev"]) * 10)
    (tmp_path / "text").mkdir()
    pq.write_table(table.append_column("split", split), tmp_path / "text/sst2.parquet")
    with pytest.raises(ConfigError, match="cannot be read by flat; name another"):
        run_benchmark(
            "language", tasks=("1k",), arms=("guided:probe.reading=flat",), budget="mini", seeds=1,
            data=tmp_path, out=tmp_path / "results",
        )  # fmt: skip
    assert not any(read_records(tmp_path / "results")), "nothing was trained"


def test_what_is_done_is_not_done_again(
    done: tuple[Path, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, records = done
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    told: list[tuple[int, int]] = []
    assert run(out, report=lambda *now: told.append(now)) == records and told == []
    (out / records[2].job.file).unlink()
    assert numbers(run(out, report=lambda *now: told.append(now))) == numbers(records)
    assert told == [(0, 1), (1, 1)]
    changed = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {out / records[2].job.file}


def environment() -> dict[str, str]:
    """All but what torch sets once in a process, whoever is the first to need it."""
    return {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}


@contextmanager
def nothing_changed() -> Iterator[None]:
    """Check that threads and environment, of which jobs have their own, are left as they were."""
    before, found = torch.get_num_threads(), environment()
    torch.set_num_threads(2)
    try:
        yield
        assert torch.get_num_threads() == 2
        assert environment() == found
    finally:
        torch.set_num_threads(before)


def test_threads_are_left_as_they_were(tmp_path: Path) -> None:
    with nothing_changed():
        run(tmp_path, arms=("baseline", "none"))


def test_a_record_of_other_settings_is_refused(
    done: tuple[Path, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = Digits.budgets["mini"]
    training = {**mini.recipe["training"], "steps": 30}
    longer = replace(mini, recipe={**mini.recipe, "training": training})
    monkeypatch.setitem(Digits.budgets, "mini", longer)
    with pytest.raises(ConfigError, match=r"training\.steps is 30, not 20"):
        run(done[0])


def test_a_record_under_the_name_of_another_seed_is_refused(
    done: tuple[Path, list[Record]], tmp_path: Path
) -> None:
    shutil.copytree(done[0], tmp_path / "out")
    (record,) = (tmp_path / "out").rglob("final/*_none_seed0.json")
    shutil.copy(record, record.with_name(record.name.replace("seed0", "seed1")))
    with pytest.raises(ConfigError, match=r"is the record of .*_none_seed0\.json"):
        run(tmp_path / "out", seeds=2, arms=("none",))


def test_weights_that_come_out_the_same_leave_their_record_as_it_is(
    done: tuple[Path, list[Record]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done[0], out)
    shutil.rmtree(out / "runs")
    (path,) = out.rglob("final/pretraining_guided_seed0.json")
    (job,) = out.rglob("final/50_guided_seed0.json")
    before = path.read_bytes()
    job.unlink()
    assert numbers(run(out, arms=("guided",))) == numbers(done[1][:1])
    assert path.read_bytes() == before


def test_an_arm_on_other_rows_than_the_others_is_refused(
    done: tuple[Path, list[Record]], tmp_path: Path
) -> None:
    shutil.copytree(done[0], tmp_path / "out")
    (record,) = (tmp_path / "out").rglob("final/*_none_seed0.json")
    record.unlink()
    for path in (tmp_path / "out").rglob("final/50_*_seed0.json"):
        found = json.loads(path.read_text())
        found["data"]["split"] = "another"
        path.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match="computed on other rows than those of --data"):
        run(tmp_path / "out")
    assert not record.exists()


def test_an_arm_pretrained_on_another_corpus_is_refused(
    done: tuple[Path, list[Record]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done[0], out)
    (path,) = out.rglob("final/pretraining_guided_seed0.json")
    found = json.loads(path.read_text())
    assert len(found["data"]["corpus"]) == 64
    found["data"]["corpus"] = "another"
    path.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match="computed on other rows than those of --data"):
        run(out, arms=("random",))
    assert not list(out.rglob("pretraining_random*"))
    # Records of before do not say.
    del found["data"]["corpus"]
    path.write_text(json.dumps(found))
    assert run(out, arms=("random",))


def test_weights_without_a_record_are_not_taken_up(
    done: tuple[Path, list[Record]], tmp_path: Path
) -> None:
    shutil.copytree(done[0], tmp_path / "out")
    for record in (tmp_path / "out").rglob("final/*guided*.json"):
        record.unlink()
    (weights,) = (tmp_path / "out" / "runs").rglob("model.safetensors")
    weights.write_bytes(b"those of another run")
    assert numbers(run(tmp_path / "out")) == numbers(done[1])


def test_a_cut_pretraining_goes_on_and_ends_the_same(
    done: tuple[Path, list[Record]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anymae.benchmark import encoders

    def cut(*args: object, **options: object) -> object:
        encoders_pretrain(*args, **options, stop_after=0.0)
        raise AssertionError("a cut run raises")

    encoders_pretrain = encoders.pretrain
    with monkeypatch.context() as patched:
        patched.setattr(encoders, "pretrain", cut)
        with pytest.raises(InterruptedRunError, match="the same command goes on from here"):
            run(tmp_path, arms=("guided",))
    assert read_records(tmp_path) == []
    assert numbers(run(tmp_path, arms=("guided",))) == numbers(done[1][:1])


def test_two_processes_find_the_same_numbers(
    done: tuple[Path, list[Record]], tmp_path: Path
) -> None:
    with nothing_changed():
        assert numbers(run(tmp_path, jobs=2)) == numbers(done[1])


def test_a_killed_process_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anymae.benchmark import run as module

    monkeypatch.setattr(module, "_run_or_leave", _die)
    with pytest.raises(AnymaeError, match="run the same command again"):
        run(tmp_path, jobs=2)


def _die(chain: Chain) -> tuple[JobName, ...]:
    os._exit(9)


def test_nothing_is_chosen_by_test_labels(
    done: tuple[Path, list[Record]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Digits._read

    def spoiled(self: Digits, task: Task, seed: int) -> tuple[np.ndarray, np.ndarray, Parts]:
        images, labels, parts = honest(self, task, seed)
        labels = labels.copy()
        labels[parts.test] = (labels[parts.test] + 1) % 10
        return images, labels, parts

    monkeypatch.setattr(Digits, "_read", spoiled)
    found = run(tmp_path)
    assert numbers(found, test=False) == numbers(done[1], test=False)
    assert all(
        mine.methods[mine.best or ""].test != theirs.methods[theirs.best or ""].test
        for mine, theirs in zip(found, done[1], strict=True)
    )


def test_test_labels_are_opened_once_after_everything_else(
    done: tuple[Path, list[Record]], looks: list[str]
) -> None:
    ends = [looks.index(f"{count} of {len(ARMS)}") for count in range(1, len(ARMS) + 1)]
    assert sorted(ends)[-1] == len(looks) - 1
    for begin, end in itertools.pairwise([-1, *sorted(ends)]):
        of_job = [look for look in looks[begin + 1 : end] if look in ("known", "test")]
        assert of_job.count("test") == 1 and of_job[-1] == "test" and len(of_job) > 3


def test_tuning_opens_no_test_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Labels, "open_test", lambda self: pytest.fail("opened"))
    (record,) = run(tmp_path, arms=("none",), stage="tune")
    assert all(method.test is None for method in record.methods.values())
    assert "--stage tune" in record.command


def test_the_committed_numbers_come_out_again_from_their_command(tmp_path: Path) -> None:
    stored = [
        record
        for record in read_records(COMMITTED)
        if record.job.suite == "digits" and record.job.budget == "mini" and record.methods
    ]
    assert {record.job.arm for record in stored} >= {"guided", "random", "none", "baseline"}
    record = next(record for record in stored if record.job.arm == "guided")
    words = record.command.split()
    asked = dict(zip(words[3::2], words[4::2], strict=True))
    assert words[:3] == ["anymae", "benchmark", "digits"]
    again = run_benchmark(
        words[2], tasks=(asked["--task"],), arms=(asked["--arms"],), budget=asked["--budget"],
        seeds=int(asked["--seeds"]), out=tmp_path,
    )[-1]  # fmt: skip
    assert again.data["split"] == record.data["split"]
    if again.machine == record.machine:
        assert numbers([again]) == numbers([record])
    rows = record.data["rows"]["test"]
    for name, method in record.methods.items():
        mine, theirs = again.methods[name].test, method.test
        assert mine is not None and theirs is not None
        # Other machines round differently: within two standard errors of the test.
        error = (theirs["accuracy"] * (1 - theirs["accuracy"]) / rows) ** 0.5
        assert abs(mine["accuracy"] - theirs["accuracy"]) <= 2 * error


def test_the_page_is_what_the_committed_records_make(tmp_path: Path) -> None:
    from anymae.benchmark.page import write_page

    write_page(COMMITTED, tmp_path / "results.md")
    page = COMMITTED.parent / "docs" / "results.md"
    assert page.read_text() == (tmp_path / "results.md").read_text()


def test_stored_ratios_are_those_that_validation_chose_or_the_page_says_so() -> None:
    from anymae.benchmark.summary import group_records

    page = (COMMITTED.parent / "docs" / "results.md").read_text()
    groups = group_records(read_records(COMMITTED))
    for group in groups:
        differing = []
        several = sum(other.suite == group.suite for other in groups) > 1
        budget = f" ({group.budget})" if several else ""
        for name, choice in group.ratio_choices().items():
            settings = group.kind.budgets[group.budget].masking[name.split(":")[0]]
            if settings["ratio"] not in choice.best:
                differing.append(f"in place of {settings['ratio']:g}")
        told = f"Mask ratios of {group.suite}{budget}: others than the suite's were best"
        assert (told in page) == bool(differing)
        assert all(words in page for words in differing)


def test_a_process_whose_training_is_asked_to_end_takes_no_other_chain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(chain: Chain) -> tuple[JobName, ...]:
        raise InterruptedRunError("asked to end")

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(run_module, "run_chain", interrupted)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as left:
        run_module._run_or_leave(Chain(tmp_path, tmp_path, "cpu", ()))
    assert left.value.code == 130


def test_a_run_that_is_stopped_tells_what_the_command_itself_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise InterruptedRunError("stopped at step 1 of 2; the same command with --resume goes on")

    monkeypatch.setattr("anymae.benchmark.encoders.pretrain", stopped)
    with pytest.raises(InterruptedRunError, match=r"guided_seed0 stopped at step 1 of 2; ") as told:
        run(tmp_path, arms=["guided"])
    assert str(told.value).endswith("everything is saved: the same command goes on from here")
    assert "--resume" not in str(told.value)
