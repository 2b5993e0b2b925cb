"""Words for users: counts, lists, and what pydantic found wrong with a config."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from anymae.errors import nearest


def counted(number: int, thing: str) -> str:
    """Count things.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {thing}{'s' * (number != 1)}"


def listed(words: Iterable[str]) -> str:
    """List one or more words as a sentence does.

    >>> listed("abc")
    'a, b and c'
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def explain(model: type[BaseModel], error: ValidationError, where: str) -> str:
    """One sentence for the first problem that pydantic found, which names the way out."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    prefix = f"{where}: " if where else ""
    if first["type"] == "extra_forbidden":
        return f"{prefix}unknown key {key!r}{nearest(path[-1], _fields_at(model, path[:-1]))}"
    if first["type"] == "missing":
        return f"{prefix}{key} is missing and has no default; set it"
    problem = first["msg"].removeprefix("Value error, ")
    if len(path) > 1 and path[-1] not in _fields_at(model, path[:-1]) and not path[-1].isdecimal():
        # A value of one of several types: pydantic names it once for each.
        others = [one["msg"] for one in error.errors() if one["loc"][:-1] == first["loc"][:-1]]
        key = ".".join(path[:-1])
        problem = " or ".join(others).replace(" or Input should be", " or")
    if not key or first["type"] == "value_error":
        return f"{prefix}{problem}"
    problem = problem[:1].lower() + problem[1:]
    for theirs, ours in _WORDS.items():
        problem = problem.replace(theirs, ours)
    return f"{prefix}{key} is {first['input']!r}; {problem.replace('input should', 'it should')}"


_WORDS = {
    "a valid dictionary or instance of": "a section of keys and values, a",
    "a valid dictionary": "a section of keys and values",
    "a valid tuple": "a list",
    "a valid list": "a list",
}


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields of the section that `path` leads to."""
    section: Any = model
    for part in path:
        field = getattr(section, "model_fields", {}).get(part)
        if field is None:
            break
        section = field.annotation
    return list(getattr(section, "model_fields", model.model_fields))
