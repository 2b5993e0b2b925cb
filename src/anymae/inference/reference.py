"""The row that others are compared with when scores are written."""

import math

import numpy as np

from anymae.config import DataConfig
from anymae.data.dataset import Dataset
from anymae.errors import DataError, UserInputError
from anymae.inference.computations import Scores
from anymae.inference.compute import ComputeConfig, compute
from anymae.inference.rows import open_rows


def reference_score(
    scores: Scores,
    dataset: Dataset,
    reference: int | str,
    data_config: DataConfig,
    config: ComputeConfig | None,
) -> float:
    """Score the one row that others are compared with.

    Args:
        scores: What scores rows.
        dataset: The rows.
        reference: The number of one of them in the source, or a string of its own.
        data_config: Its `too_long` holds for the string, too.
        config: Device and precision.

    Raises:
        UserInputError: There is no such row, or it has no score.
    """
    kind = dataset.input.kind
    if isinstance(reference, str) and kind != "bytes":
        raise UserInputError(
            f"the reference {reference!r} is a string and the run reads {kind} inputs; name a "
            "row number, from 0"
        )
    if isinstance(reference, str):
        asked = DataConfig(too_long=data_config.too_long)
        try:
            dataset, index = open_rows(scores.model, [reference], asked), np.array([0])
        except DataError as error:
            raise UserInputError(
                f"the reference {reference!r} is no row of its own "
                f"({str(error).partition(';')[0]}); give a string that the run can read, or a row "
                "number from 0"
            ) from None
    else:
        index = np.flatnonzero(dataset.rows.numbers_of(np.arange(len(dataset))) == reference)
        if not len(index):
            raise UserInputError(
                f"reference row {reference} is not among the {len(dataset):,} rows that can be "
                "scored; rows count from 0"
            )
    values = compute(scores, dataset, index, config or ComputeConfig()).values
    found = float(scores.matrix(values)[0, 0])
    if math.isnan(found):
        raise UserInputError(
            f"the reference {reference!r} has one input and so no score; name one with at least two"
        )
    return found
