"""Parquet: one file, or many that make one table."""

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anymae.config import DataConfig
from anymae.data.cache import Reading, Sink, through_cache
from anymae.data.frame import Frame
from anymae.data.sources.base import SOURCES, Files, Source, reading, unique_names
from anymae.errors import DataError

_ROWS = 1 << 16


@SOURCES.register("parquet")
class ParquetSource(Source):
    """Parquet files with one schema; nested columns other than lists are left out by name."""

    extensions = (".parquet", ".pq")

    def read(self, data: Files, config: DataConfig) -> Frame:
        """Read the files, shard after shard."""
        return through_cache(
            Reading(
                name=data.name,
                format="parquet",
                paths=data.paths,
                fill=partial(_fill, data),
                settings={},
                files=data.labels,
            )
        )


def _fill(files: Files, sink: Sink) -> None:
    schema: pa.Schema | None = None
    for number, path in enumerate(files.paths):
        name = files.name if len(files.paths) == 1 else str(path)
        with reading(name), pq.ParquetFile(path, memory_map=True) as file:
            schema = schema or file.schema_arrow
            unique_names(file.schema_arrow.names, name)
            same_columns(schema, file.schema_arrow, name)
            count = 0
            for batch in file.iter_batches(_ROWS):
                sink.place(number, np.arange(count, count + batch.num_rows))
                sink.write(batch.cast(schema) if batch.schema != schema else batch)
                count += batch.num_rows
            if count != file.metadata.num_rows:
                raise DataError(
                    f"{name} promises {file.metadata.num_rows} rows and holds {count}; "
                    "is it complete?"
                )


def same_columns(expected: pa.Schema, found: pa.Schema, name: str) -> None:
    """Refuse a shard whose columns are not those of the first."""
    if expected.names != found.names:
        odd = sorted(set(expected.names) ^ set(found.names)) or found.names
        raise DataError(
            f"{name} has other columns than the files before it ({', '.join(odd)}); "
            "the files of one table need the same columns in the same order"
        )
