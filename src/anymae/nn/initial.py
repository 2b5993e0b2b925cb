"""What weights are before the first step (`docs/method.md`, "Initial weights").

Shapes: N inputs, E size of a position vector.
"""

import math

import torch
from torch import Tensor, nn

from anymae.config import InputConfig, ModelConfig

STD = 0.02
"""Standard deviation of published initial weights, and of what a position vector holds."""

GAIN = 0.7
"""Of scaled weights: their standard deviation times the square root of what each output sums."""

SHORTEST_WAVE = 3.0
"""In positions: the fastest wave still tells neighbours apart."""


def initialise(module: nn.Module, config: ModelConfig) -> None:
    """Draw weights, as `encoder.initial` says.

    `published`: N(0, 0.02), biases 0, norms 1 and 0; but of sets, which no published model reads,
    the embedding's bias is drawn too: without a position to add to, the LayerNorm that follows
    would leave nothing of an input but its direction. `scaled`: so as well, but the matrices of
    encoder and decoder grow as a layer gets narrower, and positions that have an order begin as
    waves, so that near ones are alike. Uses torch's global generator, in the order of the module's
    parameters.
    """
    norms = {
        id(parameter)
        for part in module.modules()
        if isinstance(part, nn.LayerNorm)
        for parameter in part.parameters()
    }
    is_set = config.input.positions == "none"
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if id(parameter) in norms:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            elif name.endswith("bias") and not (is_set and name == "embedding.content.bias"):
                parameter.zero_()
            else:
                parameter.normal_(std=STD)
        if config.encoder.initial == "scaled":
            _scale(module, config.input)


def _scale(module: nn.Module, config: InputConfig) -> None:
    """Scale the matrices of encoder and decoder; content and outputs stay small."""
    for name, part in module.named_children():
        for layer in part.modules() if name in ("encoder", "decoder") else ():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(GAIN / (STD * math.sqrt(layer.in_features)))
    for name, parameter in module.named_parameters():
        if name.endswith("positions") and config.kind != "table" and config.positions == "learned":
            parameter.copy_(waves(config, parameter.shape[1]))


def waves(config: InputConfig, width: int) -> Tensor:
    """Return a vector for each position, `(N, width)`, near positions alike.

    Sines and cosines with wavelengths from 3 positions to twice the row, as in "Attention is all
    you need" (2017), at the size of published position vectors. Pixels have one half for their row
    and one for their column.

    >>> table = waves(InputConfig(kind="bytes", length=16), 8)
    >>> near, far = (table[4] @ table[5]).item(), (table[4] @ table[12]).item()
    >>> near > far
    True
    """
    if config.grid is None:
        return _waves(torch.arange(config.length), config.length, width)
    rows, columns = config.grid
    place = torch.arange(config.length)
    half = width // 2
    return torch.cat(
        [_waves(place // columns, rows, half), _waves(place % columns, columns, width - half)], 1
    )


def _waves(place: Tensor, count: int, width: int) -> Tensor:
    """Return `(N, width)` for places below `count`."""
    number = -(-width // 2)
    longest = max(2.0 * count, SHORTEST_WAVE)
    length = torch.logspace(math.log10(SHORTEST_WAVE), math.log10(longest), number)
    phase = 2 * math.pi * place[:, None] / length
    return STD * math.sqrt(2) * torch.cat([phase.sin(), phase.cos()], 1)[:, :width]
