"""A fine-tuning that is cut and goes on ends with the same bytes as one that is not."""

import errno
import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anymae import files
from anymae.config import DataConfig
from anymae.data.dataset import open_data
from anymae.errors import (
    ConfigError,
    FolderError,
    InterruptedRunError,
    NonFiniteError,
    UserInputError,
)
from anymae.hub import load
from anymae.predictor import Ensemble, Predictor
from anymae.training.finetune import finetune
from anymae.training.labelling import Labelled
from anymae.training.progress import Progress
from kills import Kill, Point, each_name, killed_at, points
from pairs import together
from runs import Cut, cut_at, small, strings, tuned, weights


def result(folder: Path) -> dict[str, Any]:
    """What is told of a model, without what depends on the clock and the folder's name."""
    found = json.loads((folder / "finetune.json").read_text())
    return {name: value for name, value in found.items() if name not in ("seconds", "folder")}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(folder: Path, uncut: Path) -> None:
    assert weights(folder) == weights(uncut)
    assert result(folder) == result(uncut)
    assert {path.name for path in folder.iterdir()} == {path.name for path in uncut.iterdir()}


CASES: dict[str, tuple[dict[str, Any], list[int]]] = {
    "a learned query": ({}, [3, 11, 12, 21]),
    "a fitted head": ({"config": {"readout": {"kind": "layers"}}}, [1, 7, 9, 15]),
    "several seeds": ({"config": {"readout": {"kind": "mean"}, "seeds": 2}}, [9, 17, 23]),
    "no head first": ({"config": {"head_first": "none", "imbalance": "balanced"}}, [5]),
    "patience": ({"training": {"patience": 1}}, [4, 10]),
    "few checkpoints": ({"training": {"checkpoint_every": 5}}, [6, 10]),
}


@pytest.mark.parametrize("name", CASES)
def test_cut_anywhere_it_ends_with_the_same_bytes(name: str, tmp_path: Path) -> None:
    case, cuts = CASES[name]
    tuned(tmp_path / "uncut", **case)
    taken: list[int] = []
    for number, step in enumerate(cuts):
        with pytest.raises(Cut):
            tuned(tmp_path / "cut", progress=cut_at(step), resume=number > 0, **case)
        assert not (tmp_path / "cut/model.safetensors").exists()

    def note(progress: Progress) -> None:
        taken.append(progress.step)

    tuned(tmp_path / "cut", progress=note, resume=True, **case)
    assert_same(tmp_path / "cut", tmp_path / "uncut")
    # Nothing that was saved is computed again: the first new step follows the last save.
    every = case.get("training", {}).get("checkpoint_every", 2)
    assert cuts[-1] - every < taken[0] <= cuts[-1]


@pytest.mark.parametrize("keep", [None, 3])
def test_as_many_checkpoints_stay_as_are_asked_for(keep: int | None, tmp_path: Path) -> None:
    asked = {"checkpoint_every": 1, "validate_every": 100}
    asked |= {} if keep is None else {"keep_checkpoints": keep}
    config = {"learning_rates": (1e-3,), "head_first": "none"}
    with pytest.raises(Cut):
        tuned(tmp_path / "m", progress=cut_at(6), training=asked, config=config)
    stages = tmp_path / "m" / "trainings" / "seed-0-rate-0.001"
    steps = sorted(int(path.name.removeprefix("step-")) for path in stages.glob("step-*"))
    assert len(steps) == (keep or 1), steps


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Point]]:
    folder = tmp_path_factory.mktemp("kill")
    return folder, points(folder, "finetune")


