"""Features of one's own: a row of numbers for each row of the data."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from anymae.comparison.result import GUIDED, JOINED, NONE, RANDOM, RAW
from anymae.config import DataConfig
from anymae.data.frame import Frame
from anymae.data.sources import read_source
from anymae.errors import ConfigError, DataError

Features = npt.NDArray[np.floating]


def read_baseline(name: str, data: object, of: Frame) -> Features:
    """Read features, `(R, F)`.

    Args:
        name: What they are called.
        data: A file or a Python object.
        of: The data; R are all its rows, also those that a filter leaves out.

    Raises:
        ConfigError: The name is taken.
        DataError: Rows do not match, or there is something else than finite numbers.
    """
    if name in (GUIDED, RANDOM, NONE, RAW) or name.endswith(JOINED):
        raise ConfigError(f"baseline {name!r} is called like what it is compared with; rename it")
    frame = read_source(data, DataConfig())
    rows, expected = frame.table.num_rows, of.table.num_rows
    if rows != expected:
        raise DataError(
            f"baseline {name!r}: {frame.name} has {rows:,} rows and {of.name} {expected:,}; "
            "a row of features is needed for each"
        )
    columns = [_read_column(name, frame, column) for column in frame.table.column_names]
    features = np.concatenate(columns, 1)
    bad = np.flatnonzero(~np.isfinite(features).all(1))
    if len(bad):
        raise DataError(
            f"baseline {name!r}: {frame.name}, {frame.where(int(bad[0]))}, holds a number that is "
            "missing or infinite; fill it in"
        )
    return features


def _read_column(name: str, frame: Frame, column: str) -> Features:
    cells = frame.table[column].combine_chunks()
    if pa.types.is_fixed_size_list(cells.type) and not cells.null_count:
        cells = cells.flatten()
    kind = cells.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise DataError(
            f"baseline {name!r}: column {column!r} of {frame.name} holds {kind}; features are "
            "numbers, leave it out"
        )
    values: Features = cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values.reshape(len(frame.table), -1)
