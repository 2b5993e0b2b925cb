"""Read a published checkpoint from disk and leave it as a run folder.

A checkpoint is `model.safetensors` or `pytorch_model.bin`. The latter is a pickle, read with
`weights_only=True`, which builds tensors and runs no code; nothing else here reads one.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from anymae.compat.published import convert
from anymae.errors import DataError, FolderError, first_line
from anymae.hub import save
from anymae.model import MaskedAutoencoder

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names under which a checkpoint's folder holds its weights."""


def convert_checkpoint(
    checkpoint: str | Path, *, out: str | Path, config: str | Path | None = None
) -> MaskedAutoencoder:
    """Turn a published checkpoint into a run folder without `data.json`.

    Args:
        checkpoint: The weights, or the folder that holds them.
        out: The run folder to write.
        config: The checkpoint's `config.json`; `None` takes the one beside the weights.

    Returns:
        The model, in evaluation mode.

    Raises:
        FolderError: A file is missing, or `out` holds something already.
        DataError: A file cannot be read.
        ConfigError: The configuration asks for something that the architecture does not have.
        UserInputError: A tensor is missing or has another shape.
    """
    weights = _find_weights(Path(checkpoint))
    settings = Path(config) if config is not None else weights.parent / "config.json"
    model = convert(_read_settings(settings), read_weights(weights))
    save(model, out)
    return model


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint file, onto the CPU.

    Raises:
        DataError: It is damaged, or holds something other than tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the readers raise on a damaged file
        raise DataError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {first_line(error)}); "
            "expected .safetensors, or a .bin that holds tensors alone"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise DataError(f"{path} holds no tensors by name; expected the weights of a model")
    return state


def _find_weights(checkpoint: Path) -> Path:
    if checkpoint.is_dir():
        for name in WEIGHT_FILES:
            if (checkpoint / name).is_file():
                return checkpoint / name
        raise FolderError(
            f"{checkpoint} holds neither {WEIGHT_FILES[0]} nor {WEIGHT_FILES[1]}; name the file"
        )
    if not checkpoint.is_file():
        raise FolderError(f"there is no {checkpoint}; expected a checkpoint file or its folder")
    return checkpoint


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FolderError(f"there is no {path}; name the checkpoint's config.json with --config")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is no JSON ({error}); expected the checkpoint's config") from None
    if not isinstance(settings, dict):
        raise DataError(f"{path} holds no JSON object; expected the checkpoint's config")
    return settings
