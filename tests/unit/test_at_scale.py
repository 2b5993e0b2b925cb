"""The computations behind `docs/scale.md`, against counts by hand and naive loops."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from anymae.data.sampler import Order, share
from anymae.model import MaskedAutoencoder
from anymae.presets import preset_config
from anymae.randomness import Draws
from at_scale import checkpoint, every_row_once, simulate
from cost_model import (
    BACKWARD,
    LINK_USE,
    LINKS,
    RUNS,
    Cost,
    Work,
    all_reduce_seconds,
    count_products,
    hours,
    spread,
    work,
)
from opening import continued
from tiny import tiny_config, tiny_inputs

COST = Cost(seconds_a_row=1e-3, seconds_a_step=1e-4, gradients=2e8)


def test_products_of_a_transformer_are_those_counted_by_hand() -> None:
    # Values of 3 channels, width 16, 2 blocks, random masks: 24 inputs, 8 hidden, 16 visible.
    config = tiny_config("values", ratio=1 / 3, kind="random")
    model, (d, n, hidden, seen) = MaskedAutoencoder(config), (16, 24, 8, 16)
    embedding = n * 3 * d
    layer = 4 * seen * d * d + 2 * seen * seen * d + 2 * seen * d * d
    decoder = (
        n * d * d  # each position is projected to a query, once
        + 2 * seen * d * d
        + 2 * hidden * seen * d
        + hidden * d * d
        + 2 * hidden * d * d
        + hidden * d * 3
    )
    forward = 2 * (embedding + 3 * layer + decoder)
    # Backward takes two products for each, but nobody asks for the gradient of the inputs.
    assert count_products(model, 1, n) == 3 * forward - 2 * embedding


@pytest.mark.parametrize("encoder", ["transformer", "perceiver"])
def test_products_are_those_that_torch_counts_in_a_real_step(encoder: str) -> None:
    config = tiny_config("bytes", encoder, ratio=0.25)
    model, inputs = MaskedAutoencoder(config), tiny_inputs(config, 3)
    # Torch's counter does not know the fused attention of a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(inputs, draws=Draws(torch.arange(3))).loss.backward()
    assert count_products(model, 3, config.input.length) == counter.get_total_flops()


def test_work_of_a_step_is_a_constant_and_a_share_for_each_row() -> None:
    config = tiny_config("values", "perceiver")
    found = work(config)
    model = MaskedAutoencoder(config)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert count_products(model, 5, 24) == found.step + 5 * found.row


def test_an_all_reduce_sends_what_a_ring_sends() -> None:
    # 3 processes: a part of a third goes round twice, once to sum and once to tell.
    sent = sum(30.0 / 3 for _ in range(2) for _ in range(3 - 1))
    assert all_reduce_seconds(30.0, 3, bandwidth=10.0) == pytest.approx(sent / (10.0 * LINK_USE))
    assert all_reduce_seconds(30.0, 1, bandwidth=10.0) == 0


def test_at_the_batch_for_a_share_the_all_reduce_takes_that_share() -> None:
    batch = COST.batch_for(0.1, 64, 1e10)
    spent = all_reduce_seconds(COST.gradients, 64, 1e10)
    step = batch * COST.seconds_a_row + COST.seconds_a_step + spent
    assert spent / step == pytest.approx(0.1)


@pytest.mark.parametrize("hidden", [0.0, BACKWARD])
def test_one_process_more_than_the_most_is_too_many(hidden: float) -> None:
    most = COST.most_processes(256, 0.9, 1e11, hidden=hidden)
    assert 1 < most < 256

    def share_of_work(processes: int) -> float:
        rows = 256 / processes * COST.seconds_a_row
        exposed = max(0, all_reduce_seconds(COST.gradients, processes, 1e11) - hidden * rows)
        return rows / (rows + COST.seconds_a_step + exposed)

    assert share_of_work(most) >= 0.9 > share_of_work(most + 1)


def test_every_process_needs_a_row() -> None:
    assert COST._replace(gradients=0.0, seconds_a_step=0.0).most_processes(8, 0.9, 1e9) == 8
    assert COST.most_processes(8, 0.9, 1.0) == 1
    assert set(spread(4, COST, 8)) == set(LINKS)


def test_hours_are_work_by_speed() -> None:
    name = "paper-language"
    found = hours(name, Work(1, row=10**9, step=0), "H100", 0.5)
    assert found == pytest.approx(RUNS[name].rows * 1e9 / (0.5 * 989.5e12) / 3600)


def test_the_simulated_order_has_every_row_once() -> None:
    assert every_row_once(1000, chunk=64)["each row once"]
    order = Order(1000, batch_size=32, seed=0)
    rows = Counter(
        int(row)
        for step in range(order.steps_per_epoch)
        for rank in range(64)
        for row in share(order.batch(step), rank=rank, world=64)
    )
    assert rows == Counter(range(1000))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory on Linux")
def test_the_simulation_runs_small() -> None:
    found = simulate(20_000, (64,))
    assert found["each row once"]
    assert found["global batch 64"]["sorted by length"]["milliseconds a step"] > 0


def test_a_checkpoint_holds_three_numbers_a_parameter(tmp_path: Path) -> None:
    found = checkpoint("paper-physics", tmp_path, rounds=1)
    parameters = sum(
        p.numel() for p in MaskedAutoencoder(preset_config("paper-physics")).parameters()
    )
    assert 12 * parameters < found["bytes"] < 12.2 * parameters
    assert found["MB a second"]["save"] > 0


def test_a_line_is_continued() -> None:
    points = [
        {
            "rows": rows,
            "own bytes": {"held": 16 * rows + 5, "most": 24 * rows},
            "CPU seconds": 1e-6 * rows,
            "bytes in the cache": 100 * rows,
            "first time": {"CPU seconds": 2e-6 * rows},
        }
        for rows in (1000, 2000, 4000)
    ]
    found = continued(points)["own bytes held"]
    assert found["a row"] == pytest.approx(16)
    assert found["at 1e+09 rows, computed"] == pytest.approx(16e9 + 5)
