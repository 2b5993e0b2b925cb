"""What many tests share: tiny models, and real data where they are at hand."""

import os
from pathlib import Path

import pytest
import torch

from anymae.config import ModelConfig, parse


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data, or a skip that says what is missing."""
    folder = os.environ.get("ANYMAE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ANYMAE_DATA names no folder with the real data")
    return Path(folder)


@pytest.fixture(scope="session")
def golden_folder(data_folder: Path) -> Path:
    """Reference tensors beside the real data, or a skip that says what is missing."""
    folder = data_folder.parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"{folder} with the reference tensors is not there")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["ANYMAE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _seed_torch() -> None:
    torch.manual_seed(0)


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
