"""One vector for each row from what the encoder made of it.

`query` is the published fine-tuning head: one learned query reads the encoder's output. `mean`
averages it, over valid latents only. `layers` takes the mean and the standard deviation over
positions after every layer: lower layers often say more about a task than the last one, which is
bent towards reconstruction. `kernel` averages random cosines of the latents of every layer, which
tell apart rows whose latents differ in more than mean and deviation: which input stands where.

Shapes: B rows, M latents, D width, L layers, K cosines of a layer, F features.
"""

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from anymae.config import EncoderConfig
from anymae.errors import ConfigError
from anymae.nn.attention import ReadLayer, key_bias
from anymae.nn.encoder import Encoded, last
from anymae.randomness import Draws, Purpose, row_keys
from anymae.registry import Registry
from anymae.task import ReadoutConfig

READOUTS: Registry[type[nn.Module]] = Registry("readout")

COSINES = 4096
"""Random cosines of all layers together, whatever the encoder's size."""


@READOUTS.register("query")
class QueryReadout(nn.Module):
    """A learned query reads the normed latents; LayerNorm (epsilon 1e-12) follows.

    Raises:
        ConfigError: Its heads cannot share a width evenly.
    """

    def __init__(self, config: ReadoutConfig, encoder: EncoderConfig) -> None:
        super().__init__()
        width = config.width or encoder.width
        for name, size in (("width", width), ("qk_width", config.qk_width or width)):
            if size % config.num_heads:
                raise ConfigError(
                    f"readout.{name} {size} is no multiple of readout.num_heads {config.num_heads}"
                )
        self.num_features = width
        self.query = nn.Parameter(torch.empty(1, width))
        self.latent_norm = nn.LayerNorm(encoder.width)
        self.layer = ReadLayer(
            width=width,
            context_width=encoder.width,
            qk_width=config.qk_width or width,
            value_width=width,
            num_heads=config.num_heads,
            mlp_ratio=1.0,
            dropout=encoder.dropout,
            attention_dropout=encoder.attention_dropout,
        )
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, layers: Iterable[Encoded]) -> Tensor:
        """Return `(B, width)`."""
        latents, valid = last(layers)
        x = self.query.expand(latents.shape[0], -1, -1)
        q = self.layer.queries(self.query).expand(latents.shape[0], -1, -1)
        read = self.layer(x, q, self.latent_norm(latents), key_bias(valid, latents.dtype))
        out: Tensor = self.norm(read).squeeze(1)
        return out


@READOUTS.register("mean")
class MeanReadout(nn.Module):
    """The mean over valid latents, standardised once a probe has said by what."""

    shift: Tensor
    scale: Tensor

    def __init__(self, config: ReadoutConfig, encoder: EncoderConfig) -> None:
        super().__init__()
        self.num_features = self.count(encoder)
        self.register_buffer("shift", torch.zeros(self.num_features))
        self.register_buffer("scale", torch.ones(self.num_features))

    def count(self, encoder: EncoderConfig) -> int:
        """Return the number of features for an encoder."""
        return encoder.width

    def raw(self, layers: Iterable[Encoded]) -> Tensor:
        """Return the features as they are, `(B, F)`."""
        return mean_pool(last(layers))

    def forward(self, layers: Iterable[Encoded]) -> Tensor:
        """Return `(B, F)`, standardised."""
        return (self.raw(layers) - self.shift) / self.scale


@READOUTS.register("layers")
class LayersReadout(MeanReadout):
    """Mean and standard deviation over valid latents, of every layer."""

    def count(self, encoder: EncoderConfig) -> int:
        """Return the number of features for an encoder: `2 (depth + 1)` vectors."""
        return 2 * (encoder.depth + 1) * encoder.width

    def raw(self, layers: Iterable[Encoded]) -> Tensor:
        """Return the features as they are, `(B, F)`."""
        return layer_statistics(layers)


@READOUTS.register("kernel")
class KernelReadout(MeanReadout):
    """Random cosines of the normed latents of every layer, averaged over the valid ones.

    The mean over latents h of `cos(w . h + b)`, w normal and b uniform, approximates the kernel
    mean of a row (the embedding of a distribution: Smola et al. 2007) under the kernel
    `exp(-|h - h'|^2 / (2 D))`, by random Fourier features (Rahimi and Recht 2007). A linear model
    on it is one on the latents as a set. The draws are those of every encoder of these sizes.
    """

    weight: Tensor
    offset: Tensor

    def __init__(self, config: ReadoutConfig, encoder: EncoderConfig) -> None:
        super().__init__(config, encoder)
        weight, offset = _draw_cosines(encoder.depth + 1, encoder.width)
        self.register_buffer("weight", weight)
        self.register_buffer("offset", offset)

    def count(self, encoder: EncoderConfig) -> int:
        """Return the number of features for an encoder: `COSINES`, or just below."""
        return (encoder.depth + 1) * (COSINES // (encoder.depth + 1))

    def raw(self, layers: Iterable[Encoded]) -> Tensor:
        """Return the features as they are, `(B, F)`."""
        parts = []
        for (latents, valid), weight, offset in zip(layers, self.weight, self.offset, strict=True):
            # A model in half precision is read in that of the directions.
            normed = functional.layer_norm(latents.to(weight.dtype), latents.shape[-1:])
            parts.append(mean_pool(Encoded(torch.cos(normed @ weight + offset), valid)))
        return torch.cat(parts, -1)


Readout = QueryReadout | MeanReadout


def make_readout(config: ReadoutConfig, encoder: EncoderConfig) -> Readout:
    """Build the readout that `config.kind` names, for an encoder of these sizes.

    Returns:
        A module with `num_features`.
    """
    return cast("Readout", READOUTS[config.kind](config, encoder))


def _draw_cosines(num_layers: int, width: int) -> tuple[Tensor, Tensor]:
    """Return directions `(L, D, K)`, normal of variance 1 / D, and offsets `(L, K)` of a circle."""
    rows = num_layers * (width + 1)
    draws = Draws(row_keys(torch.arange(rows), seed=0))
    uniform = draws.uniform(Purpose.COSINE, COSINES // num_layers).double()
    uniform = uniform.view(num_layers, width + 1, -1)
    normal = math.sqrt(2 / width) * torch.erfinv(2 * uniform[:, :-1] - 1)
    return normal.float(), (2 * math.pi * uniform[:, -1]).float()


def mean_pool(encoded: Encoded) -> Tensor:
    """Average the valid latents of each row, `(B, D)`."""
    latents, valid = encoded
    if valid is None:
        return latents.mean(1)
    kept = latents.masked_fill(~valid[:, :, None], 0)
    # Half precision holds neither the sum of many latents nor their number.
    exact = torch.promote_types(latents.dtype, torch.float32)
    mean = kept.sum(1, dtype=exact) / valid.sum(1, keepdim=True).clamp(min=1)
    return mean.to(latents.dtype)


def layer_statistics(layers: Iterable[Encoded]) -> Tensor:
    """Describe every layer by the mean and standard deviation over its valid latents.

    Returns:
        `(B, L * 2 * D)`: the first layer's mean, its deviation, the second layer's mean ...
    """
    parts = []
    for latents, valid in layers:
        mean = mean_pool(Encoded(latents, valid))
        square = mean_pool(Encoded((latents - mean[:, None]).square(), valid))
        # The small number keeps the gradient finite where all positions agree.
        parts += [mean, (square + 1e-6).sqrt()]
    return torch.cat(parts, -1)
