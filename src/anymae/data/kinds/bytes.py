"""Any string: an Arrow string column is the token array itself, offsets and bytes.

A sequence is its bytes, each plus 6, then SEP. Surrounding ASCII white space does not belong to
it. Nothing is copied when a data set is opened but the lengths, 4 bytes a row.

Shapes: B rows, N tokens.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from anymae.config import NUM_SPECIAL, SEP, VOCABULARY, DataConfig, InputConfig
from anymae.data.batch import Arrays, IntArray
from anymae.data.frame import Frame
from anymae.data.kinds.base import KINDS, BadRows, Statistics, blocks, sample
from anymae.data.roles import Roles
from anymae.wording import counted

_IS_SPACE = np.isin(np.arange(256), np.frombuffer(b" \t\n\r\v\f", np.uint8))


class Chunk:
    """One contiguous piece of a string column, seen as NumPy arrays without a copy."""

    def __init__(self, array: pa.Array, first_row: int) -> None:
        validity, offsets, data = array.buffers()
        self.array = array
        self.first_row = first_row
        self.offsets = np.frombuffer(offsets, np.int64)[array.offset :][: len(array) + 1]
        self.data = np.frombuffer(data if data is not None else b"", np.uint8)
        self.has_nulls = validity is not None and array.null_count > 0

    def windows(self, starts: IntArray, width: int) -> npt.NDArray[np.uint8]:
        """Return the `width` bytes from each start on, `(B, width)`; past the end, anything."""
        last = len(self.data) - width
        if starts.max() <= last:
            # Row i of this view is the `width` bytes from i on; NumPy's own
            # `sliding_window_view` takes longer to set up than the copy.
            view = np.ndarray((last + 1, width), np.uint8, self.data, strides=(1, 1))
            return np.asarray(view[starts])
        at = np.minimum(starts[:, None] + np.arange(width), len(self.data) - 1)
        return np.asarray(self.data[at])


@KINDS.register("bytes")
class ByteRows:
    """A string column as sequences of bytes."""

    unseen: tuple[str, ...] = ()

    def __init__(self, frame: Frame, roles: Roles, config: DataConfig) -> None:
        column = frame.table[roles.inputs[0]]
        self._chunks = list(_chunks(column))
        self._first_rows = np.array([chunk.first_row for chunk in self._chunks])
        self.lengths: npt.NDArray[np.int32] = np.zeros(len(column), np.int32)
        self._skipped: npt.NDArray[np.int32] | None = None
        stripped = sum(self._measure(chunk) for chunk in self._chunks)
        self.longest = int(self.lengths.max(initial=0))
        empty = np.flatnonzero(self.lengths == 0)
        self.bad = (BadRows("is empty or missing", empty),) if len(empty) else ()
        note = f"surrounding white space was stripped from {counted(stripped, 'row')}"
        self.notes = (note,) if stripped else ()

    def _measure(self, chunk: Chunk) -> int:
        """Fill in the chunk's lengths; return how many strings were stripped."""
        stripped = 0
        for block in blocks(len(chunk.array)):
            starts, ends = chunk.offsets[:-1][block], chunk.offsets[1:][block]
            lengths = (ends - starts).astype(np.int32)
            if chunk.has_nulls:
                lengths[chunk.array[block.start : block.stop].is_null().to_numpy(False)] = 0
            filled = np.flatnonzero(lengths)
            edges = _IS_SPACE[chunk.data[starts[filled]]] | _IS_SPACE[chunk.data[ends[filled] - 1]]
            odd = filled[edges]
            rows = slice(chunk.first_row + block.start, chunk.first_row + block.stop)
            if len(odd):
                left, kept = _strip(chunk.array[block.start : block.stop].take(pa.array(odd)))
                lengths[odd] = kept
                stripped += len(odd)
                if left.any():
                    if self._skipped is None:
                        self._skipped = np.zeros(len(self.lengths), np.int32)
                    self._skipped[rows][odd] = left
            # The SEP at the end counts; nothing comes of an empty string.
            self.lengths[rows] = lengths + (lengths > 0)
        return stripped

    def fit(self, rows: IntArray) -> Statistics:
        """Note which bytes occur and how long rows are, to tell when other data are unlike."""
        rows = sample(rows, 20_000)
        seen = np.zeros(VOCABULARY, np.bool_)
        for part in np.array_split(rows, -(-len(rows) // 1024)):
            width = min(int(self.lengths[part].max()), 4096)
            seen[self.read(part, np.zeros_like(part), width).inputs] = True
        low, middle, high = np.quantile(self.lengths[rows], [0.01, 0.5, 0.99])
        return {
            "alphabet": np.flatnonzero(seen[NUM_SPECIAL:]).tolist(),
            "lengths": [int(low), float(middle), int(high)],
        }

    def differences(self, statistics: Statistics) -> list[str]:
        """Any string column will do."""
        return []

    def reader(self, statistics: Statistics) -> "ByteRows":
        """Return the reader, which is the column itself."""
        return self

    def input(self, length: int) -> InputConfig:
        """Describe the inputs for the model."""
        return InputConfig(kind="bytes", length=length)

    def read(self, rows: IntArray, first: IntArray, width: int) -> Arrays:
        """Return `width` tokens of each row from its token `first` on, PAD at the end."""
        # Narrow integers until the end: eight times fewer bytes to move.
        tokens = np.add(self._bytes(rows, first, width), np.int16(NUM_SPECIAL), dtype=np.int16)
        left = (self.lengths[rows] - first).astype(np.int32)
        ends = np.flatnonzero(left <= width)
        tokens[ends, left[ends] - 1] = SEP
        if left.min() >= width:
            return Arrays(tokens.astype(np.int64), None)
        valid = np.arange(width, dtype=np.int32) < left[:, None]
        tokens *= valid
        return Arrays(tokens.astype(np.int64), valid)

    def _bytes(self, rows: IntArray, first: IntArray, width: int) -> npt.NDArray[np.uint8]:
        """Return `(B, width)` bytes; what stands behind the end of a row is anything."""
        if self._skipped is not None:
            first = first + self._skipped[rows]
        if len(self._chunks) == 1:
            chunk = self._chunks[0]
            return chunk.windows(chunk.offsets[rows] + first, width)
        found = np.empty((len(rows), width), np.uint8)
        which = np.searchsorted(self._first_rows, rows, side="right") - 1
        for number in np.unique(which):
            chunk, here = self._chunks[number], which == number
            starts = chunk.offsets[rows[here] - chunk.first_row] + first[here]
            found[here] = chunk.windows(starts, width)
        return found

    @staticmethod
    def restore(statistics: Statistics, inputs: npt.NDArray[Any]) -> list[str]:
        """Return the strings of token rows `(B, N)`; bytes that are no UTF-8 become U+FFFD."""
        rows = (row[row >= NUM_SPECIAL] - NUM_SPECIAL for row in inputs)
        return [row.astype(np.uint8).tobytes().decode("utf-8", "replace") for row in rows]


def _chunks(column: pa.ChunkedArray) -> Iterator[Chunk]:
    first_row = 0
    for array in column.chunks:
        if len(array):
            yield Chunk(array, first_row)
        first_row += len(array)


def _strip(strings: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the white space in front of each string and the length without that on either side."""
    left = pc.ascii_ltrim_whitespace(strings)
    whole, without = (pc.binary_length(each).to_numpy(False) for each in (strings, left))
    kept = pc.binary_length(pc.ascii_rtrim_whitespace(left)).to_numpy(False)
    return (whole - without).astype(np.int32), kept.astype(np.int32)
