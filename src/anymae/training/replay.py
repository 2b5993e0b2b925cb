"""Compute again the step that was captured because it was not finite.

Shapes: B rows, N inputs.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anymae.config import ModelConfig, parse
from anymae.data.batch import Batch
from anymae.data.dataset import Dataset, open_data
from anymae.data.preparation import Preparation
from anymae.errors import DataError, FolderError
from anymae.files import read_json, read_metadata, read_tensors
from anymae.hub import DATA, read_config
from anymae.model import MaskedAutoencoder, Reconstruction
from anymae.randomness import Draws, row_keys
from anymae.recipes import load_recipe
from anymae.training.determinism import reproducible
from anymae.training.folder import RECIPE
from anymae.training.reconstruction import ReconstructionObjective
from anymae.training.step import seed_dropout


@dataclass(frozen=True)
class Replay:
    """What a captured step came to when it was computed again."""

    step: int
    loss: float
    """Mean over all hidden inputs of the step."""
    grad_norm: float
    bad_rows: tuple[int, ...]
    """Row numbers in the source whose loss is not finite; empty if only the gradient is bad."""
    captured_loss: float
    captured_grad_norm: float


def replay(capture: str | Path, data: object = None) -> Replay:
    """Compute a captured step again, on the CPU.

    Args:
        capture: The file that a run with a bad step left in its folder.
        data: The run's data, needed where the capture holds no examples; `None` takes the path
            in `run.yaml`.

    Raises:
        FolderError: The file is no capture, or the run's files are not beside it.
        DataError: There are no examples in it, and no data are named.
    """
    capture = Path(capture)
    if not capture.is_file():
        raise FolderError(f"{capture} is no file; name a nonfinite-step file of a run")
    tensors, metadata = read_tensors(capture), read_metadata(capture)
    if "capture" not in metadata:
        raise FolderError(f"{capture} is no capture of a step; name a nonfinite-step file of a run")
    facts = json.loads(metadata["capture"])
    config = parse(ModelConfig, read_config(capture.parent), where=str(capture.parent))
    with reproducible(torch.device("cpu"), threads=None):
        model = MaskedAutoencoder(config).train()
        model.load_state_dict(_part(tensors, "model"))
        dataset = None
        if "pass-0.inputs" not in tensors:
            dataset = _open(capture.parent, data)
        return _compute(model, tensors, facts, dataset)


def _compute(
    model: MaskedAutoencoder,
    tensors: dict[str, Tensor],
    facts: dict[str, Any],
    dataset: Dataset | None,
) -> Replay:
    total, loss, bad = facts["terms"] or 1.0, 0.0, []
    for number, each in enumerate(facts["passes"]):
        part = _part(tensors, f"pass-{number}")
        batch = _batch(part, model, facts, dataset)
        seed_dropout(facts["seed"], facts["step"], rank=each["rank"], piece=each["piece"])
        with torch.autocast("cpu", torch.bfloat16, enabled=facts["precision"] == "bf16"):
            made = _reconstruct(model, batch, part["masked"], facts)
        (made.loss_sum * (each["weight"] / total)).backward()
        loss += float(made.loss_sum.detach()) * each["weight"] / total
        bad += batch.rows[~made.losses.isfinite().all(1)].tolist()
    norm = nn.utils.get_total_norm(p.grad for p in model.parameters() if p.grad is not None)
    return Replay(
        step=facts["step"],
        loss=loss,
        grad_norm=float(norm),
        bad_rows=tuple(bad),
        captured_loss=float(facts["loss"]),
        captured_grad_norm=float(facts["grad_norm"]),
    )


def _reconstruct(
    model: MaskedAutoencoder, batch: Batch, masked: Tensor, facts: dict[str, Any]
) -> Reconstruction:
    """Reconstruct under the captured mask, in the shapes of training, on which dropout depends."""
    draws = Draws(row_keys(batch.rows, seed=facts["seed"], epoch=facts["epoch"]))
    progress = facts["step"] / facts["steps"]
    made: Reconstruction = model(batch.inputs, valid=batch.valid, draws=draws, progress=progress)
    if not torch.equal(made.masked, masked):
        # Attention computed elsewhere may rank two inputs the other way round.
        made = model(batch.inputs, valid=batch.valid, masked=masked)
    return made


def _batch(
    part: dict[str, Tensor],
    model: MaskedAutoencoder,
    facts: dict[str, Any],
    dataset: Dataset | None,
) -> Batch:
    if dataset is None:
        return Batch(part["inputs"], part.get("valid"), part["rows"])
    objective = ReconstructionObjective(dataset, model, seed=facts["seed"])
    return objective.load(part["positions"].numpy(), facts["epoch"])


def _open(folder: Path, data: object) -> Dataset:
    recipe = load_recipe(folder / RECIPE)
    data = data if data is not None else recipe.data.path
    if data is None:
        raise DataError("the capture holds no examples and the run names no file; give the data")
    stored = Preparation.from_json(read_json(folder / DATA))
    seed = recipe.training.get("seed", 0)
    return open_data(data, recipe.data, preparation=stored, seed=seed)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    prefix += "."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
