"""What a job computes, as plain values, so that no record is taken for that of another job."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anymae.benchmark.arms import Arm, parse_arm
from anymae.benchmark.record import JobName, Record, read_placed
from anymae.benchmark.suite import AT_ONCE, READINGS, Budget, FineTuning, Suite, Task
from anymae.errors import ConfigError
from anymae.training.resolve import differing


def asked_of(suite: type[Suite], job: JobName) -> dict[str, Any]:
    """Return what the budget and the arm ask of a job; data and seed are in its name.

    Args:
        suite: The job's.
        job: A task's, or that of a pretraining.
    """
    budget, arm = suite.budgets[job.budget], parse_arm(job.arm)
    found: dict[str, Any] = {}
    if arm.encoder is not None:
        found["pretraining"] = _pretraining(arm.encoder, budget)
    if job.corpus is None:
        task = suite.tasks[job.task]
        plan = finetuning_of(budget, task, arm)
        found |= {
            "length": budget.length,
            "most_rows": budget.most_rows,
            "num_labels": budget.num_labels(task),
            "finetune": None if plan is None else _finetuning(plan),
        }
        # Records of before there was a choice say nothing of it.
        if arm.encoder is not None and arm.readings(budget) != READINGS:
            found["readings"] = arm.readings(budget)
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def finetuning_of(budget: Budget, task: Task, arm: Arm) -> FineTuning | None:
    """Return how an arm is fine-tuned on a task; `None` where it is probed only."""
    plan = budget.finetune
    if plan is None or arm.encoder is None or arm.joins or arm.reading is not None:
        return None
    return plan if plan.tasks is None or task.name in plan.tasks else None


def read_same(suite: type[Suite], path: Path) -> Record:
    """Read a record that was computed as it would be now.

    Raises:
        ConfigError: It was asked for something else.
    """
    record = read_placed(path)
    found = differing(record.asked, asked_of(suite, record.job))
    if found:
        raise ConfigError(
            f"{path} is the record of another computation ({'; '.join(found[:3])}); move it "
            "away to compute it again, or name another --out"
        )
    return record


def _finetuning(plan: FineTuning) -> dict[str, Any]:
    found = asdict(plan) | {"tasks": None}
    if plan.seeds == 1:
        # Records of before there was a choice say nothing of it.
        del found["seeds"]
    return found | {"config": AT_ONCE.model_dump(mode="json", exclude_unset=True)}


def _pretraining(arm: Arm, budget: Budget) -> dict[str, Any]:
    if not arm.pretrains:
        return {"recipe": {k: v for k, v in budget.recipe.items() if k != "training"}}
    return {
        "recipe": dict(budget.recipe),
        "settings": arm.recipe_settings(budget),
        "corpus_rows": budget.corpus_rows,
        "length": budget.length,
    }