@pytest.mark.parametrize("share", range(4))
def test_killed_at_points_of_writing_it_ends_with_the_same_bytes(
    share: int, uncut: tuple[Path, list[Point]]
) -> None:
    folder, found = uncut
    names = {point.name for point in found}
    for wanted in (
        "_rename uncut/.staged-trainings",
        "_rename uncut/trainings/seed-0-rate-0.001/.staged-step-N",
        "_rename uncut/trainings/seed-0-rate-0.01/.staged-left",
        "_write uncut/.staged-files/model.safetensors",
        "_rename uncut/.staged-files/model.safetensors",
        "_rename uncut/trainings",
    ):
        assert wanted in names, names
    chosen = list(each_name(found, 1))
    some = [
        # Where there is no old model any more and no new one yet, and when all is done but tidying.
        *(p for p in chosen if p.name.endswith((".staged-files/model.safetensors", "trainings"))),
        *chosen[:: max(1, len(chosen) // 5)],
    ]
    for turn, point in list(enumerate(some))[share::4]:
        kills = [Kill(point.number, after=bool(turn % 2))]
        if turn % 3 == 0:
            kills.append(Kill(point.number // 2, after=False))
        killed_at(folder / f"at-{turn}", kills, "finetune")
        assert_same(folder / f"at-{turn}", folder / "uncut")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_every_point_of_writing(tmp_path: Path) -> None:
    # Of names that stand for one point both are the same.
    for point in dict.fromkeys(each_name(points(tmp_path, "finetune"), 2)):
        for after in (False, True):
            folder = tmp_path / f"at-{point.number}-{after}"
            killed_at(folder, [Kill(point.number, after=after)], "finetune")
            assert_same(folder, tmp_path / "uncut")


def test_it_saves_and_leaves_when_asked(tmp_path: Path) -> None:
    tuned(tmp_path / "uncut")

    def ask(progress: Progress) -> None:
        if progress.step == 11:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError, match=r"SIGTERM; everything is saved: .* --resume"):
        tuned(tmp_path / "cut", progress=ask)
    with pytest.raises(InterruptedRunError, match="the time of --stop-after is over"):
        tuned(tmp_path / "cut", resume=True, stop_after=0)
    tuned(tmp_path / "cut", resume=True)
    assert_same(tmp_path / "cut", tmp_path / "uncut")


def test_without_a_folder_nothing_is_saved_and_the_message_says_so() -> None:
    with pytest.raises(InterruptedRunError, match="nothing is saved"):
        tuned(None, stop_after=0)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"training": {"steps": 9}}, "training.steps is 9, not 8"),
        ({"training": {"seed": 1}}, "training.seed is 1, not 0"),
        ({"config": {"layer_decay": 0.5}}, "config.layer_decay is 0.5, not 0.75"),
        ({"data": {"x": strings(), "y": [float(n) for n in range(90)]}}, "rows, labels or"),
        ({"heads": 4}, "the model to start from is another one"),
        ({"training": {"batch_size": 8}}, "batch_size is 8, not 16"),
        ({"training": {"threads": 2}}, "threads is 2, not 1"),
    ],
)
def test_it_does_not_go_on_as_another(case: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(Cut):
        tuned(tmp_path / "m", progress=cut_at(5))
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=words):
        tuned(tmp_path / "m", resume=True, **case)
    assert contents(tmp_path) == before
    tuned(tmp_path / "m", resume=True)
    if words.startswith("threads"):
        # Where it was made is of no concern any more.
        tuned(tmp_path / "m", resume=True, **case)
        return
    with pytest.raises(ConfigError, match=words):
        tuned(tmp_path / "m", resume=True, **case)


def test_a_row_that_moves_from_training_to_validation_makes_other_rows() -> None:
    labelled = open_data(strings()), np.zeros((90, 1), np.float32), None
    one, other = (Labelled(*labelled, np.arange(at), np.arange(at, 90)) for at in (80, 81))
    assert one.digest != other.digest
    assert one.digest == Labelled(*labelled, np.arange(80), np.arange(80, 90)).digest


def test_what_changes_no_result_may_differ(tmp_path: Path) -> None:
    tuned(tmp_path / "uncut")
    with pytest.raises(Cut):
        tuned(tmp_path / "cut", progress=cut_at(5))
    # Threads are taken from the first part.
    other = {"threads": None, "checkpoint_every": 7, "workers": 1}
    tuned(tmp_path / "cut", resume=True, training=other)
    assert weights(tmp_path / "cut") == weights(tmp_path / "uncut")


def test_a_finished_one_says_so_and_tells_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"readout": {"kind": "mean"}, "seeds": 2}
    first = tuned(tmp_path / "m", resume=True, config=config)
    before = weights(tmp_path / "m")
    again = tuned(tmp_path / "m", resume=True, config=config)
    assert "is finished; there is nothing left to do" in caplog.text
    assert again.to_json() == first.to_json()
    assert isinstance(again.model, Ensemble)
    assert weights(tmp_path / "m") == before
    with pytest.raises(ConfigError, match=r"seeds is 1, not 2; .* --overwrite"):
        tuned(tmp_path / "m", resume=True, config={**config, "seeds": 1})


def test_a_cut_one_is_neither_started_over_nor_mixed_up_unasked(tmp_path: Path) -> None:
    tuned(tmp_path / "uncut")
    with pytest.raises(Cut):
        tuned(tmp_path / "m", training={"seed": 3}, progress=cut_at(5))
    with pytest.raises(FolderError, match=r"a fine-tuning that was cut already; .* --resume"):
        tuned(tmp_path / "m")
    with pytest.raises(FolderError, match="exclude each other"):
        tuned(tmp_path / "m", resume=True, overwrite=True)
    tuned(tmp_path / "m", overwrite=True)
    assert_same(tmp_path / "m", tmp_path / "uncut")


