"""How a fine-tuned model came about and how well it answers, as parts of a page."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from anymae.errors import AnymaeError, FolderError
from anymae.evaluation import Evaluation
from anymae.files import read_json
from anymae.metrics import Estimate
from anymae.report.figures import as_image, curves
from anymae.report.page import Block
from anymae.training.finetuned import Finetuned
from anymae.training.stages import known_looks

logger = logging.getLogger(__name__)


def finetuned_blocks(folder: Path, name: str, *, prefix: str = "") -> list[Block]:
    """Tell what was trained, how validation went, and every evaluation that is stored.

    Args:
        folder: A fine-tuned model's.
        name: What to call it.
        prefix: Goes before titles.
    """
    try:
        found = Finetuned.read(folder)
    except AnymaeError as error:
        logger.warning("nothing of the fine-tuning of %s is shown: %s", name, error)
        return [Block(note=f"Nothing of the fine-tuning of {name} is shown: {error}.")]
    blocks = [Block(title=f"{prefix}Fine-tuning", rows=list(_facts(found)))]
    looks = dict(_looks(found))
    if looks:
        image = as_image(
            curves(looks, x="step", y="validation loss"), "validation loss over the steps"
        )
        note = "Step 0: the head alone, on the frozen encoder."
        blocks.append(Block(title=f"{prefix}Validation loss", html=image, note=note))
    return [*blocks, _metrics(folder, found, title=f"{prefix}Metrics")]


def _metrics(folder: Path, found: Finetuned, *, title: str) -> Block:
    """Tabulate what was measured at the end of the training and by `evaluate`."""
    evaluations, notes = dict(found.evaluations), []
    for path in sorted(folder.glob("evaluation-*.json")):
        try:
            each = _read(path)
            evaluations[f"{path.name}: {each.data}" if each.data else path.name] = each
        except AnymaeError as error:
            notes.append(f"{error}.")
    notes.insert(0, "In brackets: 95 % intervals." if evaluations else "No row validates.")
    units = dict.fromkeys(each.units.capitalize() for each in evaluations.values() if each.units)
    notes += [f"{words}." for words in units]
    notes += [f"{part}: {each.weighting}." for part, each in evaluations.items() if each.weighting]
    metrics = list(dict.fromkeys(key for each in evaluations.values() for key in each.overall))
    lines = [_lines(part, each, metrics) for part, each in evaluations.items()]
    return Block(
        title=title,
        columns=["rows", "", "how many", "seen in training", *metrics],
        rows=[line for each in lines for line in each],
        note=" ".join(notes),
    )


def _read(path: Path) -> Evaluation:
    """Read a stored evaluation; refuse a file that holds none."""
    try:
        return TypeAdapter(Evaluation).validate_python(read_json(path))
    except ValidationError:
        raise FolderError(
            f"{path.name} holds no evaluation; evaluate again, or remove it"
        ) from None


def _facts(found: Finetuned) -> Iterator[tuple[str, str]]:
    task = found.task
    yield "answers", f"{', '.join(task.targets)} ({task.type})"
    if task.classes:
        yield "classes", ", ".join(task.classes)
    if task.positive is not None:
        yield "positive class", task.positive
    yield "labelled rows", ", ".join(f"{count:,} {part}" for part, count in found.rows.items())
    yield "learning rate", f"{found.learning_rate:g}"
    for one in found.history:
        if len(one["tried"]) > 1:
            tried = (f"{rate:g}: {loss:.4g}" for rate, loss in known_looks(one["tried"]))
            yield f"validation loss by learning rate, seed {one['seed']}", "; ".join(tried)
    if found.valid_loss is not None:
        yield "validation loss", f"{found.valid_loss:.4g}"
    for one, step in zip(found.history, found.steps, strict=True):
        yield f"step whose weights are kept, seed {one['seed']}", f"{step:,}"


def _looks(found: Finetuned) -> Iterator[tuple[str, tuple[tuple[float, ...], tuple[float, ...]]]]:
    """Go through the looks of each seed where there are several, at the rate that was chosen."""
    for one in found.history:
        looks = known_looks(one["looks"])
        if len(looks) > 1:
            steps, losses = zip(*looks, strict=True)
            yield f"seed {one['seed']}", (steps, losses)


def _lines(part: str, found: Evaluation, metrics: list[str]) -> Iterator[list[str]]:
    """Yield a line for all of an evaluation, then for each of several targets and each group."""

    def line(what: str, of: Mapping[str, Estimate], *counts: str) -> list[str]:
        return [part, what, *counts, *(str(of[name]) if name in of else "" for name in metrics)]

    seen = "" if found.seen_in_training is None else f"{found.seen_in_training:,}"
    yield line("", found.overall, f"{found.rows:,}", seen)
    for target, of in found.targets.items() if len(found.targets) > 1 else ():
        yield line(target, of, "", "")
    for group, of in found.groups.items():
        count = found.group_rows.get(group)
        yield line(f"group {group}", of, "" if count is None else f"{count:,}", "")
