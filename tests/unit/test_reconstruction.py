"""What training hands to the masks: how far it has come, and each row's key."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import runs
from anymae.config import DataConfig
from anymae.data.batch import Batch
from anymae.data.dataset import open_data
from anymae.randomness import row_keys
from anymae.training.objective import Counters
from anymae.training.reconstruction import ReconstructionObjective

LOSS_SUM = ReconstructionObjective.loss_sum


class Spy(nn.Module):
    """Passes a batch on, and keeps what came with it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seen: list[dict[str, Any]] = []

    def forward(self, inputs: Tensor, **keywords: Any) -> Any:
        self.seen.append({"inputs": inputs, **keywords})
        return self.model(inputs, **keywords)


def test_masks_are_told_how_far_training_has_come_and_draw_by_seed_epoch_and_row() -> None:
    # Every second row is left out, so that a row's place is not its number.
    data = {"x": runs.strings(20), "use": [row % 2 == 1 for row in range(20)]}
    config = DataConfig(where="use")
    dataset, model = open_data(data, config), runs.encoder()
    objective, spy = ReconstructionObjective(dataset, model, seed=3), Spy(model)
    batch = objective.load(np.arange(4), 2)
    assert batch.rows.tolist() == [1, 3, 5, 7]
    counters = Counters(step=30, steps=120, epoch=2)
    loss = objective.loss_sum(spy, batch, counters)
    (seen,) = spy.seen
    assert seen["progress"] == 0.25
    assert torch.equal(seen["draws"].keys, row_keys(batch.rows, seed=3, epoch=2))
    assert seen["inputs"] is batch.inputs and seen["valid"] is batch.valid
    # What is counted before the forward pass, and what is captured, is what was hidden.
    made = model(batch.inputs, valid=batch.valid, progress=0.25, draws=seen["draws"])
    assert objective.count(batch, counters) == made.count
    assert torch.equal(objective.capture(model, batch, counters)["masked"], made.masked)
    assert loss == made.loss_sum


def test_a_run_counts_its_steps_and_passes_and_masks_by_its_own_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Counters] = []

    def loss_sum(
        self: ReconstructionObjective, model: nn.Module, batch: Batch, counters: Counters
    ) -> Tensor:
        assert self.seed == 5
        seen.append(counters)
        return LOSS_SUM(self, model, batch, counters)

    monkeypatch.setattr(ReconstructionObjective, "loss_sum", loss_sum)
    settings = {"training.validate_every": 100}
    runs.small(tmp_path / "run", seed=5, settings=settings)
    steps = [(counters.step, counters.steps, counters.epoch) for counters in seen]
    assert steps == [(step, 12, step // 3) for step in range(12)]


def test_long_rows_show_another_window_in_each_epoch_and_with_each_seed() -> None:
    dataset = open_data(["".join(map(chr, range(33, 123)))] * 8, DataConfig(length=16))
    windows = [
        ReconstructionObjective(dataset, runs.encoder(), seed=seed).load(np.arange(8), epoch).inputs
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert torch.equal(windows[0], windows[1])
    assert not torch.equal(windows[0], windows[2]) and not torch.equal(windows[0], windows[3])
