"""The results page: Markdown from the records alone, the same bytes each time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from anymae.benchmark.arms import NONE, parse_arm
from anymae.benchmark.candidates import choice_metric
from anymae.benchmark.curves import draw_curve
from anymae.benchmark.record import Record, read_records
from anymae.benchmark.sentences import conclude, leaks, machines, noise_floor
from anymae.benchmark.statistics import Difference, summarise
from anymae.benchmark.suite import BASELINE, Task
from anymae.benchmark.summary import Group, Values, group_records
from anymae.files import write_text

FIGURES = "figures"

_HEAD = (
    "# Results\n"
    "\n"
    "Made by `make results` from the records in `results/`, one for each finished job; "
    "nothing on this page is typed by hand.\n"
    "\n"
    "How to read it. An *arm* is what is compared: `guided` masks (the method; how they are "
    "drawn stands in the table of the pretraining runs), `random` "
    "ones, `random-again` (random with other seeds for weights, order and masks: its "
    "difference to `random` is noise), `span` or `block` (the habits of the fields), `none` "
    "(the same network without pretraining), the plain `baseline` of the field, and "
    "`baseline+embedding` (that baseline joined with the frozen guided encoder). Arms that "
    "pretrain share architecture, data order, steps, learning rates tried and seeds; only the "
    "mask differs, and each ends with its last weights. Every encoder, also that of `none`, is "
    "probed and fine-tuned in the same ways at the same rates. A seed fixes initial weights, "
    "order, masks and the draw of labels together, and every seed is a pretraining run of its own. "
    "Settings, epoch, reading of the features and strength of the penalty are chosen on "
    "validation rows; test labels are opened once by a job, at its end. *Score* is the test "
    "metric of the method (frozen features with a linear model, or fine-tuning) that was "
    "better on validation; mean and standard deviation over seeds. Validation rows come on top "
    "of the number of labels in a task's name, for every arm alike. Differences are paired by "
    "seed, positive where the arm is better, with the 95 % interval of Student's t; those "
    "that exclude zero are bold. Seeds share test rows, so an interval tells what another "
    "training would give, not what other test rows would. Seconds are wall time on one "
    "thread, with a GPU where a suite names one; the pretraining is shared by all tasks of a "
    "suite.\n"
)


def write_page(results: Path, page: Path) -> None:
    """Write the results page and its figures.

    Args:
        results: Folder of the records.
        page: The Markdown file; figures go into `figures` beside it.

    Raises:
        ConfigError: A record cannot be understood.
    """
    groups = group_records(read_records(results))
    parts = [_HEAD, *conclude(groups)]
    for number, group in enumerate(groups):
        parts += _section(group, page.parent)
        if [later.suite for later in groups[number + 1 : number + 2]] != [group.suite]:
            parts += _compute([other for other in groups if other.suite == group.suite])
    write_text(page, "\n".join(parts))


def _section(group: Group, folder: Path) -> Iterator[str]:
    kind = group.kind
    yield f"## {kind.title}, budget {group.budget}\n"
    yield f"{kind.about} Here: {kind.budgets[group.budget].summary}.\n"
    yield table(
        [
            "task",
            "arm",
            "seeds",
            "score",
            "minus random",
            "minus none",
            "minus baseline",
            "probe",
            "fine-tuned",
            "s",
        ],
        [row for task in group.tasks() for row in _rows(group, task)],
    )
    yield from (f"{line}\n" for line in (*noise_floor(group), *leaks(group), *machines(group)))
    published = [f"{task.name}: {task.published}" for task in group.tasks() if task.published]
    if published:
        yield f"Published numbers: {'; '.join(published)}.\n"
    yield from _figures(group, folder)
    yield from _sweeps(group)
    yield from _costs(group)
    single = "`--task` and `--arms` with one name each give a single row"
    yield f"Command of record: `{command(group)}`; {single}.\n"


def _rows(group: Group, task: Task) -> Iterator[list[str]]:
    for arm in group.arms(task):
        score = group.tested(task, arm)
        records = group.final(task, arm)
        seconds = summarise({r.job.seed: r.seconds for r in records}).mean
        yield [
            f"{task.name} ({task.metric})",
            arm,
            str(len(score)),
            show(score),
            *(
                "" if arm == other else _show_difference(group.compare(task, arm, other))
                for other in ("random", NONE, BASELINE)
            ),
            show(group.tested(task, arm, "probe")),
            show(group.tested(task, arm, "finetune")),
            f"{seconds:.0f}",
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


def _sweeps(group: Group) -> Iterator[str]:
    """Show the settings that were tried, on validation rows."""
    rows = []
    for task in group.tasks():
        arms = {
            r.job.arm for r in group.records if (r.job.stage, r.job.task) == ("tune", task.name)
        }
        for arm in sorted(arms):
            values = group.validated(task, arm, "tune")
            name = f"{task.name} ({choice_metric(task)})"
            rows.append([name, f"`{arm}`", str(len(values)), show(values)])
    if rows:
        yield "Settings tried, with the metric on validation rows (no test label is opened):\n"
        yield table(["task", "arm", "seeds", "validation"], rows)
    best = [f"{name} {ratio:g}" for name, ratio in group.best_ratios().items()]
    if best:
        yield f"Best ratio by mean rank over these tasks: {', '.join(best)}.\n"


def _compute(groups: Sequence[Group]) -> Iterator[str]:
    """Show how scores move with the length of pretraining, over the budgets of a suite."""
    rows, lengths = [], set()
    for group in groups:
        for task in group.tasks():
            for arm in group.arms(task):
                records = group.pretrainings(arm, task.corpus)
                if not records:
                    continue
                visits = int(records[0].facts["rows_visited"])
                seconds = summarise({r.job.seed: r.seconds for r in records}).mean
                score = show(group.tested(task, arm))
                lengths.add(visits)
                rows.append((task.name, arm, visits, group.budget, f"{seconds:.0f}", score))
    if len(lengths) > 1:
        yield "Score against compute: rows visited while pretraining, and its seconds:\n"
        ordered = sorted(rows, key=lambda row: (row[0], row[1].split(":")[0], row[2]))
        yield table(
            ["task", "arm", "rows visited", "budget", "s", "score"],
            [[task, arm, f"{visits:,}", *rest] for task, arm, visits, *rest in ordered],
        )


def _costs(group: Group) -> Iterator[str]:
    """Show what pretraining took, and what the masks looked like."""
    arms = sorted({r.job.arm for r in group.records if r.job.corpus is not None})
    rows = []
    for arm in arms:
        records = group.pretrainings(arm)
        facts, masks = records[0].facts, records[0].facts["masking"]
        seconds = summarise(dict(enumerate(record.seconds for record in records))).mean
        rows.append(
            [
                arm,
                str(len(records)),
                f"{facts['weights']:,}",
                f"{facts['steps']:,}",
                f"{facts['rows_visited']:,}",
                f"{masks['ratio']:g}",
                f"{masks['draw']}, {share_by_attention(records[0]):.0%}"
                if masks["kind"] == "guided"
                else "",
                *(
                    _mean_fact(records, name)
                    for name in ("valid_loss", "mask_entropy", "mask_overlap")
                ),
                f"{seconds:.0f}",
            ]
        )
    if rows:
        yield (
            "Pretraining runs (loss under random masks on held-out rows; of guided masks how they "
            "follow the attention, `top` by rank or `sample` by chance, and which share of a mask "
            "does once `random_start` is over, before rounding: the rest is uniform or the sampled "
            "queries themselves, chance as well):\n"
        )
        yield table(
            [
                "arm",
                "runs",
                "weights",
                "steps",
                "rows visited",
                "ratio",
                "by attention",
                "loss",
                "mask entropy",
                "mask overlap",
                "s",
            ],
            rows,
        )


def share_by_attention(record: Record) -> float:
    """Return the share of a guided mask that attention chose, after `random_start`, unrounded."""
    masks = record.facts["masking"]
    queries = 1 / masks["inputs_per_query"] if masks["hide_queries"] else 0
    return float(max(0, 1 - masks["random_floor"] - queries))


def _mean_fact(records: Sequence[Record], name: str) -> str:
    values = [record.facts[name] for record in records if name in record.facts]
    return f"{sum(values) / len(values):.4f}" if values else ""


def command(group: Group) -> str:
    """Return the command that computes everything final in a group, and tasks no others."""
    final = [r.job for r in group.records if r.job.stage == "final" and r.methods]
    seeds = 1 + max((job.seed for job in final), default=0)
    arms = sorted({job.arm for job in final}, key=lambda arm: (parse_arm(arm).name, arm))
    done = [name for name in group.kind.tasks if name in {job.task for job in final}]
    tasks = "" if len(done) == len(group.kind.tasks) else "".join(f"--task {x} " for x in done)
    return (
        f"anymae benchmark {group.suite} {tasks}--arms {','.join(arms)} --budget {group.budget} "
        f"--seeds {seeds}"
    )


def show(values: Values) -> str:
    """Write mean and deviation."""
    if not values:
        return ""
    found = summarise(values)
    return f"{found.mean:.4f}" + ("" if found.deviation is None else f" ± {found.deviation:.4f}")


def _show_difference(found: Difference | None) -> str:
    if found is None:
        return ""
    text = f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    return text if found.verdict == "undecided" else f"**{text}**"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
