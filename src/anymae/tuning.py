"""`anymae.tune`: a search for mask and model settings that serve a target.

What counts is a linear model on frozen features, as in `probe`, on validation rows. The loss would
not do: it says little about other tasks, and is small where little is hidden. Test rows are kept
out of pretraining, fitting and choice alike.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from anymae.benchmark.suite import ERRORS
from anymae.comparison.study import (
    Study,
    judge,
    labelling,
    open_study,
    require_judges,
    tell_judges,
    tell_only_validate,
)
from anymae.config import Recipe
from anymae.data.frame import Frame
from anymae.data.splits import named_parts
from anymae.errors import ConfigError, DataError, NonFiniteError, require_extra
from anymae.files import write_text
from anymae.hub import Model
from anymae.metrics import HEADLINE
from anymae.proposals import SPACE, open_space, propose, require_allowed, settings_of
from anymae.recipes import DataSettings, apply_settings, data_settings, dump_recipe, flat_settings
from anymae.task import TaskConfig, TaskType
from anymae.training.labelling import Labelled, check_weights, draw_parts, label_parts
from anymae.training.pretrain import shorthands
from anymae.training.progress import Report

logger = logging.getLogger(__name__)

BEST = "best.yaml"


@dataclass(frozen=True)
class TunedTrial:
    """One pretraining run of a search."""

    number: int
    settings: dict[str, Any]
    """What was tried; empty for the first, which takes the settings as they were asked for."""
    score: float | None
    """The metric on validation rows, of several numbers in standard deviations of the training
    rows; `None` where the loss stopped being finite."""
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
    """`pretrained` (the rows that validate the runs included), `fitted` and `judged` rows; none
    is of the test part."""
    trials: tuple[TunedTrial, ...]
    """In the order in which they ran."""
    recipe: Path
    """The best trial's recipe, for `pretrain --recipe`."""
    drawn: int = 0
    """Rows that were in no trial by chance alone; 0 where the data name parts."""

    @property
    def doubt(self) -> str | None:
        """What can judge the best settings, where that is not said by the data."""
        if not self.drawn:
            return None
        return (
            f"{self.drawn:,} rows were in no trial, drawn by chance and listed nowhere, so a run "
            "of this recipe on the same data trains on them too; to have rows that judge it, name "
            "them with --split or --test and search again"
        )

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
            "drawn": self.drawn,
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
    data_config: DataSettings | None = None,
    task: TaskType | None = None,
    num_labels: int | None = None,
    seed: int = 0,
    progress: Report | None = None,
) -> Tuning:
    """Search for settings whose frozen features predict a target best.

    The first trial takes the settings as they are, the others vary those in `SPACE` that are not
    set, with the same budget (Optuna's tree-structured Parzen estimator). Each trial is kept: the
    same call goes on where it was cut, and one with more trials adds to them.

    Args:
        data: Rows, some of them with labels: a path or a Python object.
        target: Columns to predict; may be named in `data_config` instead.
        out: Folder for the runs, `tune.json` and the best recipe, `best.yaml`.
        trials: Pretraining runs, those that are done included; fewer where there are no more
            settings to try.
        preset: Size of the model.
        steps: Optimizer steps of a run.
        minutes: Wall-clock budget of a run instead.
        settings: Further keys of the recipe, which are not varied then.
        data_config: Columns, roles, splits; a fifth of the rows is left alone as a test part
            where no split is named.
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
    require_extra("tune", "a search needs Optuna", "optuna")
    config = data_settings(data_config).aimed_at(target)
    short = shorthands({"preset": preset, "steps": steps, "minutes": minutes})
    given = flat_settings({**short, **(settings or {})})
    if "training.seed" in given:
        raise ConfigError("training.seed is set by --seed; leave it out")
    if trials < 1:
        raise ConfigError(f"--trials is {trials}; there must be something to try")
    given, space = {**given, "training.seed": seed}, open_space(given)
    study, notes = open_study(data, config, given, Path(out), "tune.json")
    search = _plan(study, given, space, {"task": task, "num_labels": num_labels}, seed)
    done = search.claim()
    for note in notes:
        logger.info("%s", note)
    return search.go_on(done, trials, progress)


@dataclass(frozen=True)
class _Search:
    """What all trials share."""

    study: Study
    given: Mapping[str, object]
    """Settings of the user."""
    space: Sequence[str]
    """Settings that vary."""
    task: TaskConfig
    labelled: Labelled
    seed: int

    @property
    def metric(self) -> str:
        return HEADLINE[self.task.type]

    @cached_property
    def pool(self) -> Frame:
        """Rows to pretrain on."""
        return self.study.pool(self.seed)

    def claim(self) -> list[TunedTrial]:
        """Take the folder; returns the trials that are done."""
        before = self.study.claim()
        if before is None:
            return []
        try:
            return TypeAdapter(list[TunedTrial]).validate_python(before.get("trials"))
        except ValidationError:
            raise self.study.damaged() from None

    def go_on(self, done: list[TunedTrial], trials: int, told: Report | None) -> Tuning:
        """Run what is missing; `done` trials count."""
        found = list(done)
        telling = self.study.telling(told, map(_run_name, range(len(found), trials)))
        while len(found) < trials:
            settings = self.propose(found) if found else {}
            if settings is None:
                logger.info("%d trials are all that there are to try", len(found))
                break
            trial = self.run(len(found), settings, telling)
            found.append(trial)
            self.study.write({"trials": [asdict(each) for each in found]})
            score = "not finite" if trial.score is None else f"{self.metric} {trial.score:.4f}"
            logger.info("trial %d of %d: %s with %s", len(found), trials, score, trial.words)
        return self.conclude(found)

    def propose(self, done: Sequence[TunedTrial]) -> dict[str, Any] | None:
        """Choose settings that were not tried; `None` once all were."""
        first = settings_of(self.study.recipe, self.space)
        tried = [(trial.settings or first, trial.score) for trial in done]
        direction: Literal["minimize", "maximize"]
        direction = "minimize" if self.metric in ERRORS else "maximize"
        return propose(self.space, tried, direction=direction, seed=self.seed)

    def run(
        self, number: int, settings: dict[str, Any], telling: Callable[[], Report | None]
    ) -> TunedTrial:
        """Pretrain once more, and judge the features."""
        started = time.perf_counter()
        recipe = apply_settings(self.study.recipe, settings)
        try:
            model = self.study.pretrained(_run_name(number), self.pool, recipe, {}, telling)
            score = self.judge(model)
        except NonFiniteError:
            score = None
        return TunedTrial(number, settings, score, round(time.perf_counter() - started, 2))

    def judge(self, model: Model) -> float:
        """Fit a linear model to frozen features, and measure it on validation rows."""
        rows, inputs = self.labelled, self.study.rows_for(model)
        features = self.study.features(model, inputs, np.r_[rows.train, rows.valid])
        return judge({"encoder": features}, self.task, rows, "validation", self.seed)["encoder"]

    def conclude(self, done: Sequence[TunedTrial]) -> Tuning:
        """Rank the trials, and write the recipe of the best."""
        study, rows = self.study, self.labelled
        counts = {
            "pretrained": len(self.pool),
            "fitted": len(rows.train),
            "judged": len(rows.valid),
        }
        given = named_parts(study.dataset.rows) is not None
        drawn = 0 if given else len(study.dataset) - len(self.pool)
        found = Tuning(self.task, self.metric, counts, tuple(done), study.out / BEST, drawn)
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
        if found.doubt is not None:
            comment += f"\nNote: {found.doubt}."
        write_text(found.recipe, dump_recipe(recipe, comment=comment))
        return found


def _plan(
    study: Study,
    given: Mapping[str, object],
    space: Sequence[str],
    asked: Mapping[str, Any],
    seed: int,
) -> _Search:
    """Check what settings and labels allow, before the folder is taken."""
    require_allowed(study.recipe, space)
    config = labelling(asked["task"], asked["num_labels"])
    # Whatever follows cannot look at test labels, not even to tell the task by.
    parts = draw_parts(study.dataset, study.config, config, seed=seed)
    task, rows, _ = label_parts(study.sealed(parts.test), parts, config, seed=seed)
    if not len(rows.valid):
        raise DataError("no validation row has a label to judge by; name some in the split column")
    require_judges(rows, task, rows.valid, "validation")
    check_weights(rows)
    tell_only_validate(study, config.num_labels)
    tell_judges(study, rows, task, "valid", config.num_labels)
    # A default that is named makes the same recipe, but no longer varies.
    varied = {name: list(SPACE[name]) for name in space}
    also = {**asked, "target": list(study.dataset.roles.target), "space": varied}
    return _Search(replace(study, also=also), given, space, task, rows, seed)


def _run_name(number: int) -> str:
    return f"trial-{number:03}"
