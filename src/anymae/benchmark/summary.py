"""Records put together: the values of each task and arm by seed, and what follows from them."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from anymae.benchmark.arms import ARMS, parse_arm
from anymae.benchmark.record import Record, Stage
from anymae.benchmark.statistics import Difference, paired_difference
from anymae.benchmark.suite import ERRORS, MINI, SUITES, Suite, Task
from anymae.errors import ConfigError

Values = dict[int, float]
"""By seed."""

STAGES: tuple[Stage, ...] = ("final", "tune")

Validated = dict[Stage, Values]
"""What validation rows say of one ratio, by stage."""

FIRST = ("moleculenet", "tape", "higgs")
"""Suites of the paper's three fields, which the page shows before the others."""


class RatioChoice(NamedTuple):
    """The mask ratios of one masking that validation rows have compared."""

    best: list[float]
    """By mean rank over tasks; more than one is a tie."""
    compared: list[float]
    """On the same seeds of the same tasks."""
    left_out: list[float]
    """Tried too, on fewer seeds or tasks."""
    seeds: list[int]
    """How many compare them, by task."""


class Group(NamedTuple):
    """The records of one suite and budget."""

    suite: str
    budget: str
    records: Sequence[Record]

    @property
    def kind(self) -> type[Suite]:
        """The suite."""
        return SUITES[self.suite]

    def tasks(self, stage: Stage = "final") -> list[Task]:
        """Tasks that have records of a stage, in the suite's order."""
        known = {record.job.task for record in self.records if record.job.stage == stage}
        return [task for task in self.kind.tasks.values() if task.name in known]

    def arms(self, task: Task) -> list[str]:
        """Arms that have a final record for a task, in a fixed order."""
        found = {record.job.arm for record in self.records_of(task)}
        return sorted(found, key=lambda arm: (ARMS.index(parse_arm(arm).name), arm))

    def records_of(
        self, task: Task, arm: str | None = None, stage: Stage = "final"
    ) -> list[Record]:
        """Records of a stage of a task, or of one arm on it."""
        return [
            record
            for record in self.records
            if (record.job.stage, record.job.task) == (stage, task.name)
            and arm in (None, record.job.arm)
        ]

    def pretrainings(self, arm: str | None = None, corpus: str | None = None) -> list[Record]:
        """Records of pretraining runs, of one arm or all, on one corpus or all."""
        return [
            record
            for record in self.records
            if record.job.corpus is not None
            and arm in (None, record.job.arm)
            and corpus in (None, record.job.corpus)
        ]

    def encoders_of(self, task: Task, arm: str) -> list[Record]:
        """Records of the pretraining runs that an arm's encoders on a task come from."""
        encoder = parse_arm(arm).encoder
        return [] if encoder is None else self.pretrainings(encoder.text, task.corpus)

    def ratio_choices(self) -> dict[str, RatioChoice]:
        """Return, by masking, which ratios validation rows compared and which were best.

        Looks at arms that differ in nothing but the ratio, such as `guided:ratio=0.5`, on seeds
        that they share, and at ratios that every task of the sweep has.
        """
        sweeps: dict[str, list[tuple[Task, dict[float, Values]]]] = {}
        tried: dict[str, set[float]] = {}
        for task in self.kind.tasks.values():
            for name, found in self._ratio_sweep(task).items():
                tried.setdefault(name, set()).update(found)
                if shared := _shared(found):
                    sweeps.setdefault(name, []).append((task, shared))
        choices = {}
        for name, sweep in sorted(sweeps.items()):
            ratios = sorted(set.intersection(*(set(shared) for _, shared in sweep)))
            if len(ratios) > 1:
                ranks = [
                    _ranks(task, [shared[ratio] for ratio in ratios]) for task, shared in sweep
                ]
                total = np.sum(ranks, 0)
                choices[name] = RatioChoice(
                    best=[ratios[place] for place in np.flatnonzero(total == total.min())],
                    compared=ratios,
                    left_out=sorted(tried[name] - set(ratios)),
                    seeds=[len(next(iter(shared.values()))) for _, shared in sweep],
                )
        return choices

    @property
    def has_sweep(self) -> bool:
        """True where validation rows have seen several ratios of a masking on one task."""
        return any(self._ratio_sweep(task) for task in self.kind.tasks.values())

    def ratios_not_taken(self) -> dict[str, tuple[float, list[float]]]:
        """Return, by masking, the suite's ratio and the best ones where it is none of these."""
        own = self.kind.budgets[self.budget].masking
        found = {}
        for name, choice in self.ratio_choices().items():
            ratio = own.get(name.split(":")[0].removesuffix("-again"), {}).get("ratio")
            if ratio is not None and ratio not in choice.best:
                found[name] = (float(ratio), choice.best)
        return found

    def _ratio_sweep(self, task: Task) -> dict[str, dict[float, Validated]]:
        """Return the metric on validation rows by masking, with its other settings, and ratio.

        Final jobs were chosen on validation rows in the same way, so they count too.
        """
        found: dict[str, dict[float, Validated]] = {}
        own = self.kind.budgets[self.budget].masking
        for stage in STAGES:
            for text in sorted({r.job.arm for r in self.records if r.job.stage == stage}):
                arm, values = parse_arm(text), self.validated(task, text, stage)
                kind = arm.name.removesuffix("-again")
                ratio = arm.settings.get("masking.ratio", own.get(kind, {}).get("ratio"))
                if ratio is not None and values:
                    others = [part for part in text.split(":") if not _names_ratio(part)]
                    of = found.setdefault(":".join(others), {})
                    seen = of.setdefault(float(ratio), {stage: {} for stage in STAGES})
                    seen[stage] |= values
        return {name: of for name, of in found.items() if len(of) > 1}

    def tested(self, task: Task, arm: str, method: str | None = None) -> Values:
        """Return the task's metric on the test rows, of the best method or a given one."""
        found = {}
        for record in self.records_of(task, arm):
            chosen = record.methods.get(method or record.best or "")
            if chosen is not None and chosen.test is not None:
                found[record.job.seed] = chosen.test[task.metric]
        return dict(sorted(found.items()))

    def validated(self, task: Task, arm: str, stage: Stage) -> Values:
        """Return the metric by which the arm's best method was chosen."""
        records = self.records_of(task, arm, stage)
        found = {each.job.seed: each.methods[each.best or ""].validation for each in records}
        return dict(sorted(found.items()))

    def values(self, task: Task, arm: str, stage: Stage, method: str | None = None) -> Values:
        """Return what a stage is judged by: `tested` for the final one, else `validated`."""
        if stage == "final":
            return self.tested(task, arm, method)
        return self.validated(task, arm, stage)

    def compare(
        self, task: Task, arm: str, other: str, *, stage: Stage = "final", method: str | None = None
    ) -> Difference | None:
        """Return what an arm is better by than another, by their `values`."""
        mine, theirs = (self.values(task, name, stage, method) for name in (arm, other))
        metric = task.metric if stage == "final" else task.choice_metric
        # A seed has a split of its own where no hash of one is stored.
        splits = {
            record.job.seed: record.data.get("split", str(record.job.seed))
            for record in self.records_of(task, arm, stage)
        }
        return paired_difference(mine, theirs, smaller_is_better=metric in ERRORS, splits=splits)


