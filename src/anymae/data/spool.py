"""Gather a table block by block into one contiguous chunk per column, in bounded memory.

Arrow keeps what comes in blocks as many chunks; joining them takes as much memory as the data.
Here each buffer of each column is appended to a file of its own once 64 MB wait, and the files
are mapped in the end.
"""

from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any, cast

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
        files = (folder / f"{number}.buffer" for number in count())
        self._streams = {
            field.name: [stream(next(files)) for stream in _streams(field.type)] for field in schema
        }
        # Kept up column by column: wide tables have thousands.
        self._waiting = 0

    def append(self, name: str, array: pa.Array) -> None:
        """Add the next cells of a column; the array has the column's plain type."""
        assert array.type == self.schema.field(name).type, array.type
        for stream, piece in zip(self._streams[name], _pieces(array), strict=True):
            self._waiting += stream.append(piece)
        if self._waiting > FLUSH_BYTES:
            for stream in chain(*self._streams.values()):
                stream.flush()
            self._waiting = 0

    def finish(self, num_rows: int) -> pa.RecordBatch:
        """Return all columns, each contiguous, mapped from the spool's files if they grew big."""
        arrays = [
            _joined(field.type, num_rows, iter(self._streams[field.name])) for field in self.schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


class _Stream:
    """Numbers or bytes appended to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pieces: list[bytes] = []

    def append(self, piece: npt.NDArray[Any]) -> int:
        """Take what comes next; return how many more bytes wait in memory."""
        self._pieces.append(piece.tobytes())
        return piece.nbytes

    def flush(self) -> None:
        """Move what waits to the file (opened anew: wide tables have more columns than files)."""
        if any(self._pieces):
            with self.path.open("ab") as file:
                file.writelines(self._pieces)
        self._pieces = []

    def finish(self) -> pa.Buffer:
        if not self.path.exists():
            return pa.py_buffer(b"".join(self._pieces))
        self.flush()
        with pa.memory_map(str(self.path)) as file:
            return file.read_buffer()


class _Bits(_Stream):
    """Booleans as Arrow's bitmaps."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._rest = np.zeros(0, bool)

    def append(self, piece: npt.NDArray[np.bool_]) -> int:
        bits = np.concatenate([self._rest, piece])
        whole = len(bits) // 8 * 8
        self._rest = bits[whole:]
        return super().append(np.packbits(bits[:whole], bitorder="little"))

    def finish(self) -> pa.Buffer:
        super().append(np.packbits(self._rest, bitorder="little"))
        return super().finish()


class _Ends(_Stream):
    """Lengths of strings and lists as Arrow's offsets: where each ends in what they hold."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.end = 0
        super().append(np.zeros(1, np.int64))

    def append(self, piece: npt.NDArray[np.int64]) -> int:
        ends = np.cumsum(piece) + self.end
        self.end += int(piece.sum())
        return super().append(ends)


def _streams(kind: pa.DataType) -> list[type[_Stream]]:
    """Return what holds a column: which cells are valid, offsets, then what stands in them."""
    if pa.types.is_null(kind):
        return [_Bits]
    if pa.types.is_boolean(kind):
        return [_Bits, _Bits]
    if pa.types.is_large_string(kind):
        return [_Bits, _Ends, _Stream]
    if pa.types.is_large_list(kind):
        return [_Bits, _Ends, *_streams(kind.value_type)]
    if pa.types.is_fixed_size_list(kind):
        return [_Bits, *_streams(kind.value_type)]
    return [_Bits, _Stream]


def _pieces(array: pa.Array) -> Iterator[npt.NDArray[Any]]:
    """Take cells apart for each of their streams.

    What stands in a null cell is arbitrary, the cache's bytes are not.
    """
    kind = array.type
    yield array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_null(kind):
        return
    if pa.types.is_large_string(kind):
        array = array.fill_null("") if array.null_count else array
        _, offsets, data = array.buffers()
        ends = np.frombuffer(offsets or bytes(8), np.int64)[array.offset :][: len(array) + 1]
        yield np.diff(ends)
        yield np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]
    elif pa.types.is_large_list(kind):
        yield pc.list_value_length(array).fill_null(0).to_numpy()
        yield from _pieces(array.flatten())
    elif pa.types.is_fixed_size_list(kind):
        values = array.values.slice(array.offset * kind.list_size, len(array) * kind.list_size)
        flat = not (hasattr(values.type, "value_type") or pa.types.is_null(values.type))
        if array.null_count and flat:
            # A null beside numbers of its row is a missing number, and stays.
            absent = np.repeat(array.is_null().to_numpy(zero_copy_only=False), kind.list_size)
            values = pc.if_else(pa.array(absent), pa.scalar(0).cast(values.type), values)
        yield from _pieces(values)
    else:
        if array.null_count:
            array = array.fill_null(pa.scalar(0).cast(kind))
        yield array.to_numpy(zero_copy_only=False)


def _joined(kind: pa.DataType, num_rows: int, streams: Iterator[_Stream]) -> pa.Array:
    """Return the cells of a column from its streams."""
    if pa.types.is_null(kind):
        return pa.nulls(num_rows)
    buffers, children = [next(streams).finish()], []
    if pa.types.is_fixed_size_list(kind):
        children = [_joined(kind.value_type, num_rows * kind.list_size, streams)]
    elif pa.types.is_large_list(kind):
        ends = cast("_Ends", next(streams))
        buffers.append(ends.finish())
        children = [_joined(kind.value_type, ends.end, streams)]
    else:
        buffers += [stream.finish() for stream in streams]
    return pa.Array.from_buffers(kind, num_rows, buffers, children=children)
