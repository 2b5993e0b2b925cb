"""Encoders with drawn weights, and the strings that they read."""

import numpy as np
import torch

from anymae.config import DataConfig, ModelConfig, parse
from anymae.data.dataset import open_data
from anymae.model import MaskedAutoencoder


def strings(
    count: int = 24, letters: str = "CNO", *, shortest: int = 4, longest: int = 14
) -> list[str]:
    """Random strings, the same in each call; more of them begin with the fewer."""
    random = np.random.default_rng(0)
    return [
        "".join(random.choice(list(letters), random.integers(shortest, longest + 1)))
        for _ in range(count)
    ]


def pretrained(
    data: object,
    encoder: str = "transformer",
    *,
    width: int = 16,
    depth: int = 1,
    spread: float = 0.1,
    missing: tuple[str, ...] = (),
) -> MaskedAutoencoder:
    """A model that knows how to read `data`, its weights from torch's global generator.

    `spread` is added to them: at their usual start a tiny model says the same of everything.
    """
    dataset = open_data(data, DataConfig(missing=missing))
    sizes = {"kind": encoder, "width": width, "depth": depth, "num_heads": 2}
    if encoder == "perceiver":
        sizes |= {"num_latents": 6, "input_width": width // 2}
    config = parse(ModelConfig, {"input": dataset.input.model_dump(), "encoder": sizes})
    model = MaskedAutoencoder(config)
    for parameter in model.parameters():
        parameter.data += spread * torch.randn(parameter.shape)
    model.data = dataset.preparation.to_json()
    return model.eval()
