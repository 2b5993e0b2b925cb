"""What the records of one call say, arm by arm: a table for the command line."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from anymae.benchmark.arms import NONE, references
from anymae.benchmark.record import Record
from anymae.benchmark.statistics import Difference, Summary, summarise
from anymae.benchmark.summary import Group, Values

REFERENCES = ("random", NONE)
"""What pretraining is compared with; joined arms with joined ones (`references`)."""


class Score(NamedTuple):
    """One arm on one task."""

    task: str
    metric: str
    """On test rows, or in the stage `tune` the one that chooses, on validation rows."""
    arm: str
    values: Values
    over: dict[str, Difference | None]
    """What it is better by than each reference; `None` where too few seeds have both."""

    @property
    def summary(self) -> Summary:
        """Mean and deviation over seeds."""
        return summarise(self.values)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        over = {
            name: None if found is None else {**found._asdict(), "verdict": found.verdict}
            for name, found in self.over.items()
        }
        numbers = {"by_seed": self.values, **self.summary._asdict()}
        return {"task": self.task, "metric": self.metric, "arm": self.arm, **numbers, "over": over}


def scores(records: Sequence[Record]) -> list[Score]:
    """Sum up the records of a benchmark, as `run_benchmark` returns them, task by task."""
    job = records[0].job
    group = Group(job.suite, job.budget, records)
    found = []
    for task in group.tasks(job.stage):
        metric = task.metric if job.stage == "final" else task.choice_metric
        for arm in dict.fromkeys(r.job.arm for r in records if r.job.task == task.name):
            over = {
                name: group.compare(task, arm, other, stage=job.stage)
                for name, other in zip(REFERENCES, references(arm), strict=True)
                if other != arm
            }
            found.append(Score(task.name, metric, arm, group.values(task, arm, job.stage), over))
    return found
