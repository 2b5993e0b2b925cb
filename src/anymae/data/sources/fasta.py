"""Sequences as FASTA files, read by Biopython."""

import io
from itertools import islice

import pyarrow as pa
from Bio.SeqIO.FastaIO import SimpleFastaParser

from anymae.data.cache import Sink
from anymae.data.sources.base import SOURCES, CachedSource, Files, reading
from anymae.data.sources.lines import NOT_UTF8, open_binary, text_column
from anymae.errors import DataError

_RECORDS = 1 << 14


@SOURCES.register("fasta")
class FastaSource(CachedSource):
    """Records of a header, kept as column `id`, and a sequence, joined from its lines."""

    extensions = (".fasta", ".fa", ".faa", ".fna", ".ffn", ".fas")
    compressed = True
    format = "fasta"
    unit = "sequence"
    named_by = "id"

    def fill(self, files: Files, sink: Sink) -> None:
        """Copy the records as columns `id` and `sequence`."""
        for number, (path, name) in enumerate(zip(files.paths, files.names, strict=True)):
            with reading(name), open_binary(path) as stream:
                text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
                first = next((line for line in text if line.strip()), "")
                if not first.startswith(">"):
                    raise DataError(f"{name} is no FASTA file: it does not start with '>'")
            with reading(name), open_binary(path) as stream:
                text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
                records = SimpleFastaParser(text)  # type: ignore[no-untyped-call]
                while block := list(islice(records, _RECORDS)):
                    ids, odd = text_column([_bytes(title) for title, _ in block])
                    cells, bad = text_column([_bytes(sequence) for _, sequence in block])
                    problems = dict.fromkeys(sorted({*odd, *bad}), NOT_UTF8)
                    rows = pa.table({"id": ids, "sequence": cells})
                    sink.add(rows, number, bad=problems)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
