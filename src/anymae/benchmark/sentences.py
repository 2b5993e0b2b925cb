"""What the numbers say, in words that follow from them alone."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from anymae.benchmark.candidates import choice_metric
from anymae.benchmark.statistics import Difference, summarise
from anymae.benchmark.suite import BASELINE, ERRORS, JOINED, Task
from anymae.benchmark.summary import Group

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


def leaks(group: Group) -> Iterator[str]:
    """Say which rows were left out of the corpus, and which occur on both sides of a split."""
    left_out = {}
    for record in group.records:
        if record.job.corpus is not None:
            flagged, removed = (int(record.data[name]) for name in ("flagged", "removed"))
            left_out[record.job.corpus] = (
                f"{record.job.corpus}: {flagged:,} by its flags, {removed:,} by content"
            )
    if left_out:
        yield (
            "Rows left out of the pretraining corpus because a validation or test part has them: "
            f"{'; '.join(left_out.values())}."
        )
    shared = []
    for task in group.tasks():
        rows = group.final(task)[0].data["rows"]
        counts = [(name, int(rows[f"{name} in train"])) for name in ("valid", "test")]
        shared += [f"{task.name} {count:,} {name} rows" for name, count in counts if count]
    if shared:
        yield f"Rows that also occur among the labelled training rows: {', '.join(shared)}."


def machines(group: Group) -> Iterator[str]:
    """Say where the jobs ran."""
    counts = Counter(
        str(record.machine.get("gpu", record.machine["processor"])) for record in group.records
    )
    listed = [f"{name} {count:,}" for name, count in sorted(counts.items())]
    apart = "; seconds on different machines do not compare" if len(listed) > 1 else ""
    yield f"Jobs by machine, one thread each: {', '.join(listed)}{apart}."


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
        return f"No two seeds compare guided masks with {what} yet."
    listed = _by_verdict(found)
    return f"Against {what}, of {total} comparisons guided masks are {'. They are '.join(listed)}."


def _differences(groups: Sequence[Group], other: str) -> Iterator[tuple[Group, Task, Difference]]:
    for group in groups:
        for task in group.tasks():
            difference = group.compare(task, "guided", other)
            if difference is not None:
                yield group, task, difference


def _against_baselines(groups: Sequence[Group]) -> str:
    """Compare the guided encoder with the baselines: alone or joined, as validation prefers."""
    found: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
    for group in groups:
        for task in group.tasks():
            rivals = [arm for arm in ("guided", JOINED) if group.tested(task, arm)]
            if not rivals or not group.tested(task, BASELINE):
                continue
            sign = -1 if choice_metric(task) in ERRORS else 1
            arm = max(
                rivals, key=lambda one: sign * summarise(group.validated(task, one, "final")).mean
            )
            difference = group.compare(task, arm, BASELINE)
            verdict = "undecided" if difference is None else difference.verdict
            mean = "" if difference is None else f" {difference.mean:+.4f}"
            found[verdict].append(f"{group.suite}/{task.name} ({group.budget}; {arm}){mean}")
    total = sum(len(names) for names in found.values())
    if not total:
        return "The baselines of the fields have not been run yet."
    listed = _by_verdict(found)
    return (
        "Against the plain baseline of the field the guided encoder, alone or joined to it, "
        f"whichever is better on validation, is, of {total} tasks, {'. It is '.join(listed)}."
    )


def _by_verdict(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Count and name what has each verdict."""
    return [
        f"{verdict} on {len(names)}" + (f": {'; '.join(names)}" if names else "")
        for verdict, names in found.items()
    ]
