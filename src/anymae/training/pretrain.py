"""`anymae.pretrain`: any data in, a run folder with an encoder out."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from anymae.config import DataConfig, Recipe, TrainingConfig, parse
from anymae.data.join import read_like
from anymae.data.preparation import Preparation
from anymae.errors import ConfigError, FolderError, InterruptedRunError, UserInputError
from anymae.files import read_json, remove_folder
from anymae.hub import DATA, load
from anymae.model import MaskedAutoencoder
from anymae.recipes import LENGTHS, load_recipe
from anymae.training.checkpoint import STATE, Checkpoints
from anymae.training.folder import CHECKPOINTS, NO_EXAMPLES, RECIPE, RunFolder
from anymae.training.identity import unlike, unlike_data
from anymae.training.log import Entry, read_metrics
from anymae.training.origin import absolute, recall_origin
from anymae.training.processes import Processes
from anymae.training.progress import Report, notebook_progress
from anymae.training.requests import Requests
from anymae.training.resolve import differing, few, read_recipe, refuse_sizes, resolve_job
from anymae.training.session import Options, Session

logger = logging.getLogger(__name__)

Columns = str | Sequence[str]

SHORT = {
    "preset": "preset",
    **dict.fromkeys(
        ("kind", "column", "target", "id", "split", "group", "weight", "drop", "where", "missing"),
        "data",
    ),
    **dict.fromkeys(("on_bad_row", "too_long", "valid", "test", "split_by"), "data"),
    **dict.fromkeys(("steps", "epochs", "minutes", "batch_size", "learning_rate"), "training"),
    **dict.fromkeys(("seed", "device", "precision"), "training"),
}
"""Keywords of `pretrain` that stand for a setting of the same name, and its section."""


@contextmanager
def part_of_more(folder: Path) -> Iterator[None]:
    """Reword what stops a run that a command trains among others, and so goes on with by itself.

    Its checkpoints go once it is finished: the weights are whole, and what was needed to go on
    after a cut only takes room.

    Raises:
        InterruptedRunError: In its words.
    """
    try:
        yield
    except InterruptedRunError as error:
        stopped = str(error).partition(";")[0]
        raise InterruptedRunError(
            f"{folder} {stopped}; everything is saved: the same command goes on from here"
        ) from None
    remove_folder(folder / CHECKPOINTS)


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    """The run folder."""
    model: MaskedAutoencoder
    """The best model, in evaluation mode on the CPU."""
    metrics: dict[str, Any]
    """Numbers of the best look, and `verdict` and `words`: is it learning?"""

    @property
    def history(self) -> list[Entry]:
        """All lines of `metrics.jsonl`."""
        return read_metrics(self.folder / "metrics.jsonl")

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(str(name))}</th><td>{escape(_short(value))}</td></tr>"
            for name, value in self.metrics.items()
        )
        return f"<table><caption>{escape(str(self.folder))}</caption>{rows}</table>"


def pretrain(
    data: object = None,
    *,
    out: str | Path,
    kind: str | None = None,
    preset: str | None = None,
    recipe: str | Path | Recipe | None = None,
    column: Columns | None = None,
    target: Columns | None = None,
    id: str | None = None,  # noqa: A002 - the name of the role
    split: str | None = None,
    group: str | None = None,
    weight: str | None = None,
    drop: Columns | None = None,
    where: str | None = None,
    missing: Columns | None = None,
    valid: str | None = None,
    test: str | None = None,
    split_by: str | None = None,
    on_bad_row: str | None = None,
    too_long: str | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    batch_size: int | str | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    settings: Mapping[str, object] | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    stop_after: float | None = None,
    track: Columns | None = None,
    probe_target: str | None = None,
    no_examples: bool = False,
    progress: Report | None = None,
) -> Run:
    """Pretrain a masked autoencoder on any data.

    `data` is a path or an object (`None` takes the recipe's path), `out` the run folder: new or
    empty, unless `resume` or `overwrite`. `settings` are keys of the recipe, such as
    `{"masking.ratio": 0.5}`, and win over everything else; keywords named like a key of
    `DataConfig` or `TrainingConfig` stand for it. `init` names a run whose weights to begin with;
    a run that is resumed must have begun with these.
    What concerns only how it is made is described at `Options`.

    Returns:
        The folder, the best model, and its numbers.

    Raises:
        UserInputError: The request cannot be carried out; nothing was written.
    """
    # Every keyword is either a setting, which the recipe checks by name, or in `Options`.
    keywords = dict(locals())
    chosen = {**shorthands(keywords), **(settings or {})}
    asked, source = read_recipe(recipe, chosen, init=init, probe_target=probe_target)
    with notebook_progress(progress) as keywords["progress"]:
        options = Options(**{field.name: keywords[field.name] for field in fields(Options)})
        return _pretrain(data, asked, source, RunFolder(out), options)


def shorthands(keywords: Mapping[str, object]) -> dict[str, object]:
    """Return the settings that keywords of `pretrain` stand for, such as `training.steps`.

    >>> shorthands({"steps": 300, "column": "smiles", "seed": None})
    {'training.steps': 300, 'data.column': 'smiles'}
    """
    found: dict[str, object] = {}
    for name, value in keywords.items():
        if name not in SHORT or value is None:
            continue
        section = SHORT[name]
        key = name if section == name else f"{section}.{name}"
        found[key] = value
    return found


def _pretrain(
    data: object, recipe: Recipe, source: Path | None, folder: RunFolder, options: Options
) -> Run:
    requests = Requests(options.stop_after)
    local = recipe.init is not None and "://" not in recipe.init
    if local and not options.resume and Path(recipe.init or "").resolve() == folder.path.resolve():
        raise FolderError(f"{folder.path} is the run to start from; name another with --out")
    folder.check(resume=options.resume, overwrite=options.overwrite)
    goes_on = options.resume and folder.is_run
    if goes_on:
        recipe = recall_origin(recipe, folder.path)
    if options.resume and folder.is_finished and not _asks_for_other_length(recipe, folder):
        _require_own_command(data, recipe, folder)
        logger.warning("%s is finished; there is nothing left to do", folder.path)
        if options.no_examples and not folder.has_no_examples:
            folder.note({NO_EXAMPLES: True})
        return _finished(folder)
    device = parse(TrainingConfig, recipe.training, where="training").device
    with Processes(device, track=options.trackers, folder=folder.path) as processes:
        with processes.main_first():
            before = folder.path if goes_on else None
            job = resolve_job(data, recipe, source=source, folder=before)
        for note in (*job.dataset.roles.describe(), *job.notes) if processes.is_main else ():
            logger.info("%s", note)
        with requests:
            session = Session(job, folder, processes=processes, options=options)
            model, metrics = session.run(requests)
    return Run(folder.path, model, metrics)


def _require_own_command(data: object, recipe: Recipe, folder: RunFolder) -> None:
    """Refuse to take a finished run for one of other settings or data."""
    stored = load_recipe(folder.path / RECIPE)
    found, of = unlike(stored, recipe), "settings"
    if data is not None or recipe.data.path is not None:
        found += unlike_data(stored.data, recipe.data)
        if not found:
            found, of = _other_content(data, recipe, folder, stored.data), "data"
    if found:
        raise ConfigError(
            f"{folder.path} is finished, as a run of other {of} ({few(found)}); repeat its "
            "own command, or name a new folder with --out"
        )


def _other_content(
    data: object, recipe: Recipe, folder: RunFolder, stored: DataConfig
) -> list[str]:
    """Say in what data differ from those of a finished run; its own files may be gone by now."""
    if not (folder.path / DATA).exists():
        return []
    refuse_sizes(recipe)
    path = str(data) if isinstance(data, str | Path) else recipe.data.path
    now = {absolute(name) for name in (path, *recipe.data.files) if name is not None}
    before = {absolute(name) for name in (stored.path, *stored.files) if name is not None}
    prepared = Preparation.from_json(read_json(folder.path / DATA))
    settings = recipe.data.model_copy(update={"missing": prepared.missing})
    # Data that a run took in as another's inputs, with no split, are read as that one's.
    like = None if prepared.split else prepared
    try:
        frame = read_like(path if data is None else data, settings, like).frame
    except UserInputError:
        if before == now and not all(Path(name or "").exists() for name in now):
            return []
        raise
    # Which types and split follow from the content is this version's answer, not the run's.
    rows = f"{prepared.rows:,}", f"{frame.table.num_rows:,}"
    if rows[0] != rows[1]:
        return [f"number of rows is {rows[1]}, not {rows[0]}"]
    if prepared.fingerprint != frame.digest:
        return ["the content differs, though the number of rows is the same"]
    wanted = recipe.data.model_dump(mode="json", include={"kind", "length"}, exclude_none=True)
    return differing({name: getattr(prepared.input, name) for name in wanted}, wanted, "input.")


def _asks_for_other_length(recipe: Recipe, folder: RunFolder) -> bool:
    """Say whether a finished run is to go on, or to have been another."""
    store = Checkpoints(folder.checkpoints, keep=1)
    try:
        state = read_json(store.path(store.steps()[-1]) / STATE)
        # However long was said, it came to a number of steps, which `run.yaml` names.
        before = {**state["identity"]["training"], "steps": state["rhythm"]["steps"]}
    except (FolderError, KeyError, IndexError):
        return False
    given = {name: recipe.training[name] for name in LENGTHS if name in recipe.training}
    return any(value is not None and before.get(name) != value for name, value in given.items())


def _finished(folder: RunFolder) -> Run:
    model = load(folder.path)
    assert isinstance(model, MaskedAutoencoder)
    ends = [entry for entry in read_metrics(folder.metrics) if entry["kind"] == "end"]
    metrics = {k: v for k, v in (ends[-1] if ends else {}).items() if k not in ("kind", "step")}
    return Run(folder.path, model, metrics)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
