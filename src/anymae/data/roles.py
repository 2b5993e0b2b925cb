"""Which columns are inputs, and what the others are: the one place that decides.

A column with a role (target, id, split, group, weight) is never an input; a model that is put to
use may read one that is copied (id) or grouped by. Columns whose names say that they hold an answer
or bookkeeping are left out too; `column` brings one back.
"""

import shlex
from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from anymae.config import DataConfig, InputKind, Names, Section
from anymae.data.frame import VALUES, Frame
from anymae.data.misread import misread
from anymae.data.missing import blank, codes_of
from anymae.data.sources.guess import NAME
from anymae.errors import DataError, nearest

STRING_NAMES = ("smiles", "sequence", "seq", "text", "sentence")
"""A string column of such a name is the input, in any case of its letters."""

LEFT_OUT_NAMES = {
    **dict.fromkeys(("target", "label", "y", "class"), "named like a target"),
    **dict.fromkeys(("split", "fold", "set"), "named like a split"),
    "weight": "named like a row weight",
    "source": "named like a source",
    "id": "named like an id",
}
"""Names, in any case, of columns that are no inputs of a table unless `column` names them."""

LOOK = 1_000_000
"""Rows in which distinct values are counted to tell strings from categories."""


class LeftOut(Section):
    """A column that is no input."""

    column: str
    reason: str


class Roles(Section):
    """What each column is for.

    Printable (`describe`), and stored as part of `data.json`.
    """

    kind: InputKind
    why: str
    """How the kind was found."""
    inputs: Names
    """Input columns; `values` for an array."""
    left_out: Annotated[tuple[LeftOut, ...], Field(strict=False)] = ()
    """Columns without a role that are no inputs, each with the reason."""
    target: Names = ()
    id: str | None = None
    split: str | None = None
    group: str | None = None
    weight: str | None = None

    def describe(self) -> list[str]:
        """Return lines that tell a user what was decided."""
        lines = [f"kind: {self.kind} ({self.why})", f"inputs: {', '.join(self.inputs)}"]
        for name in ("target", "id", "split", "group", "weight"):
            value = getattr(self, name)
            if value:
                lines.append(f"{name}: {value if isinstance(value, str) else ', '.join(value)}")
        reasons: dict[str, list[str]] = {}
        for left in self.left_out:
            reasons.setdefault(left.reason, []).append(left.column)
        lines += [f"left out, {reason}: {', '.join(names)}" for reason, names in reasons.items()]
        return lines


def resolve_roles(frame: Frame, config: DataConfig) -> Roles:
    """Decide the kind of input and the role of every column.

    Args:
        frame: The data.
        config: Roles and names given by the user.

    Returns:
        The roles; `docs/data.md` has the rule.

    Raises:
        DataError: A named column is not there, has two roles, or cannot be an input; several
            string columns could be the input.
    """
    _check_names(frame, config)
    if frame.shape is not None:
        return _array_roles(frame, config)
    free = [name for name in frame.table.schema.names if name not in _assigned(config)]
    if not free:
        raise DataError(f"{frame.name} has no column left to be an input; each has a role")
    kind, why, inputs = _choose(frame, config, free)
    if kind != "table":
        reasons = {name: "not the input column" for name in free if name not in inputs}
    else:
        inputs, reasons = _table_inputs(frame, config, free, inputs)
    return _roles(frame, config, kind, why, inputs, reasons)


def roles_of_known_columns(frame: Frame, config: DataConfig, inputs: Sequence[str]) -> Roles:
    """Decide the roles of a table's columns where a stored run says which are its inputs.

    A cell, and so a column of few rows, may be missing in all of them: the run was trained on
    others.

    Args:
        frame: The data.
        config: Roles given by the user.
        inputs: Columns that the run reads, in its order; all are there.

    Raises:
        DataError: A named column is not there, or an input has another role or holds lists.
    """
    config = config.model_copy(update={"column": tuple(inputs)})
    _check_names(frame, config)
    for name in inputs:
        if hasattr(frame.table.schema.field(name).type, "value_type"):
            raise DataError(f"column {name!r} {_LISTS}; the run reads one number or word a cell")
    others = set(frame.table.schema.names) - {*inputs, *_assigned(config)}
    reasons = {
        name: _reason(frame, name, codes_of(name, config.missing)) or "not named"
        for name in frame.table.schema.names
        if name in others
    }
    return _roles(frame, config, "table", "as asked", inputs, reasons)


def _assigned(config: DataConfig) -> set[str]:
    """Columns that cannot be inputs because the user said so."""
    single = (config.id, config.split, config.group, config.weight)
    return {*config.target, *config.drop, *(name for name in single if name is not None)}


def named(config: DataConfig) -> set[str]:
    """Columns that the user named, as inputs or for something else."""
    return _assigned(config) | set(config.column)


