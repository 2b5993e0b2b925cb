"""Words and numbers that stand for a missing cell."""

from collections.abc import Sequence

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
