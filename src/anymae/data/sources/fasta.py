"""Sequences as FASTA files, read by Biopython."""

import io
from itertools import chain, islice

from Bio.SeqIO.FastaIO import SimpleFastaParser

from anymae.data.cache import Sink
from anymae.data.sources.base import SOURCES, CachedSource, Files, reading
from anymae.data.sources.lines import open_binary, text_table
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
        for number, (path, name) in enumerate(files):
            with reading(name), open_binary(path) as stream:
                text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
                first = next((line for line in text if line.strip()), "")
                if not first.startswith(">"):
                    raise DataError(f"{name} is no FASTA file: it does not start with '>'")
                records = SimpleFastaParser(chain([first], text))  # type: ignore[no-untyped-call]
                while block := list(islice(records, _RECORDS)):
                    ids = [_bytes(title) for title, _ in block]
                    sequences = [_bytes(sequence) for _, sequence in block]
                    rows, bad = text_table({"id": ids, "sequence": sequences})
                    sink.add(rows, number, bad=bad)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
