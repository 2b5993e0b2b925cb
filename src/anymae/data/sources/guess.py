"""Column types of text formats, from all cells of the whole column."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anymae.data.missing import MISSING, NUMBER, codes_of, number_of

NAME = r"(?i)^\s*[+-]?(0\d+(\.\d*)?|\d{19,}|0x[0-9a-f]+)\s*$"
"""What looks like a number and would not come back as it was written: 007, 0x10, 20 digits."""

_LONGEST = 18
"""Digits of an integer that a number of 64 bits holds, whatever they are."""

_AFTER = {
    pa.null(): (pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us")),
    pa.int64(): (pa.int64(), pa.float64()),
    pa.large_string(): (),
}
"""What a column may be, the narrowest first, after cells of a type; else that type or strings."""
_FEW = 10
_GLANCE = 64
_ODD_SHARE = 0.05


def markers(declared: Sequence[str], column: str) -> pa.Array:
    """Return the cells that are missing in a column, of `VALUE` and `COLUMN=VALUE`.

    Declared numbers are left to who knows the column's meaning: they are numbers here.
    """
    words = [code for code in codes_of(column, declared) if number_of(code) is None]
    return pa.array([*MISSING, *words], pa.string())


def holds_words(kind: pa.DataType) -> bool:
    """Say whether a column of this type holds strings, or nothing."""
    return bool(pa.types.is_large_string(kind) or pa.types.is_null(kind))


def convert(cells: pa.Array, kind: pa.DataType, missing: pa.Array) -> pa.Array:
    """Turn strings into numbers, booleans or times; strings stay as they are.

    Raises:
        pyarrow.ArrowInvalid: A cell is neither that nor missing.
    """
    if kind == pa.null():
        return pa.nulls(len(cells))
    if kind == pa.large_string():
        return cells.cast(kind)
    if pa.types.is_timestamp(kind) or pa.types.is_boolean(kind):
        # A declared 1900-01-01 is a time like any other, unless it is looked for first.
        return _cast(_filled(cells, missing), kind)
    try:
        return _cast(cells, kind)
    except pa.ArrowInvalid:
        return _cast(_filled(cells, missing), kind)


def _cast(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast, but take neither hexadecimal names for numbers nor digits for booleans."""
    if (
        pa.types.is_integer(kind)
        and pc.any(pc.match_substring(cells, "x", ignore_case=True)).as_py()
    ):
        raise pa.ArrowInvalid("0x10 is a name")
    if pa.types.is_boolean(kind) and pc.any(pc.is_in(cells, pa.array(["0", "1"]))).as_py():
        raise pa.ArrowInvalid("0 and 1 are numbers")
    try:
        return cells.cast(kind)
    except pa.ArrowInvalid:
        if not pa.types.is_timestamp(kind):
            raise
        # With a zone in every cell, as in 2024-01-31T12:00:00Z: the time in UTC.
        return cells.cast(pa.timestamp(kind.unit, "UTC")).cast(kind)


def _filled(cells: pa.Array, missing: pa.Array) -> pa.Array:
    """Strip the cells and make those that are missing null."""
    cells = pc.utf8_trim_whitespace(cells)
    return pc.if_else(pc.is_in(cells, value_set=missing), pa.scalar(None, cells.type), cells)


def holds_names(cells: pa.Array) -> bool:
    """Say whether some cells only look like numbers.

    >>> holds_names(pa.array(["12", "0.5"])), holds_names(pa.array(["12", "007"]))
    (False, True)
    """
    _, offsets, data = cells.buffers()
    if data is None or not len(data):
        return False
    ends = np.frombuffer(offsets, np.int32)[cells.offset : cells.offset + len(cells) + 1]
    text, starts, last = np.frombuffer(data, np.uint8), ends[:-1], len(data) - 1
    first = text[np.minimum(starts, last)]
    signed = (first == ord("+")) | (first == ord("-"))
    lead = text[np.minimum(starts + signed, last)]
    follow = text[np.minimum(starts + signed + 1, last)]
    # Most cells are told by their first bytes: the pattern takes ten times as long as the cast.
    likely = (np.diff(ends) > _LONGEST) | (first <= ord(" "))
    likely |= (lead == ord("0")) & (follow != ord("."))
    # What begins with white space beyond ASCII is stripped before it is cast.
    likely |= first >= 0x80
    stripped = pc.utf8_trim_whitespace(cells.filter(pa.array(likely)))
    found = pc.match_substring_regex(stripped, NAME)
    return bool(pc.any(found).as_py())


class Guess:
    """The type of one column, block by block."""

    def __init__(self, missing: pa.Array) -> None:
        self.missing = missing
        self.kind = pa.null()
        """The narrowest type that holds all cells so far; null if all are missing."""
        self._seen = self._odd = 0
        self._hopeless = False

    @property
    def odd(self) -> bool:
        """Whether but a few cells keep a string column from being numeric."""
        return 0 < self._odd <= self._seen * _ODD_SHARE and not self._hopeless

    def look(self, cells: pa.Array) -> None:
        """Take the next cells."""
        if self._hopeless:
            return
        before = self.kind
        if before == pa.null() and _filled(cells, self.missing).null_count == len(cells):
            return
        may_be = _AFTER.get(before, (before,))
        self.kind = next((kind for kind in may_be if self._fits(cells, kind)), pa.large_string())
        self._seen += len(cells)
        if self.kind == pa.large_string():
            # Words among times, or among true and false, are no odd cells of a column of numbers.
            self._hopeless = before in (pa.bool_(), pa.timestamp("us")) or self._spoils(cells)

    def _fits(self, cells: pa.Array, kind: pa.DataType) -> bool:
        try:
            for part in (cells[:_GLANCE], cells):  # a cast that fails everywhere is slow
                convert(part, kind, self.missing)
        except pa.ArrowInvalid:
            return False
        return kind not in (pa.int64(), pa.float64()) or not holds_names(cells)

    def _spoils(self, cells: pa.Array) -> bool:
        """Count the cells that are no numbers; say whether there are too many by now."""
        odd = pc.invert(pc.match_substring_regex(_filled(cells, self.missing), NUMBER))
        self._odd += pc.sum(odd).as_py() or 0
        return self._odd > max(_FEW, self._seen * _ODD_SHARE) or holds_names(cells)
