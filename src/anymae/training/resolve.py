"""From what a user asked for to what will be computed: data opened, sizes and settings decided.

Nothing is written here, so that whatever is wrong is found before there is a run folder.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anymae.config import DataConfig, ModelConfig, Recipe, TrainingConfig, parse
from anymae.data.dataset import TRANSFORMER_CAP, Dataset, open_data
from anymae.data.preparation import Preparation
from anymae.errors import ConfigError, DataError
from anymae.files import read_json
from anymae.hub import DATA
from anymae.presets import build_config, choose_preset, get_preset, training_config
from anymae.recipes import LENGTHS, apply_settings, load_recipe
from anymae.training.lengths import total_steps
from anymae.training.origin import Origin, absolute, find_origin

DEFAULT_EPOCHS, FEWEST_STEPS, MOST_STEPS = 10, 1_000, 20_000
"""How long to train when nothing is said: 10 epochs, but this many steps at least and at most."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is decided upon."""

    dataset: Dataset
    recipe: Recipe
    """As asked for, with the preset decided."""
    config: ModelConfig
    training: TrainingConfig
    """As asked for, with the preset's settings."""
    init: Origin | None = None
    """Whose weights to begin with."""
    notes: tuple[str, ...] = ()
    """What a user should know, in sentences."""
    preset_rule: str = "as asked"
    """What chose the preset."""


def resolve_job(
    data: object, recipe: Recipe, *, source: Path | None = None, folder: Path | None = None
) -> Job:
    """Open the data and decide what the recipe leaves open.

    Args:
        data: A path or a Python object; `None` takes the recipe's path.
        recipe: What was asked for.
        source: File that the recipe was read from: if it lies in a run folder, that run's data
            are compared with these.
        folder: Of a run to go on with; `None` starts one.

    Raises:
        UserInputError: Something does not fit; the message says what.
    """
    data, settings = _data_settings(data, recipe)
    refuse_sizes(recipe)
    started = find_origin(recipe, folder)
    asked = parse(TrainingConfig, recipe.training, where="training")
    if started is not None:
        dataset = _open_like(data, settings, started, asked.seed)
    else:
        dataset, settings = _open(data, settings, recipe, asked.seed)
    if dataset.longest < 2:
        raise DataError(
            "each row has a single input, of which nothing can be hidden and rebuilt from the "
            "others; a table needs two columns, a series two steps"
        )
    notes = list(dataset.notes)
    preset, why = recipe.preset, "as asked"
    if preset is None:
        # One that is not there is refused where it is used.
        has_gpu = asked.device.startswith("cuda")
        has_gpu = has_gpu or (asked.device == "auto" and torch.cuda.is_available())
        preset, why = choose_preset(len(dataset), has_gpu=has_gpu)
        if started is None:
            notes.append(f"preset {preset}: {why}")
    config = _model_config(preset, recipe, dataset, started)
    training = training_config(preset, recipe.training)
    if length_is_open(training):
        notes.append(
            f"{DEFAULT_EPOCHS} passes over the training rows, at least {FEWEST_STEPS:,} and at "
            f"most {MOST_STEPS:,} steps, as nothing else was asked for (--steps, --epochs or "
            "--minutes)"
        )
    notes += _compare_with_source(source, dataset)
    return Job(
        dataset=dataset,
        recipe=recipe.model_copy(update={"data": settings, "preset": preset}),
        config=config,
        training=training,
        init=started,
        notes=tuple(notes),
        preset_rule=why,
    )


