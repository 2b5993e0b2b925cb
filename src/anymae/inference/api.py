"""Embed, predict and score: on what is in memory, or from file to file.

Data unlike the training data are warned of: in memory by an `AnymaeWarning` about bytes, lengths
and new categories, to a file in its notes and the log, where the median row's score is compared
as well.

Shapes: R rows, D width.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from anymae.config import DataConfig
from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset
from anymae.data.sources.locate import require_output
from anymae.errors import UserInputError
from anymae.hub import Model, load
from anymae.inference.computations import (
    Answers,
    Embeddings,
    InputStates,
    Output,
    Reading,
    Scores,
)
from anymae.inference.compute import (
    Computation,
    ComputeConfig,
    FloatArray,
    Numbers,
    Progress,
    compute,
    windows_of,
)
from anymae.inference.novelty import unlike_training, warn_unlike
from anymae.inference.reference import reference_score
from anymae.inference.rows import OutputRows, open_rows
from anymae.inference.stream import SUFFIXES, Written, check_id, digest, to_table, write_rows
from anymae.predictor import Answered, members_of
from anymae.recipes import DataSettings, data_settings
from anymae.task import TaskConfig
from anymae.training.device import choose_device

logger = logging.getLogger(__name__)

Frame = TypeVar("Frame")


@dataclass(frozen=True)
class Predictions:
    """Answers of a fine-tuned model."""

    task: TaskConfig
    members: Answered
    """`(S, R, A)`: each member's answers, see `members_of`; NaN for a bad row."""
    table: pa.Table
    """The same with names: `row`, id, `status`, predictions, probabilities, spread."""

    @property
    def mean(self) -> Answered:
        """`(R, A)`: numbers in the user's units, or probabilities."""
        return np.asarray(self.members.mean(0))

    @property
    def std(self) -> Answered | None:
        """`(R, A)`, spread over the members; `None` for a single one."""
        return np.asarray(self.members.std(0, ddof=1)) if len(self.members) > 1 else None

    @property
    def classes(self) -> list[str | None]:
        """The most probable class of each row (`binary`, `multiclass`); `None` for a bad row.

        Raises:
            UserInputError: The task has no classes.
        """
        if not self.task.classes:
            raise UserInputError(
                f"a {self.task.type} model answers without classes; its answers are in mean"
            )
        answered = np.asarray(~np.isnan(self.mean).any(1))
        return [
            self.task.classes[number] if known else None
            for number, known in zip(self.mean.argmax(1), answered, strict=True)
        ]


def embed(
    model: Model | str | Path,
    data: Frame,
    *,
    data_config: DataSettings | None = None,
    reading: Reading = "mean",
    config: ComputeConfig | None = None,
) -> Any:  # noqa: ANN401 - an array, or a frame of the caller's library
    """Turn each row into a vector.

    Args:
        model: A model, or a run folder or hub id.
        data: Strings, arrays, a table, or a path.
        data_config: Columns, roles, and what to do with odd rows.
        reading: `mean` over valid latents, `layers` or `kernel` (`Embeddings`).
        config: Device and precision.

    Returns:
        float32 `(R, D)`, in the order of the rows; NaN for a bad row that was to be skipped. A
        pandas or polars table gives one of the same library (and index), columns `e0`, `e1` ...

    Raises:
        DataError: The data do not fit the model.
    """
    model = open_model(model)
    dataset = open_rows(model, data, data_config)
    warn_unlike(model, dataset)
    values = _all(Embeddings(model, reading), dataset, config).values
    return _like(data, values, dataset.rows.frame.rows)


def predict(
    model: Model | str | Path,
    data: object,
    *,
    data_config: DataSettings | None = None,
    config: ComputeConfig | None = None,
) -> Predictions:
    """Ask a fine-tuned model about each row.

    Args:
        model: A fine-tuned model, or its folder or hub id.
        data: Strings, arrays, a table, or a path.
        data_config: Columns, roles, and what to do with odd rows.
        config: Device and precision.

    Raises:
        DataError: The data do not fit the model.
        UserInputError: The model was pretrained only.
    """
    answers = Answers(open_model(model))
    task = answers.model.task
    dataset = open_rows(answers.model, data, data_config)
    warn_unlike(answers.model, dataset)
    check_id(dataset)
    numbers = _all(answers, dataset, config)
    rows = OutputRows(dataset)
    piece = rows.piece(0, len(rows))
    table = to_table(answers, rows, piece, numbers, nested=True)
    return Predictions(task, members_of(task, numbers.values), table)


