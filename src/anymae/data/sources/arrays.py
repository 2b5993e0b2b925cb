"""Arrays of numbers: `.npy`, `.npz`, and NumPy arrays (or what turns into one) from Python.

The rows of an array become the cells of one column `values`; their shape stays in `Frame.shape`.
A `.npy` in C order is mapped where it lies. What else needs no copy is not copied either.
"""

import warnings
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from anymae.config import DataConfig
from anymae.data.cache import Reading, Sink, content_digest, through_cache
from anymae.data.frame import VALUES, Frame
from anymae.data.sources.base import SOURCES, Files, Source, reading
from anymae.errors import DataError, first_line

_BLOCK_BYTES = 1 << 24
Array = npt.NDArray[np.generic]


@SOURCES.register("arrays")
class ArraySource(Source):
    """Arrays of numbers with 2, 3 or 4 dimensions, the first of which counts rows."""

    def takes(self, data: object) -> bool:
        """Take NumPy arrays of numbers, and what offers to become one."""
        if isinstance(data, np.ndarray):
            return data.dtype.kind not in "USO"
        table_or_column = hasattr(data, "columns") or hasattr(data, "to_numpy")
        return hasattr(data, "__array__") and not table_or_column

    def read(self, data: Any, config: DataConfig) -> Frame:  # noqa: ANN401
        """Wrap the array; it is not copied if it is in C order."""
        if isinstance(data, np.ma.MaskedArray):
            data = _unmasked(data)
        try:
            array = np.asarray(data.detach() if hasattr(data, "detach") else data)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"the array cannot be read ({first_line(error)}); hand over a NumPy array"
            ) from error
        check_array(array.dtype, array.shape, "the array")
        return Frame(
            table=pa.table({VALUES: to_column(array)}),
            name="the array",
            format="arrays",
            shape=array.shape[1:],
        )


def _unmasked(array: "np.ma.MaskedArray[Any, Any]") -> Array:
    """Write what is masked as missing."""
    if not np.ma.getmaskarray(array).any():
        return np.asarray(array.data)
    if array.dtype.kind != "f":
        raise DataError(
            f"the array is masked and holds {array.dtype}, in which nothing can be missing; "
            "convert it to floats"
        )
    return np.asarray(array.filled(np.nan))


@SOURCES.register("npy")
class NpySource(Source):
    """One `.npy` file, mapped."""

    extensions = (".npy",)

    def read(self, data: Files, config: DataConfig) -> Frame:
        """Map the file, or copy it to the cache if its memory order does not allow that."""
        path = one_file(data)
        with reading(data.name):
            with path.open("rb") as stream:
                shape, fortran, dtype = read_header(stream, data.name)
                start = stream.tell()
            check_array(dtype, shape, data.name)
            order: Literal["C", "F"] = "F" if fortran else "C"
            array = np.memmap(path, dtype, "r", start, shape, order)
        if array.flags.c_contiguous and native(array.dtype) == array.dtype:
            return Frame(
                table=pa.table({VALUES: to_column(array)}),
                name=data.name,
                format="npy",
                shape=array.shape[1:],
                source_digest=content_digest(data.paths),
            )
        fill = partial(_fill_values, array)
        return through_cache(Reading(data.name, "npy", data.paths, fill, settings={}))


def _fill_values(array: Array, sink: Sink) -> None:
    sink.shape = array.shape[1:]
    step = rows_per_block(array.dtype, array.shape)
    for start in range(0, len(array), step):
        sink.add(pa.table({VALUES: to_column(array[start : start + step])}))


@SOURCES.register("npz")
class NpzSource(Source):
    """An `.npz` file: one array of rows, and arrays with a number for each row.

    With `values` `(rows, N, K)` and `valid` `(rows, N)`, an input that is not valid becomes NaN in
    all its K numbers.
    """

    extensions = (".npz",)

    def read(self, data: Files, config: DataConfig) -> Frame:
        """Copy the arrays to the cache, block by block."""
        path = one_file(data)
        fill = partial(_fill_npz, path, data.name)
        return through_cache(Reading(data.name, "npz", data.paths, fill, settings={}))


def _fill_npz(path: Path, name: str, sink: Sink) -> None:
    with reading(name), _zip(path, name) as file:
        members = {
            member.removesuffix(".npy"): _Member(file, member, name)
            for member in file.namelist()
            if member.endswith(".npy")
        }
        main, labels, valid = _roles(members, name)
        sink.shape = main.shape[1:]
        step = rows_per_block(main.dtype, main.shape)
        read = [main, *labels.values()] if valid is None else [main, *labels.values(), valid]
        for block, *others in zip(*(member.blocks(step) for member in read), strict=True):
            values = block if valid is None else _without(block, others.pop())
            cells = [pa.array(one.tolist(), label_type(one.dtype)) for one in others]
            sink.add(pa.table([to_column(values), *cells], [VALUES, *labels]))


def _without(values: Array, valid: Array) -> Array:
    """Write what is not valid as NaN, in the smallest floats that hold every number."""
    kind = values.dtype if values.dtype.kind == "f" else np.result_type(values, np.float32)
    return np.where(valid[:, :, None], values, np.nan).astype(kind)


