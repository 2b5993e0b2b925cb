"""What stands below a suite's table, in words that follow from the records alone."""

from collections import Counter
from collections.abc import Iterable, Iterator

from anymae.benchmark.arms import JOINS, NONE
from anymae.benchmark.baselines import is_weakest
from anymae.benchmark.markdown import from_to, show_difference
from anymae.benchmark.record import Record, same_encoder
from anymae.benchmark.suite import BASELINE, Task
from anymae.benchmark.summary import Group
from anymae.wording import listed


def notes(group: Group) -> Iterator[str]:
    """Say what a reader of a suite's table should know."""
    yield from _frozen_only(group)
    yield from _noise_floor(group)
    yield from _at_best_ratios(group)
    yield from _last_looks(group)
    yield from _weakest_penalties(group)
    yield from _leaks(group)
    yield from _machines(group)
    yield from _other_runs(group)


def _noise_floor(group: Group) -> Iterator[str]:
    """Say how far apart two arms are that differ in nothing but their seeds."""
    parts, spreads = [], []
    for task, again in ((t, arm) for t in group.tasks() for arm in group.arms(t)):
        name, _, settings = again.partition(":")
        random = again.replace(name, "random", 1)
        found = None if name != "random-again" else group.compare(task, again, random)
        if found is None:
            continue
        where = task.name + (f" ({settings})" if settings else "")
        parts.append(f"{where} {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]")
        guided = group.compare(task, again.replace(name, "guided", 1), random)
        if guided is not None:
            spreads.append(f"{where} {guided.deviation:.4f} ({found.deviation:.4f})")
    if parts:
        yield (
            "Noise floor, random masks with other seeds minus random masks: "
            f"{', '.join(parts)}. Weights and order differ here too, which guided and random "
            "masks share."
        )
    if spreads:
        yield (
            "Deviation over seeds of guided minus random masks, and in brackets of this noise: "
            f"{', '.join(spreads)}."
        )


def by_choice(group: Group) -> Iterator[str]:
    """Name comparisons that no method decides alone, but the choice among methods does."""
    for task in group.tasks():
        for other in ("random", NONE):
            found = group.compare(task, "guided", other)
            if found is None or found.verdict == "undecided":
                continue
            alone = [
                group.compare(task, "guided", other, method=name) for name in ("probe", "finetune")
            ]
            if any(one is not None and one.verdict == found.verdict for one in alone):
                continue
            jobs = {arm: group.records_of(task, arm) for arm in ("guided", other)}
            seeds = set.intersection(*({job.job.seed for job in of} for of in jobs.values()))
            chosen = [
                f"{sum(job.best == 'finetune' for job in of if job.job.seed in seeds)} of "
                f"{len(seeds)} jobs of {arm}"
                for arm, of in jobs.items()
            ]
            yield (
                f"{task.name}: that guided is {found.verdict} than {other} comes from which method "
                f"validation preferred, fine-tuning in {listed(chosen)}; neither method "
                "shows it by itself."
            )


def _at_best_ratios(group: Group) -> Iterator[str]:
    """Compare guided with random masks, each at the ratio that validation rows preferred."""
    own, found = group.kind.budgets[group.budget].masking, group.ratio_choices()
    best = {
        name: found[name].best[0]
        for name in ("guided", "random")
        if name in found and len(found[name].best) == 1
    }
    arms = [
        name if own.get(name, {}).get("ratio") == ratio else f"{name}:ratio={ratio:g}"
        for name, ratio in best.items()
    ]
    if len(best) < 2 or arms == list(best):
        return
    compared = [(task.name, group.compare(task, *arms)) for task in group.tasks()]
    parts = [f"{name} {show_difference(one)} ({one.seeds} runs)" for name, one in compared if one]
    if parts:
        yield (
            "Each masking at the ratio that was best for it on validation rows "
            f"({', '.join(f'{name} {ratio:g}' for name, ratio in best.items())}), guided minus "
            f"random on the test: {', '.join(parts)}."
        )


def _leaks(group: Group) -> Iterator[str]:
    """Say which rows were left out of the corpus, and which occur on both sides of a split."""
    left_out = []
    corpora = dict.fromkeys(record.job.corpus for record in group.pretrainings())
    for corpus in corpora:
        runs = group.pretrainings(corpus=corpus)
        flagged, removed = (
            from_to([int(run.data[why]) for run in runs]) for why in ("flagged", "removed")
        )
        which = f"that of {corpus} " if len(corpora) > 1 else ""
        left_out.append(f"{which}{flagged} by flags, {removed} by content")
    if left_out:
        yield (
            "Rows left out of the pretraining corpus, by its flags because any part of a task has "
            f"them, by content because a validation or test part has: {'; '.join(left_out)}."
        )
    shared = []
    for task in group.tasks():
        rows = [record.data["rows"] for record in group.records_of(task)]
        for name in ("valid", "test"):
            counts = [int(row[f"{name} in train"]) for row in rows]
            if any(counts):
                what = "row" if {*counts} == {1} else "rows"
                shared.append(f"{from_to(counts)} {name} {what} of {task.name}")
    if shared:
        yield f"Rows that also occur among the labelled training rows: {', '.join(shared)}."


