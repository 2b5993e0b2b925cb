"""Verbs that put a model to use."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from anymae.cli.console import (
    as_argument,
    is_finetuned,
    next_answers,
    next_probe,
    next_step,
    progress,
    show_json,
)
from anymae.cli.options import (
    READINGS,
    ComputeFlags,
    DataArgument,
    DataFlags,
    JsonFlag,
    OutOption,
    OverwriteFlag,
    ReadingName,
    RunArgument,
)
from anymae.errors import UserInputError

if TYPE_CHECKING:
    from anymae.inference import Written


def embed(
    run: RunArgument,
    data: DataArgument,
    out: OutOption,
    data_flags: DataFlags,
    compute_flags: ComputeFlags,
    reading: Annotated[ReadingName, Option(help=READINGS)] = ReadingName.MEAN,
    per_input: Annotated[
        bool,
        Option(
            "--per-input",
            help="A vector for each input of a row (Parquet); of a perceiver, its decoder's state.",
        ),
    ] = False,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Turn each row into a vector, in order.

    Example: anymae embed runs/mol molecules.csv --column smiles --out embeddings.parquet
    """
    from anymae.inference import embed_to_file

    with progress("embed") as told:
        written = embed_to_file(
            run,
            data,
            out,
            data_config=data_flags.config(),
            reading=reading.value,
            per_input=per_input,
            config=compute_flags.config(),
            overwrite=overwrite,
            progress=told,
        )
    _report(written, json=json)
    if not json:
        (next_answers if is_finetuned(run) else next_probe)(run)


def predict(
    model: Annotated[str, Argument(metavar="MODEL", help="Fine-tuned model.")],
    data: DataArgument,
    out: OutOption,
    data_flags: DataFlags,
    compute_flags: ComputeFlags,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Ask a fine-tuned model about each row, in order.

    Example: anymae predict models/esol new.csv --column smiles --out answers.csv
    """
    from anymae.inference import predict_to_file

    with progress("predict") as told:
        written = predict_to_file(
            model,
            data,
            out,
            data_config=data_flags.config(),
            config=compute_flags.config(),
            overwrite=overwrite,
            progress=told,
        )
    _report(written, json=json)
    if not json:
        next_step("evaluate", model, "LABELLED")


def score(
    run: RunArgument,
    data: DataArgument,
    out: OutOption,
    data_flags: DataFlags,
    compute_flags: ComputeFlags,
    masks: Annotated[
        int | None, Option(help="Number of masks, which together hide each input once.")
    ] = None,
    seed: Annotated[int, Option(help="Seed that assigns inputs to masks.")] = 0,
    reference: Annotated[
        str | None, Option(help="Row number, id, or a string, to take the difference to.")
    ] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Tell how odd each row is: its reconstruction loss, with each input hidden once.

    Example: anymae score runs/mol molecules.csv --column smiles --out odd.csv
    """
    from anymae.inference import score_to_file

    with progress("score") as told:
        written = score_to_file(
            run,
            data,
            out,
            data_config=data_flags.config(),
            num_masks=masks,
            seed=seed,
            reference=_row_or_string(reference),
            config=compute_flags.config(),
            overwrite=overwrite,
            progress=told,
        )
    _report(written, json=json)
    if not json:
        next_step("show", run, as_argument(data), *data_flags.words(), "--text")


def _row_or_string(reference: str | None) -> int | str | None:
    """Read a row number; one that no row has is left to be refused."""
    if reference is None or not re.fullmatch(r"-?\d+", reference):
        return reference
    return int(reference)


def show(
    run: RunArgument,
    data: DataArgument,
    data_flags: DataFlags,
    out: Annotated[Path | None, Option(help="HTML page to write, else masks.html.")] = None,
    text: Annotated[
        bool, Option("--text", help="Print in the terminal instead of writing a page.")
    ] = False,
    rows: Annotated[int, Option(min=1, help="Rows to show at most.")] = 8,
    seed: Annotated[int, Option(help="Fixes the masks.")] = 0,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Show what a model hides of real rows, and what it makes of them.

    Example: anymae show runs/mol molecules.csv --column smiles --text
    """
    from anymae.report import show_rows, show_rows_as_text

    if text:
        if out is not None:
            raise UserInputError("--text prints and writes no page; leave out --out, or --text")
        shown = show_rows_as_text(run, data, data_config=data_flags.config(), count=rows, seed=seed)
        if json:
            show_json({"text": shown})
            return
        typer.echo(shown)
    else:
        out = out or Path("masks.html")
        count = show_rows(
            run, data, out, data_config=data_flags.config(), count=rows, seed=seed,
            overwrite=overwrite,
        )  # fmt: skip
        if json:
            show_json({"page": str(out), "rows": count})
            return
        typer.echo(f"{out}: masks and reconstructions of {count} rows")
    out_of_hub = ("--out", "report.html") if run.startswith("hf://") else ()
    next_step("report", run, *out_of_hub)


def _report(written: "Written", *, json: bool) -> None:
    """Say what was written."""
    if json:
        show_json(written.to_json())
        return
    bad = {status: count for status, count in written.status.items() if status != "ok"}
    typer.echo(
        f"{written.out}: {written.rows:,} rows in {written.seconds:.1f} s"
        + "".join(f"; {count:,} {status}" for status, count in bad.items())
    )
