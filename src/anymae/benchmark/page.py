"""The results page: Markdown from the records alone, the same bytes each time."""

import itertools
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from anymae.benchmark.arms import NONE, read_by, references
from anymae.benchmark.commands import commands
from anymae.benchmark.conclusion import conclude, share_by_attention
from anymae.benchmark.curves import draw_curve
from anymae.benchmark.markdown import from_to, show, show_difference, table
from anymae.benchmark.record import Record, read_records
from anymae.benchmark.sentences import by_choice, machine, machines_of, notes
from anymae.benchmark.suite import BASELINE, EVERY_READING, Task
from anymae.benchmark.summary import Group, RatioChoice, group_records
from anymae.errors import FolderError
from anymae.files import write_text
from anymae.wording import listed

FIGURES = "figures"

HEAD = "templates/head.md"
"""What the page begins with, whatever was measured."""


def write_page(results: Path, page: Path) -> None:
    """Write the results page and its figures.

    Args:
        results: Folder of the records.
        page: The Markdown file; figures go into `figures` beside it.

    Raises:
        ConfigError: A record cannot be understood.
        FolderError: There is no record of more than a miniature.
    """
    records = read_records(results)
    if not records:
        raise FolderError(
            f"{results} holds no records; name the folder that `anymae benchmark` has written to"
        )
    groups = group_records(records)
    if not groups:
        raise FolderError(
            f"{results} holds miniature runs alone, which no page shows; run `anymae benchmark` "
            "with another --budget"
        )
    head = files("anymae.benchmark").joinpath(HEAD).read_text(encoding="utf-8")
    parts = [head, *conclude(groups)]
    for _, budgets in itertools.groupby(groups, key=lambda group: group.suite):
        of_suite = list(budgets)
        for group in of_suite:
            parts += _section(group, page.parent)
        parts += _compute(of_suite)
    write_text(page, "\n".join(parts))


def _section(group: Group, folder: Path) -> Iterator[str]:
    kind = group.kind
    yield f"## {kind.title}, budget {group.budget}\n"
    budget = kind.budgets[group.budget]
    # Byte strings differ in length, so their outputs do not stand side by side.
    data = [r.settings.get("data", {}) for r in group.records if r.job.corpus is not None]
    kinds = {found.get("kind") for found in data}
    possible = [name for name in budget.readings if name != "flat" or kinds != {"bytes"}]
    read = ", ".join(f"`{name}`" for name in possible)
    yield f"{kind.about} Here: {budget.summary}. Frozen encoders are read by {read}.\n"
    published = [f"{task.name}: {task.published}" for task in group.tasks() if task.published]
    if published:
        yield f"Published numbers: {'; '.join(published)}.\n"
    yield table(_COLUMNS, [row for task in group.tasks() for row in _rows(group, task)])
    missing = [name for name in kind.tasks if name not in {task.name for task in group.tasks()}]
    if missing:
        yield f"Not run: {', '.join(missing)}.\n"
    yield from (f"{line}\n" for line in notes(group))
    yield from _figures(group, folder)
    yield from _methods(group)
    yield from _readings(group)
    yield from _sweeps(group)
    yield from _costs(group)
    yield "Commands of record (every record names its own):\n"
    yield "```\n" + "".join(f"{line}\n" for line in commands(group)) + "```\n"


_COLUMNS = (
    "task", "arm", "seeds", "score", "minus random", "minus none", "minus baseline", "probe",
    "fine-tuned", "s", "with pretraining",
)  # fmt: skip


def _rows(group: Group, task: Task) -> Iterator[list[str]]:
    for arm in group.arms(task):
        score = group.tested(task, arm)
        records = group.records_of(task, arm)
        places = machines_of(group, task, [arm])
        mixed = "*" if len(places) > 1 else ""
        places |= {machine(record) for record in group.encoders_of(task, arm)}
        all_mixed = "*" if len(places) > 1 else ""
        others = ["" if other == arm else other for other in (*references(arm), BASELINE)]
        seconds = fmean(record.seconds for record in records)
        whole = seconds + fmean(record.pretraining_seconds for record in records)
        yield [
            f"{task.name} ({task.metric})",
            arm,
            str(len(score)),
            show(score),
            *(show_difference(group.compare(task, arm, other)) for other in others),
            show(group.tested(task, arm, "probe")),
            show(group.tested(task, arm, "finetune")),
            f"{seconds:.0f}{mixed}",
            f"{whole:.0f}{all_mixed}",
        ]


