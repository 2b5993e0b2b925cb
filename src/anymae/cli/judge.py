"""Verbs that tell how good a model is."""

from pathlib import Path
from typing import Annotated

import typer

from anymae.cli.options import spread

_PANEL = "Judge"


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    for verb in (report,):
        app.command(rich_help_panel=_PANEL)(spread(verb))


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
