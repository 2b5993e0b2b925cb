"""A run that is cut and goes on ends with the same bytes as one that is not."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch

from anymae.errors import ConfigError, FolderError, InterruptedRunError, UserInputError
from anymae.recipes import load_recipe
from anymae.training.device import fastest_precision
from anymae.training.folder import OWN
from anymae.training.pretrain import pretrain
from anymae.training.progress import Progress
from runs import Cut, cut_at, history, last_checkpoint, small, strings, weights


def resumed(out: Path, cuts: list[int], **keywords: Any) -> Path:
    """Cut a run after each of `cuts` steps, then let it finish."""
    for number, step in enumerate(cuts):
        with pytest.raises(Cut):
            small(out, progress=cut_at(step), resume=number > 0, **keywords)
    small(out, resume=True, **keywords)
    return out


def same(one: Path, two: Path) -> bool:
    assert history(one) == history(two)
    assert last_checkpoint(one) == last_checkpoint(two)
    return weights(one) == weights(two)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"settings": {"encoder.dropout": 0.2, "encoder.drop_path": 0.2}},
    "accumulation": {"batch_size": 8, "settings": {"training.accumulate": 4}},
    "epochs": {"steps": None, "epochs": 3.5, "settings": {"masking.random_start": 0.5}},
    "perceiver": {"settings": {"encoder.kind": "perceiver", "encoder.num_latents": 4}},
    "crops": {"settings": {"data.length": 12}},
    "recompute": {"settings": {"training.recompute": True}},
}


@pytest.mark.parametrize("name", CASES)
def test_resume_equals_uninterrupted_run(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    small(tmp_path / "uncut", **case)
    assert same(resumed(tmp_path / "cut", [5, 9, 10], **case), tmp_path / "uncut")


def table() -> dict[str, Any]:
    source = np.random.default_rng(0)
    x = source.normal(size=90)
    columns = {"x": x, "y": 2 * x, "color": source.choice(["red", "blue"], 90)}
    return {"data": pa.table(columns)}


def sets() -> dict[str, Any]:
    source = np.random.default_rng(0)
    jets = [source.normal(size=(n, 3)).tolist() for n in source.integers(3, 9, 90)]
    return {"data": pa.table({"jets": pa.array(jets)}), "settings": {"data.positions": "none"}}


def images() -> dict[str, Any]:
    return {"data": np.random.default_rng(0).integers(0, 255, (90, 4, 4)).astype("uint8")}


OTHERS: dict[str, Callable[[], dict[str, Any]]] = {
    "numbers and categories": table,
    "numbers": lambda: {"data": np.random.default_rng(0).normal(size=(90, 5))},
    "values": lambda: {"data": np.random.default_rng(0).normal(size=(90, 6, 2))},
    "ragged sets": sets,
    "images": images,
    "automatic batch": lambda: {"data": strings(400), "batch_size": "auto"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_inputs_and_a_batch_that_was_found_resume_too(tmp_path: Path, name: str) -> None:
    case = OTHERS[name]()
    small(tmp_path / "uncut", **case)
    assert same(resumed(tmp_path / "cut", [3, 7], **case), tmp_path / "uncut")


def test_loader_processes_change_nothing(tmp_path: Path) -> None:
    small(tmp_path / "uncut")
    settings = {"training.workers": 2}
    assert same(resumed(tmp_path / "cut", [6], settings=settings), tmp_path / "uncut")


def test_two_runs_of_a_seed_are_equal_and_of_two_seeds_are_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        small(tmp_path / name, seed=seed)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_minutes_become_steps_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymae.training.settle.step_seconds", lambda *_, **__: 0.1)
    monkeypatch.setattr("anymae.training.settle.timed", lambda look: 0.1)
    case: dict[str, Any] = {"steps": None, "minutes": 0.02}
    case["settings"] = {"training.checkpoint_every": 1}
    with pytest.raises(Cut):
        small(tmp_path / "run", progress=cut_at(2), **case)
    stored = (tmp_path / "run" / "run.yaml").read_text()
    assert "minutes" not in stored
    # Another speed changes nothing any more.
    monkeypatch.setattr("anymae.training.settle.step_seconds", lambda *_, **__: 0.05)
    small(tmp_path / "run", resume=True, **case)
    steps = history(tmp_path / "run")[-1]["steps"]
    assert 5 < steps < 12 and f"steps: {steps}\n" in stored


@pytest.mark.parametrize("every", [None, 1, 4, 1000])
def test_minutes_leave_time_for_the_looks_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int | None
) -> None:
    monkeypatch.setattr("anymae.training.settle.step_seconds", lambda *_, **__: 0.1)
    monkeypatch.setattr("anymae.training.settle.timed", lambda look: 1.0)
    settings = {"training.validate_every": every}
    with pytest.raises(Cut):
        small(tmp_path / "run", progress=cut_at(1), steps=None, minutes=1.0, settings=settings)
    training = load_recipe(tmp_path / "run" / "run.yaml").training
    steps, between = training["steps"], every or training["steps"] // 10
    looks = 1 + sum(step % between == 0 or step == steps for step in range(1, steps + 1))
    assert 58 < 0.1 * steps + looks < 60.001


def test_a_run_goes_on_to_its_own_end_where_no_length_is_named(tmp_path: Path) -> None:
    small(tmp_path / "uncut")
    with pytest.raises(Cut):
        small(tmp_path / "run", progress=cut_at(6))
    small(tmp_path / "run", steps=None, resume=True)
    assert same(tmp_path / "run", tmp_path / "uncut")


@pytest.mark.parametrize("length", [{"steps": 12}, {"steps": None, "epochs": 1.2}])
def test_a_run_goes_on_by_its_own_recipe(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, length: dict[str, Any]
) -> None:
    data, run = strings(400), tmp_path / "run"
    small(tmp_path / "uncut", data, batch_size="auto", **length)
    with pytest.raises(Cut):
        small(run, data, batch_size="auto", progress=cut_at(6), **length)
    for _ in range(2):
        pretrain(data, recipe=run / "run.yaml", out=run, resume=True)
    assert "nothing left to do" in caplog.text
    assert same(run, tmp_path / "uncut")


def test_a_run_with_a_validation_file_goes_on_by_its_own_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a.txt", 0), ("b.txt", 1), ("c.txt", 2)):
        Path(name).write_text("\n".join(strings(40, seed=seed)))
    run = tmp_path / "run"
    with pytest.raises(Cut):
        small(run, "a.txt", valid="b.txt", progress=cut_at(6))
    for other, says in ((None, "data.valid is"), ("c.txt", "the content differs")):
        with pytest.raises(ConfigError, match=says):
            small(run, "a.txt", valid=other, resume=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = pretrain(recipe=run / "run.yaml", out=run, resume=True)
    assert done.metrics["steps"] == 12


def test_a_precision_is_chosen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, chooser = tmp_path / "run", "anymae.training.device.fastest_precision"
    monkeypatch.setattr(chooser, lambda device: "bf16")
    with pytest.raises(Cut):
        small(run, precision="auto", progress=cut_at(6))
    assert "precision: bf16\n" in (run / "run.yaml").read_text()
    monkeypatch.setattr(chooser, lambda device: "fp32")
    small(run, precision="auto", resume=True)
    small(tmp_path / "named", precision="bf16")
    small(tmp_path / "other", precision="fp32")
    assert weights(run) == weights(tmp_path / "named") != weights(tmp_path / "other")


@pytest.mark.parametrize(
    ("found", "precision"),
    [({}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")],
)
def test_bf16_is_for_processors_that_multiply_it(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, bool], precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert fastest_precision(torch.device("cpu")) == precision


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 3}, "training.seed is 3, not 0"),
    "batch": ({"batch_size": 16}, "training.batch_size is 16, not 32"),
    "model": ({"settings": {"encoder.depth": 2}}, "model.encoder.depth is 2, not 1"),
    "masking": ({"settings": {"masking.ratio": 0.5}}, "model.masking.ratio is 0.5, not 0.3"),
    "threads": ({"settings": {"training.threads": 2}}, "threads is 2, not 1"),
    "precision": ({"precision": "bf16"}, "precision is bf16, not fp32"),
    "data": ({"data": strings(seed=1)}, "the data: the content differs"),
    "rows": ({"data": strings(91)}, "number of rows is 91, not 90"),
    "rate": ({"learning_rate": 0.5}, "training.learning_rate is 0.5, not 0.001"),
    "steps": ({"steps": 20}, "cannot be extended, as its learning rate falls to 0 at step 12"),
    "init": ({"init": "somewhere"}, "did not begin with another's weights"),
}


@pytest.fixture(scope="module")
def cut_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cut") / "run"
    with pytest.raises(Cut):
        small(out, progress=cut_at(6))
    return out


@pytest.mark.parametrize("name", CHANGES)
def test_resuming_as_another_run_is_refused_and_changes_nothing(cut_run: Path, name: str) -> None:
    change, sentence = CHANGES[name]
    before = {path: path.stat().st_mtime_ns for path in cut_run.rglob("*")}
    with pytest.raises(ConfigError) as caught:
        small(cut_run, resume=True, **change)
    assert sentence in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in cut_run.rglob("*")} == before


def test_a_step_may_be_cut_into_other_passes_and_saved_more_often(
    cut_run: Path, tmp_path: Path
) -> None:
    small(tmp_path / "whole")
    run = tmp_path / "run"
    shutil.copytree(cut_run, run)
    passes = {"training.accumulate": 2, "training.checkpoint_every": 1, "training.keep": "last"}
    with pytest.raises(ConfigError, match="keep"):
        small(run, batch_size=16, settings=passes, resume=True)
    del passes["training.keep"]
    with pytest.raises(Cut):
        small(run, batch_size=16, settings=passes, resume=True, progress=cut_at(10))
    assert (run / "checkpoints" / "step-00000009").is_dir()
    small(run, batch_size=16, settings=passes, resume=True)
    for one, two in zip(history(tmp_path / "whole"), history(run), strict=True):
        for name in {"loss", "valid_loss"} & one.keys():
            assert one[name] == pytest.approx(two[name], rel=1e-4)


def test_packed_strings_cannot_be_cut_into_other_passes(tmp_path: Path) -> None:
    run, packed = (
        tmp_path / "run",
        {"data.pack": True, "data.length": 64, "training.checkpoint_every": 1},
    )
    halves = {**packed, "training.accumulate": 2}
    with pytest.raises(Cut):
        small(run, batch_size=16, settings=packed, progress=cut_at(4))
    with pytest.raises(ConfigError, match=r"cannot go on .*accumulate is 2, not 1"):
        small(run, batch_size=8, settings=halves, resume=True)
    small(run, batch_size=16, settings=packed, resume=True)
    with pytest.raises(ConfigError, match=r"is finished, .*accumulate is 2, not 1"):
        small(run, batch_size=8, settings=halves, resume=True)


def test_a_batch_left_open_can_be_cut_into_passes_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anymae.training.settle.find_batch_size", lambda *_, **__: 16)
    run, halves = tmp_path / "run", {"training.accumulate": 2}
    with pytest.raises(Cut):
        small(run, batch_size="auto", progress=cut_at(4))
    for step in (6, 8):
        with pytest.raises(Cut):
            small(run, batch_size=8, settings=halves, resume=True, progress=cut_at(step))
    with pytest.raises(ConfigError, match=r"accumulate is 1, not|batch_size is 8, not"):
        small(run, batch_size=8, resume=True)
    with pytest.raises(Cut):
        small(run, batch_size="auto", resume=True, progress=cut_at(10))
    recipe = (run / "run.yaml").read_text()
    assert "batch_size: 16\n" in recipe and "accumulate: 1\n" in recipe
    small(run, batch_size=8, settings=halves, resume=True)


def test_a_run_that_looked_out_of_turn_is_not_extended(tmp_path: Path) -> None:
    settings = {
        "training.schedule": "constant", "training.warmup": 2, "training.validate_every": 5,
        "training.keep": "last",
    }  # fmt: skip
    # Patience counts the look; the best weights so far are those of the last step.
    for name, more in (("patience", {"training.patience": 9}), ("best", {"training.keep": "best"})):
        small(tmp_path / name, steps=12, settings={**settings, **more})
        with pytest.raises(ConfigError, match="its look at step 12 would not have been one"):
            small(tmp_path / name, steps=20, settings={**settings, **more}, resume=True)
    small(tmp_path / "other", steps=12, settings=settings)
    small(tmp_path / "other", steps=20, settings=settings, resume=True)


def test_a_constant_schedule_can_be_extended_as_if_it_had_been_longer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"training.schedule": "constant", "training.warmup": 2, "training.keep": "last"}
    small(tmp_path / "long", steps=20, settings=settings)
    small(tmp_path / "short", steps=12, settings=settings)
    small(tmp_path / "short", steps=20, settings=settings, resume=True)
    assert "extending the run from 12 to 20 steps" in caplog.text
    assert weights(tmp_path / "short") == weights(tmp_path / "long")
    assert "steps: 20\n" in (tmp_path / "short" / "run.yaml").read_text()


def test_resume_fits_every_state_of_the_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = small(tmp_path / "fresh", resume=True)
    done = weights(run.folder)
    with pytest.raises(FolderError, match="--resume"):
        small(run.folder)
    again = small(run.folder, resume=True)
    assert "nothing left to do" in caplog.text
    assert (weights(run.folder), again.metrics) == (done, json.loads(json.dumps(run.metrics)))
    for other, expected in (
        ({"training.learning_rate": 0.5}, "training.learning_rate is 0.5, not "),
        ({"masking.ratio": 0.77}, "masking.ratio is 0.77, not "),
    ):
        with pytest.raises(ConfigError, match=f"finished, as a run of other settings .{expected}"):
            small(run.folder, resume=True, settings=other)
    # Where it runs, and what is left open, is no other run.
    small(run.folder, resume=True, settings={"training.threads": 1, "training.workers": 0})
    (run.folder / "model.safetensors").unlink()
    for path in (run.folder / "checkpoints").rglob("manifest.json"):
        path.unlink()
    small(run.folder, resume=True)
    assert "starting over" in caplog.text
    assert weights(run.folder) == done
    small(run.folder, overwrite=True, seed=1)
    assert weights(run.folder) != done


def test_a_finished_run_is_one_of_its_own_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, more, other = (tmp_path / f"{name}.csv" for name in ("file", "more", "other"))
    texts = strings()
    data = pa.table({"x": texts, "y": texts[::-1], "n": range(len(texts))})
    pyarrow.csv.write_csv(data, file)
    pyarrow.csv.write_csv(data, more)
    pyarrow.csv.write_csv(data.slice(0, 80), other)
    own = {"column": "x", "drop": "y", "where": "n < 85", "seed": 3}
    own |= {"on_bad_row": "skip", "too_long": "truncate", "learning_rate": 1e-3}
    clip = {"training.clip": 0.5, "data.length": 20}
    run = small(tmp_path / "run", file, settings=clip, **own).folder
    for case, expected in (
        ({"data": other}, "data .number of rows is"),
        ({"column": "y", "drop": "x"}, "settings .data.column is"),
        ({"where": None}, "settings .data.where is None"),
        ({"settings": {**clip, "data.length": 10}}, "data .input.length is"),
        ({"settings": {**clip, "training.clip": None}}, "settings .training.clip is None"),
    ):
        asked = {"data": file, "settings": clip, **own, **case}
        with pytest.raises(ConfigError, match=f"finished, as a run of other {expected}"):
            small(run, resume=True, **asked)
    with pytest.raises(UserInputError, match="gone"):
        small(run, tmp_path / "gone.csv", resume=True, settings=clip, **own)
    # The same rows may lie elsewhere.
    for place in (file, more):
        small(run, place, resume=True, settings=clip, **own)
    file.unlink()
    caplog.clear()
    small(run, file, resume=True, settings=clip, **own)
    assert "nothing left to do" in caplog.text


def test_a_finished_run_is_not_read_anew_as_another_version_would(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{name}.csv" for name in ("train", "valid", "other")]
    for file, rows in zip(files, (80, 10, 10), strict=True):
        columns = {"x": np.arange(rows) / 7, "c": ["a", "b"] * (rows // 2), "n": [file.stem] * rows}
        pyarrow.csv.write_csv(pa.table(columns), file)
    train, valid, other = map(str, files)
    run, begun = tmp_path / "run", tmp_path / "begun"
    on_from = {"init": run, "steps": 4, "device": "cpu", "settings": {"training.threads": 1}}
    cases = [(run, partial(small, run)), (begun, partial(pretrain, out=begun, **on_from))]
    for folder, make in cases:
        make(data=train, valid=valid)
        stored = json.loads((folder / "data.json").read_text())
        stored["split"] = stored["split"] and "another"
        stored["column_types"] = dict.fromkeys(stored["column_types"], "string")
        (folder / "data.json").write_text(json.dumps(stored))
    monkeypatch.delattr("anymae.data.dataset._fit")
    for _, make in cases:
        caplog.clear()
        make(data=train, valid=valid, resume=True)
        assert "nothing left to do" in caplog.text
        with pytest.raises(ConfigError, match=r"run of other data .the content differs"):
            make(data=train, valid=other, resume=True)
    with pytest.raises(ConfigError, match=r"run of other data .input\.kind is bytes, not table"):
        small(run, train, valid=valid, resume=True, settings={"data.kind": "bytes"})
    with pytest.raises(ConfigError, match="brings its own sizes; leave out preset"):
        small(begun, train, valid=valid, resume=True)


def test_a_finished_run_is_one_of_its_own_objects(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = table()
    small(tmp_path / "run", **case)
    small(tmp_path / "run", resume=True, **case)
    assert "nothing left to do" in caplog.text
    data = case["data"].set_column(0, "x", pa.array(np.arange(90.0)))
    with pytest.raises(ConfigError, match=r"run of other data .the content differs"):
        small(tmp_path / "run", data, resume=True)


@pytest.mark.parametrize("gone", range(1, len(OWN)))
def test_a_kill_while_a_run_is_replaced_leaves_a_folder_that_can_be_resumed(
    cut_run: Path, tmp_path: Path, gone: int
) -> None:
    run = tmp_path / "run"
    shutil.copytree(cut_run, run)
    for name in OWN[:gone]:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    small(run, resume=True)
    assert (run / "model.safetensors").exists()


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for keywords in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(FolderError):
            small(tmp_path, **keywords)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"preset": "huge"}, "unknown preset 'huge'"),
        ({"settings": {"masking.ratio": 2.0}}, "ratio is 2.0"),
        ({"device": "tpu"}, "device 'tpu'"),
        ({"data": []}, "the list is empty"),
    ],
)
def test_what_is_refused_leaves_no_folder(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserInputError, match=said):
        small(tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def send(number: int, at: int) -> Any:
    def report(progress: Progress) -> None:
        if progress.step == at:
            os.kill(os.getpid(), number)

    return report


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves_with_the_way_back(tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(InterruptedRunError, match=r"step 6 of 12.*--resume") as caught:
        small(tmp_path / "run", progress=send(number, 6))
    assert caught.value.exit_code == 130
    assert signal.getsignal(number) == before
    assert (tmp_path / "run" / "checkpoints" / "step-00000006").is_dir()
    small(tmp_path / "run", resume=True)
    small(tmp_path / "uncut")
    assert weights(tmp_path / "run") == weights(tmp_path / "uncut")


def test_a_user_signal_saves_and_goes_on(tmp_path: Path) -> None:
    saved = []

    def report(progress: Progress) -> None:
        send(signal.SIGUSR1, 6)(progress)
        saved.append((tmp_path / "run" / "checkpoints" / "step-00000006").is_dir())

    small(tmp_path / "run", progress=report)
    assert not saved[5] and saved[6]
    assert history(tmp_path / "run")[-1]["step"] == 12


def test_stop_after_saves_and_leaves(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError, match="--stop-after"):
        small(tmp_path / "run", stop_after=0.0)
    small(tmp_path / "run", resume=True)
    small(tmp_path / "uncut")
    assert weights(tmp_path / "run") == weights(tmp_path / "uncut")


def test_torchs_global_state_is_left_as_it_was(tmp_path: Path) -> None:
    import torch

    before = torch.random.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    small(tmp_path / "run", steps=2)
    after = torch.random.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    assert torch.equal(before[0], after[0]) and before[1] == after[1]


def test_early_stopping_holds_over_a_cut(tmp_path: Path) -> None:
    case: dict[str, Any] = {
        "steps": 40,
        "learning_rate": 3.0,
        "settings": {"training.patience": 2, "training.validate_every": 2},
    }
    small(tmp_path / "uncut", **case)
    assert history(tmp_path / "uncut")[-1]["step"] < 40
    assert same(resumed(tmp_path / "cut", [3, 5], **case), tmp_path / "uncut")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"masking.random_start": 0.5}, "its masks follow masking.random_start over 4 steps"),
        ({"training.warmup": 0.25}, "its warm-up is a share of 4 steps"),
    ],
)
def test_a_run_is_not_extended_where_its_length_decided_something(
    more: dict[str, object], reason: str, tmp_path: Path
) -> None:
    settings = {
        "training.schedule": "constant", "training.warmup": 2, "training.keep": "last", **more
    }  # fmt: skip
    small(tmp_path / "run", steps=4, settings=settings)
    with pytest.raises(ConfigError, match=reason):
        small(tmp_path / "run", steps=8, settings=settings, resume=True)


def test_a_run_is_not_gone_on_with_where_data_are_read_otherwise(tmp_path: Path) -> None:
    with pytest.raises(Cut):
        small(tmp_path / "run", progress=cut_at(6))
    with pytest.raises(ConfigError, match=r"data\.too_long is truncate"):
        small(tmp_path / "run", resume=True, settings={"data.too_long": "truncate"})
