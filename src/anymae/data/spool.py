"""Gather a table block by block into one contiguous chunk per column, in bounded memory.

Arrow keeps what comes in blocks as many chunks; joining them takes as much memory as the data.
Here each buffer of each column is appended to a file of its own once 64 MB wait, and the files
are mapped in the end.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

FLUSH_BYTES = 1 << 26
"""What may wait in memory."""


def plain_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type that stands for `kind` in a frame, `None` for structs, maps and unions."""
    is_ = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if is_.is_dictionary(kind):
        return plain_type(kind.value_type)
    if is_.is_list(kind) or is_.is_large_list(kind):
        inner = plain_type(kind.value_type)
        return None if inner is None else pa.large_list(inner)
    if is_.is_fixed_size_list(kind):
        inner = plain_type(kind.value_type)
        return None if inner is None else pa.list_(inner, kind.list_size)
    if is_.is_boolean(kind) or is_.is_null(kind) or is_.is_integer(kind):
        return kind
    if is_.is_floating(kind):
        return pa.float32() if is_.is_float16(kind) else kind
    families = [
        (pa.float64(), (is_.is_decimal,)),
        (pa.int64(), (is_.is_time, is_.is_duration)),
        (pa.timestamp("us"), (is_.is_date, is_.is_timestamp)),
        (pa.large_string(), (is_.is_string, is_.is_large_string, is_.is_string_view)),
        (pa.large_string(), (is_.is_binary, is_.is_large_binary)),
    ]
    return next((plain for plain, tests in families if any(test(kind) for test in tests)), None)


def plain(array: pa.Array) -> pa.Array:
    """Bring an array into its plain type, checked: offsets in range, strings valid UTF-8.

    Binary cells may hold any bytes: they become strings as they are.

    Raises:
        pyarrow.ArrowInvalid: The array is damaged.
    """
    array.validate(full=True)
    kind = plain_type(array.type)
    assert kind is not None, array.type
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    for step in (_in_microseconds(array.type), kind):
        if array.type != step:
            array = array.cast(step, safe=False)
    return array


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    """Return a type whose numbers say how long: without it sources differ in their units."""
    if pa.types.is_duration(kind):
        return pa.duration("us")
    if pa.types.is_time(kind):
        return pa.time64("us")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_in_microseconds(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_in_microseconds(kind.value_type), kind.list_size)
    return kind


