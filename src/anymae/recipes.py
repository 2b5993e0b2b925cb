"""Whole runs as YAML: read strictly, override by `--set`, write as `run.yaml`. No torch in here."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from anymae.config import (
    DataConfig,
    DecoderConfig,
    EncoderConfig,
    MaskingConfig,
    Recipe,
    Section,
    TrainingConfig,
    parse,
)
from anymae.errors import ConfigError, first_line, initials, nearest

SECTIONS: dict[str, type[Section]] = {
    "encoder": EncoderConfig,
    "decoder": DecoderConfig,
    "masking": MaskingConfig,
    "training": TrainingConfig,
}
"""Sections that refine a preset, and what they are checked against once it is known."""

DataSettings = DataConfig | Mapping[str, object]
"""How data are read: a config, or some of its keys."""

LENGTHS = ("steps", "epochs", "minutes")
"""Keys of `training` that exclude each other: a later one replaces an earlier one."""


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as everywhere else, and no key is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"{key} is given twice", problem_mark=node.start_mark
                )
        return dict(super().construct_mapping(node, deep))


class _Dumper(yaml.SafeDumper):
    """Writes YAML that `_Loader` reads as it was: it quotes words that would be numbers there."""


for _each in (_Loader, _Dumper):
    _each.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
        list("-+0123456789"),
    )


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe, or the `run.yaml` of a run.

    Raises:
        ConfigError: The file is missing or no YAML, or holds an unknown key (the nearest is
            named), a wrong type or a contradiction.
    """
    path = Path(path)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"there is no recipe {path}; give a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); give a YAML file") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is no YAML: {_first_problem(error)}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no sections; expected `training:` and the like")
    return make_recipe(values, where=str(path))


def make_recipe(values: Mapping[str, Any], *, where: str = "") -> Recipe:
    """Build a recipe from plain values and check the keys of every section.

    Raises:
        ConfigError: As `load_recipe`.

    >>> make_recipe({"preset": "tiny", "training": {"steps": 300}}).training
    {'steps': 300}
    """
    recipe = parse(Recipe, values, where=where)
    for name, section in SECTIONS.items():
        for key in getattr(recipe, name):
            if key not in section.model_fields:
                prefix = f"{where}: " if where else ""
                elsewhere = [one for one, own in _keys().items() if own == key]
                hint = _meant(elsewhere) or nearest(key, section.model_fields)
                raise ConfigError(f"{prefix}unknown key {f'{name}.{key}'!r}{hint}")
    # What needs no preset is checked right here; widths wait for theirs.
    for name in ("masking", "training"):
        parse(SECTIONS[name], getattr(recipe, name), where=f"{where}: {name}" if where else name)
    return recipe


def parse_settings(assignments: Iterable[str]) -> dict[str, object]:
    """Read `section.key=value` as a command line gives them; values are YAML.

    Raises:
        ConfigError: An assignment has no `=`, or its value is no YAML.

    >>> parse_settings(["training.learning_rate=3e-4", "data.column=[a, b]"])
    {'training.learning_rate': 0.0003, 'data.column': ['a', 'b']}
    """
    settings: dict[str, object] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {assignment!r} has no value; write --set section.key=value")
        try:
            settings[name.strip()] = yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"--set {assignment!r}: {_first_problem(error)}") from None
    return settings


def apply_settings(recipe: Recipe, settings: Mapping[str, object]) -> Recipe:
    """Return a recipe in which settings `section.key` have other values.

    `training.steps`, `training.epochs` and `training.minutes` replace each other.

    Raises:
        ConfigError: An unknown section or key (the nearest is named), a wrong value, or several
            lengths of training among the settings.

    >>> apply_settings(Recipe(), {"preset": "tiny", "masking.ratio": 0.5}).masking
    {'ratio': 0.5}
    """
    lengths = [name for name in LENGTHS if settings.get(f"training.{name}") is not None]
    if len(lengths) > 1:
        raise ConfigError(f"training.{lengths[0]} and training.{lengths[1]} exclude each other")
    values: dict[str, Any] = recipe.model_dump(exclude_unset=True)
    for name, value in settings.items():
        section, dot, key = name.partition(".")
        if section not in Recipe.model_fields:
            hint = "" if dot else _meant(settings_like(name))
            hint = hint or nearest(section, Recipe.model_fields)
            raise ConfigError(f"unknown setting {name!r}{hint}")
        if not dot:
            values[section] = value
            continue
        if section in ("preset", "init", "init_sha256"):
            raise ConfigError(f"unknown setting {name!r}; write {section}=NAME")
        inside = {} if values.get(section) is None else values[section]
        if not isinstance(inside, Mapping):
            raise ConfigError(f"{section}={inside} holds no keys; write {section}.{key}=VALUE")
        if section == "training" and key in LENGTHS and value is not None:
            inside = {other: kept for other, kept in inside.items() if other not in LENGTHS}
        values[section] = {**inside, key: value}
    return make_recipe(values)


