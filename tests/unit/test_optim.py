"""The learning rate is a function of the step, and the optimizer's state has names."""

import pytest
import torch
from torch import nn

from anymae.config import TrainingConfig
from anymae.presets import training_config
from anymae.training.optim import (
    decay_groups,
    learning_rate,
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
    set_learning_rate,
    warmup_note,
    warmup_steps,
)


def test_the_rate_warms_up_in_a_line_and_falls_along_a_cosine() -> None:
    config = TrainingConfig(learning_rate=2.0, warmup=0.1)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    torch_rates = []
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)
    for _ in range(90):
        torch_rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10:] == pytest.approx(torch_rates)


def test_a_constant_rate_does_not_depend_on_the_number_of_steps() -> None:
    config = TrainingConfig(learning_rate=2.0, warmup=4, schedule="constant")
    assert [learning_rate(config, step, 10) for step in range(10)] == [
        learning_rate(config, step, 1000) for step in range(10)
    ]


def test_warm_up_below_one_is_a_share() -> None:
    assert warmup_steps(TrainingConfig(warmup=0.25), 80) == 20
    assert warmup_steps(TrainingConfig(warmup=12.0), 80) == 12
    assert learning_rate(TrainingConfig(warmup=0.0, learning_rate=1.0), 0, 10) == 1.0


def test_a_run_that_never_leaves_its_warm_up_is_told() -> None:
    config = training_config("paper-physics", {"steps": 300})
    note = warmup_note(config, 300)
    assert note == (
        "the warm-up of 10,000 steps is no shorter than the run of 300, in which the learning rate "
        "rises to 3e-06 and never falls; set training.warmup=0.1 to warm up in a tenth of the steps"
    )
    assert warmup_note(config, 10_000) is not None
    assert warmup_note(config, 10_001) is None
    assert warmup_note(training_config("tiny"), 1) is None


def test_vectors_do_not_decay_and_frozen_weights_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    model[0].bias.requires_grad_(False)
    config = TrainingConfig(weight_decay=0.3)
    optimizer = make_optimizer(decay_groups(model, config), config)
    found = [
        (g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in optimizer.param_groups
    ]
    assert found == [(0.3, [(3, 2)]), (0.0, [(3,), (3,)])]


def test_a_groups_scale_multiplies_the_rate() -> None:
    parameters = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    groups = [{"params": parameters[:1], "scale": 0.5}, {"params": parameters[1:]}]
    optimizer = make_optimizer(groups, TrainingConfig())
    set_learning_rate(optimizer, 3.0)
    assert [group["lr"] for group in optimizer.param_groups] == [1.5, 3.0]


def test_the_state_comes_back_to_the_bit() -> None:
    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        return model, make_optimizer(decay_groups(model, TrainingConfig()), TrainingConfig())

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        optimizer.zero_grad()
        model(torch.full((1, 3), float(number))).square().sum().backward()
        optimizer.step()

    model, optimizer = made()
    assert optimizer_tensors(optimizer, model) == {}
    for number in range(3):
        step(model, optimizer, number)
    other, restored = made()
    other.load_state_dict(model.state_dict())
    state = optimizer_tensors(optimizer, model)
    assert {"exp_avg.weight", "exp_avg_sq.bias", "step.weight"} <= state.keys()
    load_optimizer(restored, other, state)
    for number in (3, 4):
        step(model, optimizer, number)
        step(other, restored, number)
    assert torch.equal(model.weight, other.weight) and torch.equal(model.bias, other.bias)
