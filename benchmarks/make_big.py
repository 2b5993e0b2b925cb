"""Data larger than memory should hold, made block by block: a table of numbers, strings."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BLOCK_ROWS = 100_000
WORDS = np.array(["the", "of", "protein", "mass", "energy", "jet", "cell", "CCO", "bond", "a"])


def table_blocks(rows: int, columns: int, seed: int) -> Iterator[pa.RecordBatch]:
    """Yield correlated columns of float32: 4 hidden factors and noise."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(4, columns)).astype(np.float32)
    names = [f"x{i}" for i in range(columns)]
    for start in range(0, rows, BLOCK_ROWS):
        count = min(BLOCK_ROWS, rows - start)
        factors = generator.standard_normal((count, 4), np.float32)
        values = factors @ mixing + generator.standard_normal((count, columns), np.float32) / 2
        arrays = [pa.array(np.ascontiguousarray(column)) for column in values.T]
        yield pa.RecordBatch.from_arrays(arrays, names)


def text_blocks(size: int, seed: int) -> Iterator[pa.RecordBatch]:
    """Yield strings of 20 to 200 bytes until `size` bytes are reached."""
    generator = np.random.default_rng(seed)
    pool = " ".join(generator.choice(WORDS, 1 << 20)).encode()
    while size > 0:
        lengths = generator.integers(20, 201, BLOCK_ROWS)
        starts = generator.integers(0, len(pool) - 200, BLOCK_ROWS)
        cells = [
            pool[start : start + length].strip()
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]
        column = pa.array(cells, pa.large_binary()).cast(pa.large_string())
        size -= int(lengths.sum())
        yield pa.RecordBatch.from_arrays([column], ["text"])


def write_parquet(path: Path, blocks: Iterator[pa.RecordBatch]) -> None:
    """Write blocks as they come."""
    first = next(blocks)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        writer.write_batch(first)
        for block in blocks:
            writer.write_batch(block)
    print(f"{path}: {path.stat().st_size / 1e6:,.0f} MB")