def _frozen_only(group: Group) -> Iterator[str]:
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


def _last_looks(group: Group) -> Iterator[str]:
    """Say how often fine-tuning was still improving when it ended, or at the end of its rates."""
    parts, edges = [], []
    any_last = any_highest = False
    for arm in ("guided", "random", NONE):
        methods = [
            record.methods["finetune"].settings
            for task in group.tasks()
            for record in group.records_of(task, arm)
            if "finetune" in record.methods
        ]
        looks = [found for found in methods if {"step", "steps"} <= found.keys()]
        # Of several trainings the one that went on longest tells.
        last = sum(
            max(found.get("best_steps", [found["step"]])) == found["steps"] for found in looks
        )
        if looks:
            parts.append(f"{last} of {len(looks)} jobs of {arm}")
            any_last |= last > 0
        rates = [found for found in methods if len(found.get("learning_rates", ())) > 1]
        highest = sum(found["learning_rate"] == max(found["learning_rates"]) for found in rates)
        if rates:
            edges.append(f"{highest} of {len(rates)} jobs of {arm}")
            any_highest |= highest > 0
    if parts:
        more = ": there, more steps might have given more" if any_last else ""
        yield f"Fine-tuning was best at its last step in {', '.join(parts)}{more}."
    if edges:
        more = ": there, a higher one might have given more" if any_highest else ""
        yield f"The highest of the learning rates tried was best in {', '.join(edges)}{more}."


def _weakest_penalties(group: Group) -> Iterator[str]:
    """Say how often linear models took the weakest penalty that was tried."""
    parts = []
    for arm in ("guided", "random", NONE, BASELINE):
        taken = [
            is_weakest(name, method.settings)
            for task in group.tasks()
            for record in group.records_of(task, arm)
            for name, method in record.methods.items()
            if method.settings.keys() & {"strength", "penalty"}
        ]
        if any(taken):
            parts.append(f"{sum(taken)} of {len(taken)} of {arm}")
    if parts:
        yield (
            "Linear models that were chosen with the weakest penalty tried: "
            f"{', '.join(parts)}; there, a weaker one might have given more."
        )


def _machines(group: Group) -> Iterator[str]:
    """Say where the jobs ran, and what ran on several machines."""
    counts = Counter(map(machine, group.records))
    listed = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    yield f"Jobs by machine, one thread each: {listed}."
    if len(counts) == 1:
        return
    mixed = []
    for task in group.tasks():
        arms = _encoders(group, task)
        runs = {machine(run) for arm in arms for run in group.encoders_of(task, arm)}
        if len(runs) > 1 or len(machines_of(group, task, arms)) > 1:
            mixed.append(task.name)
    if mixed:
        yield (
            f"Encoders of {', '.join(mixed)} were pretrained, probed or fine-tuned on several of "
            "them, so their seconds do not compare, and differences there are between machines too."
        )


def _other_runs(group: Group) -> Iterator[str]:
    """Name jobs whose encoder is from another run of its pretraining than the one stored."""
    found: dict[tuple[str, str], list[int]] = {}
    for task in group.tasks():
        for arm in group.arms(task):
            stored = {run.job.seed: run for run in group.encoders_of(task, arm)}
            for record in group.records_of(task, arm):
                run = stored.get(record.job.seed)
                if run is not None and not same_encoder(record, run):
                    found.setdefault((task.name, arm), []).append(record.job.seed)
    if found:
        listed = "; ".join(
            f"{arm} on {task}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
            for (task, arm), seeds in found.items()
        )
        yield (
            "Jobs with an encoder of another run of its pretraining than the one in the table of "
            f"pretraining runs (a repeated one may end with weights a little different): {listed}."
        )


def machine(record: Record) -> str:
    """Name where a job ran: its GPU or processor, and the version of torch."""
    name = record.machine.get("gpu", record.machine.get("processor", "unknown"))
    torch = record.machine.get("versions", {}).get("torch")
    return f"{name}" + (f" (torch {torch})" if torch else "")


def machines_of(group: Group, task: Task, arms: Iterable[str]) -> set[str]:
    """Return where the jobs of some arms of a task ran."""
    return {machine(record) for arm in arms for record in group.records_of(task, arm)}


def _encoders(group: Group, task: Task) -> list[str]:
    """Name the arms whose scores are those of an encoder alone."""
    return [arm for arm in group.arms(task) if arm != BASELINE and arm not in JOINS]
