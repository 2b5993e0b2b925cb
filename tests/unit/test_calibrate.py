"""How large a batch is, how long a step takes, and what memory both are thought to need."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import runs
from anymae.config import TrainingConfig
from anymae.data.dataset import open_data
from anymae.data.sampler import Order
from anymae.errors import OutOfMemoryError
from anymae.model import MaskedAutoencoder
from anymae.training import calibrate, loop
from anymae.training.loader import StepLoader
from anymae.training.memory import weights_memory
from anymae.training.processes import Processes
from anymae.training.reconstruction import ReconstructionObjective


def test_weights_take_the_memory_of_gradients_and_two_moments_too() -> None:
    model = torch.nn.Linear(10, 10)
    model.bias.requires_grad_(False)
    assert weights_memory(model) == 4 * 4 * 100


def parts_of_a_run() -> tuple[Any, Any]:
    dataset, model = open_data(runs.strings(2000)), runs.encoder()
    return dataset, ReconstructionObjective(dataset, model, seed=0)


@pytest.mark.parametrize(("neighbours", "expected"), [(1, 64), (2, 32), (4, 16)])
def test_processes_on_a_machine_share_its_memory(
    neighbours: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, objective = parts_of_a_run()
    model, rows = runs.encoder(), np.arange(len(dataset))
    monkeypatch.setattr(calibrate, "activation_memory", lambda *_: 2_000_000)
    # Room for 100 rows of 1 MB beside the weights, when three fifths are taken.
    free = (100e6 + weights_memory(model)) / calibrate.USED_SHARE
    free += weights_memory(model) * (neighbours - 1) / calibrate.USED_SHARE
    monkeypatch.setattr(calibrate, "free_memory", lambda device: free)
    with Processes("cpu") as processes:
        processes.neighbours = neighbours
        found = calibrate.find_batch_size(
            model, objective, rows=rows, lengths=dataset.lengths, processes=processes
        )
    assert found == expected


def test_steps_that_warm_a_machine_up_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, objective = parts_of_a_run()
    clock = [0.0]
    monkeypatch.setattr(calibrate, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    class Slow(StepLoader[Any]):
        read = 0

        def __getitem__(self, step: int) -> Any:
            self.read += 1
            clock[0] += 40.0 if self.read <= calibrate.WARM_UP else 0.5
            return super().__getitem__(step)

    rows = np.arange(len(dataset))
    loader = Slow(objective, order=Order(len(rows), batch_size=8, seed=0), rows=rows, piece=8)
    with Processes("cpu") as processes:
        for limit, expected in ((1e9, 0.5), (60.0, 40.0)):
            loader.read = 0
            found = calibrate.step_seconds(
                runs.encoder(), loader, config=TrainingConfig(), processes=processes, limit=limit
            )
            assert found == expected


def test_memory_that_runs_out_before_the_first_step_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(runs.Cut):
        runs.small(tmp_path / "run", progress=runs.cut_at(6))
    with monkeypatch.context() as patch:
        patch.setattr(MaskedAutoencoder, "to", starve)
        with pytest.raises(OutOfMemoryError, match="on cpu for the weights of the model; choose"):
            runs.small(tmp_path / "run", resume=True)
    monkeypatch.setattr(loop, "load_optimizer", starve)
    with pytest.raises(OutOfMemoryError, match="32 rows of 32 inputs"):
        runs.small(tmp_path / "run", resume=True)
