"""`anymae.tune`: a search for mask and model settings that serve a target.

What counts is a linear model on frozen features, as in `probe`, on validation rows. The loss would
not do: it says little about other tasks, and is small where little is hidden. Test rows are kept
out of pretraining, fitting and choice alike.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from anymae.benchmark.suite import ERRORS
from anymae.comparison.study import (
    TEST_SHARE,
    Study,
    Told,
    open_study,
    require_both_classes,
)
from anymae.config import DataConfig, Recipe, parse
from anymae.errors import ConfigError, DataError, MissingExtraError, NonFiniteError
from anymae.files import write_text
from anymae.hub import Model
from anymae.inference.computations import Reading
from anymae.inference.compute import ComputeConfig
from anymae.inference.rows import open_rows
from anymae.metrics import HEADLINE
from anymae.probing import Judge, embeddings
from anymae.recipes import apply_settings, dump_recipe
from anymae.task import FinetuneConfig, TaskConfig, TaskType
from anymae.training.fit import Rows
from anymae.training.labelling import label
from anymae.training.pretrain import shorthands

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

READING: Reading = "layers"
BEST = "best.yaml"


class Range(NamedTuple):
    """Numbers to choose from, evenly or (`log`) by their orders of magnitude."""

    low: float
    high: float
    log: bool = False


SPACE: Mapping[str, Range | tuple[str | int | float, ...]] = {
    "masking.kind": ("guided", "random"),
    "masking.ratio": Range(0.1, 0.7),
    "masking.draw": ("top", "sample"),
    "masking.random_floor": (0.0, 0.25, 0.5, 0.75),
    "encoder.depth": (2, 4, 6),
    "training.learning_rate": Range(3e-4, 3e-3, log=True),
}
"""What is searched, but for what the user sets."""

OF_GUIDED = ("masking.draw", "masking.random_floor")
"""Settings that other maskings do not have."""


@dataclass(frozen=True)
class TunedTrial:
    """One pretraining run of a search."""

    number: int
    settings: dict[str, Any]
    """What was tried; empty for the first, which takes the settings as they were asked for."""
    score: float | None
    """The metric on validation rows; `None` where the loss stopped being finite."""
    seconds: float

    @property
    def words(self) -> str:
        """Return the settings as text."""
        each = (f"{name}={value}" for name, value in self.settings.items())
        return ", ".join(each) or "settings as asked for"


@dataclass(frozen=True)
class Tuning:
    """What a search found."""

    task: TaskConfig
    metric: str
    rows: dict[str, int]
    """`pretrained`, `fitted` and `judged` rows; none is of the test part."""
    trials: tuple[TunedTrial, ...]
    """In the order in which they ran."""
    recipe: Path
    """The best trial's recipe, for `pretrain --recipe`."""

    @property
    def ranked(self) -> list[TunedTrial]:
        """Trials with a score, the best first."""
        sign = 1 if self.metric in ERRORS else -1
        scored = [trial for trial in self.trials if trial.score is not None]
        return sorted(scored, key=lambda trial: (sign * (trial.score or 0.0), trial.number))

    @property
    def best(self) -> TunedTrial:
        """The trial with the best score."""
        return self.ranked[0]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "task": self.task.model_dump(mode="json"),
            "metric": self.metric,
            "rows": self.rows,
            "best": asdict(self.best),
            "trials": [asdict(trial) for trial in self.trials],
            "recipe": str(self.recipe),
        }


