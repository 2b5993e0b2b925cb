"""Training one predictor: its head first, then everything, the best look kept.

With few labels a head of random weights distorts the encoder before it has learned anything, so
the head is fitted while the encoder is frozen (Kumar et al. 2022); then all layers learn, lower
ones more slowly. The fitted head itself takes part in the choice of the best look, so the result
is never worse on the validation rows than that head: with most readouts a linear model.
"""

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from anymae.config import TrainingConfig, parse
from anymae.data.batch import IntArray
from anymae.data.sampler import Order
from anymae.data.splits import row_groups
from anymae.errors import ConfigError, NonFiniteError
from anymae.inference.compute import batches, compute
from anymae.model import Backbone
from anymae.nn.readout import MeanReadout
from anymae.predictor import Predictor
from anymae.task import FinetuneConfig, TaskConfig
from anymae.training.answers import AnswerMonitor, AnswerObjective, Features, computed_on
from anymae.training.checkpoint import weights_of
from anymae.training.determinism import reproducible
from anymae.training.device import settle_precision
from anymae.training.labelling import Labelled
from anymae.training.lengths import fit_steps, global_batch, head_steps
from anymae.training.linear import LinearFit, fit_linear
from anymae.training.loader import StepLoader
from anymae.training.loop import Loop, Rhythm
from anymae.training.memory import freed_memory_kept, within_device
from anymae.training.optim import Groups, decay_groups, layer_groups, make_optimizer
from anymae.training.processes import Processes
from anymae.training.progress import Tally
from anymae.training.requests import Requests
from anymae.training.stages import Left, Looks, Stage, Stages, known_looks, plain_looks, rank
from anymae.training.step import Stepper

logger = logging.getLogger(__name__)

DEFAULTS: Mapping[str, object] = {
    "batch_size": 32,
    "weight_decay": 0.01,
    "patience": 8,
    "warmup": 0.1,
    "keep_checkpoints": 1,
}
"""Training settings where nothing else is said."""

EVALUATED_INPUTS = 16_384
"""Inputs of a batch of rows that are only looked at."""

HEAD_RATE = 1e-3
"""Peak learning rate while the head is trained alone."""

LOOKS = 30
"""Looks at the validation rows, when nothing is said."""


class Fitted(NamedTuple):
    """A trained predictor and how it came about."""

    predictor: Predictor
    """In evaluation mode, with the weights of the best look."""
    loss: float
    """On the validation rows."""
    rate: float
    step: int
    """Of the best look, 0 being the head alone, on the frozen encoder; the last without looks."""
    looks: Looks
    """Step and validation loss."""
    tried: list[tuple[float, float]]
    """Rates and the best validation loss of each, NaN where it is no number."""


def finetune_training(given: Mapping[str, object]) -> TrainingConfig:
    """Combine training settings with the defaults of fine-tuning.

    Raises:
        ConfigError: An unknown key, a value out of range, or one that has no place here.
    """
    config = parse(TrainingConfig, {**DEFAULTS, **given}, where="training")
    if config.minutes is not None:
        raise ConfigError("training.minutes is for pretraining; fine-tuning takes epochs")
    if config.batch_size == "auto":
        raise ConfigError("training.batch_size auto is for pretraining; name a number")
    return config


def fit(
    model: Backbone,
    task: TaskConfig,
    rows: Labelled,
    *,
    config: FinetuneConfig,
    training: TrainingConfig,
    rates: tuple[float, ...],
    processes: Processes,
    requests: Requests,
    tally: Tally | None = None,
    stages: Stages | None = None,
) -> Fitted:
    """Train a predictor at each rate and keep the best on the validation rows.

    Args:
        model: Whose encoder to start from; it stays as it is.
        task: What is predicted.
        rows: What to learn from.
        config: How.
        training: Length, batch, seed; its learning rate is replaced.
        rates: Peak learning rates.
        processes: Where.
        requests: What the outside asks for.
        tally: Told of each step.
        stages: Where what each training leaves is kept, so that a later call goes on from there;
            `None` keeps nothing.

    Raises:
        NonFiniteError: The loss or gradient is not finite, at each of the rates.
        OutOfMemoryError: The weights, their features or a step did not fit.
        InterruptedRunError: Asked to stop.
    """
    precision = settle_precision(training.precision, processes.device)
    training = training.model_copy(update={"precision": precision})
    with reproducible(processes.device, threads=training.threads), freed_memory_kept():
        torch.manual_seed(training.seed)
        dropouts = {
            name: getattr(config, name) for name in ("dropout", "attention_dropout", "drop_path")
        }
        start = Predictor.from_pretrained(model, task, dropouts=dropouts)
        if config.start == "random":
            start = Predictor(start.config, task)
        if model.data is not None:
            # Rows are read again as they are learned from, labels and weights among them.
            read = rows.dataset.preparation
            roles = {**model.data["roles"], "weight": read.roles.weight}
            start.data = {**model.data, "missing": list(read.missing), "roles": roles}
        start.encoder.recompute = training.recompute
        with within_device(processes.device):
            start.to(processes.device).train()
        trainer = _Trainer(start, rows, config, training, processes, requests, tally, stages)
        trainer.prepare_head()
        return trainer.search(rates)


