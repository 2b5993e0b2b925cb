"""Tiny models and inputs for them, for any input kind and encoder."""

import torch

from anymae.config import ModelConfig, parse


def tiny_config(
    content: str = "bytes", encoder: str = "transformer", *, length: int = 24, **masking: object
) -> ModelConfig:
    """A model of a few thousand weights, for any input kind and encoder."""
    inputs: dict[str, object] = {"kind": content, "length": length}
    if content in ("values", "image"):
        inputs["channels"] = 3
    if content == "image":
        inputs["grid"] = (4, length // 4)
    if content == "table":
        inputs["categories"] = tuple((0, 3, 5)[i % 3] for i in range(length))
    sizes: dict[str, object] = {"kind": encoder, "width": 16, "depth": 2, "num_heads": 2}
    if encoder == "perceiver":
        sizes |= {"num_latents": 6, "input_width": 8}
    return parse(ModelConfig, {"input": inputs, "encoder": sizes, "masking": masking})


def tiny_inputs(config: ModelConfig, batch: int, length: int | None = None) -> torch.Tensor:
    """Random inputs for a config, from torch's global generator."""
    length = length or config.input.length
    match config.input.kind:
        case "bytes":
            return torch.randint(6, 262, (batch, length))
        case "table":
            counts = torch.tensor(config.input.categories)[:length]
            codes = (torch.rand(batch, length) * counts).floor()
            return torch.where(counts > 0, codes, torch.randn(batch, length))[:, :, None]
        case _:
            return torch.randn(batch, length, config.input.channels)
