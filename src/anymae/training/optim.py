"""AdamW, its learning rate as a function of the step, and its state as named tensors."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anymae.config import TrainingConfig
from anymae.predictor import Predictor

Groups = list[dict[str, Any]]


def make_optimizer(groups: Groups, config: TrainingConfig) -> torch.optim.AdamW:
    """Build AdamW; groups may carry an own `weight_decay` and a `scale` of the learning rate.

    >>> groups = decay_groups(nn.Linear(2, 2), config := TrainingConfig(weight_decay=0.1))
    >>> [group["weight_decay"] for group in make_optimizer(groups, config).param_groups]
    [0.1, 0.0]
    """
    parameters = [p for group in groups for p in group["params"]]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(0.9, config.beta2),
        weight_decay=config.weight_decay,
        fused=fused,
    )


def decay_groups(model: nn.Module, config: TrainingConfig) -> Groups:
    """Split a model's trainable parameters: matrices and tables decay, vectors do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.dim() >= 2]
    vectors = [p for p in trained if p.dim() < 2]
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def layer_groups(predictor: Predictor, *, decay: float, training: TrainingConfig) -> Groups:
    """Group parameters by layer: the head learns at the full rate, each layer below more slowly.

    The embedding is the lowest layer, the first attention the next, then the blocks.

    Args:
        predictor: The network.
        decay: Rate of a layer as a multiple of that above it.
        training: Weight decay of matrices.
    """
    top = predictor.config.encoder.depth + 2
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in predictor.named_parameters():
        groups.setdefault((_layer_of(name, top), parameter.dim() >= 2), []).append(parameter)
    return [
        {
            "params": parameters,
            "scale": decay ** (top - layer),
            "weight_decay": training.weight_decay if is_matrix else 0.0,
        }
        for (layer, is_matrix), parameters in groups.items()
    ]


def _layer_of(name: str, top: int) -> int:
    part, _, rest = name.partition(".")
    if part == "embedding":
        return 0
    if part != "encoder":
        return top
    return 2 + int(rest.split(".")[1]) if rest.startswith("blocks.") else 1


def warmup_steps(config: TrainingConfig, steps: int) -> int:
    """Return the steps of warm-up; below 1 the setting is a share of all steps."""
    return round(config.warmup * steps if config.warmup < 1 else config.warmup)


def warmup_note(config: TrainingConfig, steps: int) -> str | None:
    """Say that a run of `steps` never leaves its warm-up, where that is so.

    >>> warmup_note(TrainingConfig(warmup=0.1), 300) is None
    True
    """
    warm = warmup_steps(config, steps)
    if warm < steps:
        return None
    return (
        f"the warm-up of {warm:,} steps is no shorter than the run of {steps:,}, in which the "
        f"learning rate rises to {learning_rate(config, steps - 1, steps):.3g} and never falls; "
        "set training.warmup=0.1 to warm up in a tenth of the steps"
    )


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """Return the learning rate of step number `step`, counted from 0.

    Rises in a line to its peak over the warm-up, then falls along half a cosine to 0 at `steps`
    (`schedule: cosine`) or stays (`constant`).

    >>> config = TrainingConfig(learning_rate=1.0, warmup=2)
    >>> [round(learning_rate(config, step, 6), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    warm = warmup_steps(config, steps)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    if config.schedule == "constant":
        return config.learning_rate
    share = (step - warm) / max(1, steps - warm)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step; a group's `scale` multiplies it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state, named `moment.parameter`; empty before the first step."""
    return {
        f"{key}.{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Give an optimizer the state that `optimizer_tensors` returned."""
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        key, _, parameter_name = name.partition(".")
        parameter = parameters[parameter_name]
        optimizer.state[parameter][key] = tensor.to(parameter.device, copy=True)
