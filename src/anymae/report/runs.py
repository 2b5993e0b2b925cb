"""How runs went, on one page: settings, curves, what was hidden of real rows, metrics."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anymae.config import InputConfig
from anymae.data.dataset import Dataset, open_data
from anymae.data.preparation import Preparation
from anymae.data.sources.locate import require_output
from anymae.errors import AnymaeError, UserInputError
from anymae.hub import load, read_config, resolve
from anymae.model import MaskedAutoencoder
from anymae.recipes import load_recipe
from anymae.report.examples import Example, co_masking, reconstruct_rows
from anymae.report.figures import as_image, curves, matrix
from anymae.report.finetuned import finetuned_blocks
from anymae.report.page import PAGES, Block, write_page
from anymae.report.rows import as_html
from anymae.training.finetuned import RESULT, stored_section
from anymae.training.folder import RECIPE, RunFolder
from anymae.training.log import Entry, read_metrics

logger = logging.getLogger(__name__)

SHOWN = 8
"""Rows whose masks are shown."""

COUNTED = 512
"""Rows over which it is counted what is hidden together."""

_KEYS = {
    "bytes": "Green: hidden and guessed right. Red: guessed wrong; point at it to see the guess.",
    "set": "Members of a set have no order: each guess stands beside the member that it fits.",
}
"""How to read rows, by kind of input."""

MOST_PAIRED = 256
"""Inputs of a row at most for which that is drawn."""


def write_report(
    runs: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    no_examples: bool = False,
) -> Path:
    """Write a page about one run, or several beside each other.

    Rows are shown where the run's data are still at their place, unless it was trained with
    `no_examples`; nothing is fetched from the network for them.

    Args:
        runs: Run folders.
        out: The HTML file; `None` is `report.html` in the folder of a single run.
        overwrite: Replace `out`.
        no_examples: Show no rows.

    Returns:
        Its path.

    Raises:
        FolderError: A folder is no run, or the page exists or cannot be written.
        UserInputError: There are several runs and `out` is not named, or `out` is no HTML file.
    """
    if out is None and len(runs) != 1:
        raise UserInputError(f"{len(runs)} runs share no folder; name the page with --out")
    if out is None and str(runs[0]).startswith("hf://"):
        raise UserInputError(f"{runs[0]} is no folder to write to; name the page with --out")
    folders = [resolve(run) for run in runs]
    page = Path(out) if out is not None else folders[0] / "report.html"
    # A run's own page is a report already.
    require_output(page, PAGES, overwrite=overwrite or out is None)
    configs = [read_config(folder) for folder in folders]
    names = _names(runs)
    logs = dict(
        zip(names, (read_metrics(folder / "metrics.jsonl") for folder in folders), strict=True)
    )
    settings = [_settings_of(*pair) for pair in zip(folders, configs, strict=True)]
    blocks = [*_outcomes(logs), *loss_blocks(logs)]
    for folder, name in zip(folders, names, strict=True):
        prefix = f"{name}: " if len(folders) > 1 else ""
        if (folder / RESULT).exists():
            blocks += finetuned_blocks(folder, name, prefix=prefix)
        else:
            blocks += _masks(folder, name, prefix=prefix, no_examples=no_examples)
    blocks.append(_side_by_side("Settings", names, settings))
    title = names[0] if len(folders) == 1 else "Runs"
    write_page(page, title, blocks)
    return page


def _names(runs: Sequence[str | Path]) -> list[str]:
    """Call each run by its folder, or as it was typed where several folders have one name."""
    names = [called(run) for run in runs]
    return [
        name if names.count(name) == 1 else str(run) for name, run in zip(names, runs, strict=True)
    ]


def called(run: str | Path) -> str:
    """Return what a page calls a run: the name of its folder, or its name on the hub."""
    return str(run) if str(run).startswith("hf://") else Path(run).resolve().name


def example_blocks(
    examples: Sequence[Example],
    counted: Sequence[Example],
    preparation: Preparation,
    *,
    prefix: str = "",
) -> list[Block]:
    """Show rows with what was hidden and guessed, and which inputs are hidden together.

    Args:
        examples: Rows to show.
        counted: Rows over which it is counted what is hidden together, as many as `rows_counted`
            says; none, where that is not drawn.
        preparation: Turns them back into the user's units.
        prefix: Goes before titles, such as the name of a run.
    """
    inputs = preparation.input
    blocks = [
        Block(
            title=f"{prefix}What is hidden, and what becomes of it",
            html=as_html(examples, preparation),
            note=_KEYS.get("set" if inputs.positions == "none" else inputs.kind, ""),
        )
    ]
    if counted:
        together = co_masking(counted)
        np.fill_diagonal(together, 0)
        # Rows may all be shorter than the model reads at most.
        names = [str(place) for place in range(len(together))]
        if inputs.kind == "table":
            names = [column["name"] for column in preparation.statistics["columns"]]
        image = as_image(
            matrix(together, names, "hidden together, beyond chance"),
            "which inputs are hidden together",
        )
        places = " Patches count from the upper left one, line by line." * (inputs.kind == "image")
        note = (
            "How much likelier an input is hidden where the line's is, of the rows that have both; "
            f"over {len(counted)} rows.{places}"
        )
        blocks.append(Block(title=f"{prefix}What is hidden together", html=image, note=note))
    return blocks


def rows_counted(inputs: InputConfig) -> int:
    """Return over how many rows at most it is counted what is hidden together; 0 draws nothing."""
    return COUNTED if inputs.kind != "bytes" and inputs.length <= MOST_PAIRED else 0


def _settings_of(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return what was asked for, and how the model is built, by dotted key."""
    if (folder / RESULT).exists():
        # Masks and decoder of the pretraining have no part in it.
        network = {key: part for key, part in config.items() if key not in ("decoder", "masking")}
        asked = stored_section(folder, "asked")
        data, training = _named(asked.get("data", {})), asked.get("training", {})
        finetune = asked.get("config", {})
        return _flatten({"data": data, "finetune": finetune, "training": training, **network})
    if not (folder / RECIPE).exists():
        return _flatten(config)
    recipe = load_recipe(folder / RECIPE)
    data = recipe.data.model_dump(mode="json", exclude_defaults=True)
    return _flatten(
        {"preset": recipe.preset, "data": _named(data), "training": recipe.training, **config}
    )


