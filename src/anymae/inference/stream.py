"""Results on disk: computed shard by shard, restartable, joined into one file at the end.

A shard is a stretch of rows. Finished shards stay in a folder beside the output until all are
there; a run that was cut takes them up if model, data and settings are the same.
"""

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch
from torch import nn

from anymae.data.dataset import Dataset
from anymae.data.rows import refuse_lists
from anymae.errors import DataError, FolderError
from anymae.files import (
    holds_nothing,
    read_json,
    read_tensors,
    remove_folder,
    remove_leftovers,
    told,
    write_file,
    write_json,
    write_tensors,
)
from anymae.inference.computations import Output
from anymae.inference.compute import Computation, ComputeConfig, Numbers, Progress, compute, placed
from anymae.inference.rows import OutputRows, Piece

logger = logging.getLogger(__name__)

SHARD_NUMBERS = 1 << 22
"""Numbers of a shard, about: 16 MB."""
SHARD_ROWS = 16_384
"""Rows of a shard at most."""
LEADING = ("row", "status")
"""Columns of every output."""
SUFFIXES = (".parquet", ".csv", ".npy")
GO_ON = "make room there and repeat the command, which takes up what is computed"
"""What to do when something cannot be written."""

PLANNED = {"verb", "shard_rows", "rows"}
"""What every plan says: a folder with another `plan.json` is the user's own."""


