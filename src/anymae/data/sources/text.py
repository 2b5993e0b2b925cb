"""Text files, one row per line."""

import pyarrow as pa

from anymae.data.cache import Sink
from anymae.data.sources.base import SOURCES, CachedSource, Files
from anymae.data.sources.lines import NOT_UTF8, line_blocks, numbers_of_lines, text_column


@SOURCES.register("text")
class TextSource(CachedSource):
    """Lines of text, one row each; empty lines are no rows."""

    extensions = (".txt",)
    compressed = True
    format = "text"
    unit = "line"

    def fill(self, files: Files, sink: Sink) -> None:
        """Copy the lines as column `text`."""
        for number, (path, name) in enumerate(zip(files.paths, files.names, strict=True)):
            for block in line_blocks(path, name):
                lines = [line for line in block.text.split(b"\n") if line]
                column, bad = text_column(lines)
                problems = dict.fromkeys(bad, NOT_UTF8)
                sink.add(number, numbers_of_lines(block), pa.table({"text": column}), problems)
