"""A fine-tuned model, how good it is, and its folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel

from anymae.config import parse
from anymae.errors import ConfigError, FolderError
from anymae.evaluation import Evaluation
from anymae.files import (
    holds_nothing,
    read_json,
    remove_folder,
    replace_files,
    require_free,
    require_writable,
    told,
    write_json,
    write_tensors,
    write_text,
)
from anymae.hub import CARD, CONFIG, DATA, WEIGHTS, load, model_card, write_model
from anymae.inference.seen import SEEN
from anymae.predictor import Ensemble, Predictor
from anymae.task import TaskConfig
from anymae.training.log import GO_ON
from anymae.training.stages import TRAININGS, is_begun

RESULT = "finetune.json"
"""What was asked for and what came of it, in a fine-tuned model's folder."""
OWN = (CONFIG, WEIGHTS, DATA, CARD, RESULT, SEEN)


class _Stored(BaseModel):
    """What a finished model's folder holds of `Finetuned`."""

    task: TaskConfig
    rows: dict[str, int]
    split: str
    learning_rate: float
    steps: tuple[int, ...]
    valid_loss: float | None
    evaluations: dict[str, Evaluation]
    history: list[dict[str, int | list[list[int | float | None]]]]
    seconds: float


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model and how good it is."""

    model: Predictor | Ensemble = field(repr=False)
    """In evaluation mode, on the CPU."""
    folder: Path | None
    task: TaskConfig
    rows: dict[str, int]
    """Labelled rows by part: train, valid, test."""
    split: str
    """Hash of which rows are in which part."""
    learning_rate: float
    steps: tuple[int, ...]
    """Step of the best look, by seed, 0 being the head alone, on the frozen encoder; the last one
    where no row validates."""
    valid_loss: float | None
    """Mean over seeds."""
    evaluations: dict[str, Evaluation] = field(repr=False)
    """On `valid` and, where there are such rows, `test`."""
    history: list[dict[str, Any]] = field(repr=False)
    """By seed: the best validation loss at each rate tried, and all looks at the best rate."""
    seconds: float
    """Wall-clock time of the call that finished it."""

    @classmethod
    def read(cls, folder: Path) -> "Finetuned":
        """Read a finished model's folder.

        Raises:
            FolderError: It is damaged.
        """
        stored = read_json(folder / RESULT)
        model = load(folder)
        try:
            found = parse(_Stored, stored)
        except ConfigError as error:
            raise _damaged(folder, str(error)) from None
        return cls(model=cast("Predictor | Ensemble", model), folder=folder, **dict(found))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        skipped = ("model", "folder", "task", "evaluations")
        plain = {name: value for name, value in vars(self).items() if name not in skipped}
        return {
            "folder": None if self.folder is None else str(self.folder),
            "task": self.task.model_dump(mode="json"),
            **plain,
            "steps": list(self.steps),
            "evaluations": {name: found.to_json() for name, found in self.evaluations.items()},
        }

    def _repr_html_(self) -> str:
        parts = [found._repr_html_() for found in self.evaluations.values()]
        return f"<h4>{escape(', '.join(self.task.targets))} ({self.task.type})</h4>{''.join(parts)}"


def stored_section(folder: Path, name: str) -> Mapping[str, Any]:
    """Read a group of values from a finished model's folder, such as `identity`.

    Raises:
        FolderError: It is damaged.
    """
    found = read_json(folder / RESULT).get(name, {})
    if not isinstance(found, Mapping):
        raise _damaged(folder, f"{name} is {found!r}; it should be an object")
    return found


def _damaged(folder: Path, why: str) -> FolderError:
    return FolderError(
        f"{folder / RESULT} is damaged ({why}); fine-tune again, in its place with --overwrite"
    )


def check_folder(folder: Path, run: object, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that may not be used for this; nothing is changed.

    Args:
        folder: Where the model goes.
        run: What it starts from; a folder that is named must be another one.
        resume: Whether to go on with what is there.
        overwrite: Whether to replace it.

    Raises:
        FolderError: It holds something that is not to be gone on with or replaced.
    """
    if resume and overwrite:
        raise FolderError("--resume and --overwrite exclude each other")
    if isinstance(run, str | Path) and Path(run).resolve() == folder.resolve():
        raise FolderError(f"{folder} is the model to start from; name another folder with --out")
    begun = is_begun(folder / TRAININGS)
    known = begun or (folder / RESULT).exists()
    if resume or overwrite:
        if not (known or holds_nothing(folder)):
            raise FolderError(f"{folder} holds files but no fine-tuned model; name a new folder")
        require_writable(folder)
    elif not known:
        require_free(folder)
    else:
        what = "a fine-tuning that was cut" if begun else "a fine-tuned model"
        raise FolderError(
            f"{folder} holds {what} already; name a new folder, go on with --resume, or replace it "
            "with --overwrite"
        )


def is_finished(folder: Path) -> bool:
    """Say whether a folder holds a fine-tuned model, and none that is on its way."""
    begun = is_begun(folder / TRAININGS)
    return not begun and all((folder / name).exists() for name in (RESULT, WEIGHTS))


def write_result(
    folder: Path,
    result: Finetuned,
    *,
    asked: Mapping[str, Any],
    identity: Mapping[str, Any],
    methods: str,
    hashes: npt.NDArray[np.uint64],
) -> None:
    """Write the model's folder; one that was there goes once all of the new one is written.

    Args:
        folder: Where.
        result: What came of it.
        asked: Settings, for people.
        identity: All that the weights follow from, to compare with what is asked for later.
        methods: What was done, as a paper would say it.
        hashes: Of the training rows' inputs.
    """

    def fill(staged: Path) -> None:
        about = {"format_version": 1, "asked": asked, "identity": identity, **result.to_json()}
        write_json(staged / RESULT, about)
        write_tensors(staged / SEEN, {"hashes": torch.from_numpy(np.sort(hashes).view(np.int64))})
        card = f"{model_card(result.model)}\n## Methods\n\n{methods}\n{_results(result)}"
        write_text(staged / CARD, card)
        write_model(result.model, staged)

    stale = [path.name for path in folder.glob("evaluation-*.json")]
    with told(folder, GO_ON):
        replace_files(folder, fill, last=WEIGHTS, also=[*OWN, *stale])
    remove_folder(folder / TRAININGS)


def _results(result: Finetuned) -> str:
    lines = ["", "## Results", "", "| rows | metric | value |", "| --- | --- | --- |"]
    for part, found in result.evaluations.items():
        lines += [f"| {part} | {name} | {value} |" for name, value in found.overall.items()]
    units = {found.units for found in result.evaluations.values() if found.units}
    lines += [f"\n{words.capitalize()}." for words in units]
    weighting = {found.weighting for found in result.evaluations.values() if found.weighting}
    lines += [f"\nMetrics are {words}." for words in sorted(weighting)]
    if result.task.positive is not None:
        lines.append(f"\nThe positive class is {result.task.positive}.")
    return "\n".join(lines) + "\n"
