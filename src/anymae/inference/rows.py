"""Which rows an output has: every row of the source that is kept, in order, bad ones too.

Shapes: R rows, F numbers.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset, open_data
from anymae.data.preparation import Preparation
from anymae.errors import UserInputError
from anymae.hub import Model
from anymae.inference.compute import Numbers
from anymae.recipes import DataSettings, data_settings

OK = "ok"
"""Status of a row that was computed; else the status says what is wrong with the row."""


class Piece(NamedTuple):
    """Some rows of an output."""

    rows: IntArray
    """Row numbers in the source, `(R,)`."""
    ok: npt.NDArray[np.bool_]
    """`(R,)`, True for rows that can be inputs."""
    positions: IntArray
    """Positions in the data set of those rows, `(ok.sum(),)`."""
    status: pa.Array
    """`(R,)` strings."""

    def spread(self, numbers: Numbers, *, per_input: bool) -> Numbers:
        """Make room for the rows that cannot be inputs: NaN, or no lines at all (`per_input`)."""
        if self.ok.all():
            return numbers
        if per_input:
            counts = np.zeros(len(self.ok), np.int64)
            counts[self.ok] = numbers.counts
            return Numbers(numbers.values, counts)
        values = np.full((len(self.ok), numbers.values.shape[1]), np.nan, np.float32)
        values[self.ok] = numbers.values
        return Numbers(values, np.ones(len(self.ok), np.int64))


class OutputRows:
    """The rows of a data set's source, to be taken piece by piece."""

    def __init__(self, dataset: Dataset) -> None:
        self._rows = dataset.rows
        self._frame = dataset.rows.frame

    def __len__(self) -> int:
        return len(self._frame)

    def piece(self, start: int, stop: int) -> Piece:
        """Return the rows from `start` up to, not including, `stop`."""
        kept, used = self._frame.rows, self._rows.numbers
        rows = np.arange(start, stop) if kept is None else kept[start:stop]
        status: list[str | None] = [OK, *(bad.problem for bad in self._rows.bad)]
        code = np.zeros(len(rows), np.int64)
        for number, bad in enumerate(self._rows.bad, 1):
            code[np.isin(rows, bad.rows)] = number
        ok = code == 0
        index = rows[ok] if used is None else np.searchsorted(used, rows[ok])
        return Piece(rows, ok, index, pa.array(status).take(pa.array(code)))

    def leading(self, piece: Piece) -> dict[str, pa.Array]:
        """Return the columns that every output begins with: row, id if there is one, status."""
        rows, name = pa.array(piece.rows), self._rows.roles.id
        ids = {} if name is None else {name: self._frame.table[name].take(rows).combine_chunks()}
        return {"row": rows, **ids, "status": piece.status}


def open_rows(model: Model, data: object, config: DataSettings | None = None) -> Dataset:
    """Open data as the inputs of a model.

    Args:
        model: Its `data` says how rows become inputs.
        data: A path, or a Python object.
        config: Columns, roles, and what to do with odd rows.

    Raises:
        DataError: The data do not fit the model.
        UserInputError: The model does not know how numbers were scaled.
    """
    # Rows are told apart here, however a training joined them.
    config = data_settings(config).unpacked
    if model.data is not None:
        return open_data(data, config, preparation=Preparation.from_json(model.data))
    wanted = model.config.input
    if wanted.kind != "bytes":
        raise UserInputError(
            f"the model has no data.json, so how its {wanted.kind} were scaled is unknown; "
            "scale them as in its training and call model.encode, or use a run of `pretrain`"
        )
    forced = {"kind": "bytes", "length": wanted.length, "too_long": config.too_long or "error"}
    return open_data(data, config.model_copy(update=forced))
