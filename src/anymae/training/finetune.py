"""`anymae.finetune`: a pretrained encoder and labels in, a model that answers out.

Shapes: R rows, T targets.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from anymae.config import DataConfig, TrainingConfig
from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset
from anymae.data.splits import Parts
from anymae.errors import UserInputError
from anymae.evaluation import evaluate_rows
from anymae.files import remove_leftovers
from anymae.hub import Model
from anymae.inference.api import open_model
from anymae.inference.computations import one_encoder
from anymae.inference.compute import ComputeConfig
from anymae.inference.rows import open_rows
from anymae.inference.seen import row_hashes
from anymae.inference.stream import digest
from anymae.model import Backbone
from anymae.predictor import Ensemble
from anymae.recipes import DataSettings, data_settings
from anymae.task import FinetuneConfig, TaskConfig
from anymae.training.device import settle_precision
from anymae.training.finetuned import (
    Finetuned,
    check_folder,
    is_finished,
    stored_section,
    write_result,
)
from anymae.training.fit import Fitted, finetune_training, fit
from anymae.training.identity import FREE
from anymae.training.labelling import Labelled, check_weights, label
from anymae.training.lengths import fit_steps, global_batch, head_steps
from anymae.training.methods import finetuning_methods
from anymae.training.processes import Processes
from anymae.training.progress import Report, Tally, notebook_progress
from anymae.training.requests import Requests
from anymae.training.stages import TRAININGS, Stages, plain_looks, refuse_another

logger = logging.getLogger(__name__)

PLACE = ("device", "precision", "threads")
"""Where a finished model was made; that of `--resume` may be another."""


def finetune(
    run: Model | str | Path,
    data: object,
    *,
    target: str | Sequence[str] = (),
    out: str | Path | None = None,
    data_config: DataSettings | None = None,
    config: FinetuneConfig | None = None,
    training: Mapping[str, object] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    stop_after: float | None = None,
    progress: Report | None = None,
) -> Finetuned:
    """Train all of a pretrained model to predict one target or several.

    Cut anywhere and gone on with by `resume`, the weights have the same bytes as uncut, on a CPU.

    Args:
        run: A pretrained model, or a run folder or hub id.
        data: Rows with labels: a path or a Python object.
        target: Columns to predict; may be named in `data_config` instead.
        out: Folder for the model; `None` writes nothing, so that nothing can be gone on with.
        data_config: Columns, roles, splits.
        config: Task, head, and how to learn.
        training: Keys of `TrainingConfig`: `epochs`, `batch_size`, `learning_rate`, `seed` ...
        resume: Go on where the fine-tuning in `out` was cut; begin it where there is none.
        overwrite: Replace a fine-tuned model in `out`.
        stop_after: Minutes after which to save and leave.
        progress: Called after each step of all; where it is `None` a notebook shows a bar.

    Returns:
        The model and its metrics.

    Raises:
        UserInputError: The request cannot be carried out; nothing was written.
        InterruptedRunError: Asked to stop; with `out`, everything is saved.
        NonFiniteError: The loss stopped being finite, at each of the rates.

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
    asked = _ask(target, data_config, config, training)._replace(
        folder=None if out is None else Path(out), resume=resume, overwrite=overwrite
    )
    requests = Requests(stop_after)
    with notebook_progress(progress) as told:
        return _finetune(run, data, asked, requests, told)


def _finetune(
    run: Model | str | Path,
    data: object,
    asked: "_Asked",
    requests: Requests,
    report: Report | None,
) -> Finetuned:
    started = time.perf_counter()
    folder, resume, overwrite = asked.folder, asked.resume, asked.overwrite
    if folder is not None:
        check_folder(folder, run, resume=resume, overwrite=overwrite)
    elif resume or overwrite:
        raise UserInputError("there is no folder to go on with or to replace; name one with out")
    model = open_model(run)
    encoder, dataset = one_encoder(model), open_rows(model, data, asked.data)
    task, rows, test = label(dataset, asked.data, asked.config, seed=asked.training.seed)
    _check_rows(rows, asked.config)
    if task.is_classification and asked.config.loss == "squared_error":
        logger.warning(
            "loss squared_error, as published, ranks rows; probabilities come out wrong, and "
            "classes of yes-or-no targets too: leave it out for answers"
        )
    with Processes(asked.training.device) as processes:
        stages = None
        if folder is not None:
            identity = asked.identify(encoder, task, rows, processes)
            if resume and is_finished(folder):
                return _finished(folder, identity, processes)
            stages = Stages(folder / TRAININGS, identity, processes, resume=resume)
            threads = {"threads": stages.identity["threads"]}
            asked = asked._replace(training=asked.training.model_copy(update=threads))
        fitted = _fit_seeds(encoder, task, rows, asked, processes, requests, stages, report)
        writes = processes.is_main
    hashes = row_hashes(dataset, rows.train)
    result = _judge(fitted, dataset, rows, test, asked, started, hashes)
    if folder is not None and stages is not None and writes:
        identity = stages.identity
        methods = finetuning_methods(
            task, asked.config, asked.training, rows=result.rows, batch=identity["batch_size"],
            rate=result.learning_rate, kept=result.steps, weight=dataset.roles.weight,
        )  # fmt: skip
        write_result(
            folder, result, asked=asked.to_json(), identity=identity, methods=methods,
            hashes=hashes,
        )  # fmt: skip
    return result