def resolved_recipe(job: Job, training: TrainingConfig) -> Recipe:
    """Return the recipe in which nothing is left open: what `run.yaml` stores.

    Args:
        job: The run.
        training: The settings, with the number of steps.
    """
    prepared = job.dataset.preparation
    data = job.recipe.data.model_copy(update={"kind": prepared.kind})
    if prepared.kind == "bytes":
        data = data.model_copy(update={"length": prepared.input.length})
    model = job.config.model_dump(mode="json")
    chosen = training.model_dump(mode="json")
    return Recipe(
        # What a run begins with brings its sizes.
        **(
            {"init": job.init.path, "init_sha256": job.init.sha256}
            if job.init is not None
            else {"preset": job.recipe.preset}
            | {name: model[name] for name in ("encoder", "decoder")}
        ),
        data=DataConfig(**data.model_dump(exclude_defaults=True)),
        masking=model["masking"],
        # A null says something everywhere (`clip: null`) but where one of three must be named.
        training={k: v for k, v in chosen.items() if v is not None or k not in LENGTHS},
    )


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Return a recipe that names the same local files from every folder; URLs stay as they are.

    >>> with_absolute_paths(Recipe(data=DataConfig(path="s3://here/x.csv"))).data.path
    's3://here/x.csv'
    """
    files = {name: absolute(getattr(recipe.data, name)) for name in ("path", "valid", "test")}
    named = {name: path for name, path in files.items() if path is not None}
    data = recipe.data.model_copy(update=named)
    return recipe.model_copy(update={"data": data, "init": absolute(recipe.init)})


def steps_of(job: Job, global_batch: int) -> int | None:
    """Return the optimizer steps of a run; `None` where minutes decide.

    Args:
        job: What is asked for; where that is no length, `DEFAULT_EPOCHS` passes within limits.
        global_batch: Rows of a step, of all processes together; several strings may share one.
    """
    rows, batch = len(job.dataset.parts.train), round(global_batch * job.dataset.strings_per_row)
    if not length_is_open(job.training):
        return total_steps(job.training, -(-rows // batch))
    passes = math.ceil(DEFAULT_EPOCHS * rows / batch)
    return min(max(passes, FEWEST_STEPS), MOST_STEPS)


def length_is_open(training: TrainingConfig) -> bool:
    """Tell whether neither steps nor epochs nor minutes are named."""
    return all(getattr(training, name) is None for name in LENGTHS)


def _data_settings(data: object, recipe: Recipe) -> tuple[object, DataConfig]:
    """Return what to open, and how."""
    data = recipe.data.path if data is None else data
    if data is None:
        raise DataError("no data are named; give a file, or a recipe with data.path")
    path = str(data) if isinstance(data, (str, Path)) else None
    fill = {"path": path, "too_long": recipe.data.too_long or "crop"}
    return data, recipe.data.model_copy(update=fill)


def _open(
    data: object, settings: DataConfig, recipe: Recipe, seed: int
) -> tuple[Dataset, DataConfig]:
    """Open data of their own; a published length of strings is that of strings alone."""
    preset = get_preset(recipe.preset) if recipe.preset is not None else None
    kind = {**(preset.encoder if preset else {}), **recipe.encoder}.get("kind")
    published = preset.input if preset is not None else {}
    length = published["length"] if published.get("kind") == "bytes" else None
    # The longest row that suits the encoder, where it is named.
    cap = TRANSFORMER_CAP if kind == "transformer" else None
    dataset = open_data(data, settings, seed=seed, cap=cap, bytes_length=length)
    if length is not None and dataset.input.kind == "bytes":
        settings = settings.model_copy(update={"length": dataset.input.length})
    return dataset, settings


def _model_config(
    preset: str, recipe: Recipe, dataset: Dataset, started: Origin | None
) -> ModelConfig:
    if started is None:
        return build_config(
            preset,
            dataset.input,
            encoder=recipe.encoder,
            decoder=recipe.decoder,
            masking=recipe.masking,
        )
    values = started.config.model_dump()
    return parse(ModelConfig, {**values, "masking": {**values["masking"], **recipe.masking}})


def refuse_sizes(recipe: Recipe) -> None:
    """Refuse sizes beside those of the model that a run begins with.

    Raises:
        ConfigError: The recipe names a preset, or sizes.
    """
    for name in ("preset", "encoder", "decoder") if recipe.init is not None else ():
        if getattr(recipe, name):
            raise ConfigError(
                f"the run to begin with, {recipe.init}, brings its own sizes; leave out {name}"
            )


def _open_like(data: object, settings: DataConfig, started: Origin, seed: int) -> Dataset:
    """Open data so that they become the inputs of a model."""
    wanted = started.config.input
    if started.data is not None:
        stored = Preparation.from_json(started.data)
        return open_data(data, settings, preparation=stored, seed=seed)
    fill: dict[str, Any] = {"kind": wanted.kind, "positions": wanted.positions}
    if wanted.kind in ("bytes", "values"):
        fill["length"] = wanted.length
    dataset = open_data(data, settings.model_copy(update=fill), seed=seed)
    for name in ("kind", "length", "channels", "categories", "patch"):
        mine, theirs = getattr(dataset.input, name), getattr(wanted, name)
        if mine != theirs:
            raise DataError(f"the model of --init has input.{name} {theirs}; these data {mine}")
    return dataset


def _compare_with_source(source: Path | None, dataset: Dataset) -> list[str]:
    """Say whether the data are those of the run whose recipe is used."""
    if source is None or not (source.parent / DATA).exists():
        return []
    stored = Preparation.from_json(read_json(source.parent / DATA))
    found = stored.differences(dataset.preparation)
    if found:
        return [f"the data differ from those of {source.parent}: {'; '.join(found)}"]
    return [f"the data are those of {source.parent}, to the byte"]


def read_recipe(
    recipe: str | Path | Recipe | None,
    settings: Mapping[str, object],
    *,
    init: str | Path | None,
    probe_target: str | None,
) -> tuple[Recipe, Path | None]:
    """Return what is asked for, and the file that the recipe came from.

    Args:
        recipe: What to begin with; `None` leaves everything open.
        settings: Keys of the recipe, which win over it.
        init: The run whose weights to begin with, in place of the recipe's.
        probe_target: A column that is no input, as it is what a probe predicts.

    Raises:
        ConfigError: The file cannot be read, or a setting does not fit.
    """
    source = None
    if isinstance(recipe, str | Path):
        source, recipe = Path(recipe), load_recipe(recipe)
    asked = apply_settings(recipe or Recipe(), settings)
    if probe_target is not None:
        targets = dict.fromkeys([*asked.data.target, probe_target])
        asked = apply_settings(asked, {"data.target": list(targets)})
    if init is not None:
        asked = asked.model_copy(update={"init": str(init), "init_sha256": None})
    return asked, source


def few(differences: Sequence[str]) -> str:
    """Word the first of several differences, and how many more there are.

    >>> few(["a is 1, not 2"])
    'a is 1, not 2'
    """
    more = f" (and {len(differences) - 5} more)" if len(differences) > 5 else ""
    return "; ".join(differences[:5]) + more


def differing(mine: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Say in what two nested mappings of plain values differ.

    >>> differing({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
    ['a.b is 3, not 1']
    """
    found = []
    for name in sorted({*mine, *other}):
        one, two = mine.get(name), other.get(name)
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            found += differing(one, two, f"{prefix}{name}.")
        elif one != two:
            found.append(f"{prefix}{name} is {two}, not {one}")
    return found