def tune(
    data: object,
    *,
    target: str | Sequence[str] = (),
    out: str | Path,
    trials: int = 20,
    preset: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    settings: Mapping[str, object] | None = None,
    data_config: DataConfig | None = None,
    task: TaskType | None = None,
    num_labels: int | None = None,
    seed: int = 0,
    progress: Told = None,
) -> Tuning:
    """Search for settings whose frozen features predict a target best.

    The first trial takes the settings as they are, the others vary those in `SPACE` that are not
    set, at the same number of steps (Optuna's tree-structured Parzen estimator). Each trial is
    kept: the same call goes on where it was cut, and one with more trials adds to them.

    Args:
        data: Rows, some of them with labels: a path or a Python object.
        target: Columns to predict; may be named in `data_config` instead.
        out: Folder for the runs, `tune.json` and the best recipe, `best.yaml`.
        trials: Pretraining runs.
        preset: Size of the model.
        steps: Optimizer steps of a run.
        minutes: Wall-clock budget of a run instead.
        settings: Further keys of the recipe, which are not varied then.
        data_config: Columns, roles, splits; a fifth of the rows is left alone as a test part
            where it names none.
        task: The task, where the values of the targets do not tell.
        num_labels: Labels to fit to and to judge on; `None` takes all but those of the test part.
        seed: Draws rows, trials, initial weights, order and masks.
        progress: Called after each step of pretraining.

    Raises:
        MissingExtraError: Optuna is not installed.
        UserInputError: The request cannot be carried out; nothing was written.
        InterruptedRunError: Asked to stop; what was computed is saved.
        NonFiniteError: No trial kept a finite loss.
    """
    _require_optuna()
    config, names = data_config or DataConfig(), (target,) if isinstance(target, str) else target
    config = config.model_copy(update={"target": tuple(names) or config.target})
    short = shorthands({"preset": preset, "steps": steps, "minutes": minutes})
    given = {**short, **(settings or {}), "training.seed": seed}
    space = _space(given, trials)
    study, notes = open_study(data, config, given, Path(out), "tune.json")
    also = {"target": list(study.dataset.roles.target), "task": task, "num_labels": num_labels}
    search = _Search(replace(study, also=also), given, space, *_label(study, also, seed), seed)
    done = search.claim()
    for note in notes:
        logger.info("%s", note)
    return search.go_on(done, trials, progress)


def _space(given: Mapping[str, object], trials: int) -> list[str]:
    """Return the settings that vary: those that are not given."""
    space = [name for name in SPACE if name not in given]
    if given.get("masking.kind", "guided") != "guided":
        space = [name for name in space if name not in OF_GUIDED]
    if given.get("init") is not None:  # which brings its own sizes
        space = [name for name in space if not name.startswith("encoder.")]
    if trials < 1 or not space:
        found = "every setting of the search is set" if trials > 0 else f"--trials is {trials}"
        raise ConfigError(f"{found}; there must be something to try")
    return space


