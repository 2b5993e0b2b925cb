"""What verbs print: results on stdout, progress and advice on stderr."""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anymae.training.progress import duration

if TYPE_CHECKING:
    from anymae.task import TaskConfig
    from anymae.training.progress import Progress as TrainingProgress

PATIENCE = 2.0
"""Seconds after which progress is shown."""

UNFOLDED = 10_000
"""Signs of a line where no terminal shows it."""

INTERVAL = 10.0
"""Seconds between lines of progress where stderr is no terminal."""

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""


def show_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout, on one line; what is not finite becomes null."""
    plain = json.loads(json.dumps(value), parse_constant=lambda constant: None)
    typer.echo(json.dumps(plain, allow_nan=False))


def show_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, in_parts: bool = False
) -> None:
    """Print a table on stdout; the first column stands left, the others right.

    Args:
        columns: Their names.
        rows: Cells.
        in_parts: Columns for which a terminal is too narrow stand in tables below, each behind the
            first column.
    """
    from rich.console import Console
    from rich.table import Table

    # What no terminal shows is not folded to the width of one. A column may be called mass [kg].
    terminal = sys.stdout.isatty()
    console = Console(
        width=None if terminal else UNFOLDED, markup=False, emoji=False, highlight=False
    )
    parts = _parts(columns, rows, console.width) if in_parts else [range(len(columns))]
    with console.capture() as captured:
        for part in parts:
            table = Table()
            for n in part:
                table.add_column(columns[n], justify="right" if n else "left", overflow="fold")
            for row in rows:
                table.add_row(*(row[n] for n in part))
            console.print(table)
    # What rich prints itself ends the process where nobody reads on.
    typer.echo(captured.get(), nl=False)


def _parts(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[Sequence[int]]:
    """Return the columns of each table, of which as many stand side by side as fit."""
    from rich.cells import cell_len

    first, *sizes = (
        max(cell_len(cell) for cell in cells) + 3 for cells in zip(columns, *rows, strict=True)
    )
    parts: list[list[int]] = [[]]
    used = first + 1
    for number, size in enumerate(sizes, 1):
        if parts[-1] and used + size > width:
            parts.append([])
            used = first + 1
        parts[-1].append(number)
        used += size
    return [[0, *part] for part in parts]


def show_task(task: "TaskConfig", rows: Mapping[str, int], more: str = "") -> None:
    """Print what is predicted, and from how many rows of each sort."""
    counts = ", ".join(f"{count:,} {part}" for part, count in rows.items())
    typer.echo(f"{named_task(task)}; rows: {counts}{more}")


def named_task(task: "TaskConfig") -> str:
    """Name a task, its targets and, in a binary one, which class is the positive one."""
    positive = "" if task.positive is None else f" (positive: {task.positive})"
    return f"{task.type} of {', '.join(task.targets)}{positive}"


@contextmanager
def progress(verb: str, unit: str = "rows") -> Iterator[Progress]:
    """Show how far something has come, on stderr, once it has taken two seconds.

    A bar with speed and time left on a terminal, else one plain line per interval. What is done
    when it is first told, as by a run that was cut, took no time now.
    """
    first: tuple[int, float] | None = None
    with _shown(verb) as show:

        def update(done: int, total: int) -> None:
            nonlocal first
            now = time.monotonic()
            before, started = first = first or (done, now)
            speed = (done - before) / max(now - started, 1e-9)
            times, of = (3600, "h") if 0 < speed < 1 else (1, "s")
            left = f", {duration((total - done) / speed)} left" if speed else ""
            show(done, total, f"{times * speed:,.0f} {unit}/{of}{left}")

        yield update


@contextmanager
def training_progress(verb: str) -> Iterator[Callable[["TrainingProgress"], None]]:
    """Show how far a training has come, likewise, with its loss."""
    with _shown(verb) as show:

        def update(now: "TrainingProgress") -> None:
            speed, left = f"{now.rows_per_second:,.0f} rows/s", duration(now.seconds_left)
            show(now.step, now.steps, f"loss {now.loss:.4f}, {speed}, {left} left")

        yield update


Show = Callable[[int, int, str], None]
"""Takes done, total and words about it."""


def is_main_process() -> bool:
    """Return whether this process speaks for all that torchrun or accelerate have started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _shown(verb: str) -> Iterator[Show]:
    if not is_main_process():
        yield lambda done, total, words: None
        return
    if not sys.stderr.isatty():
        yield _lines(verb)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn
    from rich.progress import Progress as Bar

    started = time.monotonic()
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[words]}")
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(verb, total=None, visible=False, words="")

        def show(done: int, total: int, words: str) -> None:
            late = time.monotonic() - started > PATIENCE
            bar.update(task, completed=done, total=total, visible=late, words=words)

        yield show


def _lines(verb: str) -> Show:
    told, before = time.monotonic(), 0

    def show(done: int, total: int, words: str) -> None:
        nonlocal told, before
        now = time.monotonic()
        if now - told < INTERVAL or done == before:
            return
        told, before = now, done
        typer.echo(f"{verb}: {done:,} of {total:,}, {words}", err=True)

    return show


def next_step(*words: object, program: Sequence[str] = ("anymae",)) -> None:
    """Name the sensible next command, on stderr, as a shell reads it back."""
    typer.echo(f"next: {shlex.join(map(str, (*program, *words)))}", err=True)


def flag(name: str, value: object) -> tuple[str, ...]:
    """Return the words of a flag; none where it was not used.

    >>> flag("--seed", 3), flag("--seed", None)
    (('--seed', '3'), ())
    """
    return () if value is None else (name, str(value))


def as_argument(data: str) -> str:
    """Return a path that is never taken for an option.

    >>> as_argument("-odd.csv"), as_argument("a.csv")
    ('./-odd.csv', 'a.csv')
    """
    return f"./{data}" if data.startswith("-") else data


def is_finetuned(run: str | Path) -> bool:
    """Say whether a folder or a hub id has a model that answers, not an encoder alone."""
    from anymae.hub import read_config, resolve

    return "task" in read_config(resolve(run))


def next_answers(model: object) -> None:
    """Name the command that asks a fine-tuned model of data."""
    next_step("predict", model, "DATA", "--out", "answers.csv")


def next_probe(run: object) -> None:
    """Name the command that judges an encoder."""
    next_step("probe", run, "LABELLED", "--target", "COL")
