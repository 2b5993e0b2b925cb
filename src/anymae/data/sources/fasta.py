"""Sequences as FASTA files, read by Biopython."""

import io
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
from Bio.SeqIO.FastaIO import SimpleFastaParser

from anymae.config import DataConfig
from anymae.data.cache import Reading, Sink, through_cache
from anymae.data.frame import Frame
from anymae.data.sources.base import SOURCES, Files, Source, reading
from anymae.data.sources.lines import NOT_UTF8, open_binary, text_column
from anymae.errors import DataError

_RECORDS = 1 << 14


@SOURCES.register("fasta")
class FastaSource(Source):
    """Records of a header, kept as column `id`, and a sequence, joined from its lines."""

    extensions = (".fasta", ".fa", ".faa", ".fna", ".ffn", ".fas")
    compressed = True

    def read(self, data: Files, config: DataConfig) -> Frame:
        """Copy the records to the cache as columns `id` and `sequence`."""
        return through_cache(
            Reading(
                name=data.name,
                format="fasta",
                paths=data.paths,
                fill=partial(_fill, data),
                settings={},
                unit="sequence",
                files=data.labels,
                named_by="id",
            )
        )


def _fill(files: Files, sink: Sink) -> None:
    for number, path in enumerate(files.paths):
        name = files.name if len(files.paths) == 1 else str(path)
        with reading(name), open_binary(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
            first = next((line for line in text if line.strip()), "")
            if not first.startswith(">"):
                raise DataError(f"{name} is no FASTA file: it does not start with '>'")
        with reading(name), open_binary(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
            records, count = SimpleFastaParser(text), 0  # type: ignore[no-untyped-call]
            while block := list(islice(records, _RECORDS)):
                ids, odd = text_column([_bytes(title) for title, _ in block])
                cells, bad = text_column([_bytes(sequence) for _, sequence in block])
                for position in sorted({*odd, *bad}):
                    sink.reject(sink.num_rows + position, NOT_UTF8)
                sink.place(number, np.arange(count, count + len(block)))
                sink.write(pa.table({"id": ids, "sequence": cells}))
                count += len(block)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
