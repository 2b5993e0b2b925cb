"""What turns rows into inputs, stored beside a model as `data.json`.

With it, new data become the inputs of a stored run: the same columns, scales and categories.
"""

import math
import shlex
from collections.abc import Iterable
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from anymae.config import DataConfig, InputConfig, InputKind, Names, Section, parse
from anymae.data.frame import Frame
from anymae.data.kinds import KINDS
from anymae.data.roles import Roles, is_likely_input, resolve_roles, roles_of_known_columns
from anymae.errors import DataError


class Preparation(Section):
    """Kind, roles, statistics and identity of the data that a model was trained on."""

    format_version: Literal[1] = 1
    input: InputConfig
    """What the model sees."""
    roles: Roles
    """What each column was for."""
    column_types: dict[str, str]
    """Arrow type of each column that has a role or is an input."""
    missing: Names = ()
    """Values that were declared missing."""
    statistics: dict[str, Any]
    """What the training rows say, as the input kind wants it."""
    rows: int
    """Rows of the source."""
    used_rows: int
    """Rows that are inputs: kept by `where` and not bad."""
    fingerprint: str
    """Hash of the content."""
    split: str
    """Hash of which rows are for training, validation and test; empty where nothing was fitted."""
    median_score: float | None = None
    """What reconstructing an input costs in the median validation row, once training is over."""

    @property
    def kind(self) -> InputKind:
        """The kind of input."""
        return self.input.kind

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `data.json`."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Build from the plain values of `data.json`.

        Raises:
            ConfigError: The values are no preparation; the message names the key.
        """
        return parse(cls, values, where="data.json")

    def restore(self, inputs: npt.NDArray[Any]) -> Any:  # noqa: ANN401
        """Turn inputs, or predictions of them, back into the user's units.

        Args:
            inputs: `(B, N)` tokens, or `(B, N, K)` standardised values; in a table a category's
                code, and NaN for a missing cell.

        Returns:
            Strings (`bytes`), an array `(B, N, K)` (`values`), pictures `(B, H, W, C)` (`image`)
            or a `pyarrow.Table` (`table`).
        """
        return KINDS[self.kind].restore(self.statistics, np.asarray(inputs))

    def differences(self, other: "Preparation") -> list[str]:
        """Say in what other data differ from these; empty where they are the same.

        Different content is told apart from a different schema, which is told column by column.
        """
        found = _compare("kind", self.kind, other.kind)
        known, new = set(self.column_types), set(other.column_types)
        if self.kind in ("bytes", "values"):
            # Any name will do for the one input column.
            known, new = known - set(self.roles.inputs), new - set(other.roles.inputs)
        found += [f"column {name!r} is missing" for name in sorted(known - new)]
        found += [f"column {name!r} is new" for name in sorted(new - known)]
        for name in sorted(known & new):
            types = self.column_types[name], other.column_types[name]
            found += _compare(f"type of column {name!r}", *types)
        for role in ("target", "id", "split", "group", "weight"):
            found += _compare(role, getattr(self.roles, role), getattr(other.roles, role))
        found += _compare("declared missing values", self.missing, other.missing)
        found += _compare("number of rows", f"{self.rows:,}", f"{other.rows:,}")
        if not found and self.fingerprint != other.fingerprint:
            found.append("the content differs, though columns and number of rows are the same")
        if self.fingerprint == other.fingerprint and self.split and other.split:
            found += _compare("split of the rows", self.split[:12], other.split[:12])
        mine, theirs = (of.model_dump(mode="json")["statistics"] for of in (self, other))
        if not found and mine and theirs and not _alike(mine, theirs):
            found.append("what inputs are scaled by differs, though the content is the same")
        return found

    def refuse_inputs_as_targets(self, targets: Iterable[str]) -> None:
        """Check that no column to be predicted was seen by the encoder.

        Raises:
            DataError: A target was an input.
        """
        for name in targets:
            if name in self.roles.inputs:
                raise DataError(
                    f"target {name!r} was an input of the encoder, which has seen the answers; "
                    f"pretrain without it (--target {shlex.quote(name)}) or predict another column"
                )

    def resolve_roles(self, frame: Frame, config: DataConfig) -> Roles:
        """Find the roles of other data's columns so that they become this run's inputs.

        Tables match by name; the one column of `bytes` and `values` may have any. What is an input
        may be copied to outputs, and rows be grouped by it: nothing new is learned from it.

        Raises:
            DataError: A column is missing, or no column could be the input.
        """
        inputs = {*self.roles.inputs, *config.column} & set(frame.table.column_names)
        twice = {role: getattr(config, role) for role in ("id", "group")}
        twice = {role: name for role, name in twice.items() if name in inputs}
        found = self._resolve_others(frame, config.model_copy(update=dict.fromkeys(twice)))
        return found.model_copy(update=twice)

    def _resolve_others(self, frame: Frame, config: DataConfig) -> Roles:
        self.refuse_inputs_as_targets(config.target)
        if config.kind not in (None, self.kind):
            raise DataError(f"the run reads {self.kind} inputs, not {config.kind}")
        forced = config.model_copy(update={"kind": self.kind})
        if self.kind in ("bytes", "values") and not config.column and frame.shape is None:
            name = self.roles.inputs[0]
            if name in frame.table.schema.names:
                forced = forced.model_copy(update={"column": (name,)})
        elif self.kind == "table" and frame.shape is None:
            return roles_of_known_columns(frame, forced, self._table_columns(frame))
        elif self.kind == "table" and frame.shape is not None and len(frame.shape) == 1:
            self._check_array_columns(frame.name, frame.shape[0])
        found = resolve_roles(frame, forced)
        if self.kind == "bytes" and not forced.column:
            self._check_likely(frame, found)
        return found

    def _check_likely(self, frame: Frame, found: Roles) -> None:
        """Refuse a column of another name that is the input only because no other holds strings."""
        if len(frame.table.column_names) > 1 and not is_likely_input(frame, found.inputs[0]):
            name = self.roles.inputs[0]
            raise DataError(
                f"{frame.name} has no column {name!r}, which the run reads; name the one that "
                "holds such strings with --column"
            )

    def _check_array_columns(self, name: str, count: int) -> None:
        """Refuse an array whose columns, known by their number, are not those of the run."""
        wanted = self._wanted()
        if wanted != [str(number) for number in range(len(wanted))]:
            raise DataError(
                f"{name} has columns without names and the run reads them by name "
                f"({', '.join(wanted[:10])}); hand over a table"
            )
        if count != len(wanted):
            raise DataError(
                f"{name} has {count} columns and the run reads {len(wanted)}; "
                "hand over those, in their order"
            )

    def _wanted(self) -> list[str]:
        return [column["name"] for column in self.statistics["columns"]]

    def _table_columns(self, frame: Frame) -> tuple[str, ...]:
        wanted = self._wanted()
        absent = [name for name in wanted if name not in frame.table.schema.names]
        if absent:
            raise DataError(
                f"{frame.name} lacks {len(absent)} of the {len(wanted)} columns that the run "
                f"reads: {', '.join(absent[:10])}"
            )
        return tuple(wanted)


def _alike(one: Any, other: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Compare plain values; another machine may round a mean differently."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)
    return bool(one == other)


def _compare(what: str, mine: object, other: object) -> list[str]:
    return [] if mine == other else [f"{what} is {other}, not {mine}"]
