"""The one entry to all sources: from an argument to a `Frame`."""

import logging
import os

from anymae.config import DataConfig
from anymae.data.frame import Frame
from anymae.data.sources.base import SOURCES, Source, source_of
from anymae.data.sources.lines import NOT_UTF8
from anymae.data.sources.locate import locate
from anymae.data.where import select
from anymae.errors import DataError
from anymae.wording import counted

logger = logging.getLogger(__name__)


def read_source(data: object, config: DataConfig) -> Frame:
    """Read any data.

    Args:
        data: A path, folder, glob or URL; or a Python object: a list of strings, an array, a
            pandas, polars or pyarrow table. A `Frame` was read before and comes back as it is.
        config: Of it, `where`, `missing`, `words` and `on_bad_row` count here.

    Returns:
        All rows as one table; `rows` are those that `config.where` keeps.

    Raises:
        DataError: The data cannot be read, or all its rows cannot, or some cannot and
            `config.on_bad_row` is `error`.
        UserInputError: The filter or the cache does not work.

    >>> frame = read_source(["CCO", "c1ccccc1"], DataConfig())
    >>> frame.table["text"].to_pylist()
    ['CCO', 'c1ccccc1']
    """
    if isinstance(data, Frame):
        return data
    if isinstance(data, str | os.PathLike):
        files = locate(os.fspath(data))
        frame = source_of(files.extension, files.name)().read(files, config)
    else:
        frame = _source_for(data).read(data, config)
    for column, kind in frame.unread.items():
        logger.warning("%s: column %r is left out: it holds %s", frame.name, column, kind)
    if frame.bad:
        _report_bad(frame, config)
    if config.where is not None:
        frame = select(frame, config.where, config.missing)
    return frame


def _source_for(data: object) -> Source:
    if type(data).__name__ == "LazyFrame":
        # Looking for its columns would make polars warn.
        raise DataError("the data are a lazy frame, without rows yet; hand over frame.collect()")
    for key in SOURCES:
        source = SOURCES[key]()
        if source.takes(data):
            return source
    raise DataError(
        f"the data are of type {type(data).__name__}; a path, a list of strings, an array or a "
        "table is expected"
    )


def _report_bad(frame: Frame, config: DataConfig) -> None:
    """Stop at rows that could not be read, or count them where others could."""
    row, problem = next(iter(frame.bad.items()))
    count = len(frame.bad)
    rows, place = counted(count, "row"), frame.where(row)
    text = f"{frame.name}: {rows} cannot be read; the first, {place}, {problem}"
    repair = "save the file as UTF-8" if problem == NOT_UTF8 else "repair it"
    if count == frame.table.num_rows:
        raise DataError(f"{text}; no other row is left: {repair}")
    if config.on_bad_row == "error":
        raise DataError(
            f"{text}; {repair}, or leave such rows out with --on-bad-row skip "
            '(in Python on_bad_row="skip")'
        )
    logger.warning("%s", text)
