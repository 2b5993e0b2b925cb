"""Verbs to begin with."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from anymae.cli.console import as_argument, flag, next_step, progress, show_json, show_table
from anymae.cli.options import LARGEST_SEED, DataArgument, DataFlags, JsonFlag, OverwriteFlag

NAMELESS = ("fasta", "smi", "text")
"""Formats that say by themselves what is the input; a table of the same rows does not."""


def quickstart(
    out: Annotated[Path, Option(help="Folder to write.")] = Path("quickstart"),
    steps: Annotated[int | None, Option(min=1, help="Optimizer steps of each run.")] = None,
    seed: Annotated[int, Option(min=0, max=LARGEST_SEED, help="Of both runs.")] = 0,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace an earlier quickstart.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Pretrain on handwritten digits, see the masks, and what few labels are worth.

    Example: anymae quickstart --out quickstart
    """
    from anymae.quickstart import LABELS, STEPS
    from anymae.quickstart import quickstart as tell

    with progress("quickstart", unit="steps") as told:
        story = tell(out, steps=steps or STEPS, seed=seed, overwrite=overwrite, progress=told)
    if json:
        show_json(story.to_json())
        return
    columns = ["features", *(f"{count} labels" for count in LABELS)]
    typer.echo("share of 500 test digits told right, mean ± sd over draws of the labels")
    show_table(columns, story.rows())
    for verdict in story.verdicts():
        typer.echo(verdict)
    typer.echo(f"masks: {story.picture}\npage:  {story.page}\n{story.seconds:.0f} s in all")
    next_step("inspect", "YOUR-FILE")


def inspect(
    data: DataArgument,
    data_flags: DataFlags,
    against: Annotated[
        str | None, Option(metavar="FILE", help="Another file: count the rows that occur in both.")
    ] = None,
    preset: Annotated[
        str | None, Option(help="Estimate for this one instead of the rule's.")
    ] = None,
    groups_out: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Write rows with their duplicates' group, .csv or"
            " .parquet, for --group duplicate_group.",
        ),
    ] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Tell what was inferred about data, and the run that would follow.

    Example: anymae inspect molecules.csv --column smiles
    """
    from anymae.data.inspection import GROUP, TABLES, write_groups
    from anymae.data.sources.locate import require_output
    from anymae.report import survey
    from anymae.training.pretrain import shorthands

    if groups_out is not None:
        read = (data, against, *data_flags.config().files)
        require_output(groups_out, TABLES, *read, overwrite=overwrite)
    settings = shorthands({**data_flags.given(), "preset": preset})
    found = survey(data, settings=settings, against=against)
    groups = None
    if groups_out is not None:
        groups = write_groups(found.plan.dataset, groups_out, overwrite=overwrite)
    if json:
        show_json({**found.to_json(), "groups": groups})
        return
    for line in found.lines():
        typer.echo(line)
    if groups is not None:
        typer.echo(f"{groups_out}: {groups:,} groups of duplicates in column {GROUP}")
    # What was looked at is what would be skipped; `pretrain` stops at bad rows otherwise.
    past = ("--on-bad-row", "skip") if found.found.bad and not data_flags.on_bad_row else ()
    told, flags = data, data_flags
    # The rows of several files are no longer told apart, and of arrays there are numbers only.
    several = data_flags.valid or data_flags.test
    if groups_out is not None and found.plan.dataset.rows.frame.shape is None and not several:
        told, past = str(groups_out), ()
        column = data_flags.column
        if found.found.format in NAMELESS:
            column = column or list(found.plan.dataset.roles.inputs)
        flags = replace(data_flags, column=column, group=GROUP)
    words = (*flags.words(), *past, *flag("--preset", preset), "--out", "runs/NAME")
    next_step("pretrain", as_argument(told), *words)
