"""A small probe while pretraining: what would frozen embeddings be worth for a known column?

Shapes: R rows, D width.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset
from anymae.errors import DataError
from anymae.metrics import HEADLINE, measure
from anymae.training.linear import fit_linear
from anymae.training.targets import encode_labels, infer_task, read_labels, standardise

STRENGTH = 0.1
"""Inverse penalty of the linear model; fixed, so that a look stays cheap."""

Embed = Callable[[IntArray], npt.NDArray[np.float32]]


class OnlineProbe:
    """Fits a linear model to frozen embeddings of training rows, and judges it on validation rows.

    Args:
        dataset: The data.
        target: The column, which is no input.
        train: Positions of the rows to fit to; those without a value are left out.
        valid: Positions of the rows to judge on; likewise.

    Raises:
        DataError: The column is not there, is an input, or holds nothing to learn.
    """

    def __init__(self, dataset: Dataset, target: str, *, train: IntArray, valid: IntArray) -> None:
        dataset.preparation.refuse_inputs_as_targets([target])
        column = read_labels(dataset, [target])[target]
        known = column.is_valid().to_numpy(zero_copy_only=False)
        self._train, self._valid = train[known[train]], valid[known[valid]]
        for known_rows, rows, what in (
            (self._train, train, "training"),
            (self._valid, valid, "validation"),
        ):
            if not len(known_rows):
                raise DataError(
                    f"{target!r} has no value in the {len(rows):,} {what} rows that are looked "
                    "at; name another column with --probe-target"
                )
        # Other rows may be of classes that these are not.
        labels = {target: column.take(pa.array(np.concatenate([self._train, self._valid])))}
        here = np.arange(len(labels[target]))
        fitted, judged = here[: len(self._train)], here[len(self._train) :]
        self._task = infer_task(labels, fitted, others=(judged,))
        truth = encode_labels(self._task, labels)
        self._scaled, self._truth = standardise(self._task, truth)[fitted], truth[judged]
        self.name = f"probe_{HEADLINE[self._task.type]}"
        """What the number is called in the log."""

    def __call__(self, embed: Embed) -> float:
        """Return the main metric; `embed` turns positions `(R,)` into embeddings `(R, D)`.

        It is NaN where an embedding is not finite.
        """
        train, valid = embed(self._train), embed(self._valid)
        if not (np.isfinite(train).all() and np.isfinite(valid).all()):
            return float("nan")
        found = fit_linear(self._task, train, self._scaled, strengths=(STRENGTH,))
        answers = found.answers(self._task, valid).astype(np.float64)
        measured = measure(self._task, self._truth, answers, np.ones(len(self._truth)))
        value = measured.targets[self._task.targets[0]][HEADLINE[self._task.type]].value
        return float("nan") if value is None else value
