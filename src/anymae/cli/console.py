"""What verbs print: results on stdout, progress and advice on stderr."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import typer


def show_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout, on one line; what is not finite becomes null."""
    typer.echo(json.dumps(_plain(value), allow_nan=False))


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; the first column stands left, the others right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def next_step(command: str) -> None:
    """Name the sensible next command, on stderr."""
    typer.echo(f"next: {command}", err=True)


def quoted(*words: object) -> str:
    """Join words into a command that a shell reads back."""
    return shlex.join(str(word) for word in words)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Make a value fit for strict JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value