def _check_names(frame: Frame, config: DataConfig) -> None:
    names = frame.table.schema.names
    for name in sorted(named(config)):
        if name in frame.unread and name not in config.drop:
            raise DataError(
                f"column {name!r} is not read, as it holds {frame.unread[name]}; turn it into "
                "numbers, times or strings"
            )
        if name not in names and name not in frame.unread:
            raise DataError(f"there is no column {name!r}{nearest(name, names)}")
    for role in ("split", "group", "weight"):
        name = getattr(config, role)
        if name is not None and hasattr(frame.table.schema.field(name).type, "value_type"):
            raise DataError(
                f"column {name!r} holds lists and cannot be the {role}; name a column with one "
                "value a row"
            )
    for name in config.column:
        if name in _assigned(config):
            raise DataError(
                f"column {name!r} is named as input and has another role; it can have only one"
            )


def _roles(
    frame: Frame,
    config: DataConfig,
    kind: InputKind,
    why: str,
    inputs: Iterable[str],
    reasons: dict[str, str],
) -> Roles:
    reasons = {**reasons, **dict.fromkeys(config.drop, "dropped by the user")}
    reasons |= {name: f"not read, as it holds {kind}" for name, kind in frame.unread.items()}
    return Roles(
        kind=kind,
        why=why,
        inputs=tuple(inputs),
        left_out=tuple(LeftOut(column=name, reason=why) for name, why in reasons.items()),
        target=config.target,
        id=config.id,
        split=config.split,
        group=config.group,
        weight=config.weight,
    )


def _array_roles(frame: Frame, config: DataConfig) -> Roles:
    """Arrays say their kind by the number of their dimensions."""
    assert frame.shape is not None
    pixels = len(frame.shape) == 3 or (len(frame.shape) == 2 and frame.arrays()[0].dtype == "uint8")
    natural: InputKind = "image" if pixels else "table" if len(frame.shape) == 1 else "values"
    allowed: tuple[str, ...] = {
        1: ("table", "values"), 2: ("values", "image"), 3: ("image",)
    }[len(frame.shape)]  # fmt: skip
    kind = config.kind or natural
    if kind not in allowed:
        raise DataError(
            f"an array of {len(frame.shape) + 1} dimensions cannot be read as {kind}; "
            f"it can be {' or '.join(allowed)}"
        )
    shape = " x ".join(map(str, ("rows", *frame.shape)))
    why = "as asked" if config.kind else f"an array of {shape}"
    others = [name for name in frame.table.schema.names if name not in (VALUES, *config.drop)]
    reasons = {name: "not the array" for name in others if name not in _assigned(config)}
    return _roles(frame, config, kind, why, (VALUES,), reasons)


def _choose(frame: Frame, config: DataConfig, free: list[str]) -> tuple[InputKind, str, list[str]]:
    """Find the kind and, unless it is a table, its column; the rule in order."""
    types = {name: frame.table.schema.field(name).type for name in free}
    strings = [name for name in free if pa.types.is_large_string(types[name])]
    lists = [
        name for name in free if _is_numbers(types[name]) and hasattr(types[name], "value_type")
    ]
    given = list(dict.fromkeys(config.column))
    if config.kind == "image":
        raise DataError(f"images come as arrays or folders of pictures; {frame.name} has columns")
    if config.kind in ("bytes", "values"):
        fitting = strings if config.kind == "bytes" else lists
        return config.kind, "as asked", _fitting(frame, config, given, fitting)
    if config.kind == "table":
        return "table", "as asked", given
    if given:
        if len(given) == 1 and given[0] in strings:
            return "bytes", f"column {given[0]!r} was named and holds strings", given
        if len(given) == 1 and given[0] in lists:
            return "values", f"column {given[0]!r} was named and holds lists of numbers", given
        return "table", "the named columns are numbers or several", given
    named = [name for name in strings if name.lower() in STRING_NAMES]
    if named:
        return "bytes", f"column {named[0]!r} is named like a string", _only(named, frame)
    if len(free) == 1 and strings:
        return "bytes", "the only column holds strings", strings
    plain = [name for name in strings if name not in frame.odd]
    candidates = [name for name in plain if name.lower() not in LEFT_OUT_NAMES]
    lists = [name for name in lists if name.lower() not in LEFT_OUT_NAMES]
    if lists:
        return "values", f"column {lists[0]!r} holds lists of numbers", _only(lists, frame)
    distinct = [
        name
        for name in candidates
        if _mostly_distinct(frame.table[name]) and not _numerals(frame.table[name])
    ]
    if distinct:
        why = f"column {distinct[0]!r} is the only one of mostly distinct strings"
        return "bytes", why, _only(distinct, frame)
    return "table", "no column holds sequences of bytes or numbers", given


