"""What stands below a suite's table, in words that follow from the records alone."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from anymae.benchmark.arms import JOINS, NONE
from anymae.benchmark.record import Record
from anymae.benchmark.suite import BASELINE, Task
from anymae.benchmark.summary import Group


def noise_floor(group: Group) -> Iterator[str]:
    """Say how far apart two arms are that differ in nothing but their seeds."""
    parts = []
    for task in group.tasks():
        found = group.compare(task, "random-again", "random")
        if found is not None:
            parts.append(f"{task.name} {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]")
    if parts:
        yield (
            "Noise floor, random masks with other seeds minus random masks: "
            f"{', '.join(parts)}. Weights and order differ here too, which guided and random "
            "masks share, so paired differences may well be smaller than this noise."
        )


def leaks(group: Group) -> Iterator[str]:
    """Say which rows were left out of the corpus, and which occur on both sides of a split."""
    left_out = [
        f"{corpus}: {_range(records, 'flagged')} by its flags, {_range(records, 'removed')} by "
        "content"
        for corpus, records in _corpora(group).items()
    ]
    if left_out:
        yield (
            "Rows left out of the pretraining corpus because a validation or test part has them: "
            f"{'; '.join(left_out)}."
        )
    shared = []
    for task in group.tasks():
        rows = [record.data["rows"] for record in group.final(task)]
        for name in ("valid", "test"):
            counts = [int(row[f"{name} in train"]) for row in rows]
            if any(counts):
                shared.append(f"{task.name} {_from_to(counts)} {name} rows")
    if shared:
        yield f"Rows that also occur among the labelled training rows: {', '.join(shared)}."


def frozen_only(group: Group) -> Iterator[str]:
    """Name the tasks whose encoders were not fine-tuned, where a curve may drop for that."""
    names = [
        task.name
        for task in group.tasks()
        if (arms := _encoders(group, task))
        and not any(group.tested(task, arm, "finetune") for arm in arms)
    ]
    if names:
        yield (
            f"Encoders of {', '.join(names)} were probed, frozen, and not fine-tuned; other tasks "
            "take the better of the two."
        )


def last_looks(group: Group) -> Iterator[str]:
    """Say how often fine-tuning was still improving when it ended."""
    parts = []
    for arm in ("guided", "random", NONE):
        methods = [
            record.methods["finetune"].settings
            for task in group.tasks()
            for record in group.final(task, arm)
            if "finetune" in record.methods
        ]
        looks = [found for found in methods if {"step", "steps"} <= found.keys()]
        last = sum(found["step"] == found["steps"] for found in looks)
        if looks:
            parts.append(f"{last} of {len(looks)} jobs of {arm}")
    if parts:
        yield (
            f"Fine-tuning was best at its last step in {', '.join(parts)}: there, more steps might "
            "have given more."
        )


def machines(group: Group) -> Iterator[str]:
    """Say where the jobs ran, and what ran on several machines."""
    counts = Counter(map(machine, group.records))
    listed = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    yield f"Jobs by machine, one thread each: {listed}."
    if len(counts) == 1:
        return
    mixed = [
        task.name
        for task in group.tasks()
        if len(machines_of(group, task, _encoders(group, task))) > 1
    ]
    if mixed:
        yield (
            f"Encoders of {', '.join(mixed)} ran on several of them, so their seconds do not "
            "compare, and differences there are between machines too."
        )


def machine(record: Record) -> str:
    """Name where a job ran: its GPU or processor, and the version of torch."""
    name = record.machine.get("gpu", record.machine.get("processor", "unknown"))
    torch = record.machine.get("versions", {}).get("torch")
    return f"{name}" + (f" (torch {torch})" if torch else "")


def machines_of(group: Group, task: Task, arms: Iterable[str]) -> set[str]:
    """Return where the jobs of some arms of a task ran."""
    return {machine(record) for arm in arms for record in group.final(task, arm)}


def _encoders(group: Group, task: Task) -> list[str]:
    """Name the arms whose scores are those of an encoder alone."""
    return [arm for arm in group.arms(task) if arm != BASELINE and arm not in JOINS]


def _corpora(group: Group) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in group.records:
        if record.job.corpus is not None:
            found.setdefault(record.job.corpus, []).append(record)
    return found


def _range(records: Sequence[Record], name: str) -> str:
    return _from_to([int(record.data[name]) for record in records])


def _from_to(counts: Sequence[int]) -> str:
    """Write a count, or the least and the most over seeds."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
