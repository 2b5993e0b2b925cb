"""Arrow IPC files and streams, Feather included."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from anymae.config import DataConfig
from anymae.data.cache import Sink, content_digest
from anymae.data.frame import Frame
from anymae.data.sources.base import SOURCES, CachedSource, Files, reading, unique_names
from anymae.data.sources.parquet import common_schema
from anymae.data.spool import plain_type


@SOURCES.register("arrow")
class ArrowSource(CachedSource):
    """Arrow files: mapped where they lie if they are uncompressed, one batch, of plain types."""

    extensions = (".arrow", ".feather", ".ipc")
    format = "arrow"

    def read(self, data: Files, config: DataConfig) -> Frame:
        """Map the file, or copy it to the cache."""
        if len(data.paths) == 1:
            with reading(data.name):
                table = _mapped(data.paths[0])
            if table is not None:
                unique_names(table.column_names, data.name)
                digest = content_digest(data.paths)
                return Frame(table, data.name, self.format, source_digest=digest)
        return super().read(data, config)

    def fill(self, files: Files, sink: Sink) -> None:
        """Copy the batches, file after file."""
        schemas = []
        for path, name in files:
            with reading(name), _batches(path) as (schema, _):
                schemas.append(schema)
        sink.start(common_schema(schemas, files.names))
        for number, (path, name) in enumerate(files):
            with reading(name), _batches(path) as (_, batches):
                for batch in batches:
                    sink.add(pa.Table.from_batches([batch]), number)


def _mapped(path: Path) -> pa.Table | None:
    """Return the table of a file whose pages can be used as they are."""
    with pa.memory_map(str(path)) as file:
        try:
            reader = pa.ipc.open_file(file)
        except pa.ArrowInvalid:
            return None
        plain = all(plain_type(field.type) == field.type for field in reader.schema)
        if reader.num_record_batches != 1 or not plain:
            return None
        before = pa.total_allocated_bytes()
        batch = reader.get_batch(0)
        if pa.total_allocated_bytes() - before > batch.nbytes // 2 or not batch.num_rows:
            return None  # it had to be decompressed
        batch.validate(full=True)
        return pa.Table.from_batches([batch])


@contextmanager
def _batches(path: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Open a file in either of Arrow's formats."""
    with pa.memory_map(str(path)) as file:
        try:
            reader = pa.ipc.open_file(file)
        except pa.ArrowInvalid:
            file.seek(0)
            stream = pa.ipc.open_stream(file)
            yield stream.schema, iter(stream)
            return
        yield reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
