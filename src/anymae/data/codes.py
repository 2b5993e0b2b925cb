"""Words, numbers, flags and times that stand for a missing cell."""

from collections.abc import Sequence

import pyarrow as pa

MISSING = ("", "NaN", "NA", "?")
"""Cells that are missing, besides those that `data.missing` declares."""


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
