"""A disk that is full, wherever a run writes, is told in one sentence and costs no checkpoint."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from anymae import files
from anymae.errors import FolderError, NonFiniteError
from anymae.training.loop import Progress
from anymae.training.reconstruction import ReconstructionObjective
from runs import small, weights

LOSS_SUM = ReconstructionObjective.loss_sum


def full_for(name: str, *, turn: int = 1) -> Callable[..., None]:
    """Return a writer that fails at the file `name` of a run folder, the `turn`th time."""
    write, seen = files._write, []

    def fail(path: Path, *more: Any) -> None:
        if path.name == files.STAGED + name and "checkpoints" not in path.parts:
            seen.append(path)
            if len(seen) == turn:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, *more)

    return fail


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return weights(small(tmp_path_factory.mktemp("uncut") / "run").folder)


@pytest.mark.parametrize("name", ["run.yaml", "environment.json", "config.json", "data.json"])
def test_a_run_that_cannot_begin_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, uncut: bytes
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(FolderError) as caught:
        patched.setattr(files, "_write", full_for(name))
        small(run)
    assert caught.value.exit_code == 2
    assert f"{run} could not be written (No space left on device); make room" in str(caught.value)
    small(run, resume=True)
    assert weights(run) == uncut


@pytest.mark.parametrize(
    ("name", "turn"), [("environment.json", 2), ("README.md", 1), ("model.safetensors", 1)]
)
def test_a_run_that_cannot_end_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, turn: int, uncut: bytes
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(FolderError) as caught:
        patched.setattr(files, "_write", full_for(name, turn=turn))
        small(run)
    sentence = r"could not be written \(No space left on device\); .*checkpoint.*--resume"
    assert caught.match(sentence)
    assert not (run / "model.safetensors").exists()
    small(run, resume=True)
    assert weights(run) == uncut


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_cannot_grow_is_told(tmp_path: Path, uncut: bytes) -> None:
    run = tmp_path / "run"

    def fill(progress: Progress) -> None:
        if progress.step == 5:
            (run / "metrics.jsonl").rename(tmp_path / "kept")
            (run / "metrics.jsonl").symlink_to("/dev/full")

    with pytest.raises(FolderError, match=r"metrics.jsonl could not be written \(No space"):
        small(run, progress=fill, settings={"training.validate_every": 4})
    (run / "metrics.jsonl").unlink()
    shutil.move(tmp_path / "kept", run / "metrics.jsonl")
    small(run, resume=True)
    assert weights(run) == uncut


def test_a_capture_that_cannot_be_written_still_ends_as_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loss_sum(self: Any, model: Any, batch: Any, counters: Any) -> torch.Tensor:
        return LOSS_SUM(self, model, batch, counters) * (torch.nan if counters.step == 7 else 1.0)

    monkeypatch.setattr(ReconstructionObjective, "loss_sum", loss_sum)
    monkeypatch.setattr(files, "_write", full_for("nonfinite-step-00000007.safetensors"))
    with pytest.raises(NonFiniteError) as caught:
        small(tmp_path / "run")
    assert caught.value.exit_code == 3
    assert caught.match(r"step 7; .*checkpoint is kept; .*No space left on device.*learning_rate")
    assert "--replay" not in str(caught.value)
