"""Flags that several verbs share, as dataclasses that spread into one flag per field.

A verb asks for a group by annotating a parameter with its class:

    @spread
    def embed(run: Path, flags: DataFlags) -> None: ...
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, get_type_hints

from typer import Argument, Option

Returned = TypeVar("Returned")
Parameters = ParamSpec("Parameters")

_DATA = "Data"
_COLUMNS = "Roles of columns"

RunArgument = Annotated[str, Argument(metavar="RUN", help="Run folder, or hf://owner/name.")]
DataArgument = Annotated[
    str, Argument(metavar="DATA", help="CSV, TSV, Parquet, JSONL, text, .npy or .npz file.")
]
JsonFlag = Annotated[
    bool, Option("--json", help="Print one JSON object on stdout and nothing else.")
]


def _columns(flag: str, text: str) -> Any:  # noqa: ANN401 - typer's own type is private
    return Option(flag, metavar="COL", help=text, rich_help_panel=_COLUMNS)


def _data(flag: str, metavar: str, text: str) -> Any:  # noqa: ANN401 - as above
    return Option(flag, metavar=metavar, help=text, rich_help_panel=_DATA)


@dataclass(frozen=True, kw_only=True)
class DataFlags:
    """Which rows and columns to read: keys of `DataConfig`, the same on each verb."""

    column: Annotated[
        list[str] | None, _columns("--column", "The model's input; repeat for tables.")
    ] = None
    target: Annotated[
        list[str] | None, _columns("--target", "To be predicted: never an input; repeatable.")
    ] = None
    id: Annotated[str | None, _columns("--id", "Copied to outputs: never an input.")] = None
    split: Annotated[
        str | None, _columns("--split", "Holds train, valid or test: never an input.")
    ] = None
    group: Annotated[
        str | None, _columns("--group", "Equal values stay in one split: never an input.")
    ] = None
    weight: Annotated[str | None, _columns("--weight", "Weight of a row: never an input.")] = None
    drop: Annotated[list[str] | None, _columns("--drop", "Left out; repeatable.")] = None
    kind: Annotated[
        str | None, _data("--kind", "KIND", "bytes, values, table or image instead of inferring.")
    ] = None
    where: Annotated[
        str | None, _data("--where", "EXPR", "Keep rows, e.g. \"split == 'train' and not held\".")
    ] = None
    missing: Annotated[
        list[str] | None,
        _data("--missing", "VALUE", "Means a missing cell: -999, or COL=0; repeatable."),
    ] = None
    too_long: Annotated[
        str | None, _data("--too-long", "HOW", "crop, error, truncate or window.")
    ] = None
    on_bad_row: Annotated[
        str | None, _data("--on-bad-row", "HOW", "error, or skip and count them.")
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the flags that were used, as keys of `DataConfig`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def spread(verb: Callable[Parameters, Returned]) -> Callable[..., Returned]:
    """Replace each parameter that is a dataclass by one keyword for each of its fields."""
    hints = get_type_hints(verb, include_extras=True)
    groups = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)
    }
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.name not in groups:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
            continue
        group = groups[parameter.name]
        types = get_type_hints(group, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=types[field.name],
            )
            for field in fields(group)
        ]

    @wraps(verb)
    def flat(**values: Any) -> Returned:  # noqa: ANN401 - typer checks each flag
        filled = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return verb(**values, **filled)  # type: ignore[call-arg,arg-type]

    del flat.__wrapped__
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


OutOption = Annotated[Path, Option("--out", help="File to write.", show_default=False)]