def group_records(records: Iterable[Record]) -> list[Group]:
    """Group by suite and budget, in a fixed order; `mini` is left out.

    Raises:
        ConfigError: A record's suite or budget is not known here.
    """
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        suite, budget = record.job.suite, record.job.budget
        if suite not in SUITES or budget not in SUITES[suite].budgets:
            raise ConfigError(
                f"{record.job.file} is of suite {suite!r} and budget {budget!r}, which are not "
                "known here; install what defines them, or move the folder away"
            )
        found.setdefault((suite, budget), []).append(record)
    order = [
        (suite, budget)
        for suite in (*FIRST, *(name for name in SUITES if name not in FIRST))
        for budget in SUITES[suite].budgets
        if budget != MINI
    ]
    return [Group(*key, found[key]) for key in order if key in found]


def _names_ratio(part: str) -> bool:
    return part.removeprefix("masking.").startswith("ratio=")


def _ranks(task: Task, values: Sequence[Values]) -> npt.NDArray[np.float64]:
    """Return the rank of each by its mean over seeds, 1 for the best."""
    ranks: npt.NDArray[np.float64] = rankdata([-task.gain(fmean(of.values())) for of in values])
    return ranks


def _shared(found: Mapping[float, Validated]) -> dict[float, Values]:
    """Keep the most seeds that two or more ratios have, and the ratios that have them all.

    A sweep may begin with few seeds, and have more of the ratios that looked best. The jobs of a
    seed are taken from one stage where all have it, the final one first: stages may have run on
    different machines.
    """
    seen = {ratio: of["tune"] | of["final"] for ratio, of in sorted(found.items())}
    common = [set(one) & set(other) for one, other in itertools.combinations(seen.values(), 2)]
    seeds = max(common, key=len)
    kept = [ratio for ratio, values in seen.items() if seeds and seeds <= values.keys()]
    shared: dict[float, Values] = {ratio: {} for ratio in kept}
    for seed in sorted(seeds):
        for ratio in kept:
            alike = (s for s in STAGES if all(seed in found[other][s] for other in kept))
            stage = next(alike, None)
            shared[ratio][seed] = seen[ratio][seed] if stage is None else found[ratio][stage][seed]
    return shared
