"""Verbs that tell how good a model is."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from anymae.cli.console import next_step, quoted, show_json, show_table
from anymae.cli.options import ComputeFlags, DataArgument, DataFlags, JsonFlag, RunArgument, spread

_PANEL = "Judge"


class Part(StrEnum):
    """Rows to evaluate on."""

    TEST = "test"
    VALID = "valid"
    TRAIN = "train"
    ALL = "all"


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    for verb in (probe, evaluate, report):
        app.command(rich_help_panel=_PANEL)(spread(verb))


def probe(
    run: RunArgument,
    data: DataArgument,
    data_flags: DataFlags,
    compute_flags: ComputeFlags,
    num_labels: Annotated[
        int | None, typer.Option("--n-labels", metavar="N", help="Fit to N labels only.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Splits, labels, random encoder.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Judge frozen embeddings beside raw features and an encoder with random weights.

    Example: anymae probe runs/mol esol.csv --column smiles --target solubility
    """
    from anymae.metrics import HEADLINE
    from anymae.probing import probe as run_probe

    found = run_probe(
        run,
        data,
        data_config=data_flags.config(),
        num_labels=num_labels,
        seed=seed,
        config=compute_flags.config(),
    )
    if json:
        show_json(found.to_json())
        return
    targets = ", ".join(found.task.targets)
    counts = ", ".join(f"{count:,} {part}" for part, count in found.rows.items())
    typer.echo(f"{found.task.type} of {targets}; rows: {counts}; with 95 % intervals")
    name = HEADLINE[found.task.type]
    rows = [
        [f"{row.features} {row.reading}", row.model, target, str(estimates[name])]
        for row in found.results
        for target, estimates in row.metrics.items()
    ]
    show_table(["features", "model", "target", name], rows)
    next_step(quoted("anymae", "finetune", run, data, "--target", "COL", "--out", "models/NAME"))


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Fine-tuned model.")],
    data: DataArgument,
    data_flags: DataFlags,
    compute_flags: ComputeFlags,
    part: Annotated[
        Part | None, typer.Option("--part", help="Rows; else the test part if there is one.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw confusion or parity: .png, .svg or .pdf.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Compare a model's answers with the truth, with bootstrap intervals.

    Example: anymae evaluate models/esol esol_test.csv
    """
    from anymae.evaluation import evaluate as run_evaluation

    found = run_evaluation(
        model,
        data,
        part=None if part is None else part.value,
        data_config=data_flags.config(),
        config=compute_flags.config(),
        plot=plot,
    )
    if json:
        show_json(found.to_json())
        return
    for note in found.notes:
        typer.echo(note)
    typer.echo(f"{found.part}: {found.rows:,} rows, with 95 % intervals")
    rows = [[name, str(estimate)] for name, estimate in found.overall.items()]
    show_table(["metric", "value"], rows)
    next_step(quoted("anymae", "predict", model, "DATA", "--out", "answers.csv"))


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML page; RUN/report.html for a single run.")
    ] = None,
) -> None:
    """Write one self-contained HTML page about a run, or several beside each other.

    Example: anymae report runs/guided runs/random --out both.html
    """
    from anymae.report import write_report

    page = write_report(runs, out=out)
    typer.echo(f"{page}: open it in a browser")