def test_a_model_that_is_replaced_stays_until_the_new_one_is_there(tmp_path: Path) -> None:
    tuned(tmp_path / "uncut")
    tuned(tmp_path / "m", training={"seed": 3})
    before = weights(tmp_path / "m")
    with pytest.raises(Cut):
        tuned(tmp_path / "m", overwrite=True, progress=cut_at(5))
    assert weights(tmp_path / "m") == before
    assert isinstance(load(tmp_path / "m"), Predictor)
    tuned(tmp_path / "m", resume=True)
    assert_same(tmp_path / "m", tmp_path / "uncut")


def test_a_bad_request_leaves_no_folder_and_an_earlier_cut_as_it_is(tmp_path: Path) -> None:
    bad: dict[str, Any] = {"config": {"readout": {"num_heads": 3}}}
    with pytest.raises(ConfigError, match=r"width 16 is no multiple of readout\.num_heads 3"):
        tuned(tmp_path / "new", **bad)
    assert not (tmp_path / "new").exists()
    with pytest.raises(Cut):
        tuned(tmp_path / "m", progress=cut_at(5))
    before = contents(tmp_path)
    with pytest.raises(ConfigError):
        tuned(tmp_path / "m", overwrite=True, **bad)
    for asked in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(FolderError, match="holds files but no run"):
            small(tmp_path / "m", **asked)
    assert contents(tmp_path) == before


def test_resume_needs_a_folder_of_a_fine_tuning(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="name one with out"):
        tuned(None, resume=True)
    with pytest.raises(Cut):
        small(tmp_path / "run", progress=cut_at(5))
    with pytest.raises(FolderError, match="holds files but no fine-tuned model"):
        tuned(tmp_path / "run", resume=True)
    tuned(tmp_path / "m")
    with pytest.raises(FolderError, match="is the model to start from"):
        finetune(tmp_path / "m", strings(), target="y", out=tmp_path / "m", overwrite=True)


def test_other_rates_and_more_seeds_take_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(Cut):
        tuned(tmp_path / "m", progress=cut_at(19))
    taken: list[int] = []
    case: dict[str, Any] = {"config": {"learning_rates": (1e-3,), "seeds": 2}}
    tuned(tmp_path / "uncut", **case)
    tuned(tmp_path / "m", resume=True, progress=lambda now: taken.append(now.step), **case)
    # Head and rate of the first seed are there.
    assert taken == list(range(17, 33))
    assert weights(tmp_path / "m") == weights(tmp_path / "uncut")


def test_a_rate_that_diverges_ranks_last_also_where_it_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case: dict[str, Any] = {"config": {"learning_rates": (1e38, 1e-3)}}
    done = tuned(tmp_path / "uncut", **case)
    assert done.learning_rate == 1e-3
    assert done.history[0]["tried"] == [[1e38, None], [1e-3, done.valid_loss]]
    assert "rate 1e+38 is passed over: the " in caplog.text
    assert "training.learning_rate" not in caplog.text
    tuned(tmp_path / "alone", config={"learning_rates": (1e-3,)})
    assert weights(tmp_path / "uncut") == weights(tmp_path / "alone")
    for number, step in enumerate((9, 19)):
        with pytest.raises(Cut):
            tuned(tmp_path / "cut", progress=cut_at(step), resume=number > 0, **case)
    tuned(tmp_path / "cut", resume=True, **case)
    assert_same(tmp_path / "cut", tmp_path / "uncut")
    with pytest.raises(NonFiniteError, match=r"none of the learning rates 1e\+37, 1e\+38 keeps"):
        tuned(None, config={"learning_rates": (1e37, 1e38)})


def test_rates_that_are_nearly_equal_are_trained_apart(tmp_path: Path) -> None:
    config = {"learning_rates": (0.012345611, 0.012345649), "head_first": "none"}
    tried = tuned(tmp_path / "m", config=config).history[0]["tried"]
    assert tried == tuned(None, config=config).history[0]["tried"]
    assert tried[0][1] != tried[1][1]


