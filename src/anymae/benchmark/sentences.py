"""What the numbers say, in words that follow from them alone."""

from collections.abc import Iterator, Sequence

from anymae.benchmark.statistics import Difference, paired_difference, summarise
from anymae.benchmark.suite import BASELINE, JOINED, Task
from anymae.benchmark.summary import Group, Values

ENOUGH = 5
"""Pretraining runs of an arm from which claims about masks are made."""


def conclude(groups: Sequence[Group]) -> Iterator[str]:
    """Say where guided masks help and where not, over all suites."""
    yield "## Where guided masks help, and where not\n"
    if not groups:
        yield "There are no records yet.\n"
        return
    for other, what in (("random", "random masks"), ("none", "no pretraining")):
        yield f"{_against(groups, other, what)}\n"
    yield f"{_against_baselines(groups)}\n"
    yield (
        "Published numbers stand beside each suite. They come from models up to 137 times larger "
        "and corpora 2.7 to several hundred times larger, on splits that are partly unknown; so "
        "what can be compared here are the arms with each other, not a row with the paper.\n"
    )


def noise_floor(group: Group) -> Iterator[str]:
    """Say how far apart two arms are that differ in nothing but their seeds."""
    parts = []
    for task in group.tasks():
        found = group.compare(task, "random-again", "random")
        if found is not None:
            parts.append(f"{task.name} {found.mean:+.4f} (deviation {found.deviation:.4f})")
    if parts:
        yield (
            f"Noise floor, random masks against random masks with other seeds: {', '.join(parts)}."
        )
    few = []
    for task in group.tasks():
        found = group.compare(task, "guided", "random")
        if found is not None and found.seeds < ENOUGH:
            few.append(f"{task.name} {found.detectable:.4f}")
    if few:
        yield (
            f"With fewer than {ENOUGH} pretraining runs an arm, differences between masks that "
            f"could have been found with a chance of 80 %: {', '.join(few)}."
        )


def _against(groups: Sequence[Group], other: str, what: str) -> str:
    found: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
    for group, task, difference in _differences(groups, other):
        name = f"{group.suite}/{task.name} ({group.budget})"
        if difference.verdict == "undecided":
            name += f" {difference.mean:+.4f}, detectable {difference.detectable:.4f}"
        else:
            name += f" {difference.mean:+.4f}"
        found[difference.verdict].append(name)
    total = sum(len(names) for names in found.values())
    if not total:
        return f"Guided masks have not been compared with {what} yet."
    sentences = [f"Against {what}, of {total} comparisons guided masks are"]
    listed = [
        f"{verdict} on {len(names)}" + (f": {'; '.join(names)}" if names else "")
        for verdict, names in found.items()
    ]
    return f"{sentences[0]} {'. They are '.join(listed)}."


def _differences(groups: Sequence[Group], other: str) -> Iterator[tuple[Group, Task, Difference]]:
    for group in groups:
        for task in group.tasks():
            difference = group.compare(task, "guided", other)
            if difference is not None:
                yield group, task, difference


def _against_baselines(groups: Sequence[Group]) -> str:
    better, total = [], 0
    for group in groups:
        for task in group.tasks():
            plain = group.tested(task, BASELINE)
            rivals = [group.tested(task, arm) for arm in ("guided", JOINED)]
            if not plain or not any(rivals):
                continue
            total += 1
            best = [arm for arm, values in zip(("guided", JOINED), rivals, strict=True)
                    if values and _is_ahead(task, values, plain)]  # fmt: skip
            if best:
                better.append(f"{group.suite}/{task.name} ({group.budget}; {', '.join(best)})")
    if not total:
        return "The baselines of the fields have not been run yet."
    names = f": {'; '.join(better)}" if better else ""
    return (
        f"The plain baseline of the field is beaten, on the mean over seeds, by the guided encoder "
        f"alone or joined to it on {len(better)} of {total} tasks{names}."
    )


def _is_ahead(task: Task, values: Values, plain: Values) -> bool:
    found = paired_difference(values, plain, smaller_is_better=task.smaller_is_better)
    if found is not None:
        return found.mean > 0
    mine, other = summarise(values).mean, summarise(plain).mean
    return mine < other if task.smaller_is_better else mine > other