@dataclass(frozen=True)
class Written:
    """What was written."""

    out: str
    rows: int
    """Rows of the file: one for each row of the data."""
    status: dict[str, int]
    """Rows by status; `ok`, or what is wrong with them."""
    columns: tuple[str, ...]
    seconds: float
    rows_per_second: float
    """Of the rows computed now."""
    taken_up: int
    """Rows that a run cut short had computed already."""
    notes: tuple[str, ...] = ()
    """What a user should know."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def write_rows(
    output: Output,
    dataset: Dataset,
    out: Path,
    *,
    config: ComputeConfig,
    identity: dict[str, Any],
    progress: Progress | None = None,
    notes: tuple[str, ...] = (),
) -> Written:
    """Compute numbers for every row and write them, in order.

    Args:
        output: What to compute, and how it is named.
        dataset: The rows.
        out: A file that ends in .parquet, .csv or .npy; see `require_output`.
        config: Where and how.
        identity: What must be the same for a cut run to be taken up, plain values.
        progress: Called with what a cut run has left, then after each shard.
        notes: Kept in the result.
    """
    started = time.perf_counter()
    check_id(dataset, out.suffix)
    rows = OutputRows(dataset)
    size = _shard_rows(output, dataset)
    parts = out.with_name(f"{out.name}.parts")
    bounds = {
        parts / f"{number:06}.safetensors": (start, min(start + size, len(rows)))
        for number, start in enumerate(range(0, len(rows), size))
    }
    with told(parts, GO_ON):
        _prepare(parts, {**identity, "shard_rows": size, "rows": len(rows)})
    missing = {path: bound for path, bound in bounds.items() if not path.exists()}
    done = taken_up = len(rows) - sum(stop - start for start, stop in missing.values())
    if progress is not None:
        progress(taken_up, len(rows))
    with placed(output.model, config):
        for path, (start, stop) in missing.items():
            numbers = compute(output, dataset, rows.piece(start, stop).positions, config)
            _store(path, numbers)
            done += stop - start
            if progress is not None:
                progress(done, len(rows))
    computing = time.perf_counter() - started
    status: Counter[str] = Counter()
    with told(out, GO_ON):
        columns = _join(out, output, rows, _shards(bounds, rows, status, output))
    remove_folder(parts)
    return Written(
        out=str(out),
        rows=len(rows),
        status=dict(status),
        columns=columns,
        seconds=round(time.perf_counter() - started, 3),
        rows_per_second=round((len(rows) - taken_up) / max(computing, 1e-9), 1),
        taken_up=taken_up,
        notes=notes,
    )


def check_id(dataset: Dataset, suffix: str = "") -> None:
    """Check that the column of ids, if there is one, can be copied to an output.

    Raises:
        DataError: Outputs have a column of that name themselves, or no cells for its lists.
    """
    name = dataset.roles.id
    if name in LEADING:
        raise DataError(f"the id column is named {name!r}, as a column of every output; rename it")
    if name is not None and suffix == ".csv":
        refuse_lists(dataset.rows.frame.table.select([name]).schema)


def digest(model: nn.Module) -> str:
    """Return a hash of a model's weights, and of nothing else."""
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _shard_rows(computation: Computation, dataset: Dataset) -> int:
    lines = dataset.input.length if computation.per_input else 1
    return max(1, min(SHARD_ROWS, SHARD_NUMBERS // (lines * computation.num_numbers)))


def _prepare(parts: Path, plan: dict[str, Any]) -> None:
    """Take up shards of the same plan; remove those of another, and nothing else."""
    file = parts / "plan.json"
    if not holds_nothing(parts):
        stored = _stored_plan(file)
        if stored == plan:
            remove_leftovers(parts)
            return
        logger.warning("%s belongs to another command or other data; starting over", parts)
    remove_folder(parts)
    parts.mkdir(parents=True)
    write_json(file, plan)


def _stored_plan(file: Path) -> dict[str, Any]:
    """Return the plan that shards stand beside; refuse a folder that is none of shards."""
    try:
        stored = read_json(file)
    except FolderError:
        stored = {}
    if not stored.keys() >= PLANNED:
        raise FolderError(
            f"{file.parent} holds something else than what a command that was cut has computed; "
            "rename it, or name another file to write"
        )
    return stored


def _store(path: Path, numbers: Numbers) -> None:
    with told(path.parent, GO_ON):
        write_tensors(path, {key: torch.from_numpy(value) for key, value in vars(numbers).items()})


def _shards(
    bounds: Mapping[Path, tuple[int, int]], rows: OutputRows, status: Counter[str], output: Output
) -> Iterator[tuple[Piece, Numbers]]:
    """Read the shards in order, counting their rows by status."""
    for path, bound in bounds.items():
        stored, piece = read_tensors(path), rows.piece(*bound)
        status.update(piece.status.to_pylist())
        numbers = Numbers(stored["values"].numpy(), stored["counts"].numpy())
        yield piece, piece.spread(numbers, per_input=output.per_input)


def _join(
    out: Path, output: Output, rows: OutputRows, shards: Iterator[tuple[Piece, Numbers]]
) -> tuple[str, ...]:
    """Write the shards into one file; return the names of its columns."""
    names: list[str] = []

    def fill(staged: Path) -> None:
        if out.suffix == ".npy":
            names.extend(["matrix"])
            _write_npy(staged, len(rows), (output.matrix(n.values) for _, n in shards))
            return
        nested = out.suffix == ".parquet"
        tables = (to_table(output, rows, *shard, nested=nested) for shard in shards)
        names.extend(_write_tables(staged, tables, nested=nested))

    write_file(out, fill)
    return tuple(names)


def to_table(
    output: Output, rows: OutputRows, piece: Piece, numbers: Numbers, *, nested: bool
) -> pa.Table:
    """Name the numbers of a piece: row, id, status, then what was computed."""
    columns = rows.leading(piece)
    computed = output.columns(numbers.values, numbers.counts, nested=nested)
    for name, column in computed.items():
        free = name
        while free in columns or (free != name and free in computed):
            free += "_"
        columns[free] = column
    return pa.table(columns)


def _write_tables(path: Path, tables: Iterator[pa.Table], *, nested: bool) -> list[str]:
    first = next(tables)
    if nested:
        writer = pa.parquet.ParquetWriter(path, first.schema)
    else:
        writer = pa.csv.CSVWriter(path, first.schema)
    with writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table.cast(first.schema))
    return list(first.column_names)


def _write_npy(path: Path, count: int, blocks: Iterator[np.ndarray]) -> None:
    with path.open("wb") as file:
        for number, block in enumerate(blocks):
            if number == 0:
                kind = block.dtype.newbyteorder("<").str
                header = {"descr": kind, "fortran_order": False, "shape": (count, block.shape[1])}
                np.lib.format.write_array_header_1_0(file, header)
            block.astype(kind).tofile(file)
