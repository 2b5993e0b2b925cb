"""Molecules as `.smi` files."""

from functools import partial

import pyarrow as pa

from anymae.config import DataConfig
from anymae.data.cache import Reading, Sink, through_cache
from anymae.data.frame import Frame
from anymae.data.sources.base import SOURCES, Files, Source
from anymae.data.sources.lines import NOT_UTF8, line_blocks, numbers_of_lines, text_column


@SOURCES.register("smi")
class SmilesSource(Source):
    """`.smi` files: on each line a SMILES string and, after white space, a name.

    A first line that starts with the word `smiles` is a header.
    """

    extensions = (".smi", ".smiles", ".ism")
    compressed = True

    def read(self, data: Files, config: DataConfig) -> Frame:
        """Copy the lines to the cache as columns `smiles` and `id`."""
        fill = partial(_fill_smiles, data)
        return through_cache(
            Reading(data.name, "smi", data.paths, fill, {}, unit="line", files=data.labels)
        )


def _fill_smiles(files: Files, sink: Sink) -> None:
    for number, path in enumerate(files.paths):
        for block in line_blocks(path, str(path)):
            parts = [line.split(None, 1) for line in block.text.split(b"\n") if line]
            numbers = numbers_of_lines(block)
            if block.line == 1 and parts and parts[0] and parts[0][0].lower() == b"smiles":
                parts, numbers = parts[1:], numbers[1:]
            smiles, bad = text_column([part[0] if part else b"" for part in parts])
            names, odd = text_column([part[1].strip() if len(part) > 1 else b"" for part in parts])
            for position in sorted({*bad, *odd}):
                sink.reject(sink.num_rows + position, NOT_UTF8)
            sink.place(number, numbers)
            sink.write(pa.table({"smiles": smiles, "id": names}))
