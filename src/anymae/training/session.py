"""One pretraining run from start, or from a checkpoint, to the finished folder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from anymae.config import ModelConfig, TrainingConfig, parse
from anymae.data.sampler import spaced
from anymae.errors import AnymaeError, ConfigError
from anymae.files import read_json, told, write_json, write_tensors
from anymae.hub import DATA, WEIGHTS
from anymae.inference.novelty import median_score
from anymae.model import MaskedAutoencoder
from anymae.training.answers import computed_on
from anymae.training.checkpoint import Checkpoints, Snapshot, read_checkpoint
from anymae.training.determinism import reproducible
from anymae.training.folder import NO_EXAMPLES, PART_OF, RunFolder, environment
from anymae.training.guard import Captures
from anymae.training.identity import check_identity
from anymae.training.log import GO_ON, MetricsLog, read_metrics
from anymae.training.loop import Loop, Trained
from anymae.training.memory import freed_memory_kept, peak_memory, within_device
from anymae.training.methods import pretraining_methods
from anymae.training.monitor import ReconstructionMonitor
from anymae.training.objective import Monitor
from anymae.training.online_probe import OnlineProbe
from anymae.training.optim import decay_groups, make_optimizer, warmup_note
from anymae.training.processes import Processes
from anymae.training.progress import Report
from anymae.training.reconstruction import ReconstructionObjective
from anymae.training.requests import Requests
from anymae.training.resolve import Job, resolved_recipe, with_absolute_paths
from anymae.training.settle import Settled, make_loader, settle, settle_again
from anymae.training.step import Stepper
from anymae.training.trivial import fit_trivial
from anymae.training.verdict import judge

logger = logging.getLogger(__name__)

FEWEST_LOOKED_AT, MOST_LOOKED_AT = 256, 1024
"""Validation rows of a look; between these, so many that looking takes a small part of the time."""
LOOK_COST = 80
"""Training rows for each validation row of a look, about."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What concerns this part of a run and not its result."""

    resume: bool = False
    """Go on from the newest good checkpoint, if there is one."""
    overwrite: bool = False
    """Replace a run that is there."""
    stop_after: float | None = None
    """Minutes after which to save and leave."""
    track: str | Sequence[str] | None = None
    """Trackers to feed besides `metrics.jsonl`."""
    no_examples: bool = False
    """Keep raw rows out of captures and reports."""
    probe_target: str | None = None
    """Column that a probe on frozen embeddings predicts at each look."""
    progress: Report | None = None
    """Called after each step."""

    @property
    def trackers(self) -> tuple[str, ...]:
        """The trackers, also where one was given as a string."""
        return (self.track,) if isinstance(self.track, str) else tuple(self.track or ())


