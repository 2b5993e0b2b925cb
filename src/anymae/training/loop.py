"""The training loop: step, look, log, save, and leave when asked. It knows no method.

What a step is stands in `step.py`, what is saved in `checkpoint.py`, what is trained on in an
`Objective`. All that lives longer than a step is in `Trained`, and all of it is saved.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, NamedTuple

from torch import Tensor, nn

from anymae.errors import InterruptedRunError, NonFiniteError
from anymae.training.checkpoint import Checkpoints, Snapshot, weights_of
from anymae.training.guard import Captures, refuse_step
from anymae.training.loader import Piece, StepLoader
from anymae.training.log import MetricsLog
from anymae.training.memory import peak_memory, within_memory
from anymae.training.objective import BatchT, Counters, Look, Monitor
from anymae.training.optim import load_optimizer, optimizer_tensors
from anymae.training.progress import Progress, Report
from anymae.training.requests import Requests
from anymae.training.step import Stepper, StepResult

logger = logging.getLogger(__name__)


MOST_WAITING, FEWEST_SECONDS = 0.1, 1.0
"""Share of the time spent waiting for data that is worth a warning, and seconds of it at least."""


class Rhythm(NamedTuple):
    """How often what happens, in steps."""

    steps: int
    """Optimizer steps in all."""
    log_every: int
    validate_every: int
    checkpoint_every: int
    patience: int | None = None
    """Looks without a better loss after which training stops."""


@dataclass
class Trained:
    """How far a training is: all that has to survive a kill, beside weights and optimizer."""

    step: int = 0
    """Optimizer steps done."""
    best_step: int | None = None
    """Step of the best look; `None` without looks."""
    best_loss: float | None = None
    looks_since_best: int = 0
    seconds: float = 0.0
    """Wall-clock time over all parts of the run."""
    window: dict[str, float] = field(default_factory=dict)
    """Sums since the last line of the log."""


@dataclass
class _Clock:
    """Where the time goes."""

    rows: int = 0
    """Rows computed, over all processes."""
    waited: float = 0.0
    """Seconds spent waiting for data."""
    worked: float = 0.0
    """Seconds spent computing, looks and saving left out."""

    @property
    def rows_per_second(self) -> float:
        """Rows computed a second."""
        return self.rows / max(self.waited + self.worked, 1e-9)

    @property
    def wait_share(self) -> float:
        """Share of the time that was spent waiting for data, in [0, 1]."""
        return self.waited / max(self.waited + self.worked, 1e-9)


@dataclass(kw_only=True)
class Loop(Generic[BatchT]):
    """Trains from any step to the last.

    Attributes:
        model: The network itself, not wrapped for several processes.
        stepper: Takes the steps.
        loader: Gives the rows of each step.
        rhythm: How often what happens.
        length: Inputs of the longest row, for messages.
        monitor: Evaluates; `None` never looks.
        store: Takes checkpoints; `None` keeps the best weights in memory.
        log: Takes numbers; `None` keeps none.
        extra: Asked at each checkpoint for what is stored with it.
        captures: How a step that may not be taken is captured; `None` captures nothing.
        report: Called after each step.
        best_weights: Those of the best look, where there is no store to read them from.
    """

    model: nn.Module
    stepper: Stepper[BatchT]
    loader: StepLoader[BatchT]
    rhythm: Rhythm
    length: int
    monitor: Monitor | None = None
    store: Checkpoints | None = None
    log: MetricsLog | None = None
    extra: Callable[[], Mapping[str, Any]] = dict
    captures: Captures[BatchT] | None = None
    report: Report | None = None
    best_weights: Mapping[str, Tensor] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._state = Trained()
        self._saved: int | None = None
        self._begin = time.perf_counter()
        self._clock = _Clock()
        self._so_far = _Clock()
        self._warned = False
        self._rate = 0.0

    def run(self, requests: Requests, start: Snapshot | None = None) -> Trained:
        """Train to the end.

        Args:
            requests: What the outside asks for.
            start: Where to go on; `None` begins at step 0.

        Raises:
            InterruptedRunError: Asked to stop; everything is saved.
            NonFiniteError: Loss or gradient are not finite and the step was not taken, or the
                weights are not and were not saved.
            OutOfMemoryError: A step or a look did not fit.
        """
        if start is not None:
            with self._within_memory():
                self._restore(start)
        elif self.monitor is not None:
            self._look(counts=False)
        state, rhythm = self._state, self.rhythm
        workers = self.stepper.config.workers
        steps = self.loader.from_step(state.step, rhythm.steps, workers=workers)
        self._begin = time.perf_counter() - state.seconds
        while state.step < rhythm.steps and not self._patience_is_over():
            begin = time.perf_counter()
            pieces = next(steps)
            self._clock.waited += time.perf_counter() - begin
            total = self._agree(pieces, requests)
            begin = time.perf_counter()
            result = self._take_step(pieces, total)
            self._clock.worked += time.perf_counter() - begin
            self._count(result)
            if self._is_due(rhythm.log_every):
                self._log_window()
            better = False
            if self.monitor is not None and self._is_due(rhythm.validate_every):
                better = self._look()
            if better or self._is_due(rhythm.checkpoint_every):
                self._save()
        return state

    def _is_due(self, every: int) -> bool:
        return self._state.step % every == 0 or self._state.step == self.rhythm.steps

    def _patience_is_over(self) -> bool:
        patience = self.rhythm.patience
        return patience is not None and self._state.looks_since_best >= patience

    def _counters(self) -> Counters:
        step = self._state.step
        return Counters(step, self.rhythm.steps, self.loader.order.epoch_of(step))

    def _agree(self, pieces: list[Piece[BatchT]], requests: Requests) -> float:
        """Count the step's terms over all processes; heed what any of them was asked for."""
        counters, objective = self._counters(), self.loader.objective
        count = sum(objective.count(p.batch, counters) * p.weight for p in pieces)
        reason = requests.stop
        asked = [count, float(reason is not None), float(requests.take_save())]
        total, stop, save = self.stepper.processes.sum(asked)
        if stop or save:
            self._save()
        if stop:
            state = self._state
            kept = "everything is saved: the same command with --resume goes on from here"
            raise InterruptedRunError(
                f"stopped at step {state.step} of {self.rhythm.steps}, "
                f"{reason or 'as another process was asked to'}; "
                f"{kept if self.store is not None else 'nothing is saved'}"
            )
        return total

    def _take_step(self, pieces: list[Piece[BatchT]], total: float) -> StepResult:
        counters = self._counters()
        with self._within_memory():
            result = self.stepper.compute(pieces, counters, total)
        if not result.is_finite:
            refuse_step(
                self.stepper, self.loader, counters, result, self.captures, kept=self._kept()
            )
        # The first step allocates the optimizer's state.
        with self._within_memory():
            self._rate = self.stepper.apply(counters)
        return result

    def _within_memory(self) -> AbstractContextManager[None]:
        config, device = self.stepper.config, self.stepper.processes.device
        return within_memory(config, length=self.length, device=device)

    def _count(self, result: StepResult) -> None:
        """Note a step that was taken."""
        state = self._state
        added = {
            "loss_sum": result.loss * result.terms,
            "terms": result.terms,
            "grad_norm": result.grad_norm,
            "steps": 1.0,
        }
        state.window = {key: state.window.get(key, 0.0) + value for key, value in added.items()}
        self._clock.rows += len(self.loader.index(state.step))
        state.step += 1
        state.seconds = time.perf_counter() - self._begin
        if self.report is not None:
            left = (self.rhythm.steps - state.step) * state.seconds / state.step
            speed = self._clock.rows_per_second
            self.report(Progress(state.step, self.rhythm.steps, result.loss, speed, left))

    def _log_window(self) -> None:
        window, processes = self._state.window, self.stepper.processes
        values = {
            "epoch": self._state.step / self.loader.order.steps_per_epoch,
            "loss": window["loss_sum"] / max(window["terms"], 1.0),
            "grad_norm": window["grad_norm"] / window["steps"],
            "learning_rate": self._rate,
            "rows_per_second": self._clock.rows_per_second,
            "data_wait": self._clock.wait_share,
            "memory_mb": peak_memory(processes.device) / 2**20,
            "seconds": self._state.seconds,
        }
        self._write("train", values)
        self._state.window = {}
        self._so_far.waited += self._clock.waited
        self._so_far.worked += self._clock.worked
        self._clock = _Clock()
        self._warn_of_waiting()

    def _warn_of_waiting(self) -> None:
        """Say once that data come too slowly."""
        clock, workers = self._so_far, self.stepper.config.workers
        slow = clock.wait_share > MOST_WAITING and clock.waited >= FEWEST_SECONDS
        if self.log is None or self._warned or not slow:
            return
        self._warned = True
        if self.stepper.processes.is_main:
            logger.warning(
                "%.0f %% of the time is spent waiting for data; read them in %s processes with "
                "--set training.workers=%d, which changes no result and which --resume may change",
                100 * clock.wait_share,
                "more" if workers else "other",
                2 * workers or 2,
            )

    def _look(self, *, counts: bool = True) -> bool:
        """Evaluate; returns whether this look is the best so far."""
        assert self.monitor is not None
        self._check_weights()
        with self._within_memory():
            look: Look = self.monitor(self.model, self._counters())
        self._write("valid", {"valid_loss": look.loss, **look.values})
        state = self._state
        if not counts:
            return False
        # A loss that is no number, as of validation rows without weight, is never the best.
        better = state.best_loss is None or look.loss < state.best_loss
        if better and math.isfinite(look.loss):
            state.best_step, state.best_loss, state.looks_since_best = state.step, look.loss, 0
            if self.store is None:
                self.best_weights = weights_of(self.model)
            return True
        state.looks_since_best += 1
        return False

    def _check_weights(self) -> None:
        """Refuse weights that a finite gradient took too far: they replace no good ones."""
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise NonFiniteError(
                f"the weights are not finite after step {self._state.step}; they are not saved"
                f"{self._kept()}: lower training.learning_rate"
            )

    def _kept(self) -> str:
        """Word what is left of earlier steps, where there is something."""
        has_one = self.store is not None and self.store.steps()
        return " and the last good checkpoint is kept" if has_one else ""

    def _write(self, kind: str, values: Mapping[str, Any]) -> None:
        processes = self.stepper.processes
        if self.log is not None and processes.is_main:
            self.log.append(kind, self._state.step, values)
        prefixed = {f"{kind}/{name}": value for name, value in values.items()}
        processes.track(self._state.step, prefixed)

    def _save(self) -> None:
        """Keep all there is; once is enough for a step."""
        state, processes = self._state, self.stepper.processes
        if self.store is None or self._saved == state.step:
            return
        self._check_weights()
        if processes.is_main:
            if self.log is not None:
                self.log.flush()
            optimizer = optimizer_tensors(self.stepper.optimizer, self.model)
            values = {"format_version": 1, **asdict(state), **self.extra()}
            self.store.save(
                Snapshot(weights_of(self.model), optimizer, values), best=state.best_step
            )
        self._saved = state.step
        processes.wait()

    def _restore(self, start: Snapshot) -> None:
        self.model.load_state_dict(dict(start.model))
        load_optimizer(self.stepper.optimizer, self.model, start.optimizer)
        known = {name: start.state[name] for name in asdict(self._state)}
        self._state = Trained(**known)
        self._saved = self._state.step
        if self.log is not None and self.stepper.processes.is_main:
            self.log.rewind(self._state.step)
