"""Molecules as `.smi` files."""

import pyarrow as pa

from anymae.data.cache import Sink
from anymae.data.sources.base import SOURCES, CachedSource, Files
from anymae.data.sources.lines import NOT_UTF8, line_blocks, numbers_of_lines, text_column


@SOURCES.register("smi")
class SmilesSource(CachedSource):
    """`.smi` files: on each line a SMILES string and, after white space, a name.

    A first line that starts with the word `smiles` is a header.
    """

    extensions = (".smi", ".smiles", ".ism")
    compressed = True
    format = "smi"
    unit = "line"

    def fill(self, files: Files, sink: Sink) -> None:
        """Copy the lines as columns `smiles` and `id`."""
        for number, (path, name) in enumerate(zip(files.paths, files.names, strict=True)):
            for block in line_blocks(path, name):
                parts = [line.split(None, 1) for line in block.text.split(b"\n") if line]
                numbers = numbers_of_lines(block)
                if block.line == 1 and parts and parts[0] and parts[0][0].lower() == b"smiles":
                    parts, numbers = parts[1:], numbers[1:]
                smiles, bad = text_column([part[0] if part else b"" for part in parts])
                names, odd = text_column(
                    [part[1].strip() if len(part) > 1 else b"" for part in parts]
                )
                problems = dict.fromkeys(sorted({*bad, *odd}), NOT_UTF8)
                sink.add(pa.table({"smiles": smiles, "id": names}), number, numbers, problems)