def settings_named(key: str) -> list[str]:
    """Return the settings of that key, in any section.

    Else those whose key it shortens, or the one whose whole name it nearly is.

    >>> settings_named("ratio"), settings_named("lr"), settings_named("mask_ratio")
    (['masking.ratio'], ['training.learning_rate'], ['masking.ratio'])
    """
    found = [name for name, own in _keys().items() if own == key]
    found = found or [name for name, own in _keys().items() if initials(own) == key]
    whole = {name.replace(".", "_"): name for name in _keys()}
    return found or [whole[near] for near in difflib.get_close_matches(key, whole, 1, 0.8)]


def settings_like(key: str) -> list[str]:
    """Return the settings of that key or, if it is not nearer to a section, of the nearest one.

    >>> settings_like("learning_rat"), settings_like("trainig")
    (['training.learning_rate'], [])
    """
    found = settings_named(key)
    if found or difflib.get_close_matches(key, Recipe.model_fields):
        return found
    near = difflib.get_close_matches(key, _keys().values(), n=1)
    return settings_named(near[0]) if near else []


def _keys() -> dict[str, str]:
    """Return the key of each setting `section.key`."""
    sections: dict[str, type[Section]] = {"data": DataConfig, **SECTIONS}
    return {f"{name}.{key}": key for name, one in sections.items() for key in one.model_fields}


def _meant(settings: list[str]) -> str:
    return f"; did you mean {' or '.join(map(repr, settings))}?" if settings else ""


def nested_settings(settings: Mapping[str, object]) -> dict[str, Any]:
    """Return the same settings with a mapping in place of the keys `section.key`.

    >>> nested_settings({"seeds": 2, "readout.kind": "mean", "readout.num_heads": 4})
    {'seeds': 2, 'readout': {'kind': 'mean', 'num_heads': 4}}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        section, dot, key = name.partition(".")
        inside = found.get(section)
        before = inside if isinstance(inside, Mapping) else {}
        found[section] = {**before, key: value} if dot else value
    return found


def flat_settings(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the same settings with one for each key, where a section is given as a whole.

    As in `apply_settings`, a section replaces what was set of it before.

    >>> flat_settings({"masking": {"kind": "span", "ratio": 0.5}, "preset": "tiny"})
    {'masking.kind': 'span', 'masking.ratio': 0.5, 'preset': 'tiny'}
    """
    found: dict[str, object] = {}
    for name, value in settings.items():
        if name not in SECTIONS or not isinstance(value, Mapping):
            found[name] = value
            continue
        found = {other: kept for other, kept in found.items() if not other.startswith(f"{name}.")}
        found |= {f"{name}.{key}": each for key, each in value.items()}
    return found


def dump_recipe(recipe: Recipe, *, comment: str = "") -> str:
    """Return a recipe as YAML that `load_recipe` reads back; what was never set is left out."""
    values = recipe.model_dump(mode="json", exclude_unset=True)
    values = {name: value for name, value in values.items() if value not in ({}, None)}
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return lines + yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _first_problem(error: yaml.YAMLError | ValueError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or first_line(error)
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem


def data_settings(given: DataSettings | None) -> DataConfig:
    """Return how data are read.

    Raises:
        ConfigError: An unknown key, or a wrong value.

    >>> data_settings({"column": "smiles", "on_bad_row": "skip"}).column
    ('smiles',)
    """
    if isinstance(given, DataConfig):
        return given
    return parse(DataConfig, given or {}, where="data_config")
