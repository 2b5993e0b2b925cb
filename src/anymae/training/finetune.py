"""`anymae.finetune`: a pretrained encoder and labels in, a model that answers out.

Shapes: R rows, T targets.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from anymae.config import DataConfig, TrainingConfig
from anymae.data.dataset import Dataset
from anymae.data.splits import Parts
from anymae.errors import FolderError, UserInputError
from anymae.evaluation import SEEN, Evaluation, evaluate_rows, row_hashes
from anymae.files import remove_leftovers, require_free, write_json, write_tensors, write_text
from anymae.hub import CARD, CONFIG, DATA, WEIGHTS, Model, model_card, write_model
from anymae.inference.api import open_model
from anymae.inference.computations import one_encoder
from anymae.inference.compute import ComputeConfig
from anymae.inference.rows import open_rows
from anymae.model import Backbone
from anymae.predictor import Ensemble, Predictor
from anymae.task import FinetuneConfig, TaskConfig
from anymae.training.fit import Fitted, Rows, count_steps, finetune_training, fit
from anymae.training.labelling import check_weights, label
from anymae.training.processes import Processes
from anymae.training.progress import Report, Tally, notebook_progress
from anymae.training.requests import Requests

logger = logging.getLogger(__name__)

IntArray = npt.NDArray[np.int64]

RESULT = "finetune.json"
"""What was asked for and what came of it, in a fine-tuned model's folder."""
OWN = (CONFIG, WEIGHTS, DATA, CARD, RESULT, SEEN)


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


def finetune(
    run: Model | str | Path,
    data: object,
    *,
    target: str | Sequence[str] = (),
    out: str | Path | None = None,
    data_config: DataConfig | None = None,
    config: FinetuneConfig | None = None,
    training: Mapping[str, object] | None = None,
    overwrite: bool = False,
    progress: Report | None = None,
) -> Finetuned:
    """Train all of a pretrained model to predict one target or several.

    Args:
        run: A pretrained model, or a run folder or hub id.
        data: Rows with labels: a path or a Python object.
        target: Columns to predict; may be named in `data_config` instead.
        out: Folder for the model; `None` writes nothing.
        data_config: Columns, roles, splits.
        config: Task, head, and how to learn.
        training: Keys of `TrainingConfig`: `epochs`, `batch_size`, `learning_rate`, `seed` ...
        overwrite: Replace a fine-tuned model in `out`.
        progress: Called after each step of all; where it is `None` a notebook shows a bar.

    Returns:
        The model and its metrics.

    Raises:
        UserInputError: The request cannot be carried out; nothing was written.
        NonFiniteError: The loss stopped being finite.

    >>> import numpy as np, anymae
    >>> from anymae.config import InputConfig
    >>> from anymae.data.dataset import open_data
    >>> from anymae.model import MaskedAutoencoder
    >>> from anymae.presets import build_config
    >>> strings = ["C" * n + "O" * (n % 3) for n in range(1, 30)]
    >>> dataset = open_data(strings)
    >>> model = MaskedAutoencoder(build_config("tiny", dataset.input))
    >>> model.data = dataset.preparation.to_json()
    >>> table = {"smiles": strings, "oxygens": [n % 3 for n in range(1, 30)]}
    >>> finetune(model, table, target="oxygens", training={"steps": 3}).task.classes
    ('0', '1', '2')
    """
    started = time.perf_counter()
    asked = _ask(target, data_config, config, training)
    folder = None if out is None else Path(out)
    if folder is not None:
        check_folder(folder, overwrite=overwrite)
    model = open_model(run)
    dataset = open_rows(model, data, asked.data)
    labelled = label(dataset, asked.data, asked.config, seed=asked.training.seed)
    check_weights(labelled[1])
    with Processes(asked.training.device) as processes, notebook_progress(progress) as told:
        fitted = _fit_seeds(one_encoder(model), *labelled[:2], asked, processes, told)
        writes = processes.is_main
    result = _judge(fitted, dataset, *labelled[1:], asked, folder, started)
    if folder is not None and writes:
        _write(folder, result, asked, row_hashes(dataset, labelled[1].train))
    return result


class _Asked(NamedTuple):
    """What a user asked for, defaults filled in."""

    data: DataConfig
    config: FinetuneConfig
    training: TrainingConfig

    def to_json(self) -> dict[str, Any]:
        return {
            "data": self.data.model_dump(mode="json", exclude_defaults=True),
            "config": self.config.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json", exclude_none=True),
        }


