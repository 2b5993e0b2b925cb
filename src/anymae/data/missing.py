"""What counts as a missing cell of a table: null, NaN, the usual words, and what the user named."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from anymae.errors import DataError, nearest

MISSING = ("", "NaN", "NA", "?")
"""Cells that are missing, besides those that `data.missing` declares."""

NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)$"
"""What a number looks like."""


def codes_of(column: str, declared: Sequence[str]) -> tuple[str, ...]:
    """Return the declared codes that hold for one column; of other columns there may be any.

    >>> codes_of("pay", ["-999", "age=0"])
    ('-999',)
    """
    parts = [code.rpartition("=") for code in declared]
    return tuple(value for name, equals, value in parts if not equals or name == column)


def number_of(word: str) -> float | None:
    """Return the number that a word is; `None` if it is none.

    >>> number_of("1e3"), number_of("x")
    (1000.0, None)
    """
    try:
        return float(word)
    except ValueError:
        return None


def flag_of(word: str) -> bool | None:
    """Return what a word says of true and false; `None` if it says neither.

    >>> flag_of("False"), flag_of("0")
    (False, None)
    """
    return {"true": True, "false": False}.get(word.lower())


def time_of(word: str, kind: pa.DataType) -> pa.Scalar | None:
    """Return the time that a word is, as a column of a type holds it; `None` if it is none.

    >>> time_of("1900-01-01", pa.timestamp("s")).as_py().year
    1900
    """
    try:
        return pa.scalar(word, pa.string()).cast(kind)
    except pa.ArrowInvalid:
        return None


def check_codes(declared: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse codes of columns that are not there, and codes that no cell can hold.

    Args:
        declared: `-999` for all columns or `COLUMN=-999` for one.
        columns: Names of all columns, inputs or not.

    Raises:
        DataError: A code names another column, or is no text.
    """
    for code in declared:
        try:
            code.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"--missing {code!r} is no UTF-8 text, and no cell holds it; name another value"
            ) from None
        name, equals, _ = code.rpartition("=")
        if equals and name not in columns:
            known = nearest(name, columns)
            raise DataError(f"--missing {code} names column {name!r}, which is not there{known}")


def blank(cells: pa.Array, codes: Sequence[str] = ()) -> pa.Array:
    """Return cells in which everything missing is null; strings lose surrounding white space.

    >>> blank(pa.array([1.0, -999.0, float("nan")]), ["-999"]).null_count
    2
    """
    if pa.types.is_large_string(cells.type):
        cells = pc.ascii_trim_whitespace(cells)
    elif not codes and not pa.types.is_floating(cells.type):
        return cells
    missing = missing_in(cells, cells.type, codes)
    return pc.if_else(missing, pa.scalar(None, cells.type), cells)


def missing_in(cells: Any, kind: pa.DataType, codes: Sequence[str]) -> Any:  # noqa: ANN401
    """Return which cells are missing, null ones too.

    Args:
        cells: An array or an expression; strings come without surrounding white space.
        kind: Their type.
        codes: What is declared missing of them.
    """
    missing = pc.is_null(cells, nan_is_null=True)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        known = pa.array([*MISSING, *codes], kind)
    elif pa.types.is_boolean(kind):
        known = pa.array(map(flag_of, codes), kind).drop_null()
    elif pa.types.is_timestamp(kind):
        known = pa.array([time_of(code, kind) for code in codes], kind).drop_null()
    elif codes and (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        # Of 1e20 a column of 32 bits holds what 32 bits can; whole numbers compare as floats.
        numbers = pa.array(map(number_of, codes), pa.float64()).drop_null()
        known = numbers.cast(kind if pa.types.is_floating(kind) else pa.float64(), safe=False)
        # What they do not hold at all becomes infinite, and an infinite cell is no such code.
        known = known.filter(pc.or_(pc.is_finite(known), pc.is_inf(numbers)))
        cells = cells.cast(known.type, safe=False)
    else:
        return missing
    return pc.or_kleene(missing, pc.is_in(cells, known))


def as_numbers(words: pa.Array) -> pa.Array:
    """Return strings as float64; null where they are missing or no numbers.

    >>> as_numbers(pa.array(["1.5", "about 2", None], pa.large_string())).to_pylist()
    [1.5, None, None]
    """
    fits = pc.match_substring_regex(words, NUMBER).fill_null(False)
    return pc.if_else(fits, words, pa.scalar(None, words.type)).cast(pa.float64())
