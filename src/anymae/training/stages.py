"""The trainings of a fine-tuning, one after another: what one has left is not computed again.

`MODEL/trainings/` holds `asked.json`, which says of what they are part, and a folder for each of
them (the head, then each learning rate, seed by seed): checkpoints while it runs, `left/` once it
is over.
"""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anymae.errors import AnymaeError, ConfigError, FolderError
from anymae.files import read_json, remove_folder, told, write_folder, write_json
from anymae.training.checkpoint import Checkpoints, Snapshot, read_checkpoint, write_checkpoint
from anymae.training.log import GO_ON
from anymae.training.processes import Processes
from anymae.training.resolve import differing, few

logger = logging.getLogger(__name__)

TRAININGS, ASKED, LEFT = "trainings", "asked.json", "left"
HASHES = {
    "encoder": "the model to start from is another one",
    "rows": "rows, labels or their split differ",
}
"""What is compared as a whole, and how it is told."""
OPEN = ("learning_rates", "seeds")
"""What may differ: each training belongs to one rate and seed."""

Looks = list[tuple[int, float]]


class Left(NamedTuple):
    """What a training leaves."""

    weights: Mapping[str, Tensor]
    """Of the best look, on the CPU."""
    step: int
    """The last one that was taken."""
    looks: Looks
    """Step and validation loss, NaN where it is no number."""


class Stages:
    """The trainings of one fine-tuning in a folder.

    Nothing is written, and nothing of an earlier fine-tuning removed, before one of them starts.

    Args:
        folder: Where, such as `MODEL/trainings`.
        identity: Plain values that must be the same to go on, but for those of `OPEN`; `threads`
            are taken from what is there where they are `None`.
        processes: This process among the others.
        resume: Whether to go on with what is there.

    Raises:
        ConfigError: What is there is part of another fine-tuning.
        FolderError: It is damaged so that this cannot be told.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], processes: Processes, *, resume: bool
    ) -> None:
        self.folder, self.processes = folder, processes
        self.goes_on = resume and is_begun(folder)
        """True where an earlier part left something."""
        before = _read_asked(folder) if self.goes_on else {"threads": torch.get_num_threads()}
        self.identity = {**identity, "threads": identity["threads"] or before["threads"]}
        """What must be the same to go on, CPU threads among it."""
        if self.goes_on:
            refuse_another(before, self.identity, f"the fine-tuning in {folder.parent}", OPEN)

    def begin(self) -> None:
        """Make the folder that of this fine-tuning; again and again has no effect."""
        self.processes.wait()
        if not self.goes_on and self.processes.is_main:
            with told(self.folder, GO_ON):
                about = {"format_version": 1, "identity": self.identity}
                write_folder(self.folder, lambda staged: write_json(staged / ASKED, about))
        self.goes_on = True
        self.processes.wait()


class Stage:
    """The place of one training.

    Args:
        stages: Of which it is one.
        name: Its name.
        sizes: Shapes of its weights, by name.
        keep: Newest checkpoints that stay, beside the best.
    """

    def __init__(
        self, stages: Stages, name: str, sizes: Mapping[str, torch.Size], *, keep: int
    ) -> None:
        self._stages, self._sizes, self._processes = stages, sizes, stages.processes
        self.folder = stages.folder / name
        self.store = Checkpoints(self.folder, keep=keep)

    def left(self) -> Left | None:
        """Return what the training left, if it is over; `None` also where that is damaged."""
        if not self._stages.goes_on or not (self.folder / LEFT).is_dir():
            return None
        try:
            found = read_checkpoint(self.folder / LEFT, lambda _: self._sizes)
        except AnymaeError as error:
            logger.warning("%s: %s; this training is repeated", self.folder, error)
            return None
        return Left(found.model, found.state["step"], known_looks(found.state["looks"]))

    def start(self) -> Snapshot | None:
        """Find where to go on; `None` begins anew, in an empty folder."""
        self._stages.begin()
        found = self.store.newest(lambda _: self._sizes)
        if found is not None and not self._has_best(found):
            found = None
        self._processes.wait()
        if found is None and self._processes.is_main:
            with told(self.folder, GO_ON):
                remove_folder(self.folder)
                self.folder.mkdir()
        self._processes.wait()
        return found

    def best(self, step: int) -> Mapping[str, Tensor]:
        """Read the weights of the best look from its checkpoint."""
        return read_checkpoint(self.store.path(step)).model

    def keep(self, left: Left) -> None:
        """Write what the training left; its checkpoints go."""
        self._stages.begin()
        if self._processes.is_main:
            state = {"step": left.step, "looks": plain_looks(left.looks)}
            with told(self.folder, GO_ON):
                write_checkpoint(self.folder / LEFT, Snapshot(left.weights, {}, state))
                for step in self.store.steps():
                    remove_folder(self.store.path(step))
        self._processes.wait()

    def _has_best(self, found: Snapshot) -> bool:
        """Say whether the best weights so far can be had too."""
        best = found.state["best_step"]
        if best is None:
            return True
        try:
            read_checkpoint(self.store.path(best), lambda _: self._sizes)
        except AnymaeError as error:
            logger.warning("%s: %s; this training starts over", self.folder, error)
            return False
        return True


def refuse_another(
    before: Mapping[str, Any], now: Mapping[str, Any], what: str, skipped: Collection[str] = ()
) -> None:
    """Refuse to go on with something that was asked for otherwise.

    Args:
        before: Plain values that say what it is.
        now: What is asked for.
        what: Names it.
        skipped: Names of values that may differ.

    Raises:
        ConfigError: They differ; the first differences are named.
    """
    one, two = (
        {name: value for name, value in of.items() if name not in (*skipped, *HASHES)}
        for of in (before, now)
    )
    found = [words for name, words in HASHES.items() if before.get(name) != now.get(name)]
    found += differing(one, two)
    if found:
        raise ConfigError(
            f"{what} was asked for otherwise: {few(found)}; repeat its command, replace it with "
            "--overwrite, or name a new folder"
        )


def is_begun(folder: Path) -> bool:
    """Say whether a fine-tuning has begun in a folder such as `MODEL/trainings`."""
    return (folder / ASKED).exists()


def rank(loss: float | None) -> float:
    """Return a loss to compare by: one that is no number is worse than any."""
    return loss if loss is not None and math.isfinite(loss) else math.inf


def plain_looks(looks: Sequence[tuple[float, float]]) -> list[list[float | None]]:
    """Write looks for JSON, which has no word for a loss that is no number: `None`."""
    return [[key, loss if math.isfinite(loss) else None] for key, loss in looks]


def known_looks(plain: Sequence[Sequence[Any]]) -> Looks:
    """Read what `plain_looks` wrote."""
    return [(key, math.nan if loss is None else loss) for key, loss in plain]


def _read_asked(folder: Path) -> dict[str, Any]:
    try:
        found = read_json(folder / ASKED)["identity"]
        if found["threads"] > 0:
            return dict(found)
    except (AnymaeError, KeyError, TypeError):
        pass
    raise FolderError(
        f"{folder / ASKED} is damaged, so that nothing can go on; replace the fine-tuning with "
        "--overwrite"
    )
