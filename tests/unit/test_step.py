"""What one optimizer step does: the passes of it, the clipping, the rate."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from anymae.config import DataConfig, TrainingConfig
from anymae.data.dataset import open_data
from anymae.training.loader import Piece
from anymae.training.objective import Counters
from anymae.training.optim import decay_groups, learning_rate, make_optimizer
from anymae.training.processes import Processes
from anymae.training.settle import make_loader
from anymae.training.step import Stepper


@pytest.mark.parametrize(("clip", "length"), [(0.5, 0.5), (None, 100.0)])
def test_a_gradient_is_clipped_to_the_norm_that_is_asked_for(
    clip: float | None, length: float
) -> None:
    model = nn.Linear(1, 1, bias=False)
    objective: Any = SimpleNamespace(loss_sum=lambda model, batch, counters: model(batch).sum())
    config = TrainingConfig(clip=clip, precision="fp32")
    with Processes("cpu") as processes:
        stepper: Stepper[Any] = Stepper(
            model, objective, make_optimizer(decay_groups(model, config), config),
            config=config, processes=processes,
        )  # fmt: skip
        piece = Piece(torch.full((1, 1), 100.0), np.arange(1), 1.0)
        result = stepper.compute([piece], Counters(0, 10, 0), 1.0)
    assert result.grad_norm == pytest.approx(100)
    assert float(model.weight.grad.norm()) == pytest.approx(length, rel=1e-4)  # type: ignore[union-attr]


def test_a_step_is_taken_at_the_rate_of_its_number() -> None:
    model = nn.Linear(1, 1)
    config = TrainingConfig(learning_rate=1.0, warmup=4, precision="fp32")
    optimizer = make_optimizer(decay_groups(model, config), config)
    with Processes("cpu") as processes:
        stepper: Stepper[Any] = Stepper(
            model,
            None,
            optimizer,
            config=config,
            processes=processes,  # type: ignore[arg-type]
        )
        rates = [stepper.apply(Counters(step, 10, 0)) for step in (0, 3, 7)]
    assert rates == [learning_rate(config, step, 10) for step in (0, 3, 7)]
    assert optimizer.param_groups[0]["lr"] == rates[-1]


def test_passes_and_steps_drop_other_units_and_beta2_is_that_of_the_config() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 1))
    config = TrainingConfig(beta2=0.9, clip=None, precision="fp32")
    optimizer = make_optimizer(decay_groups(model, config), config)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.9)}
    dropped = []
    model[0].register_forward_hook(lambda module, args, out: dropped.append(out == 0))
    objective: Any = SimpleNamespace(loss_sum=lambda model, batch, counters: model(batch).sum())
    with Processes("cpu") as processes:
        stepper: Stepper[Any] = Stepper(
            model, objective, optimizer, config=config, processes=processes
        )
        pieces = [Piece(torch.ones(1, 64), np.arange(1), 1.0) for _ in range(2)]
        for step in (0, 0, 1):
            stepper.compute(pieces, Counters(step, 10, 0), 2.0)
    assert torch.equal(dropped[0], dropped[2]) and torch.equal(dropped[1], dropped[3])
    assert len({tuple(one.flatten().tolist()) for one in (*dropped[:2], *dropped[4:])}) == 4


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("accumulate", [1, 2, 4, 8])
def test_packed_strings_take_no_more_passes_than_are_asked_for(accumulate: int, world: int) -> None:
    sizes = np.random.default_rng(0).integers(20, 60, 600)
    dataset = open_data(["C" * size for size in sizes], DataConfig(pack=True))
    assert dataset.strings_per_row % 1
    job: Any = SimpleNamespace(dataset=dataset, training=TrainingConfig())
    objective: Any = SimpleNamespace(load=lambda index, epoch: None)
    for batch in (1, 2, 3, 4):
        settled: Any = SimpleNamespace(batch_size=batch, global_batch=batch * accumulate * world)
        processes: Any = SimpleNamespace(rank=0, world=world)
        loader = make_loader(job, settled, objective, processes)
        passes = [loader.pieces(0, rank) for rank in range(world)]
        assert max(map(len, passes)) <= accumulate
        rows = np.concatenate([piece.positions for pieces in passes for piece in pieces])
        assert sorted(rows) == sorted(loader.index(0))
        assert loader.piece <= batch * dataset.strings_per_row + 1.5
