"""Text files, one row per line."""

import logging

from anymae.config import DataConfig
from anymae.data.cache import Sink
from anymae.data.frame import Frame
from anymae.data.missing import number_of
from anymae.data.sources.base import SOURCES, CachedSource, Files
from anymae.data.sources.lines import blocks_of, numbers_of_lines, text_table

logger = logging.getLogger(__name__)

_GLANCE = 50
"""Lines that are looked at."""
_CALLED = {"\t": "tabs", ",": "commas", ";": "semicolons", " ": "commas"}
"""What is to stand between the cells of a table, by what does."""


@SOURCES.register("text")
class TextSource(CachedSource):
    """Lines of text, one row each; empty lines are no rows."""

    extensions = (".txt",)
    compressed = True
    format = "text"
    unit = "line"

    def read(self, data: Files, config: DataConfig) -> Frame:
        """Map the lines; those that look like the rows of a table are warned of."""
        frame = super().read(data, config)
        sign = _table_sign(frame.table["text"][:_GLANCE].to_pylist())
        if sign is not None:
            ending = ".tsv" if sign == "\t" else ".csv"
            logger.warning(
                "%s: each line is read as one string, and looks like a row of numbers; name a "
                "table %s, with a header and %s between cells", data.name, ending, _CALLED[sign],
            )  # fmt: skip
        return frame

    def fill(self, files: Files, sink: Sink) -> None:
        """Copy the lines as column `text`."""
        for number, block in blocks_of(files):
            lines = [line for line in block.text.split(b"\n") if line]
            rows, bad = text_table({"text": lines})
            sink.add(rows, number, numbers_of_lines(block), bad)


def _table_sign(lines: list[str | None]) -> str | None:
    """Return what divides lines into the same number of numbers each; `None` if nothing does."""
    for sign in _CALLED:
        rows = [(line or "").split(None if sign == " " else sign) for line in lines]
        alike = len(rows) > 1 and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1
        if alike and all(number_of(cell) is not None for row in rows for cell in row):
            return sign
    return None
