"""Two processes compute what one does, stop together, and none waits for one that is gone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed import distributed_c10d

from anymae.data.dataset import open_data
from anymae.data.sampler import Order
from anymae.model import MaskedAutoencoder
from anymae.presets import build_config
from anymae.training import session
from anymae.training.loader import StepLoader
from anymae.training.processes import Processes
from anymae.training.reconstruction import ReconstructionObjective
from pairs import together
from runs import Cut, cut_at, history, small, strings, weights


def losses(entries: list[dict[str, Any]], kind: str) -> list[float]:
    name = {"train": "loss", "valid": "valid_loss"}[kind]
    return [entry[name] for entry in entries if entry["kind"] == kind]


def train(folder: Path, *, out: str, batch: int, double: bool = False, **keywords: Any) -> None:
    """One process of a run; `double` computes in float64."""
    if double:
        made = session.make_model
        session.make_model = lambda *given: made(*given).double()
    settings = {"training.validate_every": 10, **keywords.pop("settings", {})}
    small(folder / out, steps=20, batch_size=batch, settings=settings, **keywords)


@pytest.mark.parametrize("double", [True, False])
def test_two_processes_have_the_losses_of_one(tmp_path: Path, double: bool) -> None:
    # 88 rows in batches of 24: the last batch of an epoch has 16, and rows differ in length, so
    # the processes hide different numbers of inputs.
    for world, batch in ((1, 24), (2, 12)):
        assert (
            together(world, train, tmp_path, out=f"{world}", batch=batch, double=double)
            == [None] * world
        )
    one, two = history(tmp_path / "1"), history(tmp_path / "2")
    tolerance = 1e-9 if double else 1e-5
    for kind in ("train", "valid"):
        assert len(losses(one, kind)) >= 3
        np.testing.assert_allclose(losses(two, kind), losses(one, kind), rtol=tolerance)


def test_a_process_without_rows_takes_part(tmp_path: Path) -> None:
    data = strings(28)
    case: dict[str, Any] = {"data": data, "double": True}
    # 27 training rows in batches of 13: the third batch has one row, and one process none.
    together(1, train, tmp_path, out="1", batch=13, **case)
    answers = together(2, train, tmp_path, out="2", batch=7, **case)
    assert answers == [None, None]


def test_checkpoints_move_between_numbers_of_processes(tmp_path: Path) -> None:
    def entries(name: str) -> list[float]:
        return losses(history(tmp_path / name), "train")

    case: dict[str, Any] = {"batch": 12, "double": True}
    together(2, train, tmp_path, out="uncut", **case)
    together(2, cut, tmp_path, out="moved", at=11, **case)
    together(1, cut, tmp_path, out="moved", at=15, resume=True, **case)
    together(2, train, tmp_path, out="moved", resume=True, **case)
    np.testing.assert_allclose(entries("moved"), entries("uncut"), rtol=1e-9)


def cut(folder: Path, *, at: int, **keywords: Any) -> str:
    try:
        train(folder, progress=cut_at(at), settings={"training.checkpoint_every": 5}, **keywords)
    except Cut:
        return "cut"
    return "whole"


def poison(folder: Path, *, out: str, rank: int, **keywords: Any) -> None:
    """A run in which the loss of one process is not a number at step 7."""
    plain = ReconstructionObjective.loss_sum

    def loss_sum(self: Any, model: Any, batch: Any, counters: Any) -> torch.Tensor:
        bad = counters.step == 7 and int(os.environ["RANK"]) == rank
        return plain(self, model, batch, counters) * (float("nan") if bad else 1.0)

    ReconstructionObjective.loss_sum = loss_sum  # type: ignore[method-assign]
    train(folder, out=out, batch=12, settings={"training.checkpoint_every": 5}, **keywords)


def test_a_bad_number_in_one_process_stops_all_before_the_step(tmp_path: Path) -> None:
    answers = together(2, poison, tmp_path, out="run", rank=1)
    for answer in answers:
        assert "NonFiniteError: the loss is not finite at step 7" in answer
    run = tmp_path / "run"
    assert not (run / "model.safetensors").exists()
    assert (run / "checkpoints" / "step-00000005" / "manifest.json").exists()
    assert (run / "nonfinite-step-00000007.safetensors").exists()


def die(folder: Path, *, out: str, rank: int) -> None:
    """A run of which one process is killed at step 7."""

    def report(progress: Any) -> None:
        if progress.step == 7 and int(os.environ["RANK"]) == rank:
            os.kill(os.getpid(), signal.SIGKILL)

    train(folder, out=out, batch=12, progress=report, settings={"training.checkpoint_every": 5})


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_makes_the_other_stop_with_a_sentence(tmp_path: Path, rank: int) -> None:
    begin = time.monotonic()
    answers = together(2, die, tmp_path, out="run", rank=rank)
    assert answers[rank] == -signal.SIGKILL
    assert "another process of this run has stopped" in answers[1 - rank]
    assert time.monotonic() - begin < 60


def late(folder: Path) -> float:
    """Join, the second process with a pause; returns the seconds that this took."""
    join = distributed_c10d._new_process_group_helper

    def slow(*given: Any, **keywords: Any) -> Any:
        found = join(*given, **keywords)
        time.sleep(0.0 if os.environ["RANK"] == "0" else 0.5)
        return found

    distributed_c10d._new_process_group_helper = slow
    begin = time.monotonic()
    with Processes("cpu"):
        return time.monotonic() - begin


def test_no_process_goes_on_before_all_have_joined(tmp_path: Path) -> None:
    assert min(together(2, late, tmp_path)) >= 0.5


def refused(folder: Path, *, out: str) -> None:
    """A run on data that cannot be inputs."""
    train(folder, out=out, batch=12, data=np.full((40, 3, 1), np.inf))


def test_bad_data_end_every_process_with_a_sentence(tmp_path: Path) -> None:
    main, other = together(2, refused, tmp_path, out="run")
    assert main.startswith("DataError: ")
    assert "another process of this run has stopped" in other
    assert not (tmp_path / "run").exists()


def asked(folder: Path, *, out: str, rank: int) -> None:
    """A run of which one process is asked to stop at step 7."""

    def report(progress: Any) -> None:
        if progress.step == 7 and int(os.environ["RANK"]) == rank:
            os.kill(os.getpid(), signal.SIGTERM)

    train(folder, out=out, batch=12, progress=report)


def test_a_signal_to_one_process_saves_and_stops_all(tmp_path: Path) -> None:
    answers = together(2, asked, tmp_path, out="run", rank=1)
    for answer in answers:
        assert "InterruptedRunError: stopped at step 7 of 20" in answer
    assert (tmp_path / "run" / "checkpoints" / "step-00000007").is_dir()


def order(folder: Path, *, out: str, **keywords: Any) -> list[list[int]]:
    """Return the rows of each global batch as far as this process reads them, and train."""
    seen: list[list[int]] = []
    pieces = StepLoader.pieces

    def watched(self: StepLoader[Any], step: int, rank: int) -> Any:
        found = pieces(self, step, rank)
        seen.append([int(row) for piece in found for row in piece.positions])
        return found

    StepLoader.pieces = watched  # type: ignore[method-assign]
    try:
        small(folder / out, **keywords)
    except Cut:
        pass
    finally:
        StepLoader.pieces = pieces  # type: ignore[method-assign]
    return seen


def test_the_order_of_rows_depends_on_the_seed_alone(tmp_path: Path) -> None:
    plain = order(tmp_path, out="plain", batch_size=32, steps=9)
    assert plain[:3] != plain[3:6] != plain[6:]
    epochs = [
        sorted(row for rows in plain[first : first + 3] for row in rows) for first in (0, 3, 6)
    ]
    assert epochs[0] == epochs[1] == epochs[2]
    assert len(set(epochs[0])) == 88
    begun = order(tmp_path, out="cut", batch_size=32, steps=9, progress=cut_at(5))
    # What was read before the cut ends at the checkpoint of step 4, where reading goes on.
    rest = order(tmp_path, out="cut", batch_size=32, steps=9, resume=True)
    assert begun[:4] + rest == plain
    shares = together(2, order, tmp_path, out="two", batch_size=16, steps=9)
    joined = [sorted(a + b) for a, b in zip(*shares, strict=True)]
    assert joined == [sorted(rows) for rows in plain]


def test_loader_processes_read_the_same_order() -> None:
    dataset = open_data(strings())
    model = MaskedAutoencoder(
        build_config("tiny", dataset.input, encoder={"width": 16, "depth": 1})
    )
    rows, lengths = dataset.parts.train, dataset.lengths
    assert lengths is not None
    loader = StepLoader(
        ReconstructionObjective(dataset, model, seed=0),
        order=Order(len(rows), batch_size=32, seed=0, lengths=lengths[rows]),
        rows=rows,
        piece=16,
    )

    def read(workers: int) -> list[list[int]]:
        steps = loader.from_step(2, 9, workers=workers)
        return [[int(row) for piece in step for row in piece.positions] for step in steps]

    assert read(0) == read(2)
    assert len(read(0)) == 7


def test_gradients_of_uneven_shares_are_those_of_the_whole(tmp_path: Path) -> None:
    """The mean of a step is over all its terms: checked against one pass over all rows."""
    found = together(2, gradients, tmp_path, batch=7)
    whole = together(1, gradients, tmp_path, batch=14)[0]
    for name, gradient in found[0].items():
        np.testing.assert_allclose(gradient, whole[name], rtol=1e-9, atol=1e-12)
    assert found[0] == found[1]


def gradients(folder: Path, *, batch: int) -> dict[str, Any]:
    """Return all gradients of the first step, in float64."""
    kept: dict[str, Any] = {}
    step = torch.optim.AdamW.step

    def keep(self: torch.optim.AdamW, *more: Any) -> Any:
        if not kept:
            models = [session_model[0]]
            kept.update(
                {name: p.grad.tolist() for name, p in models[0].named_parameters()}  # type: ignore[union-attr]
            )
        return step(self, *more)

    session_model: list[MaskedAutoencoder] = []
    made = session.make_model

    def make(*given: Any) -> MaskedAutoencoder:
        session_model.append(made(*given).double())
        return session_model[0]

    session.make_model = make
    torch.optim.AdamW.step = keep  # type: ignore[method-assign]
    settings = {"training.clip": None}
    small(folder / f"gradients-{batch}", steps=1, batch_size=batch, settings=settings)
    return json.loads(json.dumps(kept))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "world"),
    [
        (["torch.distributed.run", "--nproc-per-node", "2"], 2),
        # On a CPU accelerate starts several processes through MPI only.
        (["accelerate.commands.launch", "--cpu", "--num_processes", "1"], 1),
    ],
    ids=["torchrun", "accelerate"],
)
def test_the_command_line_runs_under_a_launcher(
    tmp_path: Path, launcher: list[str], world: int
) -> None:
    (tmp_path / "data.txt").write_text("\n".join(strings()))
    command = [sys.executable, "-m", *launcher, "-m", "anymae", "pretrain"]
    flags = ["--out", str(tmp_path / "run"), "--preset", "tiny", "--steps", "4"]
    flags += ["--batch-size", "8", "--device", "cpu", "--set", "encoder.width=16"]
    done = subprocess.run(
        [*command, str(tmp_path / "data.txt"), *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["processes"] == world
    assert weights(tmp_path / "run")