@dataclass
class _Trainer:
    """Trains from one start at several rates."""

    start: Predictor
    rows: Labelled
    config: FinetuneConfig
    training: TrainingConfig
    processes: Processes
    requests: Requests
    tally: Tally | None
    stages: Stages | None

    def __post_init__(self) -> None:
        self.task, self.dataset = self.start.task, self.rows.dataset
        self.global_batch = global_batch(self.training, self.processes.world)
        self.objective = AnswerObjective(
            self.rows, self.task, config=self.config, seed=self.training.seed
        )

    def prepare_head(self) -> None:
        """Fit the head to frozen features."""
        config, count = self.config, len(self.rows.train)
        if config.head_first == "none":
            return
        steps = head_steps(self.task, count, config, self.training, self.processes.world)
        train = partial(self._train_head, steps) if steps else self._fit_head
        self.start.load_state_dict(self._take("head", steps, train).weights)

    def _fit_head(self, _stage: Stage | None) -> Left:
        """Fit a linear model to the readout's features."""
        train = self.rows.train
        groups = row_groups(self.dataset.rows, self.dataset.preparation.missing)
        found = fit_linear(
            self.task, self._features(), self.rows.targets[train],
            weights=self.objective.row_weights(train),
            groups=None if groups is None else groups[train], seed=self.training.seed,
        )  # fmt: skip
        set_head(self.start, found)
        return Left(weights_of(self.start), 0, [])

    def _train_head(self, steps: int, stage: Stage | None) -> Left:
        training = self.training.model_copy(
            update={"epochs": None, "steps": steps, "learning_rate": HEAD_RATE}
        )
        named = self.start.named_parameters()
        encoder = [part for name, part in named if name.startswith(("embedding", "encoder"))]
        for part in encoder:
            part.requires_grad_(False)
        left = self._loop(self.start, decay_groups(self.start, training), training, stage)
        for part in encoder:
            part.requires_grad_(True)
        return left

    def search(self, rates: tuple[float, ...]) -> Fitted:
        """Train at each rate and keep the best; one that diverges ranks last."""
        found: list[Fitted] = []
        tried: list[tuple[float, float]] = []
        last: NonFiniteError | None = None
        for rate in rates:
            try:
                found.append(self.train(rate))
                tried.append((rate, found[-1].loss))
            except NonFiniteError as error:
                if len(rates) == 1:
                    raise
                # No end of it is stored: after a cut it takes the same steps and diverges again.
                logger.warning("rate %g is passed over: %s", rate, str(error).rpartition(":")[0])
                tried.append((rate, float("nan")))
                last = error
        if not found:
            raise NonFiniteError(
                f"none of the learning rates {', '.join(f'{rate:g}' for rate in rates)} keeps the "
                f"training finite (of the last, {str(last).rpartition(':')[0]}); name a lower one "
                "with --learning-rate, or look at the data"
            ) from last
        return min(found, key=lambda fitted: rank(fitted.loss))._replace(tried=tried)

    def train(self, rate: float) -> Fitted:
        """Train all weights at one peak rate."""
        training = self.training.model_copy(update={"learning_rate": rate})
        with within_device(self.processes.device):
            predictor = copy.deepcopy(self.start)
        groups = layer_groups(predictor, decay=self.config.layer_decay, training=training)
        left = self._take(
            f"rate-{rate!r}", self._steps(training),
            lambda stage: self._loop(predictor, groups, training, stage),
        )  # fmt: skip
        predictor.load_state_dict(left.weights)
        if left.looks:
            best = min(left.looks, key=lambda look: rank(look[1]))
            step, loss = best if training.keep == "best" else left.looks[-1]
            logger.info("rate %g: validation loss %.4g at step %d, which is kept", rate, loss, step)
        else:
            step, loss = left.step, float("nan")
            logger.info("rate %g: no validation row has a label; step %d is kept", rate, step)
        return Fitted(predictor.cpu().eval(), loss, rate, step, left.looks, [(rate, loss)])

    def _take(self, name: str, steps: int, train: Callable[[Stage | None], Left]) -> Left:
        """Go through with a training, unless an earlier part of the fine-tuning has."""
        if self.stages is None:
            return train(None)
        sizes = {name: tensor.shape for name, tensor in self.start.state_dict().items()}
        name, keep = f"seed-{self.training.seed}-{name}", self.training.keep_checkpoints
        stage = Stage(self.stages, name, sizes, keep=keep)
        left = stage.left()
        if left is None:
            left = train(stage)
            stage.keep(left)
        elif self.tally is not None:
            self.tally.part(steps)
        return left

    def _steps(self, training: TrainingConfig) -> int:
        return fit_steps(training, len(self.rows.train), self.global_batch)

    def _loop(
        self, predictor: Predictor, groups: Groups, training: TrainingConfig, stage: Stage | None
    ) -> Left:
        """Train; what is left has the weights of the best look, the start among them."""
        processes, train, lengths = self.processes, self.rows.train, self.dataset.lengths
        before = weights_of(predictor)
        order = Order(
            len(train), batch_size=self.global_batch, seed=training.seed,
            lengths=None if lengths is None else lengths[train],
        )  # fmt: skip
        assert isinstance(training.batch_size, int)
        loader = StepLoader(
            self.objective, order=order, rows=train, piece=training.batch_size,
            rank=processes.rank, world=processes.world,
        )  # fmt: skip
        steps = self._steps(training)
        every = training.validate_every or max(1, steps // LOOKS)
        start = None if stage is None else stage.start()
        monitor = None
        if len(valid := self.rows.valid):
            looked_at = [valid[part] for part in self._by_length(valid)]
            seen = [] if start is None else known_looks(start.state["looks"])
            monitor = AnswerMonitor(self.objective, looked_at, processes, seen)
        stepper = Stepper(
            processes.prepare(predictor), self.objective, make_optimizer(groups, training),
            config=training, processes=processes,
        )  # fmt: skip
        loop = Loop(
            model=predictor, stepper=stepper, loader=loader, monitor=monitor,
            rhythm=Rhythm(steps, every, every, training.checkpoint_every or every,
                          training.patience),
            length=self.dataset.input.length,
            store=None if stage is None else stage.store,
            extra=lambda: {"looks": [] if monitor is None else plain_looks(monitor.looks)},
            report=None if self.tally is None else self.tally.part(steps),
        )  # fmt: skip
        trained = loop.run(self.requests, start)
        if monitor is None or training.keep == "last":
            looks = [] if monitor is None else monitor.looks
            return Left(weights_of(predictor), trained.step, looks)
        if trained.best_step is None or rank(monitor.looks[0][1]) <= rank(trained.best_loss):
            return Left(before, trained.step, monitor.looks)
        best = loop.best_weights if stage is None else stage.best(trained.best_step)
        assert best is not None
        return Left(best, trained.step, monitor.looks)

    @torch.no_grad()
    def _features(self) -> np.ndarray:
        """Return the readout's features of the training rows, `(R, F)`, in their order."""
        start, train = self.start, self.rows.train
        if self.dataset.reads_windows:
            # As answers will be: averaged over all of a row.
            config = computed_on(self.processes.device)
            return compute(Features(start), self.dataset, train, config).values
        start.eval()
        out = np.empty((len(train), start.readout.num_features), np.float32)
        for part in self._by_length(train):
            with within_device(self.processes.device, "the features of the training rows"):
                batch = self.processes.send(self.objective.read(train[part]))
                out[part] = start.features(batch.inputs, batch.valid).cpu().numpy()
        start.train()
        return out

    def _by_length(self, rows: IntArray) -> list[IntArray]:
        """Cut rows into batches for evaluation; returns positions in `rows`."""
        lengths = np.full(len(rows), self.dataset.input.length)
        if self.dataset.lengths is not None:
            lengths = self.dataset.lengths[rows].astype(np.int64)
        return list(batches(lengths, EVALUATED_INPUTS))


def set_head(predictor: Predictor, found: LinearFit) -> None:
    """Make a linear model on the readout's features the predictor's head."""
    readout = predictor.readout
    assert isinstance(readout, MeanReadout)
    with torch.no_grad():
        readout.shift.copy_(torch.from_numpy(found.shift))
        readout.scale.copy_(torch.from_numpy(found.scale))
        predictor.output.weight.copy_(torch.from_numpy(found.weight))
        predictor.output.bias.copy_(torch.from_numpy(found.bias))
