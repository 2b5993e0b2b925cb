"""The row that others are compared with when scores are written."""

import math

import numpy as np

from anymae.config import DataConfig
from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset
from anymae.errors import DataError, UserInputError
from anymae.inference.computations import Scores
from anymae.inference.compute import ComputeConfig, compute
from anymae.inference.novelty import unlike_inputs
from anymae.inference.rows import open_rows


def reference_score(
    scores: Scores,
    dataset: Dataset,
    reference: int | str,
    data_config: DataConfig,
    config: ComputeConfig | None,
) -> tuple[float, tuple[str, ...]]:
    """Score the one row that others are compared with.

    Args:
        scores: What scores rows.
        dataset: The rows.
        reference: The number of one of them in the source, its id, or a string of its own. A
            number that is an id too means the row with that number.
        data_config: Its `too_long` holds for the string, too.
        config: Device and precision.

    Returns:
        The score, and what to say of the reference, in sentences: in what a string of its own
        differs from the training data, or that a number is another row's id.

    Raises:
        UserInputError: There is no such row, several have the id, or it has no score.
    """
    notes: tuple[str, ...] = ()
    called = _rows_called(reference, dataset)
    if not isinstance(reference, str):
        numbers = dataset.rows.numbers_of(np.arange(len(dataset)))
        numbered = np.flatnonzero(numbers == reference)
        if len(numbered) and len(called) and called.tolist() != numbered.tolist():
            notes = (
                f"the reference {reference} is taken for a row number; of the id {reference} is "
                f"row {numbers[called[0]]}",
            )
        called = numbered if len(numbered) else called
    if len(called) > 1:
        raise UserInputError(
            f"{len(called):,} rows have the id {reference!r}; name the one that is meant by its "
            "number, from 0"
        )
    if isinstance(reference, str) and not len(called):
        dataset, called = _row_of_its_own(scores, dataset, reference, data_config), np.array([0])
        notes = tuple(
            f"the reference {reference!r}: {note}" for note in unlike_inputs(scores.model, dataset)
        )
    elif not len(called):
        raise UserInputError(
            f"reference row {reference} is not among the {len(dataset):,} rows that can be "
            "scored; rows count from 0"
        )
    values = compute(scores, dataset, called, config or ComputeConfig()).values
    found = float(scores.matrix(values)[0, 0])
    if math.isnan(found):
        raise UserInputError(
            f"the reference {reference!r} has one input and so no score; name one with at least two"
        )
    return found, notes


def _row_of_its_own(
    scores: Scores, dataset: Dataset, reference: str, data_config: DataConfig
) -> Dataset:
    """Open a string as the only row."""
    kind = dataset.input.kind
    if kind != "bytes":
        raise UserInputError(
            f"the reference {reference!r} is a string and the run reads {kind} inputs; name a "
            "row number, from 0, or an id of the column that --id names"
        )
    try:
        return open_rows(scores.model, [reference], DataConfig(too_long=data_config.too_long))
    except DataError as error:
        raise UserInputError(
            f"the reference {reference!r} is no row of its own "
            f"({str(error).partition(';')[0]}); give a string that the run can read, or a row "
            "number from 0"
        ) from None


def _rows_called(reference: int | str, dataset: Dataset) -> IntArray:
    """Return the positions of the rows that have the reference as their id."""
    if dataset.roles.id is None:
        return np.zeros(0, np.int64)
    ids = dataset.column(dataset.roles.id).to_pylist()
    called = [place for place, value in enumerate(ids) if str(value) == str(reference)]
    return np.array(called, np.int64)