def _fitting(frame: Frame, config: DataConfig, given: list[str], fitting: list[str]) -> list[str]:
    """Return the one column for a kind that the user forced."""
    wrong = [name for name in given if name not in fitting]
    what = "strings" if config.kind == "bytes" else "lists of numbers"
    if wrong or not fitting:
        found = f"column {wrong[0]!r}" if wrong else f"no column of {frame.name}"
        holds = "does not hold" if wrong else "holds"
        raise DataError(f"{found} {holds} {what}, which {config.kind} inputs are read from")
    if given:
        return _only(given, frame)
    named = [name for name in fitting if name.lower() in STRING_NAMES]
    plain = [name for name in fitting if name.lower() not in LEFT_OUT_NAMES]
    return _only(named or plain or fitting, frame)


def _only(candidates: list[str], frame: Frame) -> list[str]:
    """Return the one candidate; of several, those are named first that were meant otherwise."""
    if len(candidates) > 1:
        meant = {name: misread(frame.table[name]) for name in candidates}
        rest = [name for name in candidates if meant[name] is None]
        way_out = ", or say which column is the input, as --column "
        for name in candidates:
            if meant[name] is not None:
                more = way_out + shlex.quote(rest[0]) if rest else ""
                raise DataError(f"{frame.name}: column {name!r} {meant[name]}{more}")
        raise DataError(
            f"columns {', '.join(map(repr, candidates))} could each be the input; "
            f"say which with --column {shlex.quote(candidates[0])}"
        )
    return candidates


def _is_numbers(kind: pa.DataType) -> bool:
    while hasattr(kind, "value_type"):
        kind = kind.value_type
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def is_likely_input(frame: Frame, name: str) -> bool:
    """Say whether a column of strings is named like an input, or holds a string for each row."""
    return name.lower() in STRING_NAMES or _mostly_distinct(frame.table[name])


def _mostly_distinct(column: pa.ChunkedArray) -> bool:
    column = column.slice(0, LOOK)
    filled = len(column) - column.null_count
    return bool(filled > 0 and pc.count_distinct(column).as_py() > filled / 2)


def _table_inputs(
    frame: Frame, config: DataConfig, free: list[str], given: list[str]
) -> tuple[list[str], dict[str, str]]:
    """Return the input columns of a table and why each other free column is left out.

    Named columns are the inputs. If all of them would be left out otherwise, they are meant to
    come back, and join the rest.
    """
    reasons = {}
    for name in free:
        reason = _reason(frame, name, codes_of(name, config.missing))
        if reason is not None:
            reasons[name] = reason
    impossible = [name for name in given if reasons.get(name) in (_LISTS, _EMPTY)]
    if impossible:
        raise DataError(f"column {impossible[0]!r} {reasons[impossible[0]]}; name another")
    back = bool(given) and all(name in reasons for name in given)
    inputs = [
        name for name in free if name in given or (name not in reasons and (back or not given))
    ]
    if not inputs:
        never = (_LISTS, _EMPTY)
        left = "; ".join(
            f"{name} {'' if reason in never else 'is '}{reason}" for name, reason in reasons.items()
        )
        way_out = "bring one back with --column"
        if set(reasons.values()) <= set(never):
            way_out = "add one with numbers or words in it"
        raise DataError(f"{frame.name} has no input column: {left}; {way_out}")
    return inputs, {name: reasons.get(name, "not named") for name in free if name not in inputs}


_LISTS = "holds lists, which are no cells of a table"
_EMPTY = "has no cell that is not missing"


def _reason(frame: Frame, name: str, codes: Sequence[str]) -> str | None:
    """Return why a column is no input of a table, or `None` if it is one."""
    column = frame.table[name]
    if hasattr(column.type, "value_type"):
        return _LISTS
    if name.lower() in LEFT_OUT_NAMES:
        return LEFT_OUT_NAMES[name.lower()]
    if _is_empty(column.slice(0, 1_000), codes) and _is_empty(column, codes):
        return _EMPTY
    ids = pa.types.is_integer(column.type) or (name not in frame.odd and _numerals(column))
    if ids and _all_distinct(column):
        return "an integer that is different in every row"
    return None


def _is_empty(column: pa.ChunkedArray, codes: Sequence[str]) -> bool:
    return all(blank(chunk, codes).null_count == len(chunk) for chunk in column.chunks)


def _numerals(column: pa.ChunkedArray) -> bool:
    """Tell whether strings are whole numbers, as ids with leading zeros are, by the first rows."""
    if not pa.types.is_large_string(column.type):
        return False
    head = pc.ascii_trim_whitespace(column.slice(0, 1_000)).drop_null()
    like = pc.or_(pc.match_substring_regex(head, r"^\d+$"), pc.match_substring_regex(head, NAME))
    return len(head) > 0 and bool(pc.all(like).as_py())


def _all_distinct(column: pa.ChunkedArray) -> bool:
    """Tell whether no value occurs twice, looking at all rows only if the first ones allow it."""
    if column.null_count:
        return False
    head = column.slice(0, 10_000)
    if pc.count_distinct(head).as_py() < len(head):
        return False
    if pa.types.is_large_string(column.type):
        return bool(pc.count_distinct(column).as_py() == len(column))
    ordered = np.sort(column.to_numpy())
    return bool((ordered[1:] != ordered[:-1]).all())
