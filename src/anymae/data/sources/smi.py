"""Molecules as `.smi` files."""

from anymae.data.cache import Sink
from anymae.data.sources.base import SOURCES, CachedSource, Files
from anymae.data.sources.lines import blocks_of, numbers_of_lines, text_table


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
        for number, block in blocks_of(files):
            parts = [line.split(None, 1) for line in block.text.split(b"\n") if line]
            numbers = numbers_of_lines(block)
            if block.line == 1 and parts and parts[0] and parts[0][0].lower() == b"smiles":
                parts, numbers = parts[1:], numbers[1:]
            smiles = [part[0] if part else b"" for part in parts]
            names = [part[1].strip() if len(part) > 1 else b"" for part in parts]
            rows, bad = text_table({"smiles": smiles, "id": names})
            sink.add(rows, number, numbers, bad)
