"""Verbs that bring models in and take them out."""

from pathlib import Path
from typing import Annotated

import typer

from anymae.cli.console import next_step, show_json
from anymae.cli.options import JsonFlag

_PANEL = "Exchange"


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command(rich_help_panel=_PANEL)(convert)


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help=".safetensors or pytorch_model.bin, or folder."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Run folder to write.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="Its config.json, if not beside the weights.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Turn a published checkpoint into a run folder.

    Example: anymae convert sma-chem/model.safetensors --config sma-chem/config.json --out chem
    """
    from anymae.compat.checkpoint import convert_checkpoint

    model = convert_checkpoint(checkpoint, out=out, config=config)
    count = sum(parameter.numel() for parameter in model.parameters())
    if json:
        show_json({"folder": str(out), "parameters": count, "kind": model.config.input.kind})
        return
    typer.echo(f"{out}: {model.config.input.kind} model with {count:,} parameters")
    next_step(f"anymae embed {out} DATA --out embeddings.parquet")
