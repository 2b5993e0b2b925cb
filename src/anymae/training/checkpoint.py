"""Checkpoints that are whole: staged, flushed, renamed, with a manifest of hashes.

`checkpoints/step-XXXXXXXX/` holds `model.safetensors`, `optimizer.safetensors`, `state.json` and,
written last, `manifest.json`. What does not match its manifest, or this run's model, or holds a
number that is not finite, is named and passed over for the newest good one.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from anymae.errors import AnymaeError, FolderError
from anymae.files import (
    read_json,
    read_tensors,
    remove_folder,
    remove_leftovers,
    sha256,
    write_folder,
    write_json,
    write_tensors,
)

logger = logging.getLogger(__name__)

MODEL, OPTIMIZER, STATE, MANIFEST = (
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)
_PREFIX = "step-"

Shapes = Callable[[Mapping[str, Any]], Mapping[str, torch.Size]]
"""From a checkpoint's state to the shapes that its weights must have, by name."""


class Snapshot(NamedTuple):
    """All that training needs to go on."""

    model: Mapping[str, Tensor]
    """Weights by name, on the CPU."""
    optimizer: Mapping[str, Tensor]
    """State of the optimizer, as `optimizer_tensors` names it."""
    state: Mapping[str, Any]
    """Counters and what else fits JSON; `step` is among them."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they stand, such as `RUN/checkpoints`.
        keep: Newest ones that stay, beside the best.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """Return the steps at which there is a checkpoint, whole or not, ascending."""
        names = [path.name for path in self.folder.glob(f"{_PREFIX}*") if path.is_dir()]
        numbers = [name.removeprefix(_PREFIX) for name in names]
        return sorted(int(number) for number in numbers if number.isdecimal())

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.folder / f"{_PREFIX}{step:08d}"

    def save(self, snapshot: Snapshot, *, best: int | None) -> Path:
        """Write a checkpoint, then remove those that are too old, and those of later steps.

        Args:
            snapshot: What to save.
            best: Step of the best checkpoint, which stays.

        Raises:
            FolderError: The disk is full or cannot be written; earlier checkpoints are intact.
        """
        step = snapshot.state["step"]
        path = self.path(step)
        try:
            write_checkpoint(path, snapshot)
            self._purge(step, best)
        except OSError as error:
            before = [earlier for earlier in self.steps() if earlier < step]
            last = f"the one of step {before[-1]} is intact" if before else "there is none yet"
            raise FolderError(
                f"the checkpoint of step {step} could not be written to {self.folder} "
                f"({error.strerror or error}); {last}: make room there, then go on with --resume"
            ) from error
        return path

    def newest(self, shapes: Shapes) -> Snapshot | None:
        """Read the newest good checkpoint; damaged ones are named in the log and passed over.

        Args:
            shapes: Says what shapes the weights must have.

        Returns:
            `None` where no checkpoint is good.
        """
        for step in reversed(self.steps()):
            try:
                return read_checkpoint(self.path(step), shapes)
            except AnymaeError as error:
                logger.warning("%s: %s; passed over", self.folder, error)
        return None

    def _purge(self, saved: int, best: int | None) -> None:
        remove_leftovers(self.folder)
        # Later ones were passed over, else training would have gone on from them.
        kept = [step for step in self.steps() if step <= saved][-self.keep :]
        for step in self.steps():
            if step not in kept and step != best:
                remove_folder(self.path(step))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copy a model's weights to the CPU."""
    return {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}


def write_checkpoint(path: Path, snapshot: Snapshot) -> None:
    """Write a folder that `read_checkpoint` reads, whole or not at all."""
    write_folder(path, lambda staged: _fill(staged, snapshot))


def _fill(folder: Path, snapshot: Snapshot) -> None:
    write_tensors(folder / MODEL, snapshot.model)
    write_tensors(folder / OPTIMIZER, snapshot.optimizer)
    write_json(folder / STATE, dict(snapshot.state))
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in (folder / MODEL, folder / OPTIMIZER, folder / STATE)
    }
    write_json(folder / MANIFEST, {"format_version": 1, "files": files})


def read_checkpoint(path: Path, shapes: Shapes | None = None) -> Snapshot:
    """Read a checkpoint and check all of it.

    Args:
        path: Its folder.
        shapes: Says what shapes the weights must have; `None` takes any.

    Raises:
        FolderError: It is damaged; the message says how.
    """
    name = f"checkpoint {path.name}"
    _check_files(path, name)
    try:
        model, optimizer = read_tensors(path / MODEL), read_tensors(path / OPTIMIZER)
        state = read_json(path / STATE)
        fits = {key: t.shape for key, t in model.items()} if shapes is None else shapes(state)
    except (AnymaeError, KeyError, TypeError) as error:
        raise FolderError(f"{name} is damaged: {error}") from None
    _check_shapes(model, fits, name)
    for part, tensors in (("weight", model), ("optimizer state", optimizer)):
        for key, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise FolderError(f"{name} holds numbers that are not finite, in {part} {key}")
    return Snapshot(model, optimizer, state)


def _check_files(path: Path, name: str) -> None:
    """Compare the files with the manifest."""
    if not (path / MANIFEST).exists():
        raise FolderError(f"{name} is incomplete: it has no {MANIFEST}")
    try:
        files = read_json(path / MANIFEST)["files"]
        expected = {part: (files[part]["bytes"], files[part]["sha256"]) for part in files}
    except (FolderError, KeyError, TypeError):
        raise FolderError(f"{name} is damaged: its {MANIFEST} cannot be read") from None
    for part in (MODEL, OPTIMIZER, STATE):
        if part not in expected or not (path / part).exists():
            raise FolderError(f"{name} is incomplete: it has no {part}")
        size, digest = expected[part]
        found = (path / part).stat().st_size
        if found != size:
            raise FolderError(f"{name} is damaged: {part} has {found} bytes instead of {size}")
        if sha256(path / part) != digest:
            raise FolderError(f"{name} is damaged: the content of {part} has changed")


def _check_shapes(model: Mapping[str, Tensor], fits: Mapping[str, torch.Size], name: str) -> None:
    for key in sorted(set(fits) ^ set(model)):
        problem = "lacks" if key in fits else "has an unknown"
        raise FolderError(f"{name} does not fit the model: it {problem} weight {key}")
    for key, shape in fits.items():
        if model[key].shape != shape:
            found, wanted = tuple(model[key].shape), tuple(shape)
            raise FolderError(f"{name} does not fit the model: {key} is {found}, not {wanted}")
