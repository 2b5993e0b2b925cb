"""What `evaluate` prints, and where it keeps what nobody named a file for."""

import logging
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anymae.cli.console import show_json, show_table
from anymae.errors import FolderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from anymae.evaluation import Evaluation
    from anymae.metrics import Estimate

logger = logging.getLogger(__name__)


@contextmanager
def stored_then_shown(
    model: str, data: str, out: Path | None, *, overwrite: bool, json: bool
) -> "Iterator[Callable[[Evaluation], None]]":
    """Give what stores an evaluation before anything is drawn, which may fail.

    It is printed last, as whoever reads it may stop, and also where it could not be stored or
    drawn.

    Args:
        model: Where it is stored if it is a folder and `out` is `None`.
        data: What was evaluated on, as it was typed.
        out: Where it is stored.
        overwrite: Replace what is there.
        json: Print it as JSON.
    """
    from anymae.evaluation import store

    kept: list[tuple[Evaluation, Path | None]] = []

    def keep(found: "Evaluation") -> None:
        kept.append((found, None))
        if out is not None:
            store(found, out)
            kept[0] = (found, out)
        elif Path(model).is_dir():
            kept[0] = (found, keep_evaluation(found, Path(model), data, overwrite=overwrite))

    try:
        yield keep
    finally:
        for found, stored in kept:
            if json:
                show_json(found.to_json())
                continue
            show_evaluation(found)
            if stored is not None:
                typer.echo(f"stored in {stored}")


def show_evaluation(found: "Evaluation") -> None:
    """Print metrics: a line for each target, then for each group."""
    typer.echo(f"{found.part}: {found.rows:,} rows, with 95 % intervals")
    if found.seen_in_training is not None:
        typer.echo(f"{found.seen_in_training:,} of them also occur among the training rows")
    if found.units:
        typer.echo(found.units)
    if found.weighting:
        typer.echo(found.weighting)
    if found.positive is not None:
        typer.echo(f"positive: {found.positive}")
    several = found.targets if len(found.targets) > 1 else {}
    # A target may be named `all`.
    _show("target", [("all", found.overall), *several.items()])
    if found.groups:
        _show("group", list(found.groups.items()), found.group_rows or None)
    if found.num_groups > len(found.groups):
        typer.echo(f"and {found.num_groups - len(found.groups):,} smaller groups")


def keep_evaluation(
    found: "Evaluation", folder: Path, data: str, *, overwrite: bool
) -> Path | None:
    """Store an evaluation in the model's folder, beside others that say something else.

    Args:
        found: What to store.
        folder: The model's.
        data: What was evaluated on, as it was typed; gives the file its name.
        overwrite: Replace the first one of that name.

    Returns:
        The file; `None` where the folder cannot be written.
    """
    from anymae.evaluation import store

    name = f"evaluation-{_stem(Path(data))}-{found.part}"
    places = (folder / f"{name}{'' if number == 1 else f'-{number}'}.json" for number in count(1))
    out = next(place for place in places if overwrite or not place.exists() or _holds(place, found))
    try:
        store(found, out)
    except FolderError as error:
        # Nobody asked for it there; models in a shared folder can be evaluated too.
        logger.warning("%s; --out stores the evaluation elsewhere", error)
        return None
    return out


def _show(
    what: str,
    lines: "list[tuple[str, Mapping[str, Estimate]]]",
    counts: "Mapping[str, int] | None" = None,
) -> None:
    """Show a line of metrics for each name, after how many rows it has where that is counted."""
    metrics = list(lines[0][1])
    rows = [
        [name]
        + ([] if counts is None else [f"{counts[name]:,}"])
        + [str(estimates[metric]) for metric in metrics]
        for name, estimates in lines
    ]
    show_table([what, *([] if counts is None else ["rows"]), *metrics], rows, in_parts=True)


def _holds(path: Path, found: "Evaluation") -> bool:
    """True where a file holds this very evaluation."""
    from anymae.files import read_json

    try:
        return found.to_json().items() <= read_json(path).items()
    except FolderError:
        return False


def _stem(data: Path) -> str:
    """Return the name of data without what tells their format.

    >>> _stem(Path("folds/fold.1.CSV.gz")), _stem(Path("fold.2"))
    ('fold.1', 'fold.2')
    """
    from anymae.data.sources.base import SOURCES
    from anymae.data.sources.locate import extension

    known = {ending for key in SOURCES for ending in SOURCES[key].extensions}
    ending = extension(data.name)
    return data.name[: data.name.lower().rindex(ending)] if ending in known else data.name