class _Asked(NamedTuple):
    """What a user asked for, defaults filled in."""

    data: DataConfig
    config: FinetuneConfig
    training: TrainingConfig
    folder: Path | None = None
    """Where the model goes."""
    resume: bool = False
    overwrite: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "data": self.data.model_dump(mode="json", exclude_defaults=True),
            "config": self.config.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json", exclude_none=True),
        }

    def identify(
        self, model: Backbone, task: TaskConfig, rows: Labelled, processes: Processes
    ) -> dict[str, Any]:
        """Return all that the weights follow from, as plain values."""
        asked = self.to_json()
        # Settings that change no result are left out, and those that are compared by what they
        # come to: of the rows of a step processes may have other shares.
        left_out = (
            *FREE, "batch_size", "accumulate", "learning_rate", "seeds", "learning_rates"
        )  # fmt: skip
        for section in ("config", "training"):
            kept = {key: value for key, value in asked[section].items() if key not in left_out}
            asked[section] = kept
        about = json.dumps(
            [model.config.model_dump(mode="json"), model.data, digest(model)], sort_keys=True
        )
        return {
            **asked,
            "learning_rates": list(self.config.learning_rates),
            "seeds": self.config.seeds,
            "batch_size": global_batch(self.training, processes.world),
            "encoder": hashlib.sha256(about.encode()).hexdigest(),
            "task": task.model_dump(mode="json"),
            "rows": rows.digest,
            "device": processes.device.type,
            "precision": settle_precision(self.training.precision, processes.device),
            "threads": self.training.threads,
        }


def _ask(
    target: str | Sequence[str],
    data: DataSettings | None,
    config: FinetuneConfig | None,
    training: Mapping[str, object] | None,
) -> _Asked:
    data, config = data_settings(data).aimed_at(target), config or FinetuneConfig()
    chosen = finetune_training(training or {})
    if "learning_rate" in (training or {}):
        config = config.model_copy(update={"learning_rates": (chosen.learning_rate,)})
    return _Asked(data, config, chosen)


def _judge(
    fitted: list[Fitted],
    dataset: Dataset,
    rows: Labelled,
    test: IntArray,
    asked: _Asked,
    started: float,
    hashes: npt.NDArray[np.uint64],
) -> Finetuned:
    """Put the members together and evaluate them."""
    predictors = [one.predictor for one in fitted]
    model = predictors[0] if len(predictors) == 1 else Ensemble(predictors)
    parts = {"valid": rows.valid, "test": test}
    config, seed = ComputeConfig(device=asked.training.device), asked.training.seed
    loss = float(np.mean([one.loss for one in fitted]))
    evaluated = partial(evaluate_rows, model, dataset, config=config, trained_on=hashes)
    return Finetuned(
        model=model,
        folder=asked.folder,
        task=model.task,
        rows={"train": len(rows.train), **{name: len(index) for name, index in parts.items()}},
        split=Parts(rows.train, rows.valid, test).digest,
        learning_rate=fitted[0].rate,
        steps=tuple(one.step for one in fitted),
        valid_loss=loss if math.isfinite(loss) else None,
        evaluations={
            name: evaluated(index, part=name)[0] for name, index in parts.items() if len(index)
        },
        history=[
            {
                "seed": seed + number,
                "tried": plain_looks(one.tried),
                "looks": plain_looks(one.looks),
            }
            for number, one in enumerate(fitted)
        ],
        seconds=round(time.perf_counter() - started, 2),
    )


def _finished(folder: Path, identity: Mapping[str, Any], processes: Processes) -> Finetuned:
    """Return a model that is there; refuse one that was asked for otherwise."""
    before = stored_section(folder, "identity")
    refuse_another(before, identity, f"the fine-tuned model in {folder}", PLACE)
    logger.warning("%s is finished; there is nothing left to do", folder)
    if processes.is_main:
        # It may have been killed while it tidied up.
        remove_leftovers(folder)
    return Finetuned.read(folder)


def _check_rows(rows: Labelled, config: FinetuneConfig) -> None:
    check_weights(rows)
    if len(config.learning_rates) > 1 and not len(rows.valid):
        raise UserInputError(
            f"there are no validation rows to choose among {len(config.learning_rates)} learning "
            "rates; name one with --learning-rate"
        )


def _fit_seeds(
    model: Backbone,
    task: TaskConfig,
    rows: Labelled,
    asked: _Asked,
    processes: Processes,
    requests: Requests,
    stages: Stages | None,
    report: Report | None,
) -> list[Fitted]:
    """Train one predictor for each seed; the first one finds the learning rate."""
    config, training, rates = asked.config, asked.training, asked.config.learning_rates
    found: list[Fitted] = []
    tally = None
    if report is not None:
        count, world = len(rows.train), processes.world
        # A head and one learning rate for each seed, and the other rates for the first.
        heads = config.seeds * head_steps(task, count, config, training, world)
        fits = (config.seeds + len(rates) - 1) * fit_steps(
            training, count, global_batch(training, world)
        )
        tally = Tally(report, heads + fits)
    with requests:
        for number in range(config.seeds):
            seeded = training.model_copy(update={"seed": training.seed + number})
            one = fit(
                model, task, rows, config=config, training=seeded, rates=rates,
                processes=processes, requests=requests, tally=tally, stages=stages,
            )  # fmt: skip
            found.append(one)
            rates = (one.rate,)
    _tell_alike(found)
    return found


def _tell_alike(found: Sequence[Fitted]) -> None:
    """Warn of members that kept one and the same head, fitted before the first step."""
    starts = [digest(one.predictor) for one in found if one.step == 0]
    alike = sum(starts.count(one) > 1 for one in starts)
    if alike:
        logger.warning(
            "%d of the %d models are the same: they keep step 0, the head that is fitted to the "
            "frozen encoder; so what their answers differ by is too small an uncertainty",
            alike, len(found),
        )  # fmt: skip
