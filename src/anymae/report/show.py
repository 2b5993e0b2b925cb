"""Masks and reconstructions of any rows, on a page or in the terminal."""

from pathlib import Path

import numpy as np

from anymae.data.dataset import Dataset
from anymae.data.sources.locate import require_output
from anymae.errors import UserInputError
from anymae.hub import load
from anymae.inference.rows import open_rows
from anymae.model import MaskedAutoencoder
from anymae.recipes import DataSettings, data_settings
from anymae.report.examples import reconstruct_rows
from anymae.report.page import PAGES, write_page
from anymae.report.rows import as_text
from anymae.report.runs import called, example_blocks, rows_counted


def show_rows(
    run: str | Path,
    data: object,
    out: str | Path,
    *,
    data_config: DataSettings | None = None,
    count: int = 8,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Write a page with the first rows of `data`, what is hidden of them and what becomes of it.

    Args:
        run: A pretrained model's folder or hub name.
        data: A path or a Python object.
        out: The HTML file.
        data_config: Columns, roles, and what to do with odd rows.
        count: Rows to show at most.
        seed: Fixes the masks.
        overwrite: Replace `out`.

    Returns:
        How many rows it shows.

    Raises:
        FolderError: `out` exists, or the run cannot be read.
        DataError: The data do not fit the model.
        UserInputError: The model was fine-tuned: it masks nothing. Or `out` is no HTML file.
    """
    out, data_config = Path(out), data_settings(data_config)
    require_output(out, PAGES, data, *data_config.files, overwrite=overwrite)
    model, dataset = _open(run, data, data_config)
    counted = rows_counted(dataset.input)
    index = np.arange(min(len(dataset), max(count, counted)))
    examples = reconstruct_rows(model, dataset, index, seed=seed)
    shown = examples[:count]
    blocks = example_blocks(shown, examples[:counted], dataset.preparation)
    write_page(out, f"{called(run)}: masks of {dataset.rows.frame.name}", blocks)
    return len(shown)


def show_rows_as_text(
    run: str | Path,
    data: object,
    *,
    data_config: DataSettings | None = None,
    count: int = 8,
    seed: int = 0,
) -> str:
    """Return the same rows for a terminal, see `show_rows`."""
    model, dataset = _open(run, data, data_config)
    index = np.arange(min(len(dataset), count))
    examples = reconstruct_rows(model, dataset, index, seed=seed)
    return as_text(examples, dataset.preparation)


def _open(
    run: str | Path, data: object, config: DataSettings | None
) -> tuple[MaskedAutoencoder, Dataset]:
    model = load(run)
    if not isinstance(model, MaskedAutoencoder):
        raise UserInputError(
            f"{run} was fine-tuned and masks nothing; name the pretraining run it came from"
        )
    return model, open_rows(model, data, config)
