"""Columns of strings that were meant as something else: amounts or days in another notation."""

import pyarrow as pa
import pyarrow.compute as pc

HEAD = 1_000
"""Cells that are looked at."""

MOST = 0.95
"""Of these, the share that has to be written so."""

_NOTATIONS = (
    (
        # One cell such as 0,5 says that commas are decimal, so all have to be written so.
        1.0,
        r"^[+-]?[1-9]\d{0,2}(,\d{3})+$",
        "numbers with thousands separators",
        "leave these out",
    ),
    (
        MOST,
        r"^[+-]?\d*,\d+$",
        "numbers with a decimal comma",
        "write them with a point, as 0.5",
    ),
    (
        MOST,
        r"^\d{1,2}[/.-]\d{1,2}[/.-]\d{4}( .*)?$",
        "days that are not written year first",
        "write them as ISO 8601 does, as 2023-01-31",
    ),
)


def misread(column: pa.ChunkedArray) -> str | None:
    """Say what the cells of a column of strings were meant as, if not as words, and what to do.

    >>> misread(pa.chunked_array([pa.array(["0,5", "-1,25", ""], pa.large_string())]))
    "holds numbers with a decimal comma ('0,5'), read as words; write them with a point, as 0.5"
    """
    if not pa.types.is_large_string(column.type):
        return None
    head = pc.ascii_trim_whitespace(column.slice(0, HEAD)).drop_null()
    head = head.filter(pc.not_equal(head, ""))
    if not len(head):
        return None
    for share, pattern, what, advice in _NOTATIONS:
        if pc.sum(pc.match_substring_regex(head, pattern)).as_py() >= share * len(head):
            return f"holds {what} ({head[0].as_py()!r}), read as words; {advice}"
    return None
