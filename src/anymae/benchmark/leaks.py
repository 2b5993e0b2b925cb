"""Rows that occur where they must not: in the corpus and in a test, in training and in a test.

Rows are the same when all their inputs are, to the byte.

Shapes: R rows.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from anymae.benchmark.suite import Corpus, Inputs, TaskData, take

logger = logging.getLogger(__name__)


def contents(inputs: Inputs) -> pa.Array:
    """Return what is in each row as one value, `(R,)`: equal where rows are the same."""
    if isinstance(inputs, pa.Table):
        columns = [
            pc.fill_null(column.cast(pa.large_string()), "\x00") for column in inputs.columns
        ]
        joined = pc.binary_join_element_wise(*columns, pa.scalar("\x1f", pa.large_string()))
        return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined
    flat = np.ascontiguousarray(inputs).reshape(len(inputs), -1)
    size = flat.shape[1] * flat.itemsize
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(size), len(flat), [None, pa.py_buffer(flat.tobytes())]
    )


def clean(corpus: Corpus, tasks: Iterable[TaskData]) -> Corpus:
    """Take out of a corpus what occurs in the validation or test rows of its tasks."""
    rows = contents(corpus.inputs)
    keep = np.ones(len(rows), np.bool_)
    for task in tasks:
        for part in (task.parts.valid, task.parts.test):
            keep &= ~_isin(rows, contents(take(task.inputs, part)))
    removed = int((~keep).sum())
    if corpus.flagged or removed:
        logger.info(
            "corpus: %d rows left out by its flags, as a task has them, %d more as they occur in "
            "validation or test",
            corpus.flagged,
            removed,
        )
    if not removed:
        return corpus
    kept = take(corpus.inputs, np.flatnonzero(keep))
    return replace(corpus, inputs=kept, removed=removed)


def count_shared(task: TaskData) -> dict[str, int]:
    """Count rows of the validation and test parts that also occur in the training part."""
    train = contents(take(task.inputs, task.parts.train))
    return {
        name: int(_isin(contents(take(task.inputs, part)), train).sum())
        for name, part in (("valid", task.parts.valid), ("test", task.parts.test))
    }


def _isin(rows: pa.Array, others: pa.Array) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = pc.is_in(rows, others).to_numpy(zero_copy_only=False)
    return found
