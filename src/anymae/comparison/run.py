"""`anymae.compare`: the same rows, budget and seeds for pretraining and what must be beaten.

Each seed draws test rows (where the data name none), labels, initial weights, order and masks,
alike for all that is compared. All rows that do not test are pretrained on, with labels or without.
Test rows are judged once, when all features of a seed are there.

Shapes: R rows, F features.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from anymae.comparison.baseline import Features, read_baseline
from anymae.comparison.result import GUIDED, JOINED, MASKINGS, NONE, RAW, Comparison, run_name
from anymae.comparison.study import (
    TEST_SHARE,
    Study,
    judge,
    labelling,
    open_study,
    require_judges,
    tell_judges,
    tell_only_validate,
)
from anymae.data.batch import IntArray
from anymae.data.frame import Frame
from anymae.errors import ConfigError, DataError
from anymae.metrics import HEADLINE
from anymae.probing import raw_features
from anymae.recipes import DataSettings, apply_settings, data_settings, flat_settings
from anymae.task import FinetuneConfig, TaskConfig, TaskType
from anymae.training.judges import FEW
from anymae.training.labelling import Labelled, check_weights, draw_parts, label_parts
from anymae.training.pretrain import shorthands
from anymae.training.progress import Report
from anymae.training.resolve import resolve_job
from anymae.training.session import make_model

logger = logging.getLogger(__name__)

VARIED = ("masking.kind", "training.seed")
"""Settings in which the runs differ."""

ONE_PART = 0.5
"""Test parts of seeds that share more than this, on average, count as one part."""


def compare(
    data: object,
    *,
    target: str | Sequence[str] = (),
    out: str | Path,
    baselines: Mapping[str, object] | None = None,
    seeds: int = 5,
    preset: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    settings: Mapping[str, object] | None = None,
    data_config: DataSettings | None = None,
    task: TaskType | None = None,
    num_labels: int | None = None,
    progress: Report | None = None,
) -> Comparison:
    """Compare guided pretraining with random masks, no pretraining, raw and one's own features.

    Linear models on frozen features answer, as in `probe`. The runs are kept: the same call goes
    on where it was cut, and another number of labels, other baselines or more seeds use those
    that are there.

    Args:
        data: Rows, some of them with labels: a path or a Python object. All but the test rows are
            pretrained on, also those without labels, and no others.
        target: Columns to predict; may be named in `data_config` instead.
        out: Folder for the runs.
        baselines: Features by name: a file or object with a row of numbers for each row of the
            data. They are judged alone, and joined to the guided embedding.
        seeds: Seeds 0 to `seeds - 1`; each pretrains once with guided and once with random masks.
        preset: Size of the model.
        steps: Optimizer steps of a run.
        minutes: Wall-clock budget of a run instead.
        settings: Further keys of the recipe, such as `{"masking.ratio": 0.5}`.
        data_config: Columns, roles, splits; a fifth of the rows tests where no split is
            named.
        task: The task, where the values of the targets do not tell.
        num_labels: Labels to fit to; `None` takes all that do not test.
        progress: Called after each step of pretraining.

    Raises:
        UserInputError: The request cannot be carried out; nothing was written.
        InterruptedRunError: Asked to stop; what was computed is saved.
    """
    config = data_settings(data_config).aimed_at(target)
    short = shorthands({"preset": preset, "steps": steps, "minutes": minutes})
    given = flat_settings({**short, **(settings or {})})
    for name in VARIED:
        if name in given:
            raise ConfigError(f"{name} is varied by the comparison and cannot be set; leave it out")
    study, notes = open_study(data, config, given, Path(out), "compare.json")
    own = {name: read_baseline(name, file, study.frame) for name, file in (baselines or {}).items()}
    asked = labelling(task, num_labels)
    if seeds < 1:
        raise ConfigError(f"--seeds is {seeds}; at least one is needed")
    trials = [_draw(study, asked, seed) for seed in range(seeds)]
    study.claim()
    for note in notes:
        logger.info("%s", note)
    _tell_rows(study, trials, num_labels)
    return _compare(study, trials, own, progress)


@dataclass(frozen=True)
class _Trial:
    """The rows of one seed."""

    seed: int
    task: TaskConfig
    rows: Labelled
    """Those that are fitted to (`train`) and those that test (`valid`)."""
    pool: Frame
    """Rows to pretrain on: all but those of the test part."""
    unlabelled: int
    """Of these, those without a label."""


def _draw(study: Study, asked: FinetuneConfig, seed: int) -> _Trial:
    dataset = study.dataset
    # Test rows are among all rows: those without labels are kept out of pretraining too.
    parts = draw_parts(dataset, study.config, asked, seed=seed)
    task, labelled, test = label_parts(dataset, parts, asked, seed=seed)
    if not len(test):
        raise DataError("no test row has a label; name some in the split column, or leave it out")
    require_judges(labelled, task, test, "test")
    fitted = np.union1d(labelled.train, labelled.valid)
    rows = labelled._replace(train=fitted, valid=test)
    check_weights(rows._replace(valid=fitted[:0]))
    pretrained = np.setdiff1d(np.arange(len(dataset)), parts.test)
    unlabelled = int(np.isnan(rows.targets[pretrained]).all(1).sum())
    return _Trial(seed, task, rows, study.pool(seed), unlabelled)


def _tell_rows(study: Study, trials: Sequence[_Trial], num_labels: int | None) -> None:
    """Warn, once for all seeds, of rows that have less of a part than may be expected."""
    tell_only_validate(study, num_labels)
    judges = min((trial.rows.valid for trial in trials), key=len)
    if len(judges) >= FEW:
        # A class that the rows of one seed lack may be among those of another.
        judges = np.unique(np.concatenate([trial.rows.valid for trial in trials]))
    first = trials[0]
    tell_judges(study, first.rows._replace(valid=judges), first.task, "test")


def _compare(
    study: Study, trials: Sequence[_Trial], own: Mapping[str, Features], progress: Report | None
) -> Comparison:
    """Carry out what is decided."""
    if study.recipe.init is not None:
        logger.warning(
            "runs begin with the weights of %s, which may have been pretrained on test rows; "
            "only rows that it has never seen can judge it",
            study.recipe.init,
        )
    started, scores = time.perf_counter(), dict[str, dict[int, float]]()
    runs = [run_name(kind, trial.seed) for trial in trials for kind in MASKINGS.values()]
    telling = study.telling(progress, runs)
    for trial in trials:
        features = _features(study, trial, own, telling)
        found = judge(features, trial.task, trial.rows, "test", trial.seed)
        for name, score in found.items():
            scores.setdefault(name, {})[trial.seed] = score
    first = trials[0]
    fitted, test = first.rows.train, first.rows.valid
    shared, overlap = _in_common([trial.rows.valid for trial in trials])
    result = Comparison(
        task=first.task,
        metric=HEADLINE[first.task.type],
        rows={"pretrained": len(first.pool), "fitted": len(fitted), "test": len(test)},
        scores=scores,
        overlap=overlap,
        folder=study.out,
        seconds=round(time.perf_counter() - started, 2),
        shared=shared,
        unlabelled=first.unlabelled,
    )
    study.write(result.to_json())
    return result


def _in_common(tests: Sequence[IntArray]) -> tuple[int, float]:
    """Return how many test rows two seeds share, on average, and `Comparison.overlap`."""
    pairs = [
        (len(np.intersect1d(one, other)), (len(one) * len(other)) ** 0.5)
        for one, other in combinations(tests, 2)
    ]
    if not pairs:
        return 0, 0.0
    shared = int(np.mean([common for common, _ in pairs]))
    share = float(np.mean([common / size for common, size in pairs]))
    # Means over test parts are correlated by the share r of rows that these have in common, and
    # the standard error of seeds so correlated is wider by sqrt(1 + seeds * r / (1 - r)). Rows
    # drawn at random share `TEST_SHARE`, the factor of Nadeau and Bengio; no less is taken, as
    # seeds share rows to train on too. Where most rows stay, the spread over seeds is that of
    # trainings and says next to nothing of other rows; a factor that grows without bound as the
    # last row stays would make it up. There the rows are given, as those of a named part are.
    if share > ONE_PART:
        return shared, 0.0
    share = max(share, TEST_SHARE)
    return shared, share / (1 - share)


def _features(
    study: Study, trial: _Trial, own: Mapping[str, Features], telling: Callable[[], Report | None]
) -> dict[str, Features]:
    """Return the features of fitted and test rows, `(R, F)` by name."""
    recipe = apply_settings(study.recipe, {"training.seed": trial.seed})
    with torch.random.fork_rng(devices=[]):
        # Also where runs begin with the weights of another: its sizes, none of its training.
        job = replace(resolve_job(trial.pool, recipe), init=None)
        untrained = make_model(job).eval()
    dataset = study.rows_for(untrained)
    index = np.r_[trial.rows.train, trial.rows.valid]
    found = {}
    for name, masking in MASKINGS.items():
        settings = {"masking.kind": masking}
        run = run_name(masking, trial.seed)
        model = study.pretrained(run, trial.pool, recipe, settings, telling)
        found[name] = study.features(model, dataset, index)
    found[NONE] = study.features(untrained, dataset, index)
    numbers = dataset.rows.numbers_of(index)
    plain = {RAW: raw_features(dataset, index)}
    plain |= {name: features[numbers] for name, features in own.items()}
    for name, features in plain.items():
        found[name] = features
        found[name + JOINED] = np.concatenate([features, found[GUIDED]], 1)
    return found
