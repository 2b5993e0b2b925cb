"""Flags that several verbs share, as dataclasses that spread into one flag per field.

A verb asks for a group by annotating a parameter with its class:

    @spread
    def embed(run: Path, flags: DataFlags) -> None: ...

A flag is called as its parameter; what is on or off is named, as it would get a `--no-` otherwise.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

if TYPE_CHECKING:
    from anymae.config import DataConfig
    from anymae.inference import ComputeConfig

LARGEST_SEED = 2**32 - 1
"""As in `anymae.config`, which `--help` does not wait for."""


class ReadingName(StrEnum):
    """How a row's latents become one vector."""

    MEAN = "mean"
    LAYERS = "layers"
    KERNEL = "kernel"


READINGS = (
    "mean of the last latents; layers: mean and deviation after each layer; kernel: averaged "
    "random cosines after each layer."
)

RunArgument = Annotated[str, Argument(metavar="RUN", help="Run folder, or hf://owner/name.")]
DataArgument = Annotated[
    str,
    Argument(
        metavar="DATA",
        help="Table, strings, FASTA, arrays or images: a file, a folder, shards or a URL.",
    ),
]
OutOption = Annotated[Path, Option("--out", help="File to write: .parquet, .csv or .npy.")]
OverwriteFlag = Annotated[bool, Option("--overwrite", help="Replace what is there.")]
TaskFlag = Annotated[
    str | None,
    Option("--task", help="regression, binary, multiclass or multilabel; else inferred."),
]
JsonFlag = Annotated[
    bool, Option("--json", help="Print one JSON object on stdout and nothing else.")
]


def _role(text: str) -> Any:  # noqa: ANN401 - typer's own type is private
    return Option(metavar="COL", help=text, rich_help_panel="Roles of columns")


def _rows(metavar: str, text: str) -> Any:  # noqa: ANN401 - as above
    return Option(metavar=metavar, help=text, rich_help_panel="Data")


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags of a sort, each `None` where it was not used."""

    def given(self) -> dict[str, Any]:
        """Return the flags that were used, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def words(self) -> list[str]:
        """Return the flags that were used, as words of a command."""
        words = []
        for name, value in self.given().items():
            for each in value if isinstance(value, list) else [value]:
                words += [f"--{name.replace('_', '-')}", str(each)]
        return words


@dataclass(frozen=True, kw_only=True)
class DataFlags(Flags):
    """Which rows and columns to read: keys of `DataConfig`, the same on each verb."""

    column: Annotated[list[str] | None, _role("The model's input; repeat for tables.")] = None
    target: Annotated[list[str] | None, _role("To be predicted: never an input; repeatable.")] = (
        None
    )
    id: Annotated[str | None, _role("Copied to outputs: not pretrained on.")] = None
    split: Annotated[str | None, _role("Holds train, valid or test: never an input.")] = None
    group: Annotated[str | None, _role("Equal values stay in one split: not pretrained on.")] = None
    weight: Annotated[str | None, _role("Weight of a row: never an input.")] = None
    drop: Annotated[list[str] | None, _role("Left out; repeatable.")] = None
    kind: Annotated[
        str | None, _rows("KIND", "bytes, values, table or image instead of inferring.")
    ] = None
    where: Annotated[
        str | None, _rows("EXPR", "Keep rows, e.g. \"split == 'train' and not held\".")
    ] = None
    missing: Annotated[
        list[str] | None, _rows("VALUE", "Means a missing cell: -999, or COL=0; repeatable.")
    ] = None
    valid: Annotated[
        str | None, _rows("FILE", "File of validation rows; DATA trains, but for its --split.")
    ] = None
    test: Annotated[str | None, _rows("FILE", "File of test rows.")] = None
    split_by: Annotated[str | None, _rows("HOW", "random, stratified, group or scaffold.")] = None
    too_long: Annotated[str | None, _rows("HOW", "crop, error, truncate or window.")] = None
    on_bad_row: Annotated[str | None, _rows("HOW", "error, or skip and count them.")] = None

    def config(self) -> "DataConfig":
        """Return them as a `DataConfig`."""
        from anymae.config import DataConfig, parse

        return parse(DataConfig, self.given())


@dataclass(frozen=True, kw_only=True)
class ComputeFlags:
    """Where and how numbers are computed: keys of `ComputeConfig`."""

    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    precision: Annotated[str, Option(help="auto, fp32 or bf16.")] = "fp32"
    batch_inputs: Annotated[
        int | None, Option(metavar="N", help="Inputs of a batch, where memory is short.")
    ] = None

    def config(self) -> "ComputeConfig":
        """Return them as a `ComputeConfig`."""
        from anymae.config import parse
        from anymae.inference import ComputeConfig

        return parse(ComputeConfig, vars(self))


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """What the pretraining runs of a comparison or a search have in common."""

    preset: Annotated[str | None, Option(help="tiny, small, base.")] = None
    steps: Annotated[int | None, Option(help="Optimizer steps of a run.")] = None
    minutes: Annotated[float | None, Option(help="Wall-clock budget of a run.")] = None
    device: Annotated[str | None, Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None
    setting: Annotated[
        list[str] | None, Option("--set", metavar="A.B=C", help="Any key of a recipe; repeatable.")
    ] = None

    def settings(self) -> dict[str, object]:
        """Return the flags that were used, as keys of a recipe."""
        from anymae.recipes import parse_settings
        from anymae.training.pretrain import shorthands

        return {**shorthands(vars(self)), **parse_settings(self.setting or ())}


def spread(verb: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter that is a dataclass by one keyword for each of its fields.

    These come last, so that `--help` begins with the verb's own flags.
    """
    flags: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in inspect.signature(verb).parameters.items():
        if is_dataclass(parameter.annotation):
            groups[name] = parameter.annotation
        else:
            flags.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
    for group in groups.values():
        flags += inspect.signature(group).parameters.values()

    @wraps(verb)
    def flat(**values: Any) -> None:  # noqa: ANN401 - typer checks each flag
        filled = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        verb(**values, **filled)

    del flat.__wrapped__
    flat.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    flat.__annotations__ = {flag.name: flag.annotation for flag in flags}
    return flat