def _figures(group: Group, folder: Path) -> Iterator[str]:
    """Draw label-efficiency curves."""
    curves: dict[str, list[Task]] = {}
    for task in group.tasks():
        if task.curve is not None:
            curves.setdefault(task.curve, []).append(task)
    for name, tasks in curves.items():
        if len(tasks) < 2:
            continue
        path = folder / FIGURES / f"labels-{name}-{group.budget}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, draw_curve(group, tasks))
        yield f"![Score against the number of labels]({FIGURES}/{path.name})\n"


def _methods(group: Group) -> Iterator[str]:
    """Compare guided masks with each method apart, whichever validation preferred."""
    rows = []
    for task in group.tasks():
        for method, name in (("probe", "frozen features"), ("finetune", "fine-tuned")):
            found = [
                group.compare(task, "guided", other, method=method) for other in ("random", NONE)
            ]
            if any(found):
                rows.append([task.name, name, *map(show_difference, found)])
    if rows:
        yield "Guided masks by method, whichever validation preferred (secondary):\n"
        yield table(["task", "method", "guided minus random", "guided minus none"], rows)
        yield from (f"{line}\n" for line in by_choice(group))


def _readings(group: Group) -> Iterator[str]:
    """Compare encoders that are read in one way with each other, and with the budget's readings."""
    rows = []
    for task, reading in itertools.product(group.tasks(), EVERY_READING):
        arms = {name: read_by(reading, name) for name in ("guided", "random", NONE)}
        guided, own = arms["guided"], ("guided", NONE)
        found = [group.compare(task, guided, arms[other]) for other in ("random", NONE)]
        found += [group.compare(task, arms[name], name, method="probe") for name in own]
        if any(found):
            scores = [show(group.tested(task, arms[name])) for name in own]
            rows.append([task.name, f"`{reading}`", *scores, *map(show_difference, found)])
    if rows:
        yield (
            "Frozen encoders read in one way, over the seeds that both have. *Over the budget's*: "
            "minus the probe of the same encoders with the best of the budget's readings:\n"
        )
        head = ["task", "reading", "guided", "none", "guided minus random", "guided minus none"]
        head += ["guided over the budget's", "none over the budget's"]
        yield table(head, rows)


def _sweeps(group: Group) -> Iterator[str]:
    """Show the settings that were tried, on validation rows."""
    rows = []
    for task in group.tasks("tune"):
        for arm in sorted({record.job.arm for record in group.records_of(task, stage="tune")}):
            values = group.validated(task, arm, "tune")
            name = f"{task.name} ({task.choice_metric})"
            rows.append([name, f"`{arm}`", str(len(values)), show(values)])
    if not rows:
        return
    yield "Settings tried, with the metric on validation rows (no test label is opened):\n"
    yield table(["task", "arm", "seeds", "validation"], rows)
    choices = group.ratio_choices()
    if choices:
        best = ", ".join(f"`{name}` {_best_ratio(choice)}" for name, choice in choices.items())
        alone = any(1 in choice.seeds for choice in choices.values())
        chance = " By one seed the best may be chance." if alone else ""
        yield (
            "Which mask ratio validation rows preferred, by the mean of its ranks on the tasks "
            "(final jobs count as well; ratios are compared on seeds that they share, and those "
            f"tried on fewer are left out): {best}.{chance}\n"
        )
    others = [f"`{name}` {ratio:g}" for name, (ratio, _) in group.ratios_not_taken().items()]
    if others:
        yield (
            f"The suite's own ratio, which the scores above have, is another: {', '.join(others)}."
            "\n"
        )


def _best_ratio(choice: RatioChoice) -> str:
    """Name the best ratio, and what it was compared with."""
    tie = "a tie; " if len(choice.best) > 1 else ""
    fewer = f", without {_ratios(choice.left_out)}" if choice.left_out else ""
    compared = f"{tie}of {_ratios(choice.compared)}{fewer}; seeds: {from_to(choice.seeds)}"
    return f"{_ratios(choice.best)} ({compared})"


def _ratios(ratios: Sequence[float]) -> str:
    return listed(f"{ratio:g}" for ratio in ratios)