def score(
    model: Model | str | Path,
    data: object,
    *,
    data_config: DataSettings | None = None,
    num_masks: int | None = None,
    seed: int = 0,
    config: ComputeConfig | None = None,
) -> FloatArray:
    """Tell how odd each row is: its mean reconstruction loss, each input hidden once.

    Args:
        model: A pretrained model, or its folder or hub id.
        data: Strings, arrays, a table, or a path.
        data_config: Columns, roles, and what to do with odd rows.
        num_masks: Masks that hide all inputs between them; `None` hides the share that
            pretraining hid.
        seed: Deals inputs to masks.
        config: Device and precision.

    Returns:
        float32 `(R,)`, larger is odder: nats an input for bytes (times minus the number of
        inputs, the pseudo-log-likelihood), else the kind's loss (`docs/method.md`, "Loss"), such
        as the squared error of standardised numbers. NaN for bad rows and rows with one input.
    """
    model = open_model(model)
    dataset = open_rows(model, data, data_config)
    warn_unlike(model, dataset)
    scores = Scores(model, num_masks, seed)
    return np.asarray(scores.matrix(_all(scores, dataset, config).values)[:, 0])


def embed_to_file(
    run: Model | str | Path,
    data: object,
    out: str | Path,
    *,
    data_config: DataSettings | None = None,
    reading: Reading = "mean",
    per_input: bool = False,
    config: ComputeConfig | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Embed each row of `data` into a file, see `embed`.

    Args:
        run: A model, or a run folder or hub id.
        data: A path or a Python object.
        out: `.parquet` (a fixed-size list), `.csv` (columns `e0` ...) or `.npy`.
        data_config: Columns, roles, and what to do with odd rows.
        reading: `mean`, `layers` or `kernel` (`Embeddings`); states of inputs have none.
        per_input: Write a vector for each input instead: the encoder's state (transformer) or the
            decoder's (perceiver). Parquet only.
        config: Device and precision.
        overwrite: Replace `out`.
        progress: Told how many rows are done.

    Raises:
        FolderError: `out` exists.
        DataError: The data do not fit the model.
        UserInputError: `out` has no suffix that can be written, or `per_input` does not go with it
            or with `reading`.
    """
    data_config = data_settings(data_config)
    if per_input and reading != "mean":
        raise UserInputError(
            f"reading {reading} makes one vector of a row; a vector for each input has no reading"
        )
    require_output(Path(out), SUFFIXES, data, *data_config.files, overwrite=overwrite)
    model = open_model(run)
    what = InputStates(model) if per_input else Embeddings(model, reading)
    if per_input and Path(out).suffix != ".parquet":
        raise UserInputError(f"vectors of each input need Parquet; name {out} .parquet")
    dataset = open_rows(model, data, data_config)
    return _write(
        what, dataset, Path(out), data_config, config, progress,
        {"verb": "embed", "reading": reading, "per_input": per_input},
    )  # fmt: skip


def predict_to_file(
    model: Model | str | Path,
    data: object,
    out: str | Path,
    *,
    data_config: DataSettings | None = None,
    config: ComputeConfig | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write the answers of a fine-tuned model for each row of `data`, see `predict`.

    Args:
        model: A fine-tuned model, or its folder or hub id.
        data: A path or a Python object.
        out: `.parquet`, `.csv`, or `.npy` (numbers or probabilities, `(R, A)`).
        data_config: Columns, roles, and what to do with odd rows.
        config: Device and precision.
        overwrite: Replace `out`.
        progress: Told how many rows are done.

    Raises:
        FolderError: `out` exists.
        DataError: The data do not fit the model.
        UserInputError: The model was pretrained only.
    """
    data_config = data_settings(data_config)
    require_output(Path(out), SUFFIXES, data, *data_config.files, overwrite=overwrite)
    answers = Answers(open_model(model))
    dataset = open_rows(answers.model, data, data_config)
    return _write(
        answers, dataset, Path(out), data_config, config, progress,
        {"verb": "predict", "numbers": "standardised"},
    )  # fmt: skip


def score_to_file(
    run: Model | str | Path,
    data: object,
    out: str | Path,
    *,
    data_config: DataSettings | None = None,
    num_masks: int | None = None,
    seed: int = 0,
    reference: int | str | None = None,
    config: ComputeConfig | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write how odd each row of `data` is, see `score`.

    Args:
        run: A pretrained model, or its folder or hub id.
        data: A path or a Python object.
        out: `.parquet`, `.csv` or `.npy`.
        data_config: Columns, roles, and what to do with odd rows.
        num_masks: Masks that hide all inputs between them.
        seed: Deals inputs to masks.
        reference: A row number of `data`, an id of its id column, or a string; `difference` is
            then the row's score minus the reference's (negative: more plausible than it).
        config: Device and precision.
        overwrite: Replace `out`.
        progress: Told how many rows are done.

    Raises:
        FolderError: `out` exists.
        DataError: The data do not fit the model, or there is no such reference.
        UserInputError: The model is a fine-tuned one.
    """
    data_config = data_settings(data_config)
    require_output(Path(out), SUFFIXES, data, *data_config.files, overwrite=overwrite)
    if reference is not None and Path(out).suffix == ".npy":
        raise UserInputError(
            f"differences to a reference need a column of their own; name {out} .parquet or .csv"
        )
    model = open_model(run)
    scores = Scores(model, num_masks, seed)
    dataset = open_rows(model, data, data_config)
    if reference is not None:
        found = reference_score(scores, dataset, reference, data_config, config)
        scores.reference, scores.notes = found
    # What is computed of a row does not depend on the reference: shards serve any.
    identity = {"verb": "score", "masks": scores.num_masks, "seed": seed}
    return _write(scores, dataset, Path(out), data_config, config, progress, identity)


def open_model(model: Model | str | Path) -> Model:
    """Return a model as it is, or read it from a folder or hub id."""
    return load(model) if isinstance(model, str | Path) else model


def _all(computation: Computation, dataset: Dataset, config: ComputeConfig | None) -> Numbers:
    """Compute every row of the source."""
    rows = OutputRows(dataset)
    piece = rows.piece(0, len(rows))
    numbers = compute(computation, dataset, piece.positions, config or ComputeConfig())
    return piece.spread(numbers, per_input=computation.per_input)


def _write(
    output: Output,
    dataset: Dataset,
    out: Path,
    data_config: DataConfig,
    config: ComputeConfig | None,
    progress: Progress | None,
    identity: Mapping[str, Any],
) -> Written:
    config = config or ComputeConfig()
    if output.per_input:
        # What cannot be averaged is refused before anything is computed.
        windows_of(output, dataset, np.arange(len(dataset)))
    notes = (*output.notes, *dataset.notes, *unlike_training(output.model, dataset, config))
    for note in notes:
        logger.warning("%s", note)
    settings = {
        "model": digest(output.model),
        "data": dataset.preparation.fingerprint,
        "read": data_config.model_dump(mode="json", exclude={"path"}),
        "precision": config.settled(choose_device(config.device)),
    }
    return write_rows(
        output, dataset, out,
        config=config, identity={**identity, **settings}, progress=progress, notes=notes,
    )  # fmt: skip


def _like(data: object, values: FloatArray, kept: IntArray | None) -> Any:  # noqa: ANN401
    """Give numbers the shape that the data came in: a frame for a frame, else an array."""
    names = [f"e{number}" for number in range(values.shape[1])]
    if hasattr(data, "iloc") and hasattr(data, "index"):
        import pandas as pd

        index = data.index if kept is None else data.index[kept]
        return pd.DataFrame(values, index=index, columns=names)
    if type(data).__module__.startswith("polars"):
        import polars as pl

        return pl.DataFrame(values, schema=names)
    return values