@pytest.mark.parametrize("last", [math.nan, 1e25], ids=["unknown", "infinite"])
def test_validation_losses_that_are_no_numbers_survive_a_cut(last: float, tmp_path: Path) -> None:
    lengths = [*(float(len(string)) for string in strings()[:-1]), last]
    case: dict[str, Any] = {
        "data": {"x": strings(), "y": lengths, "part": ["train"] * 89 + ["valid"]},
        "data_config": DataConfig(split="part"),
        "config": {"learning_rates": (1e-3,)},
    }
    assert tuned(tmp_path / "uncut", **case).valid_loss is None
    for number, step in enumerate((3, 11)):
        with pytest.raises(Cut):
            tuned(tmp_path / "cut", progress=cut_at(step), resume=number > 0, **case)
    tuned(tmp_path / "cut", resume=True, **case)
    assert_same(tmp_path / "cut", tmp_path / "uncut")


def test_a_disk_that_is_full_at_the_end_costs_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned(tmp_path / "uncut")
    tuned(tmp_path / "m", training={"seed": 3})
    before = weights(tmp_path / "m")
    write = files._write

    def full(path: Path, *more: Any) -> None:
        if path.parent.name == ".staged-files" and path.name == "README.md":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, *more)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_write", full)
        with pytest.raises(FolderError, match=r"No space left on device.*--resume"):
            tuned(tmp_path / "m", overwrite=True)
    assert weights(tmp_path / "m") == before
    assert isinstance(load(tmp_path / "m"), Predictor)
    tuned(tmp_path / "m", resume=True)
    assert_same(tmp_path / "m", tmp_path / "uncut")


@pytest.mark.parametrize("content", ["{}", "[1", '{"identity": {"threads": null}}'])
def test_what_says_of_what_trainings_are_part_can_be_damaged(content: str, tmp_path: Path) -> None:
    with pytest.raises(Cut):
        tuned(tmp_path / "m", progress=cut_at(5))
    (tmp_path / "m/trainings/asked.json").write_text(content)
    with pytest.raises(FolderError, match=r"asked\.json is damaged.*--overwrite"):
        tuned(tmp_path / "m", resume=True)
    tuned(tmp_path / "m", overwrite=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    tuned(folder / "m", config={"learning_rates": (1e-3,), "readout": {"kind": "mean"}})
    return folder / "m"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", None),
        ("steps", "4"),
        ("rows", 12),
        ("task", None),
        ("history", [3]),
        ("evaluations", {"valid": None}),
        ("identity", None),
        ("identity", [1]),
    ],
)
def test_what_came_of_a_finished_one_can_be_damaged(
    key: str, value: object, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "m")
    path = tmp_path / "m/finetune.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(FolderError, match=rf"finetune\.json is damaged \({key}.*--overwrite$"):
        tuned(
            tmp_path / "m",
            resume=True,
            config={"learning_rates": (1e-3,), "readout": {"kind": "mean"}},
        )


def in_processes(folder: Path, *, cut: int | None = None, **keywords: Any) -> str:
    try:
        tuned(folder, progress=None if cut is None else cut_at(cut), **keywords)
    except Cut:
        return "cut"
    return "done"


def test_several_processes_go_on_too(tmp_path: Path) -> None:
    case: dict[str, Any] = {"training": {"batch_size": 8}}
    assert together(2, in_processes, tmp_path / "uncut", **case) == ["done"] * 2
    assert together(2, in_processes, tmp_path / "cut", cut=11, **case) == ["cut"] * 2
    assert together(2, in_processes, tmp_path / "cut", resume=True, **case) == ["done"] * 2
    assert_same(tmp_path / "cut", tmp_path / "uncut")
    # As many rows a step in one process are the same training.
    assert in_processes(tmp_path / "cut", resume=True) == "done"


@pytest.mark.parametrize("part", ["left", "step", "best"])
def test_what_is_damaged_is_named_and_computed_again(
    part: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # At the high rate the look after six steps is not the best one.
    case = {"config": {"readout": {"kind": "mean"}, "learning_rates": (1e-1,)}}
    tuned(tmp_path / "uncut", **case)
    with pytest.raises(Cut):
        tuned(tmp_path / "cut", progress=cut_at(7), **case)
    rate = tmp_path / "cut/trainings/seed-0-rate-0.1"
    steps = sorted(rate.glob("step-*"))
    assert len(steps) == 2, "this test needs a best look that is not the last one"
    folder = {"left": rate.with_name("seed-0-head") / "left", "step": steps[1], "best": steps[0]}
    shutil.copyfile(steps[0] / "state.json", folder[part] / "model.safetensors")
    tuned(tmp_path / "cut", resume=True, **case)
    expected = {"left": "is repeated", "step": "passed over", "best": "starts over"}
    assert expected[part] in caplog.text
    assert_same(tmp_path / "cut", tmp_path / "uncut")
