"""From numbers to named columns: what a row of an output file says.

Shapes: R rows, F numbers, S members, A numbers of an answer.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from anymae.data.batch import IntArray
from anymae.inference.compute import FloatArray
from anymae.predictor import Answered, members_of
from anymae.task import TaskConfig

Columns = Mapping[str, pa.Array]
Flags = npt.NDArray[np.bool_]


class Layout(Protocol):
    """Names numbers."""

    def columns(self, values: FloatArray, counts: IntArray, *, nested: bool) -> Columns:
        """Return the columns of R rows; null where a row has no numbers (all NaN).

        With `nested` False (CSV) every column holds plain numbers or strings.
        """
        ...

    def matrix(self, values: FloatArray) -> Answered:
        """Return `(R, columns)` for `.npy`."""
        ...


class VectorLayout:
    """A vector for each row: a fixed-size list, or a column for each number."""

    def columns(self, values: FloatArray, counts: IntArray, *, nested: bool) -> Columns:
        """Return `embedding`, or `e0`, `e1` ..."""
        absent = np.asarray(np.isnan(values).all(1))
        if not nested:
            return {
                f"e{number}": pa.array(column, pa.float32(), mask=absent)
                for number, column in enumerate(values.T)
            }
        return {"embedding": _lists(values, absent)}

    def matrix(self, values: FloatArray) -> FloatArray:
        """Return the vectors."""
        return values


class StatesLayout:
    """A vector for each input of a row: a list of fixed-size lists, for Parquet alone."""

    def columns(self, values: FloatArray, counts: IntArray, *, nested: bool) -> Columns:
        """Return `states`."""
        ends = np.cumsum(counts)
        offsets = pa.array(np.r_[0, ends], pa.int64(), mask=np.r_[counts == 0, False])
        inner = _lists(values, np.asarray(np.isnan(values).all(1)))
        return {"states": pa.LargeListArray.from_arrays(offsets, inner)}

    def matrix(self, values: FloatArray) -> FloatArray:
        """Fail: rows differ in their number of inputs."""
        raise AssertionError("embed_to_file takes no .npy for vectors of each input")


class AnswerLayout:
    """Answers of a fine-tuned model, with the spread of its members if there are several."""

    def __init__(self, task: TaskConfig) -> None:
        self._task = task

    def columns(self, values: FloatArray, counts: IntArray, *, nested: bool) -> Columns:
        """Return `predicted_TARGET`, then `probability_CLASS` and what ends in `_std`.

        A spread ends in `_std_` where another answer has its name.
        """
        task, mean, spread = self._task, self.matrix(values), self._spread(values)
        absent = np.isnan(mean).any(1)
        out: dict[str, pa.Array] = {}
        if task.type in ("binary", "multiclass"):
            chosen = pa.array(mean.argmax(1), mask=absent)
            out[f"predicted_{task.targets[0]}"] = pa.array(task.classes).take(chosen)
        prefix = "probability_" if task.is_classification else "predicted_"
        names = [f"{prefix}{name}" for name in task.answers]
        for number, name in enumerate(names):
            out[name] = pa.array(mean[:, number], mask=absent)
            if spread is not None:
                beside = f"{name}_std"
                while beside in names or beside in out:
                    beside += "_"
                out[beside] = pa.array(spread[:, number], mask=absent)
        return out

    def matrix(self, values: FloatArray) -> Answered:
        """Return the mean over members, `(R, A)`."""
        return np.asarray(members_of(self._task, values).mean(0))

    def _spread(self, values: FloatArray) -> Answered | None:
        if self._task.members == 1:
            return None
        return np.asarray(members_of(self._task, values).std(0, ddof=1))


class ScoreLayout:
    """Mean reconstruction loss of a row, and the difference to a reference if there is one.

    Args:
        reference: The reference row's score.
    """

    def __init__(self, reference: float | None = None) -> None:
        self._reference = reference

    def columns(self, values: FloatArray, counts: IntArray, *, nested: bool) -> Columns:
        """Return `score` (larger is odder), `inputs` and, with a reference, `difference`."""
        score = self.matrix(values)[:, 0]
        absent = np.isnan(values[:, 1])
        known = np.where(absent, 0, values[:, 1]).round().astype(np.int32)
        out: dict[str, pa.Array] = {
            "score": pa.array(score, mask=np.isnan(score)),
            "inputs": pa.array(known, mask=absent),
        }
        if self._reference is not None:
            difference = score - np.float32(self._reference)
            out["difference"] = pa.array(difference, mask=np.isnan(score))
        return out

    def matrix(self, values: FloatArray) -> FloatArray:
        """Return the scores, `(R, 1)`."""
        return values[:, :1] / values[:, 1:]


def _lists(values: FloatArray, absent: Flags) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    mask = pa.array(absent) if absent.any() else None
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=mask)