def _ask(
    target: str | Sequence[str],
    data: DataConfig | None,
    config: FinetuneConfig | None,
    training: Mapping[str, object] | None,
) -> _Asked:
    data, config = (data or DataConfig()).aimed_at(target), config or FinetuneConfig()
    chosen = finetune_training(training or {})
    if "learning_rate" in (training or {}):
        config = config.model_copy(update={"learning_rates": (chosen.learning_rate,)})
    return _Asked(data, config, chosen)


def _judge(
    fitted: list[Fitted],
    dataset: Dataset,
    rows: Rows,
    test: IntArray,
    asked: _Asked,
    folder: Path | None,
    started: float,
) -> Finetuned:
    """Put the members together and evaluate them."""
    predictors = [one.predictor for one in fitted]
    model = predictors[0] if len(predictors) == 1 else Ensemble(predictors)
    parts = {"valid": rows.valid, "test": test}
    config, seed = ComputeConfig(device=asked.training.device), asked.training.seed
    return Finetuned(
        model=model,
        folder=folder,
        task=model.task,
        rows={"train": len(rows.train), **{name: len(index) for name, index in parts.items()}},
        split=Parts(rows.train, rows.valid, test).digest,
        learning_rate=fitted[0].rate,
        steps=tuple(one.step for one in fitted),
        valid_loss=float(np.mean([one.loss for one in fitted])) if len(rows.valid) else None,
        evaluations={
            name: evaluate_rows(
                model, dataset, index, part=name, config=config, trained_on=rows.train
            )[0]
            for name, index in parts.items()
            if len(index)
        },
        history=[
            {"seed": seed + number, "tried": _known(one.tried), "looks": _known(one.looks)}
            for number, one in enumerate(fitted)
        ],
        seconds=round(time.perf_counter() - started, 2),
    )


def _known(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float | None]]:
    """Write losses that were not measured, as there are no validation rows, as `None`."""
    return [(key, None if math.isnan(loss) else loss) for key, loss in pairs]


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something, unless it is a fine-tuned model to be replaced.

    Raises:
        FolderError: The folder is taken.
    """
    if overwrite and (folder / RESULT).exists():
        return
    if overwrite and folder.is_dir() and any(folder.iterdir()):
        raise FolderError(f"{folder} holds no fine-tuned model to replace; name a new folder")
    require_free(folder)


def _fit_seeds(
    model: Backbone,
    task: TaskConfig,
    rows: Rows,
    asked: _Asked,
    processes: Processes,
    report: Report | None,
) -> list[Fitted]:
    """Train one predictor for each seed; the first one finds the learning rate."""
    config, training, rates = asked.config, asked.training, asked.config.learning_rates
    if len(rates) > 1 and not len(rows.valid):
        raise UserInputError(
            f"there are no validation rows to choose among {len(rates)} learning rates; "
            "name one with --learning-rate"
        )
    found: list[Fitted] = []
    tally = None
    if report is not None:
        # One learning rate for each seed, and the others for the first.
        fits = [len(rates), *[1] * (config.seeds - 1)]
        count = sum(
            count_steps(task, len(rows.train), config, training, world=processes.world, rates=each)
            for each in fits
        )
        tally = Tally(report, count)
    with Requests() as requests:
        for number in range(config.seeds):
            seeded = training.model_copy(update={"seed": training.seed + number})
            one = fit(
                model, task, rows, config=config, training=seeded, rates=rates,
                processes=processes, requests=requests, tally=tally,
            )  # fmt: skip
            found.append(one)
            rates = (one.rate,)
    return found


def _write(folder: Path, result: Finetuned, asked: _Asked, hashes: npt.NDArray[np.uint64]) -> None:
    """Write the folder; the weights last, so that it is whole once they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    stale = [path.name for path in folder.glob("evaluation-*.json")]
    for name in (WEIGHTS, *OWN, *stale):
        (folder / name).unlink(missing_ok=True)
    remove_leftovers(folder)
    write_json(folder / RESULT, {"format_version": 1, "asked": asked.to_json(), **result.to_json()})
    write_tensors(folder / SEEN, {"hashes": torch.from_numpy(np.sort(hashes).view(np.int64))})
    write_text(folder / CARD, model_card(result.model) + _results(result))
    write_model(result.model, folder)


def _results(result: Finetuned) -> str:
    lines = ["", "## Results", "", "| rows | metric | value |", "| --- | --- | --- |"]
    for part, found in result.evaluations.items():
        lines += [f"| {part} | {name} | {value} |" for name, value in found.overall.items()]
    return "\n".join(lines) + "\n"
