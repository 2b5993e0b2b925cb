"""The commands that compute what is stored."""

from collections.abc import Iterator, Sequence

from anymae.benchmark.arms import ARMS, parse_arm
from anymae.benchmark.summary import Group


def commands(group: Group) -> Iterator[str]:
    """Name the commands of record, to be run in this order.

    One for each device and number of seeds. A command runs what is still missing, so those on
    another device than the CPU stand first, as pretraining ran there, then those with fewer seeds.
    """
    seeds: dict[tuple[str, str, str], dict[str, int]] = {}
    for record in group.records:
        job = record.job
        if job.corpus is None:
            # The machine names a GPU, the command what to type for it.
            device = record.command.partition(" --device ")[2] or "cpu"
            of_task = seeds.setdefault((job.stage, device, job.arm), {})
            of_task[job.task] = max(of_task.get(job.task, 0), job.seed + 1)
    arms: dict[tuple[str, bool, str, int, tuple[str, ...]], list[str]] = {}
    for (stage, device, arm), of_task in seeds.items():
        for count in set(of_task.values()):
            tasks = tuple(name for name in group.kind.tasks if of_task.get(name) == count)
            # Their order is that of the commands.
            arms.setdefault((stage, device == "cpu", device, count, tasks), []).append(arm)
    for (stage, _, device, count, tasks), found in sorted(arms.items()):
        yield _command(group, stage, device, count, tasks, found)


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
