"""Which rows of a source are used, and their columns in that order."""

import logging

import numpy as np
import pyarrow as pa

from anymae.config import DataConfig
from anymae.data.batch import IntArray
from anymae.data.frame import Frame
from anymae.data.kinds.base import BadRows
from anymae.data.roles import Roles
from anymae.errors import DataError

logger = logging.getLogger(__name__)


class Rows:
    """The rows of a source that are kept and can be inputs, with their columns.

    Attributes:
        frame: The source.
        roles: What its columns are for.
        numbers: Row number in the source of each position; `None` where all rows are used.
        bad: Rows that are left out, with the problem.
        files: 0, 1, 2 for rows of the training, validation and test file; `None` for one file.
    """

    def __init__(self, frame: Frame, roles: Roles, bad: tuple[BadRows, ...] = ()) -> None:
        self.frame, self.roles, self.bad = frame, roles, bad
        self.numbers = frame.rows
        if bad:
            use = np.zeros(frame.table.num_rows, np.bool_)
            use[slice(None) if frame.rows is None else frame.rows] = True
            for rows in bad:
                use[rows.rows] = False
            self.numbers = np.flatnonzero(use)
        parts = frame.parts
        self.files = parts if parts is None or self.numbers is None else parts[self.numbers]

    def __len__(self) -> int:
        return self.frame.table.num_rows if self.numbers is None else len(self.numbers)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return the values of a column in data set order."""
        column = self.frame.table[name]
        return column if self.numbers is None else column.take(pa.array(self.numbers))

    def numbers_of(self, index: IntArray) -> IntArray:
        """Return the row numbers in the source of positions in the data set."""
        return index if self.numbers is None else self.numbers[index]


def rows_to_leave_out(
    frame: Frame, bad: tuple[BadRows, ...], config: DataConfig
) -> tuple[BadRows, ...]:
    """Return the bad rows among those that are kept: unreadable, or no input of their kind.

    Raises:
        DataError: There are some, and they may not be skipped.
    """
    unreadable: dict[str, list[int]] = {}
    for row, problem in sorted(frame.bad.items()):
        unreadable.setdefault(problem, []).append(row)
    found = [BadRows(problem, np.array(rows)) for problem, rows in unreadable.items()]
    # The cells of a row that could not be read are null: one problem is enough.
    read = np.array(sorted(frame.bad), np.int64)
    found += [BadRows(problem, np.setdiff1d(rows, read)) for problem, rows in bad]
    if frame.rows is not None:
        found = [BadRows(problem, np.intersect1d(rows, frame.rows)) for problem, rows in found]
    found = [rows for rows in found if len(rows.rows)]
    for problem, rows in found:
        count, place = len(rows), frame.where(int(rows[0]))
        text = f"{frame.name}: {place} {problem}"
        if count > 1:
            text += f" (and {count - 1:,} more)"
        if config.on_bad_row == "error":
            raise DataError(
                f"{text}; repair it, or leave such rows out with --on-bad-row skip "
                '(in Python on_bad_row="skip")'
            )
        logger.warning("%s; left out", text)
    return tuple(found)


def check_text(frame: Frame, roles: Roles) -> None:
    """Refuse bytes that are no text where words are read; inputs that are bytes may be any.

    Raises:
        DataError: A column that is used holds such bytes.
    """
    used = dict.fromkeys(roles.inputs if roles.kind == "table" else (), "input")
    used |= dict.fromkeys(roles.target, "target")
    for name, role in ((roles.split, "split"), (roles.id, "id")):
        if name is not None:
            used[name] = role
    schema = frame.table.schema
    for name in used:
        # Other types were checked when they were read, and columns that are not there are later.
        if schema.get_field_index(name) < 0 or not pa.types.is_large_string(
            schema.field(name).type
        ):
            continue
        try:
            frame.table[name].validate(full=True)
        except pa.ArrowInvalid:
            raise DataError(
                f"{frame.name}: column {name!r}, used as {used[name]}, holds bytes that are no "
                "UTF-8 text; write them as text, or name another column"
            ) from None


def refuse_lists(schema: pa.Schema) -> None:
    """Check that columns can stand in a CSV file, which has no cells for lists.

    Raises:
        DataError: A column holds lists.
    """
    for field in schema:
        if hasattr(field.type, "value_type"):
            raise DataError(
                f"column {field.name!r} holds lists, which a CSV file has no cells for; name a "
                ".parquet file"
            )