class Spool:
    """Columns that grow block by block; `finish` gives them in one piece."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.schema = schema
        self._buffers: list[_Buffer] = []
        # Kept up column by column: wide tables have thousands.
        self._waiting = 0
        self._columns = {field.name: self._column(field.type, folder) for field in schema}

    def append(self, name: str, array: pa.Array) -> None:
        """Add the next cells of a column; the array has the column's plain type."""
        column = self._columns[name]
        before = column.waiting
        column.append(array)
        self._waiting += column.waiting - before
        if self._waiting > FLUSH_BYTES:
            for buffer in self._buffers:
                buffer.flush()
            self._waiting = 0

    def finish(self) -> pa.RecordBatch:
        """Return all columns, each contiguous, mapped from the spool's files if they grew big."""
        arrays = [self._columns[name].finish() for name in self.schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _column(self, kind: pa.DataType, folder: Path) -> "_Column":
        buffers = [_Buffer(folder / f"{len(self._buffers) + i}.buffer") for i in range(3)]
        self._buffers += buffers
        inner = self._column(kind.value_type, folder) if hasattr(kind, "value_type") else None
        return _Column(kind, buffers, inner)


class _Buffer:
    """Bytes appended to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.waiting = 0
        self._pieces: list[bytes] = []

    def append(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.waiting += len(piece)

    def flush(self) -> None:
        """Move what waits to the file (opened anew: wide tables have more columns than files)."""
        if self.waiting:
            with self.path.open("ab") as file:
                file.writelines(self._pieces)
        self._pieces, self.waiting = [], 0

    def finish(self) -> pa.Buffer:
        if not self.path.exists():
            return pa.py_buffer(b"".join(self._pieces))
        self.flush()
        with pa.memory_map(str(self.path)) as file:
            return file.read_buffer()


class _Bits:
    """Booleans appended to a buffer as Arrow's bitmaps."""

    def __init__(self, buffer: _Buffer) -> None:
        self.buffer = buffer
        self._rest = np.zeros(0, bool)

    def append(self, bits: npt.NDArray[np.bool_]) -> None:
        bits = np.concatenate([self._rest, bits])
        whole = len(bits) // 8 * 8
        self.buffer.append(np.packbits(bits[:whole], bitorder="little").tobytes())
        self._rest = bits[whole:]

    def finish(self) -> pa.Buffer:
        self.buffer.append(np.packbits(self._rest, bitorder="little").tobytes())
        return self.buffer.finish()


class _Column:
    """One column, or the values inside a list column."""

    def __init__(self, kind: pa.DataType, buffers: list[_Buffer], inner: "_Column | None") -> None:
        self.kind = kind
        self.inner = inner
        self._buffers = buffers
        self._valid = _Bits(buffers[0])
        self._main, self._data = buffers[1:]
        self._bits = _Bits(self._main)
        self._count = self._nulls = self._end = 0
        self._offsets = pa.types.is_large_string(kind) or pa.types.is_large_list(kind)

    @property
    def waiting(self) -> int:
        """Bytes that are in memory, inner columns included."""
        own = sum(buffer.waiting for buffer in self._buffers)
        return own if self.inner is None else own + self.inner.waiting

    def append(self, array: pa.Array) -> None:
        """Add cells of the column's type."""
        assert array.type == self.kind, (array.type, self.kind)
        if not len(array):
            return
        if self._offsets and not self._count:
            self._main.append(np.zeros(1, np.int64).tobytes())
        self._count += len(array)
        self._nulls += array.null_count
        self._valid.append(array.is_valid().to_numpy(zero_copy_only=False))
        if pa.types.is_null(self.kind):
            return
        if self.inner is not None:
            self._append_lists(array, self.inner)
        elif pa.types.is_large_string(self.kind):
            self._append_strings(array.fill_null("") if array.null_count else array)
        else:
            self._append_cells(array)

    def _append_cells(self, array: pa.Array) -> None:
        if array.null_count:  # what stands in a null cell is arbitrary, the cache's bytes are not
            array = array.fill_null(pa.scalar(0).cast(self.kind))
        if pa.types.is_boolean(self.kind):
            self._bits.append(array.to_numpy(zero_copy_only=False))
            return
        width = self.kind.bit_width // 8
        cells = array.buffers()[1].slice(array.offset * width, len(array) * width)
        self._main.append(cells.to_pybytes())

    def _append_strings(self, array: pa.Array) -> None:
        _, offsets, data = array.buffers()
        ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        self._append_ends(np.diff(ends))
        if data is not None:
            self._data.append(data.slice(int(ends[0]), int(ends[-1] - ends[0])).to_pybytes())

    def _append_lists(self, array: pa.Array, inner: "_Column") -> None:
        if pa.types.is_large_list(self.kind):
            lengths = pc.list_value_length(array).fill_null(0)
            self._append_ends(lengths.to_numpy())
            inner.append(array.flatten())
            return
        size = self.kind.list_size
        values = array.values.slice(array.offset * size, len(array) * size)
        if array.null_count and not hasattr(values.type, "value_type"):
            # What stands in a null row is arbitrary; a null in another row is a missing number.
            absent = np.repeat(array.is_null().to_numpy(zero_copy_only=False), size)
            zero = pa.scalar(0).cast(values.type)
            values = pc.if_else(pa.array(absent), zero, values)
        inner.append(values)

    def _append_ends(self, lengths: npt.NDArray[np.int64]) -> None:
        ends = np.cumsum(lengths, dtype=np.int64) + self._end
        self._end = int(ends[-1])
        self._main.append(ends.tobytes())

    def finish(self) -> pa.Array:
        """Return all cells that were added."""
        valid = self._valid.finish() if self._nulls else None
        if pa.types.is_null(self.kind):
            return pa.nulls(self._count)
        if pa.types.is_boolean(self.kind):
            buffers: list[Any] = [valid, self._bits.finish()]
        elif pa.types.is_fixed_size_list(self.kind):
            buffers = [valid]
        elif pa.types.is_large_string(self.kind):
            buffers = [valid, self._main.finish(), self._data.finish()]
        else:
            buffers = [valid, self._main.finish()]
        children = [self.inner.finish()] if self.inner is not None else []
        if not self._count and self._offsets:
            return pa.array([], self.kind)
        return pa.Array.from_buffers(
            self.kind, self._count, buffers, null_count=self._nulls, children=children
        )
