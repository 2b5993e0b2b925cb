"""Label-efficiency curves as SVG, the same bytes each time."""

import io
from collections.abc import Sequence

from anymae.benchmark.statistics import summarise
from anymae.benchmark.suite import Task
from anymae.benchmark.summary import Group

# Joined arms but one are left out, so that lines can be told apart.
COLOURS = {
    "guided": "#d1495b",
    "random": "#00798c",
    "random-again": "#7fbcc5",
    "span": "#edae49",
    "block": "#edae49",
    "none": "#8d96a3",
    "baseline": "#30343f",
    "baseline+embedding": "#8e5572",
}


def draw_curve(group: Group, tasks: Sequence[Task]) -> str:
    """Draw the score of each arm against the number of labels, with deviations over seeds."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Identifiers in the file follow from the salt, and no date is written.
    with mpl.rc_context({"svg.hashsalt": "anymae", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for arm, colour in COLOURS.items():
            points = [
                (_num_labels(group, task), summarise(values))
                for task in tasks
                if (values := group.tested(task, arm))
            ]
            if points:
                # A single seed has no deviation, which is not one of zero.
                spreads = [found.deviation for _, found in points if found.deviation is not None]
                axes.errorbar(
                    [labels for labels, _ in points],
                    [found.mean for _, found in points],
                    spreads if len(spreads) == len(points) else None,
                    label=arm, color=colour, marker="o", markersize=3, capsize=2, linewidth=1.2,
                )  # fmt: skip
        axes.set_xscale("log")
        counts = sorted({_num_labels(group, task) for task in tasks})
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.set_xticks([], minor=True)
        title = f"{group.kind.title}, budget {group.budget}"
        axes.set(xlabel="labels", ylabel=f"test {tasks[0].metric}", title=title)
        axes.legend(frameon=False, fontsize=8)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    # Some versions of the writer end lines with spaces.
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _num_labels(group: Group, task: Task) -> int:
    record = group.records_of(task)[0]
    return int(record.data["rows"]["train"])
