"""Text files, one row per line."""

from functools import partial

import pyarrow as pa

from anymae.config import DataConfig
from anymae.data.cache import Reading, Sink, through_cache
from anymae.data.frame import Frame
from anymae.data.sources.base import SOURCES, Files, Source
from anymae.data.sources.lines import NOT_UTF8, line_blocks, numbers_of_lines, text_column


@SOURCES.register("text")
class TextSource(Source):
    """Lines of text, one row each; empty lines are no rows."""

    extensions = (".txt",)
    compressed = True

    def read(self, data: Files, config: DataConfig) -> Frame:
        """Copy the lines to the cache as column `text`."""
        fill = partial(_fill_text, data)
        return through_cache(
            Reading(data.name, "text", data.paths, fill, {}, unit="line", files=data.labels)
        )


def _fill_text(files: Files, sink: Sink) -> None:
    for number, path in enumerate(files.paths):
        for block in line_blocks(path, str(path)):
            lines = [line for line in block.text.split(b"\n") if line]
            column, bad = text_column(lines)
            for position in bad:
                sink.reject(sink.num_rows + position, NOT_UTF8)
            sink.place(number, numbers_of_lines(block))
            sink.write(pa.table({"text": column}))
