"""Verbs that bring models in and take them out."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from anymae.cli.console import is_finetuned, next_answers, next_step, show_json
from anymae.cli.options import JsonFlag, OverwriteFlag, RunArgument


class Format(StrEnum):
    """What a model can be exported to."""

    ONNX = "onnx"


def export(
    run: RunArgument,
    out: Annotated[Path, Option(help="File to write: .onnx.")],
    to: Annotated[Format, Option(help="Format of the file.")] = Format.ONNX,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Write a model as one ONNX file, its numbers compared with torch's first.

    Example: anymae export runs/mol --to onnx --out mol.onnx
    """
    from anymae.export import export_onnx

    written = export_onnx(run, out, overwrite=overwrite)
    if json:
        show_json(
            {
                "file": str(out),
                "inputs": written.inputs,
                "length": written.length,
                "output": written.output,
                "difference": written.difference,
            }
        )
        return
    shapes = ", ".join(
        f"{name} ({' x '.join(map(str, shape))})" for name, shape in written.inputs.items()
    )
    # Where the kind leaves it free the shape has a name.
    free = any("inputs" in shape for shape in written.inputs.values())
    most = f"; at most {written.length:,} inputs a row" if free else ""
    typer.echo(f"{out}: {shapes} -> {written.output}{most}")
    typer.echo(f"largest difference to torch, rows of several lengths: {written.difference:.1e}")
    if run.startswith("hf://"):
        _use(run, run)
    else:
        next_step("push", run, "hf://OWNER/NAME", "--dry-run")


def push(
    run: Annotated[Path, Argument(metavar="RUN", help="Run folder.")],
    name: Annotated[str, Argument(metavar="NAME", help="hf://owner/name; made if need be.")],
    private: Annotated[bool, Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="List what would be uploaded, and stop.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Upload a model to the Hugging Face hub: configuration, weights, data description, card.

    Example: anymae push runs/mol hf://owner/molecules --private
    """
    from anymae.hub import published_files, repository_of
    from anymae.hub import push as upload

    repository_of(name)
    files, where = (published_files(run), None) if dry_run else upload(run, name, private=private)
    if json:
        show_json({"files": files, "uploaded": where})
        return
    for file, size in files.items():
        typer.echo(f"{file}: {size:,} bytes")
    if where is not None:
        typer.echo(where)
        _use(name, run)


def convert(
    checkpoint: Annotated[
        Path, Argument(metavar="CHECKPOINT", help=".safetensors or pytorch_model.bin, or folder.")
    ],
    out: Annotated[Path, Option(help="Run folder to write.")],
    config: Annotated[
        Path | None, Option(help="Its config.json, if not beside the weights.")
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
    if model.config.input.kind == "bytes":
        _use(out, out)
    else:
        # How its numbers were scaled is unknown: it reads no data by itself.
        next_step("export", out, "--to", "onnx", "--out", f"{out}.onnx")


def _use(name: object, run: str | Path) -> None:
    """Name the command that asks a model of data, called `name`; `run` has its configuration."""
    if is_finetuned(run):
        next_answers(name)
    else:
        next_step("embed", name, "DATA", "--out", "embeddings.parquet")