def _named(data: dict[str, Any]) -> dict[str, Any]:
    """Name files without their folders: a page may be handed on, and those are nobody's matter."""
    return data | {key: Path(data[key]).name for key in ("path", "valid", "test") if data.get(key)}


def _outcomes(logs: dict[str, list[Entry]]) -> list[Block]:
    """Tell how pretraining ended, side by side; nothing of runs that did not get there."""
    ends = {
        name: entry for name, entries in logs.items() for entry in entries if entry["kind"] == "end"
    }
    if not ends:
        return []
    numbers = [
        {key: _number(value) for key, value in end.items() if isinstance(value, int | float)}
        for end in ends.values()
    ]
    several = len(logs) > 1
    words = [
        f"{name}: {end['words']}." if several else f"{end['words'][:1].upper()}{end['words'][1:]}."
        for name, end in ends.items()
        if "words" in end
    ]
    block = _side_by_side("How it ended", list(ends), numbers)
    return [replace(block, text=" ".join(words))]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 or value == int(value) else f"{value:.4g}"


def _side_by_side(title: str, names: Sequence[str], each: Sequence[dict[str, Any]]) -> Block:
    """Tabulate values by key, a column for each run."""
    keys = list(dict.fromkeys(key for values in each for key in values))
    return Block(
        title=title,
        columns=["", *names],
        rows=[[key, *(str(values.get(key, "")) for values in each)] for key in keys],
    )


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif value not in (None, [], ()):
            listed = isinstance(value, list | tuple)
            flat[f"{prefix}{key}"] = ", ".join(map(str, value)) if listed else value
    return flat


def loss_blocks(logs: dict[str, list[Entry]]) -> list[Block]:
    """Draw every loss that was logged, over the steps; nothing where nothing was."""
    lines = {}
    for name, entries in logs.items():
        keys = dict.fromkeys(
            (entry["kind"], key) for entry in entries for key in entry if key.endswith("loss")
        )
        for kind, key in keys:
            points = [
                (entry["step"], entry[key])
                for entry in entries
                if entry["kind"] == kind and isinstance(entry.get(key), (int, float))
            ]
            if len(points) > 1:
                what = key if key.startswith((kind, "trivial")) else f"{kind}_{key}"
                label = " ".join([*([name] if len(logs) > 1 else []), what.replace("_", " ")])
                steps, values = zip(*points, strict=True)
                lines[label] = (steps, values)
    if not lines:
        return []
    picture = curves(lines, x="step", y="loss per hidden input")
    return [Block(title="Loss", html=as_image(picture, "losses over the steps"))]


def _masks(folder: Path, name: str, *, prefix: str, no_examples: bool) -> list[Block]:
    """Show rows of a run's own data, or say why that cannot be done."""
    try:
        model = load(folder)
        if not isinstance(model, MaskedAutoencoder) or no_examples:
            return []
        dataset = _own_data(folder, model)
        if isinstance(dataset, str):
            return [Block(note=f"No rows of {name} are shown: {dataset}.")]
        rows = dataset.parts.valid if len(dataset.parts.valid) else np.arange(len(dataset))
    except AnymaeError as error:
        logger.warning("no rows of %s are shown: %s", name, error)
        return [Block(note=f"No rows of {name} are shown: {error}.")]
    shown = reconstruct_rows(model, dataset, rows[:SHOWN])
    counted = reconstruct_rows(
        model, dataset, np.arange(min(rows_counted(dataset.input), len(dataset)))
    )
    return example_blocks(shown, counted, dataset.preparation, prefix=prefix)


def _own_data(folder: Path, model: MaskedAutoencoder) -> Dataset | str:
    """Open the data that a run was trained on, or say why they are not shown.

    That they cannot be read any more is raised.
    """
    if model.data is None or not (folder / RECIPE).exists():
        return "it knows no data"
    if RunFolder(folder).has_no_examples:
        return "it was trained with --no-examples"
    recipe = load_recipe(folder / RECIPE)
    config, stored = recipe.data.unpacked, Preparation.from_json(model.data)
    part_of = RunFolder(folder).part_of
    if part_of is not None:
        return (
            f"it is a run of {part_of} on a part of the rows; `anymae show` shows those of a file"
        )
    if config.path is None:
        return "its data came from Python; `anymae show` shows those of a file"
    names = (config.path, *config.files)
    remote = [each for each in names if "://" in each and not each.startswith("file://")]
    if remote:
        return f"a report fetches nothing, such as {remote[0]}; `anymae show` does"
    seed = recipe.training.get("seed", 0)
    dataset = open_data(config.path, config, preparation=stored, seed=seed)
    if dataset.preparation.fingerprint != stored.fingerprint:
        return (
            f"{config.path} does not hold what the run was trained on; `anymae show` shows rows "
            "of any data"
        )
    return dataset