class Session:
    """Carries out a job in a folder.

    Args:
        job: What to compute.
        folder: Where to write.
        processes: This process among the others.
        options: How to go about it.
    """

    def __init__(
        self, job: Job, folder: RunFolder, *, processes: Processes, options: Options
    ) -> None:
        self.job, self.folder, self.processes, self.options = job, folder, processes, options
        keep = job.training.keep_checkpoints
        self.store = Checkpoints(folder.checkpoints, keep=keep)

    def run(self, requests: Requests) -> tuple[MaskedAutoencoder, dict[str, Any]]:
        """Train to the end.

        Returns:
            The best model, in evaluation mode on the CPU, and what came out.

        Raises:
            ConfigError: The checkpoints belong to a run that differs; nothing was changed.
            InterruptedRunError: Asked to stop; everything is saved.
        """
        start = self._checked_start()
        threads = self.job.training.threads
        if start is not None:
            threads = start.state["identity"]["threads"]
        with reproducible(self.processes.device, threads=threads), freed_memory_kept():
            return self._run(requests, start)

    def _checked_start(self) -> Snapshot | None:
        """Find where to go on, before anything is changed."""
        if not self.options.resume or not self.folder.is_run:
            return None
        start = self.store.newest(_shapes)
        if start is None:
            logger.warning("%s has no complete checkpoint: starting over", self.folder.path)
            return None
        check_identity(self.job, start.state, read_json(self.folder.path / DATA), self.processes)
        return start

    def _run(
        self, requests: Requests, start: Snapshot | None
    ) -> tuple[MaskedAutoencoder, dict[str, Any]]:
        job, processes, folder = self.job, self.processes, self.folder
        # Who once kept rows out of a run's files keeps them out of all of them, also where it has
        # no checkpoint yet and starts over.
        private = self.options.no_examples or (self.options.resume and folder.has_no_examples)
        model = make_model(job, start).train()
        with within_device(processes.device):
            model.to(processes.device)
        model.encoder.recompute = job.training.recompute
        objective = ReconstructionObjective(job.dataset, model, seed=job.training.seed)
        if start is not None:
            settled = settle_again(job, start.state, processes)
        else:
            settled = settle(
                job,
                model,
                objective,
                processes=processes,
                make_monitor=lambda settled: self._make_monitor(model, settled),
            )
        training, monitor = settled.training(job), self._make_monitor(model, settled)
        note = warmup_note(training, settled.rhythm.steps)
        if note is not None and processes.is_main:
            logger.warning("%s", note)
        # Every process has read what is there, and nothing is refused any more: from here on the
        # main one writes.
        processes.wait()
        if processes.is_main:
            self._open_folder(model, training, start, private=private)
        stepper = Stepper(
            processes.prepare(model),
            objective,
            make_optimizer(decay_groups(model, training), training),
            config=training,
            processes=processes,
        )
        loop = Loop(
            model=model,
            stepper=stepper,
            loader=make_loader(job, settled, objective, processes),
            rhythm=settled.rhythm,
            length=job.config.input.length,
            monitor=monitor,
            store=self.store,
            log=MetricsLog(folder.metrics),
            extra=settled.to_json,
            captures=Captures(folder.path, not private, objective.capture),
            report=self.options.progress,
        )
        processes.start_tracking(_flat(job.config.model_dump(mode="json")))
        trained = loop.run(requests, start)
        return self._finish(model, trained, settled)

    def _open_folder(
        self,
        model: MaskedAutoencoder,
        training: TrainingConfig,
        start: Snapshot | None,
        *,
        private: bool,
    ) -> None:
        """Write what is decided by now; `private` leaves paths as they were typed, and is noted."""
        threads = {"threads": torch.get_num_threads()}
        recipe = resolved_recipe(self.job, training.model_copy(update=threads))
        recipe = recipe if private else with_absolute_paths(recipe)
        with told(self.folder.path, "make room there, then repeat the command with --resume"):
            if start is None:
                about = environment(self.processes.device, world=self.processes.world)
                part_of = self.job.dataset.rows.frame.part_of
                about |= {} if part_of is None else {PART_OF: part_of}
                self.folder.begin(model, recipe, {**about, NO_EXAMPLES: private})
                return
            self.folder.reopen(model, recipe)
            if private:
                self.folder.note({NO_EXAMPLES: True})

    def _make_monitor(self, model: MaskedAutoencoder, settled: Settled) -> Monitor | None:
        parts, target = self.job.dataset.parts, self.options.probe_target
        if not len(parts.valid):
            return None
        between = settled.rhythm.validate_every * settled.global_batch
        most = min(max(between // LOOK_COST, FEWEST_LOOKED_AT), MOST_LOOKED_AT)
        rows = spaced(parts.valid, most)
        probe = None
        if target is not None:
            if self.job.recipe.data.pack:
                raise ConfigError("--probe-target needs rows one by one; leave out data.pack")
            train = spaced(parts.train, MOST_LOOKED_AT)
            probe = OnlineProbe(self.job.dataset, target, train=train, valid=rows)
        return ReconstructionMonitor(
            self.job.dataset,
            rows=rows,
            train_rows=parts.train,
            model=model,
            batch_size=settled.batch_size,
            seed=self.job.training.seed,
            processes=self.processes,
            probe=probe,
        )

    def _finish(
        self, model: MaskedAutoencoder, trained: Trained, settled: Settled
    ) -> tuple[MaskedAutoencoder, dict[str, Any]]:
        """Write what comes last: log, card, and the best weights at the very end."""
        folder, processes = self.folder, self.processes
        step = trained.best_step if self.job.training.keep == "best" else trained.step
        if step is not None and step != trained.step:
            try:
                model.load_state_dict(dict(read_checkpoint(self.store.path(step)).model))
            except AnymaeError as error:
                logger.warning("%s; the weights of the last step are kept instead", error)
                step = trained.step
        self._score_validation(model)
        model = model.cpu().eval()
        facts = summarise(
            read_metrics(folder.metrics), trained, step, self.job.training.keep,
            has_valid=len(self.job.dataset.parts.valid) > 0,
        )  # fmt: skip
        processes.wait()
        if processes.is_main:
            log = MetricsLog(folder.metrics)
            log.append("end", trained.step, facts)
            log.flush()
            peak = peak_memory(processes.device) / 2**20
            with told(f"the end of the run in {folder.path}", GO_ON):
                folder.note({"seconds": trained.seconds, "peak_memory_mb": peak})
                write_json(folder.path / DATA, model.data)
                folder.write_end(model, facts, self._methods(model, settled, facts))
                write_tensors(folder.path / WEIGHTS, model.state_dict())
            logger.info("%s", facts["words"])
        processes.wait()
        return model, facts

    def _methods(self, model: MaskedAutoencoder, settled: Settled, facts: Mapping[str, Any]) -> str:
        dataset = self.job.dataset
        return pretraining_methods(
            self.job.config,
            settled.training(self.job),
            facts,
            parts=dataset.parts,
            # A run may have gone on with other processes.
            batch=round(settled.global_batch * dataset.strings_per_row),
            weights=sum(parameter.numel() for parameter in model.parameters()),
            device=self.processes.device.type,
            init=self.job.init.sha256 if self.job.init is not None else None,
        )

    def _score_validation(self, model: MaskedAutoencoder) -> None:
        """Note beside the model what reconstruction costs, to tell when other data are unlike."""
        rows = self.job.dataset.parts.valid
        # Strings that were joined into one row are not what other data's rows will be.
        if model.data is None or not len(rows) or self.job.recipe.data.pack:
            return
        found = median_score(model, self.job.dataset, rows, computed_on(self.processes.device))
        model.data = {**model.data, "median_score": found}


def make_model(job: Job, start: Snapshot | None = None) -> MaskedAutoencoder:
    """Build the job's model with the weights it begins with; seeds torch's generator.

    Args:
        job: The run.
        start: Where it goes on, whose weights then are the model's.

    Raises:
        ConfigError: The weights to begin with are gone or changed since the run was begun.
    """
    torch.manual_seed(job.training.seed)
    model = MaskedAutoencoder(job.config)
    if start is not None:
        model.load_state_dict(dict(start.model))
    elif job.init is not None:
        model.load_state_dict(job.init.weights())
    elif job.config.encoder.initial == "scaled":
        model.head.begin_at(fit_trivial(job.dataset, job.dataset.parts.train))
    model.data = job.dataset.preparation.to_json()
    return model


def summarise(
    entries: Sequence[Mapping[str, Any]],
    trained: Trained,
    step: int | None,
    keep: Literal["best", "last"],
    *,
    has_valid: bool,
) -> dict[str, Any]:
    """Sum a run up from its log: the numbers of the best look, and the verdict in words."""
    facts: dict[str, Any] = {"steps": trained.step, "best_step": step, "seconds": trained.seconds}
    looks = [entry for entry in entries if entry["kind"] == "valid"]
    if not looks:
        # Looks are made again only where steps are left.
        why = "its log holds no look any more" if has_valid else "there are no validation rows"
        return {**facts, "verdict": "unknown", "words": f"not judged: {why}"}
    best = next((look for look in looks if look["step"] == step), looks[-1])
    verdict = judge(looks, keep)
    numbers = {name: value for name, value in best.items() if name not in ("kind", "step")}
    return {**facts, **numbers, "verdict": verdict.state, "words": verdict.words}


def _shapes(state: Mapping[str, Any]) -> dict[str, torch.Size]:
    """Return the shapes of the weights that a checkpoint says it holds."""
    config = parse(ModelConfig, state["identity"]["model"])
    with torch.device("meta"):
        model = MaskedAutoencoder(config)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, (int, float)) else str(value)
    return flat