def _zip(path: Path, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{name} is no .npz file ({error}); is it complete?") from error


def _roles(
    members: dict[str, "_Member"], name: str
) -> tuple["_Member", dict[str, "_Member"], "_Member | None"]:
    """Tell the array of rows, one number for each row, and the `valid` inputs apart."""
    arrays = dict(members)
    valid = arrays.pop("valid", None) if "values" in arrays else None
    large = [key for key, member in arrays.items() if len(member.shape) > 1]
    if len(large) != 1:
        found = ", ".join(f"{key} {member.shape}" for key, member in members.items()) or "nothing"
        raise DataError(
            f"{name} holds {found}; one array with a row for each example is expected, and "
            "beside it arrays with one number for each row"
        )
    main = arrays.pop(large[0])
    check_array(main.dtype, main.shape, name)
    if VALUES in arrays:
        raise DataError(
            f"{name}: {VALUES!r} has one number for each row, and is what the rows themselves are "
            "called here; give it another name"
        )
    if valid is not None and len(main.shape) != 3:
        raise DataError(
            f"{name}: `values` is {main.shape}; with `valid` it has 3 dimensions (rows, inputs, "
            "numbers of an input)"
        )
    if valid is not None and (valid.shape != main.shape[:2] or valid.dtype != bool):
        raise DataError(
            f"{name}: `valid` is {valid.dtype} {valid.shape}; bool {main.shape[:2]} is expected, "
            "one for each input of `values`"
        )
    for key, member in arrays.items():
        if member.shape != main.shape[:1] or member.dtype.kind not in "biufU":
            raise DataError(
                f"{name}: {key!r} is {member.dtype} {member.shape}; {main.shape[:1]} numbers are "
                "expected, one for each row"
            )
    return main, arrays, valid


class _Member:
    """One array of an `.npz` file, read block by block."""

    def __init__(self, file: zipfile.ZipFile, member: str, name: str) -> None:
        self._file, self._member, self._name = file, member, name
        with file.open(member) as stream:
            self.shape, self.fortran, self.dtype = read_header(stream, f"{name}: {member}")

    def blocks(self, rows: int) -> Iterator[Array]:
        """Yield up to `rows` rows at a time."""
        with self._file.open(self._member) as stream:
            if self.fortran and len(self.shape) > 1:
                array = np.lib.format.read_array(stream, allow_pickle=False)
                for start in range(0, self.shape[0], rows):
                    yield array[start : start + rows]
                return
            read_header(stream, self._name)
            width = int(np.prod(self.shape[1:])) * self.dtype.itemsize
            for start in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - start)
                piece = stream.read(count * width)
                if len(piece) != count * width:
                    raise DataError(f"{self._name}: {self._member} ends early; is it complete?")
                yield np.frombuffer(piece, self.dtype).reshape(count, *self.shape[1:])
            stream.read(1)  # reaches the end, where zipfile compares the checksum


def read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read the start of an array in NumPy's format: shape, whether in Fortran order, type."""
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise DataError(f"{name} is written in version {version} of NumPy's format; save it anew")
    with warnings.catch_warnings():  # headers that Python 2 wrote are as good
        warnings.simplefilter("ignore", UserWarning)
        shape, fortran, dtype = readers[version](stream)
    if dtype.hasobject:
        raise DataError(
            f"{name} holds Python objects, which are never unpickled; save numbers, or labels as "
            "strings with .astype(str)"
        )
    return shape, fortran, dtype


def check_array(dtype: np.dtype[Any], shape: tuple[int, ...], name: str) -> None:
    """Refuse arrays that are not rows of numbers."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DataError(f"{name} holds {dtype}; real numbers up to 64 bits are expected")
    if not 2 <= len(shape) <= 4:
        raise DataError(
            f"{name} has {len(shape)} dimensions; expected are 2 (rows, columns), 3 (rows, "
            "inputs, numbers) or 4 (rows, height, width, channels)"
        )
    if min(shape) < 1:
        raise DataError(f"{name} has the shape {shape}: there is nothing in it")


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that Arrow can hold for a NumPy type."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")


def label_type(dtype: np.dtype[Any]) -> pa.DataType:
    """Return the type of a column with one cell for each row."""
    if dtype.kind == "b":
        return pa.bool_()
    return pa.large_string() if dtype.kind == "U" else pa.from_numpy_dtype(native(dtype))


def to_column(array: Array) -> pa.Array:
    """Return the rows of an array as lists of fixed size, without a copy where possible."""
    flat = np.ascontiguousarray(array, dtype=native(array.dtype)).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), int(np.prod(array.shape[1:])))


def rows_per_block(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Return how many rows to move at a time."""
    return max(1, _BLOCK_BYTES // max(1, int(np.prod(shape[1:])) * dtype.itemsize))


def one_file(files: Files) -> Path:
    """Refuse several files where one is expected."""
    if len(files.paths) > 1:
        raise DataError(
            f"{files.name} is {len(files.paths)} {files.extension} files; one is expected, "
            "stack the arrays first"
        )
    return files.paths[0]
