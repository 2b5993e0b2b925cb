"""One job: one arm on one task with one seed, everything chosen on validation, the test last."""

import time
from collections.abc import Callable, Iterable, Iterator

from anymae.benchmark.arms import Arm
from anymae.benchmark.asked import asked_of, finetuning_of
from anymae.benchmark.baselines import BASELINES
from anymae.benchmark.candidates import Candidate, Chosen, Floats, blends, choose, final_metrics
from anymae.benchmark.encoders import ArmEncoder, Where
from anymae.benchmark.finetuning import finetuned
from anymae.benchmark.linear import linear_candidates
from anymae.benchmark.prepare import Prepared, prepare_task
from anymae.benchmark.record import ENCODER, JobName, Method, Record, check_rows, describe_machine
from anymae.benchmark.suite import Budget, Task
from anymae.errors import ConfigError


def run_job(where: Where, name: JobName, arm: Arm, encoder: ArmEncoder | None) -> Record:
    """Compute the record of a job.

    Args:
        where: Suite, budget, folder.
        name: Which job.
        arm: Its arm.
        encoder: That of the arm; `None` for the plain baseline.
    """
    task = where.suite.tasks[name.task]
    started = time.monotonic()
    prepared = prepare_task(where.suite, task, where.budget, name.seed)
    if arm.reading == "flat" and prepared.data.config.kind == "bytes":
        # Before anything is trained for it.
        raise ConfigError(
            f"rows of {name.task} differ in length and cannot be read by flat; name another "
            "probe.reading"
        )
    check_rows(where.out, name, "split", prepared.split)
    waiting = time.monotonic()
    if encoder is not None:
        _ = encoder.record  # Pretrains, unless that was done.
    started += time.monotonic() - waiting
    methods = _Methods(task, prepared, arm, where.budget, name.seed)
    if encoder is None:
        methods.add(task.baseline, methods.baseline)
    elif arm.joins:
        methods.add_joined(encoder)
    else:
        methods.add_encoder(encoder)
    return _record(where, name, methods, started, encoder)


class _Methods:
    """Runs the methods of an arm, and notes how long each took."""

    def __init__(self, task: Task, prepared: Prepared, arm: Arm, budget: Budget, seed: int) -> None:
        self.task, self.prepared, self.data, self._seed = task, prepared, prepared.data, seed
        self._readings, self._plan = arm.readings(budget), finetuning_of(budget, task, arm)
        self.chosen: dict[str, Chosen] = {}
        self.seconds: dict[str, float] = {}

    def add(self, name: str, candidates: Callable[[], Iterable[Candidate]]) -> Chosen:
        """Run one method and keep its best candidate."""
        started = time.monotonic()
        self.chosen[name] = choose(self.task, self.data, candidates())
        self.seconds[name] = time.monotonic() - started
        return self.chosen[name]

    def baseline(self, extra: Floats | None = None) -> Iterator[Candidate]:
        """Run the field's baseline, with features of an encoder beside its own."""
        return BASELINES[self.task.baseline](self.task, self.data, self._seed, extra)

    def add_encoder(self, encoder: ArmEncoder) -> None:
        """Probe the frozen encoder, and fine-tune it where the budget says so."""
        self.add("probe", lambda: self._probes(self._features(encoder)))
        plan = self._plan
        if plan is None:
            return
        self.add(
            "finetune",
            lambda: [
                finetuned(
                    self.task, self.data, encoder.model, plan,
                    seed=self._seed, device=encoder.where.device,
                )
            ],
        )  # fmt: skip

    def add_joined(self, encoder: ArmEncoder) -> None:
        """Give the field's baseline the encoder's features, or mix its answers with a probe's."""
        features = self._features(encoder)
        probed = self.add("probe", lambda: self._probes(features))
        plain = self.add(self.task.baseline, self.baseline)
        extra = features[str(probed.settings["reading"])]
        self.add("joined", lambda: self.baseline(extra))
        self.add("blend", lambda: blends(probed, plain))
        # What the two are alone is reported by their own jobs.
        del self.chosen["probe"], self.chosen[self.task.baseline]

    def _features(self, encoder: ArmEncoder) -> dict[str, Floats]:
        key = self.task.curve or self.task.name
        return encoder.reader(self._readings).read(key, self.data, self.prepared.rows)

    def _probes(self, features: dict[str, Floats]) -> Iterator[Candidate]:
        """Fit linear models to every reading of the frozen encoder, at every strength."""
        for reading, values in features.items():
            for candidate in linear_candidates(self.task, self.data, values):
                settings = {"reading": reading, **candidate.settings}
                yield candidate._replace(settings=settings)


def _record(
    where: Where, name: JobName, methods: _Methods, started: float, encoder: ArmEncoder | None
) -> Record:
    """Look at the test, and write everything down."""
    task, chosen = methods.task, methods.chosen
    pretraining, digest = (None, None) if encoder is None else (encoder.record, encoder.digest)
    # What needs no encoder runs on a CPU, whatever was asked for.
    device = "cpu" if encoder is None else where.device
    best = max(chosen, key=lambda method: task.gain(chosen[method].validation))
    test = final_metrics(task, methods.data, chosen) if name.stage == "final" else {}
    return Record(
        job=name,
        command=name.command(device),
        machine=describe_machine(device),
        data={"split": methods.prepared.split, "rows": methods.prepared.counts},
        asked=asked_of(type(where.suite), name),
        settings={} if pretraining is None else pretraining.settings,
        seconds=time.monotonic() - started,
        pretraining_seconds=0.0 if pretraining is None else pretraining.seconds,
        methods={
            method: Method(
                settings=dict(found.settings),
                tried=found.tried,
                validation=found.validation,
                test=test.get(method),
                seconds=methods.seconds[method],
            )
            for method, found in chosen.items()
        },
        best=best,
        facts={} if digest is None else {ENCODER: digest},
    )