def _compute(groups: Sequence[Group]) -> Iterator[str]:
    """Show how scores move with the length of pretraining, over the budgets of a suite."""
    found: dict[tuple[str, str], list[_Spent]] = {}
    for group in groups:
        for task in group.tasks():
            for arm in group.arms(task):
                records = group.pretrainings(arm, task.corpus)
                if records:
                    spent = _Spent(group, task, arm, int(records[0].facts["rows_visited"]), records)
                    parts = [p for p in arm.split(":") if not p.startswith("training.steps=")]
                    found.setdefault((task.name, ":".join(parts)), []).append(spent)
    found = {key: of for key, of in found.items() if len({one.visits for one in of}) > 1}
    if not found:
        return
    several = len({one.group.budget for of in found.values() for one in of}) > 1
    yield (
        "Score against compute: rows visited while pretraining, and its seconds, over the seeds "
        "that all lengths of an arm have on a task; scores where all lengths were used by the same "
        f"methods, else the probe alone{'; budgets may differ in more, see there' * several}:\n"
    )
    yield table(
        ["task", "arm", "rows visited", "budget", "mask ratio", "s", "seeds", "score", "probe"],
        [row for _, of in sorted(found.items()) for row in _spent_rows(of)],
    )


class _Spent(NamedTuple):
    """One length of pretraining of an arm."""

    group: Group
    task: Task
    arm: str
    visits: int
    records: Sequence[Record]


def _spent_rows(found: Sequence[_Spent]) -> Iterator[list[str]]:
    """Show what each length gave, over the seeds that all have."""
    scores = [(one.group.tested(one.task, one.arm), one) for one in found]
    shared = set.intersection(*(set(values) for values, _ in scores))
    methods = {
        tuple(sorted(record.methods))
        for one in found
        for record in one.group.records_of(one.task, one.arm)
        if record.job.seed in shared
    }
    for values, one in sorted(scores, key=lambda pair: pair[1].visits):
        both = (
            values if len(methods) == 1 else {},
            one.group.tested(one.task, one.arm, "probe"),
        )
        seconds = [record.seconds for record in one.records if record.job.seed in shared]
        yield [
            one.task.name,
            one.arm,
            f"{one.visits:,}",
            one.group.budget,
            f"{one.records[0].facts['masking']['ratio']:g}",
            f"{fmean(seconds):.0f}" if seconds else "",
            str(len(shared)),
            *(show({seed: of[seed] for seed in sorted(shared & of.keys())}) for of in both),
        ]


def _costs(group: Group) -> Iterator[str]:
    """Show what pretraining took, and what the masks looked like."""
    runs = sorted({(r.job.arm, r.job.corpus) for r in group.records if r.job.corpus is not None})
    rows = [_cost(group.pretrainings(arm, corpus)) for arm, corpus in runs]
    if rows:
        yield (
            "Pretraining runs. *Corpus* is how many rows it has, *visited* how many the run saw "
            "(steps times rows of a batch; the last of an epoch may be smaller). "
            "*By attention*: how guided masks follow it (`top` by rank, `sample` by chance), and "
            "which share of a mask does once `random_start` is over; the rest is uniform, or the "
            "sampled queries themselves, chance as well. *Loss* is that of held-out rows (a "
            "fiftieth of the corpus, others for `random-again`) under random masks, the home "
            "ground of `random`. *Entropy* is 1 where positions are hidden as "
            "evenly as inputs are found there; *overlap* is the share that two masks of a row have "
            "in common:\n"
        )
        yield table(
            [
                "arm", "on", "runs", "weights", "corpus", "steps", "visited", "ratio",
                "by attention", "loss", "entropy", "overlap", "s",
            ],
            rows,
        )  # fmt: skip


def _cost(records: Sequence[Record]) -> list[str]:
    """Describe the pretraining runs of one arm on one corpus."""
    facts, masks = records[0].facts, records[0].facts["masking"]
    share = f"{masks['draw']}, {share_by_attention(records[0]):.0%}"
    return [
        records[0].job.arm,
        records[0].job.corpus or "",
        str(len(records)),
        from_to([int(record.facts["weights"]) for record in records]),
        from_to([int(record.data["rows"]) for record in records]),
        f"{facts['steps']:,}",
        f"{facts['rows_visited']:,}",
        f"{masks['ratio']:g}",
        share if masks["kind"] == "guided" else "",
        *(_mean_fact(records, name) for name in ("valid_loss", "mask_entropy", "mask_overlap")),
        _seconds(records),
    ]


def _seconds(records: Sequence[Record]) -> str:
    """Show what runs took, apart by machine."""
    places: dict[str, dict[int, float]] = {}
    for record in records:
        places.setdefault(machine(record), {})[record.job.seed] = record.seconds
    shown = [(name, show(of, digits=0)) for name, of in sorted(places.items())]
    return shown[0][1] if len(shown) == 1 else ", ".join(f"{of} on {name}" for name, of in shown)


def _mean_fact(records: Sequence[Record], name: str) -> str:
    values = [record.facts[name] for record in records if name in record.facts]
    return f"{fmean(values):.4f}" if values else ""