@dataclass(frozen=True)
class _Search:
    """What all trials share."""

    study: Study
    given: Mapping[str, object]
    """Settings of the user."""
    space: Sequence[str]
    """Settings that vary."""
    task: TaskConfig
    labelled: Rows
    seed: int

    @property
    def metric(self) -> str:
        return HEADLINE[self.task.type]

    def claim(self) -> list[TunedTrial]:
        """Take the folder; returns the trials that are done."""
        before = self.study.claim() or {"trials": []}
        return [TunedTrial(**trial) for trial in before["trials"]]

    def go_on(self, done: list[TunedTrial], trials: int, told: Told) -> Tuning:
        """Run what is missing; `done` trials count."""
        found = list(done)
        while len(found) < trials:
            found.append(self.run(found, told))
            self.study.write({"trials": [asdict(trial) for trial in found]})
            logger.info("trial %d of %d: %s", len(found), trials, _told(found[-1], self.metric))
        return self.conclude(found)

    def run(self, done: Sequence[TunedTrial], told: Told) -> TunedTrial:
        """Pretrain once more, and judge the features."""
        started, number = time.perf_counter(), len(done)
        settings = self.propose(done) if number else {}
        recipe = apply_settings(self.study.recipe, settings)
        pool = self.study.pool(self.seed)
        try:
            model = self.study.pretrained(f"trial-{number:03}", pool, recipe, {}, told)
            score = self.judge(model, recipe)
        except NonFiniteError:
            score = None
        return TunedTrial(number, settings, score, round(time.perf_counter() - started, 2))

    def propose(self, done: Sequence[TunedTrial]) -> dict[str, Any]:
        """Choose settings in the light of the trials so far, and of nothing else."""
        import optuna

        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            found = optuna.create_study(
                direction="minimize" if self.metric in ERRORS else "maximize",
                sampler=optuna.samplers.TPESampler(seed=self.seed + len(done)),
            )
            distributions = {name: _distribution(name) for name in self.space}
            for trial in done[1:]:
                found.add_trial(_as_optuna(trial, distributions))
            asked = found.ask(fixed_distributions=distributions).params
        finally:
            optuna.logging.set_verbosity(before)
        if asked.get("masking.kind", "guided") != "guided":
            asked = {name: value for name, value in asked.items() if name not in OF_GUIDED}
        # Two digits of a number say all that there is to know.
        return {
            name: float(f"{value:.2g}") if isinstance(SPACE[name], Range) else value
            for name, value in asked.items()
        }

    def judge(self, model: Model, recipe: Recipe) -> float:
        """Fit a linear model to frozen features, and measure it on validation rows."""
        rows = self.labelled
        dataset = open_rows(model, self.study.frame, recipe.data)
        config = ComputeConfig(device=recipe.training["device"])
        features = embeddings(model, dataset, np.r_[rows.train, rows.valid], READING, config)
        judge = Judge(
            self.study.dataset, self.task, rows.labelled.targets, rows.train, rows.valid,
            resamples=0, seed=self.seed,
        )  # fmt: skip
        score = judge.linear("encoder", READING, features).mean(self.metric)
        if score is None:
            raise DataError(
                f"{self.metric} is not defined on the {len(rows.valid):,} validation rows"
            )
        return score

    def conclude(self, done: Sequence[TunedTrial]) -> Tuning:
        """Rank the trials, and write the recipe of the best."""
        study, rows = self.study, self.labelled
        counts = {
            "pretrained": len(study.pool(self.seed)),
            "fitted": len(rows.train),
            "judged": len(rows.valid),
        }
        found = Tuning(self.task, self.metric, counts, tuple(done), study.out / BEST)
        if not found.ranked:
            raise NonFiniteError(
                f"the loss of all {len(done)} trials stopped being finite; set a lower "
                "training.learning_rate"
            )
        best = found.best
        settings = {"preset": study.recipe.preset, **self.given, **best.settings}
        # Without the columns, as it is for other data too.
        recipe = apply_settings(Recipe(), settings)
        comment = (
            f"Best of {len(done)} trials: {self.metric} {best.score:.4f} on {len(rows.valid):,} "
            "validation rows, on which it was chosen."
        )
        write_text(found.recipe, dump_recipe(recipe, comment=comment))
        return found


def _label(study: Study, asked: Mapping[str, Any], seed: int) -> tuple[TaskConfig, Rows]:
    shares = {"task": asked["task"], "num_labels": asked["num_labels"], "test_share": TEST_SHARE}
    task, rows, _ = label(study.dataset, study.config, parse(FinetuneConfig, shares), seed=seed)
    if not len(rows.valid):
        raise DataError("no validation row has a label to judge by; name some in the split column")
    require_both_classes(task, rows.labelled.targets[rows.valid], "validation")
    return task, rows


def _distribution(name: str) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    values = SPACE[name]
    if isinstance(values, Range):
        return FloatDistribution(values.low, values.high, log=values.log)
    return CategoricalDistribution(values)


def _as_optuna(
    trial: TunedTrial, distributions: Mapping[str, "optuna.distributions.BaseDistribution"]
) -> "optuna.trial.FrozenTrial":
    from optuna.trial import TrialState, create_trial

    return create_trial(
        params=trial.settings,
        distributions={name: distributions[name] for name in trial.settings},
        value=trial.score,
        state=TrialState.FAIL if trial.score is None else TrialState.COMPLETE,
    )


def _told(trial: TunedTrial, metric: str) -> str:
    score = "not finite" if trial.score is None else f"{metric} {trial.score:.4f}"
    return f"{score} with {trial.words}"


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "a search needs Optuna; install it with: pip install 'anymae[tune]'"
        ) from None
