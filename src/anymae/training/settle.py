"""The numbers that a run is settled on before its first step, and that never change again.

Some are worked out, some measured; all are stored with each checkpoint, and taken from there when
the run goes on.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import torch

from anymae.config import TrainingConfig
from anymae.data.sampler import Order
from anymae.model import MaskedAutoencoder
from anymae.training.calibrate import find_batch_size, step_seconds, timed
from anymae.training.device import Precision, settle_precision
from anymae.training.identity import identify
from anymae.training.loader import StepLoader
from anymae.training.loop import Rhythm
from anymae.training.memory import within_memory
from anymae.training.objective import Counters, Monitor
from anymae.training.processes import Processes
from anymae.training.reconstruction import ReconstructionObjective
from anymae.training.resolve import Job, length_is_open, steps_of

logger = logging.getLogger(__name__)

LOOKS = 10
"""Looks at the validation rows in a run, unless `validate_every` says otherwise."""
MEASURED_SHARE = 0.03
"""Share of a budget of minutes that goes into measuring the speed."""


class Settled(NamedTuple):
    """What a run is settled on."""

    batch_size: int
    """Rows of a forward pass."""
    global_batch: int
    """Rows of a step, over all forward passes and processes."""
    rhythm: Rhythm
    precision: Precision
    """Number format of the matrix products."""
    identity: dict[str, Any]
    """What may not differ when the run goes on."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {**self._asdict(), "rhythm": self.rhythm._asdict()}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """Take the plain values from a checkpoint's state."""
        found = {name: state[name] for name in cls._fields}
        return cls(**{**found, "rhythm": Rhythm(**found["rhythm"])})

    def training(self, job: Job) -> TrainingConfig:
        """Return the job's settings with batch and steps as numbers."""
        fixed = {"epochs": None, "minutes": None, "steps": self.rhythm.steps}
        chosen = {"batch_size": self.batch_size, "precision": self.precision}
        return job.training.model_copy(update={**fixed, **chosen})


MakeMonitor = Callable[[Settled], Monitor | None]


def settle(
    job: Job,
    model: MaskedAutoencoder,
    objective: ReconstructionObjective,
    *,
    processes: Processes,
    make_monitor: MakeMonitor,
) -> Settled:
    """Settle a new run.

    Args:
        job: What is asked for.
        model: On the device; it is left as it is.
        objective: Its loss.
        processes: Measure together.
        make_monitor: Makes what looks at validation rows, whose time counts too.

    Raises:
        ConfigError: No batch fits in memory.
        OutOfMemoryError: The one that was named does not.
    """
    batch = job.training.batch_size
    if batch == "auto":
        rows, lengths = job.dataset.parts.train, job.dataset.lengths
        batch = find_batch_size(
            model, objective, rows=rows, lengths=lengths, processes=processes,
            strings=job.dataset.strings_per_row,
        )  # fmt: skip
    global_batch = batch * job.training.accumulate * processes.world
    precision = settle_precision(job.training.precision, processes.device)
    threads = torch.get_num_threads()
    identity = identify(job, processes, threads=threads, precision=precision)
    settled = Settled(batch, global_batch, make_rhythm(job.training, 10**9), precision, identity)
    steps = steps_of(job, global_batch)
    if steps is not None:
        return settled._replace(rhythm=make_rhythm(job.training, steps))
    length, device = job.config.input.length, processes.device
    with within_memory(settled.training(job), length=length, device=device):
        steps = _measured_steps(job, model, objective, settled, processes, make_monitor)
    return settled._replace(rhythm=make_rhythm(job.training, steps))


def _measured_steps(
    job: Job,
    model: MaskedAutoencoder,
    objective: ReconstructionObjective,
    settled: Settled,
    processes: Processes,
    make_monitor: MakeMonitor,
) -> int:
    """Return the steps that the minutes asked for hold, by the time of the first ones."""
    minutes = job.training.minutes
    assert minutes is not None
    seconds = step_seconds(
        model,
        make_loader(job, settled, objective, processes),
        config=settled.training(job),
        processes=processes,
        limit=60 * minutes * MEASURED_SHARE,
    )
    guess = max(1, round(60 * minutes / seconds))
    monitor = make_monitor(settled._replace(rhythm=make_rhythm(job.training, guess)))
    look = 0.0
    if monitor is not None:
        look = processes.agree(timed(lambda: monitor(model, Counters(0, 1, 0))))
    looks, every = LOOKS + 1, job.training.validate_every
    if every is not None:
        # Then looks grow with the steps, beside the first one and the last.
        looks, seconds = 2, seconds + look / every
    return max(1, int((60 * minutes - looks * look) / seconds))


def settle_again(job: Job, state: Mapping[str, Any], processes: Processes) -> Settled:
    """Take what a run was settled on from a checkpoint.

    More steps may have been asked for, other forward passes of a step, and checkpoints more often.
    """
    settled = Settled.from_json(state)
    training, rhythm = job.training, settled.rhythm
    saved = training.checkpoint_every or rhythm.validate_every
    settled = settled._replace(rhythm=rhythm._replace(checkpoint_every=saved))
    identity = settled.identity
    wanted = None if length_is_open(training) else steps_of(job, settled.global_batch)
    if wanted is not None and wanted != settled.rhythm.steps:
        logger.warning("extending the run from %d to %d steps", settled.rhythm.steps, wanted)
        settled = settled._replace(rhythm=settled.rhythm._replace(steps=wanted))
        threads = torch.get_num_threads()
        identity = identify(job, processes, threads=threads, precision=settled.precision)
    return _with_passes(settled, identity, training)


def _with_passes(
    settled: Settled, identity: Mapping[str, Any], training: TrainingConfig
) -> Settled:
    """Cut a step into the forward passes that are asked for, and remember what they came to."""
    batch = training.batch_size
    if batch == "auto":
        # As many rows a step as before.
        batch = settled.batch_size * settled.identity["training"]["accumulate"]
        batch //= training.accumulate
    passes = {"batch_size": batch, "accumulate": training.accumulate}
    identity = {**identity, "training": {**identity["training"], **passes}}
    return settled._replace(batch_size=batch, identity=identity)


def make_rhythm(training: TrainingConfig, steps: int) -> Rhythm:
    """Decide how often to look, save and log."""
    looks = training.validate_every or max(1, round(steps / LOOKS))
    return Rhythm(
        steps=steps,
        log_every=max(1, looks // 10),
        validate_every=looks,
        checkpoint_every=training.checkpoint_every or looks,
        patience=training.patience,
    )


def make_loader(
    job: Job, settled: Settled, objective: ReconstructionObjective, processes: Processes
) -> StepLoader[Any]:
    """Return what gives this process its rows; with packing, several strings make a row."""
    rows, lengths = job.dataset.parts.train, job.dataset.lengths
    strings = job.dataset.strings_per_row
    batch = round(settled.global_batch * strings)
    # Strings of a row are no whole number: cut by those of a pass alone, a few could be left over
    # for a pass more than was asked for.
    places = processes.world * -(-settled.global_batch // (processes.world * settled.batch_size))
    order = Order(
        len(rows),
        batch_size=batch,
        seed=job.training.seed,
        # Packed rows are all about full: sorting strings would only put like beside like.
        lengths=None if lengths is None or strings > 1 else lengths[rows],
    )
    return StepLoader(
        objective,
        order=order,
        rows=rows,
        piece=max(round(settled.batch_size * strings), -(-batch // places)),
        rank=processes.rank,
        world=processes.world,
    )
