"""The page of settings: every key with its values, default and meaning, and what presets set.

`make settings` runs this module. Meanings are the docstrings in the code, so that the page says
what a reader of the code is told.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from anymae.config import DataConfig, Recipe
from anymae.files import write_text
from anymae.presets import PRESETS
from anymae.recipes import SECTIONS
from anymae.task import FinetuneConfig, ReadoutConfig

_HEAD = """# Settings

Made by `make settings` from the classes that hold them.

`pretrain`, `tune` and `compare` take `--set SECTION.KEY=VALUE`, a recipe has `KEY: VALUE` below
`SECTION:`, and Python takes `settings={"SECTION.KEY": value}`. Values are YAML:
`--set data.column=[a, b]`, `--set training.clip=null`. A flag such as `--steps` stands for the key
of its name. `finetune` takes `--set KEY=VALUE` with the keys under [finetune](#finetune), such as
`--set readout.kind=mean`, and `--set training.KEY=VALUE`; in Python these are
`config=FinetuneConfig(...)` and `training={"KEY": value}`.

The `run.yaml` of a run holds what every key came to, and `pretrain --dry-run` shows it beforehand.
An unknown key is an error that names the nearest one, or all that are known where none is near.
"""

_PRESETS = """## Presets

A preset sets sizes, masking and training together. Keys that it does not name have the defaults
below, and whatever is set beside it wins. Without `--preset`, a machine without a GPU takes `tiny`,
one with a GPU `small`, and `base` from a million rows on. Rows of up to 1,024 inputs get a
transformer and longer ones a perceiver, unless `encoder.kind` says otherwise. Perceivers, values
and tables do without the `masking.hide_queries` of a preset. `recipes/` holds a file for each.
"""

_FINETUNE = """Of `training` it has defaults of its own: `batch_size` 32, `patience` 8,
`keep_checkpoints` 1, and a length of 30 epochs, but at least 300 steps.
"""

_SECTIONS: Mapping[str, type[BaseModel]] = {
    "data": DataConfig,
    **SECTIONS,
    "finetune": FinetuneConfig,
    "finetune: readout": ReadoutConfig,
}

_BOUNDS = {
    "exclusiveMinimum": "above {:g}",
    "minimum": "from {:g}",
    "exclusiveMaximum": "below {:g}",
    "maximum": "up to {:,}",
}
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}


class Setting(NamedTuple):
    """One key."""

    key: str
    values: str
    """What it may be, in words."""
    default: str
    """Empty where a preset or the data have to say."""
    meaning: str


def settings_of(section: type[BaseModel]) -> list[Setting]:
    """Describe the keys of a section.

    >>> settings_of(SECTIONS["masking"])[1]._replace(meaning="")
    Setting(key='ratio', values='number above 0, below 1', default='0.3', meaning='')
    """
    schema = section.model_json_schema()
    meanings = _docstrings(section)
    return [
        Setting(
            key,
            _values(schema["properties"][key], schema.get("$defs", {})),
            _default(field),
            meanings.get(key, ""),
        )
        for key, field in section.model_fields.items()
    ]


def write_page(page: Path) -> None:
    """Write the page of settings."""
    write_text(page, "\n".join(_page()))


def _page() -> Iterator[str]:
    yield _HEAD
    yield _PRESETS
    yield _table(("preset", "what for", "what it sets"), map(_preset_row, PRESETS))
    meanings = _docstrings(Recipe)
    yield "## Beside the sections\n"
    beside = ((f"`{key}`", meanings[key]) for key in ("preset", "init", "init_sha256"))
    yield _table(("key", "meaning"), beside)
    for name, section in _SECTIONS.items():
        yield f"## {name}\n\n{' '.join((section.__doc__ or '').split())}\n"
        if section is FinetuneConfig:
            yield _FINETUNE
        rows = (
            (f"`{key}`", values, f"`{default}`" if default else "", meaning)
            for key, values, default, meaning in settings_of(section)
        )
        yield _table(("key", "values", "default", "meaning"), rows)


def _preset_row(name: str) -> tuple[str, ...]:
    preset = PRESETS[name]
    keys = (
        f"`{section}.{key}={_plain(value)}`"
        for section in SECTIONS
        for key, value in getattr(preset, section).items()
    )
    return f"`{name}`", preset.summary, ", ".join(keys)


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def _values(schema: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Put a JSON schema into words."""
    if "$ref" in schema:
        return _values(known[schema["$ref"].rpartition("/")[2]], known)
    if "anyOf" in schema:
        return ", or ".join(_values(each, known) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "null":
        return "`null`"
    if kind == "array":
        return f"list of {_values(schema['items'], known)}" if "items" in schema else "list"
    if kind == "object":
        return "section"
    bounds = [words.format(schema[name]) for name, words in _BOUNDS.items() if name in schema]
    return " ".join([_TYPES.get(str(kind), "anything"), ", ".join(bounds)]).strip()


class _Names(dict[str, object]):
    """Answers for each key with its name: what a default is taken from."""

    def get(self, key: str, default: object = None) -> str:
        return f"as {key}"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return str(field.default_factory(_Names()))  # type: ignore[call-arg]
    if field.default is PydanticUndefined or isinstance(field.default, BaseModel):
        return ""
    return _plain(field.default)


def _plain(value: object) -> str:
    """Write a value as YAML has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _docstrings(section: type[BaseModel]) -> dict[str, str]:
    """Return what stands below each field of a class, on one line."""
    body = ast.parse(inspect.getsource(section)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for pair in pairwise(body.body):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=text)):
                found[name] = " ".join(str(text).split())
    return found


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
