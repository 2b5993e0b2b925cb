"""The commands that compute what is stored."""

from collections.abc import Iterator, Sequence

from anymae.benchmark.arms import ARMS, parse_arm
from anymae.benchmark.summary import Group


def commands(group: Group) -> Iterator[str]:
    """Name the commands of record, to be run in this order.

    One for each device and number of seeds. A command runs what is still missing, so those on
    another device than the CPU stand first, as pretraining ran there, then those with fewer seeds.
    """
    seeds: dict[tuple[str, str, str, str], int] = {}
    for record in group.records:
        job = record.job
        if job.corpus is None:
            # The machine names a GPU, the command what to type for it.
            device = record.command.partition(" --device ")[2] or "cpu"
            key = (job.stage, device, job.arm, job.task)
            seeds[key] = max(seeds.get(key, 0), job.seed + 1)
    tasks: dict[tuple[str, str, str, int], list[str]] = {}
    for (stage, device, arm, task), count in seeds.items():
        tasks.setdefault((stage, device, arm, count), []).append(task)
    arms: dict[tuple[str, bool, str, int, tuple[str, ...]], list[str]] = {}
    for (stage, device, arm, count), names in tasks.items():
        ordered = tuple(name for name in group.kind.tasks if name in names)
        # Their order is that of the commands.
        place = (stage, device == "cpu", device, count, ordered)
        arms.setdefault(place, []).append(arm)
    for (stage, _, device, count, ordered), found in sorted(arms.items()):
        yield _command(group, stage, device, count, ordered, found)


def _command(
    group: Group, stage: str, device: str, seeds: int, tasks: Sequence[str], arms: Sequence[str]
) -> str:
    every = len(tasks) == len(group.kind.tasks)
    words = ["anymae benchmark", group.suite]
    words += [] if every else [f"--task {name}" for name in tasks]
    ordered = sorted(arms, key=lambda arm: (ARMS.index(parse_arm(arm).name), arm))
    words += [f"--arms {','.join(ordered)}", f"--budget {group.budget}", f"--seeds {seeds}"]
    words += [] if stage == "final" else [f"--stage {stage}"]
    words += [] if device == "cpu" else [f"--device {device}"]
    return " ".join(words)
