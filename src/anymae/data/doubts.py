"""What a user may have meant otherwise: read as it is told, and told."""

import math
import shlex
from collections.abc import Iterator
from typing import cast

import numpy as np
import pyarrow as pa

from anymae.config import DataConfig
from anymae.data.frame import Frame
from anymae.data.kinds import Kind
from anymae.data.kinds.base import sample
from anymae.data.kinds.cells import cell_type
from anymae.data.kinds.table import TableRows
from anymae.data.misread import misread
from anymae.data.missing import as_numbers, blank, number_of
from anymae.data.roles import STRING_NAMES, Roles, named
from anymae.data.rows import Rows
from anymae.data.splits import names_parts

FEW = 3
"""Columns of numbers that may be left out beside a string unmentioned: they can be its answers."""

OF_STRINGS = (*STRING_NAMES, "smi", "peptide")
"""What the name of a column of strings, such as `canonical_smiles`, holds if it is meant as one."""

LOOKED_AT = 10_000
"""Rows in which values are looked for that stand for missing ones."""

OFTEN = 0.05
"""Share of the cells that such a value takes at least."""

FEWEST_AMOUNTS = 10
"""Distinct other values that a column of amounts has at least."""


def doubts(rows: Rows, kind: Kind, config: DataConfig) -> tuple[str, ...]:
    """Return what a user should look at, in sentences.

    Args:
        rows: Of a source that is read for the first time, not as a stored run reads it.
        kind: Its inputs.
        config: As it was asked for.
    """
    if rows.frame.shape is not None:
        return ()
    found = [*_left_out(rows.frame, rows.roles, config), *_notations(rows.frame, rows.roles)]
    found += [*_unheld(rows.frame, config), *_unsplit(rows, config)]
    if rows.roles.kind == "table":
        found += _stand_ins(rows, cast("TableRows", kind))
    return tuple(found)


def _left_out(frame: Frame, roles: Roles, config: DataConfig) -> Iterator[str]:
    """Doubt a column of strings that was chosen though there are numbers."""
    if roles.kind != "bytes" or config.column or config.kind is not None:
        return
    chosen, schema = roles.inputs[0], frame.table.schema
    left = {one.column for one in roles.left_out} - {*config.drop, *frame.unread}
    types = [schema.field(name).type for name in left]
    numbers = sum(pa.types.is_floating(kind) or pa.types.is_integer(kind) for kind in types)
    if numbers >= FEW and not any(word in chosen.lower() for word in OF_STRINGS):
        yield (
            f"{numbers:,} columns of numbers are left out, as column {chosen!r} is the input; for "
            f"a table of them: --id {shlex.quote(chosen)}"
        )


def _notations(frame: Frame, roles: Roles) -> Iterator[str]:
    """Doubt words that were meant as numbers or days."""
    for name in (*roles.inputs, *roles.target):
        found = misread(frame.table[name])
        if found is not None:
            yield f"column {name!r} {found}"


def _unsplit(rows: Rows, config: DataConfig) -> Iterator[str]:
    """Doubt that a column of parts was not meant to divide the rows."""
    if rows.roles.split is not None or rows.files is not None or rows.frame.part_of is not None:
        return
    given = named(config)
    for field in rows.frame.table.schema:
        if field.name in given or not pa.types.is_large_string(field.type):
            continue
        if names_parts(rows.column(field.name)):
            yield (
                f"column {field.name!r} names parts, but rows are not divided by it; to do so: "
                f"--split {shlex.quote(field.name)}"
            )


def _unheld(frame: Frame, config: DataConfig) -> Iterator[str]:
    """Doubt declared missing values that no cell holds.

    A source has taken words out of columns of numbers by now, so of words that are no
    `COLUMN:VALUE` nothing is known.
    """
    names = frame.table.schema.names
    for code in config.missing:
        name, equals, value = code.rpartition("=")
        column, colon, meant = code.rpartition(":")
        number = number_of(value)
        is_known = number is not None and not math.isnan(number)
        if not is_known and not (colon and column in names and not equals):
            continue
        if not any(_holds(frame, one, value) for one in ([name] if equals else names)):
            hint = f"; did you mean {column}={meant}?" if colon and column in names else ""
            where = f"of column {name!r} " if equals else ""
            yield f"--missing {code}: no cell {where}holds {value}{hint}"


def _holds(frame: Frame, name: str, code: str) -> bool:
    """Say whether a cell of a column is blanked by a code."""
    for chunk in frame.table[name].chunks:
        for cells in (chunk, as_numbers(blank(chunk))) if name in frame.odd else (chunk,):
            if blank(cells, [code]).null_count > blank(cells).null_count:
                return True
    return False


def _stand_ins(rows: Rows, table: TableRows) -> Iterator[str]:
    """Doubt a number but 0 that ends a column's range, far from all others, in many cells."""
    looked_at = sample(rows.numbers_of(np.arange(len(rows))), LOOKED_AT)
    for name, cells in table.cells(looked_at).items():
        if cell_type(cells) not in ("number", "integer"):
            continue
        numbers = cells.drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
        for end in (numbers.min(), numbers.max()) if len(numbers) else ():
            share, rest = float((numbers == end).mean()), numbers[numbers != end]
            # Far from the others, 0 is a score of its own or an event that never was, as often.
            if end == 0 or share < OFTEN or len(np.unique(rest)) < FEWEST_AMOUNTS:
                continue
            low, high = np.quantile(rest, [0.01, 0.99])
            if np.abs(rest - end).min() > high - low:
                yield (
                    f"column {name!r}: {end:.15g} in {share:.0%} of the cells, far from all others;"
                    f" if it means a missing one: --missing {shlex.quote(f'{name}={end:.15g}')}"
                )
