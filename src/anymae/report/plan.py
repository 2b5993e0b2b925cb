"""What a pretraining run would be: decided, measured for a moment, not carried out."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from anymae.config import Recipe
from anymae.data.dataset import Dataset
from anymae.model import MaskedAutoencoder
from anymae.presets import explain_choices
from anymae.recipes import dump_recipe
from anymae.report.examples import Example, reconstruct
from anymae.report.rows import as_text
from anymae.training.calibrate import activation_memory, heaviest_rows
from anymae.training.memory import weights_memory
from anymae.training.objective import Counters
from anymae.training.optim import warmup_note
from anymae.training.processes import Processes
from anymae.training.progress import duration
from anymae.training.reconstruction import ReconstructionObjective
from anymae.training.resolve import Job, read_recipe, resolve_job, resolved_recipe, steps_of
from anymae.training.session import make_model

logger = logging.getLogger(__name__)

EXAMPLES = 3
"""Rows for which it is shown what would be hidden."""

TIMED = 2
"""Steps that are timed, after one that is not."""

MOST_INPUTS = 1 << 17
"""Inputs computed at once at most; where a batch has more, some of its rows stand for all."""

MOST_SECONDS = 20.0
"""What timing may take on a CPU, about; where a batch takes longer, likewise."""

STEP_COST = 3
"""Time of a step, in those of a forward pass; measured: 2.8 at `paper-chemistry`, 1.7 at `tiny`."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run that is decided upon and not carried out."""

    job: Job
    parameters: int
    """Weights of the model."""
    rows_at_once: int
    """Rows of a forward pass; few where the batch is left to `auto`."""
    device: str
    """Where it was measured."""
    memory: int
    """Bytes for weights, optimizer and the forward pass over the longest rows."""
    step_seconds: float
    """Time of a step, measured on typical rows."""
    steps: int | None
    """Optimizer steps; `None` where minutes decide, or epochs of a batch that is still sought."""
    seconds: float
    """Estimated time of the whole run."""
    examples: list[Example]
    """Rows, with what would be hidden before any training."""

    @property
    def dataset(self) -> Dataset:
        """The data as they would be trained on."""
        return self.job.dataset

    @property
    def rules(self) -> tuple[str, ...]:
        """What chose preset, encoder and ratio; nothing where they are those of another run."""
        job = self.job
        if job.init is not None or job.recipe.preset is None:
            return ()
        given = {"encoder": job.recipe.encoder, "masking": job.recipe.masking}
        chosen = explain_choices(job.config, job.recipe.preset, given)
        return (f"preset {job.recipe.preset}: {job.preset_rule}", *chosen)

    @property
    def recipe_text(self) -> str:
        """The recipe in YAML, below what it would take."""
        return dump_recipe(self.recipe, comment=self.cost_text)

    @property
    def recipe(self) -> Recipe:
        """The recipe with nothing left open."""
        return resolved_recipe(self.job, self.job.training)

    @property
    def cost_text(self) -> str:
        """What it would take, in words."""
        if self.steps is not None:
            steps = f"{self.steps:,} steps in about"
        elif self.job.training.minutes is not None:
            steps = "as many steps as fit in"
        else:
            steps = "as many steps as its epochs take of the batch that fits, about"
        rate = f"{self.step_seconds:.3g} s each on this {self.device}"
        return (
            f"{self.parameters:,} weights; about {self.memory / 2**20:,.0f} MiB of memory with "
            f"{self.rows_at_once:,} rows at once; {steps} {duration(self.seconds)} ({rate})"
        )

    @property
    def examples_text(self) -> str:
        """The examples for a terminal."""
        return as_text(self.examples, self.dataset.preparation, guesses=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without raw rows."""
        recipe = self.recipe.model_dump(mode="json", exclude_unset=True)
        return {
            "preset": self.job.recipe.preset,
            "parameters": self.parameters,
            "rows_at_once": self.rows_at_once,
            "device": self.device,
            "memory_bytes": self.memory,
            "step_seconds": self.step_seconds,
            "steps": self.steps,
            "seconds": self.seconds,
            "rules": list(self.rules),
            "notes": list(self.job.notes),
            "recipe": {name: value for name, value in recipe.items() if value is not None},
            "config": self.job.config.model_dump(mode="json"),
        }


def plan(
    data: object,
    *,
    recipe: str | Path | Recipe | None = None,
    settings: Mapping[str, object] | None = None,
    init: str | Path | None = None,
    probe_target: str | None = None,
) -> Plan:
    """Decide on a run as `pretrain` would, and measure what it would take.

    Args:
        data: A path or an object; `None` takes `data.path` of the recipe.
        recipe: As for `pretrain`.
        settings: As for `pretrain`.
        init: As for `pretrain`.
        probe_target: As for `pretrain`.

    Raises:
        UserInputError: As `pretrain`.
    """
    asked, source = read_recipe(recipe, settings or {}, init=init, probe_target=probe_target)
    job = resolve_job(data, asked, source=source)
    asked_size = job.training.batch_size
    batch_size = 8 if asked_size == "auto" else asked_size
    model, rows = make_model(job), job.dataset.parts.train
    device, memory, seconds = _measure(job, model, batch_size)
    seconds *= job.training.accumulate
    steps = steps_of(job, batch_size * job.training.accumulate)
    # Of epochs a larger batch takes fewer steps, and about as long.
    whole = 60 * (job.training.minutes or 0.0) if steps is None else steps * seconds
    if asked_size == "auto" and job.training.steps is None:
        steps = None
    if steps is not None:
        named = {} if job.training.epochs is not None else {"steps": steps}
        note = warmup_note(job.training, steps)
        notes = job.notes if note is None else (*job.notes, note)
        job = replace(job, training=job.training.model_copy(update=named), notes=notes)
    return Plan(
        job=job,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        rows_at_once=batch_size,
        device=device,
        memory=memory,
        step_seconds=seconds,
        steps=steps,
        seconds=whole,
        examples=reconstruct(model, job.dataset.batch(rows[:EXAMPLES])),
    )


def _measure(job: Job, model: MaskedAutoencoder, batch_size: int) -> tuple[str, int, float]:
    """Return the device, and the bytes and seconds that a batch takes there."""
    objective = ReconstructionObjective(job.dataset, model, seed=job.training.seed)
    rows = job.dataset.parts.train
    with Processes(job.training.device) as processes:
        model.to(processes.device)
        device = processes.device.type
        logger.info("measuring memory and timing a few steps on this %s ...", device)
        fitting = min(batch_size, max(1, MOST_INPUTS // job.dataset.input.length))
        count, strings = min(fitting, 8), job.dataset.strings_per_row
        heaviest = heaviest_rows(job.dataset.lengths, rows, count, strings)
        started = time.perf_counter()
        kept = activation_memory(model, objective, heaviest, processes)
        forward = time.perf_counter() - started
        if device == "cpu":  # others start slowly, and are quick then
            most = MOST_SECONDS / (STEP_COST * (TIMED + 1)) * count / forward
            fitting = max(1, min(fitting, int(most)))
        memory = weights_memory(model) + kept * batch_size // count
        usual = np.resize(rows, round(fitting * strings))
        batch = processes.send(objective.load(usual, 0))
        for step in range(TIMED + 1):
            if step == 1:
                started = time.perf_counter()
            loss = objective.loss_sum(model, batch, Counters(0, 1, 0))
            loss.backward()
            loss.item()
        seconds = (time.perf_counter() - started) / TIMED * batch_size / fitting
    model.zero_grad()
    return device, memory, seconds
