"""Numbers for each row: batches of similar lengths, results in the order that was asked for.

What is computed is a `Computation`; here it is run over rows, in batches without much padding,
averaged over the windows of long rows and put back in order.

Shapes: B rows of a batch, N inputs, R rows, W windows, F numbers.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anymae.config import Positive, Section
from anymae.data.batch import Batch, IntArray, valid_of
from anymae.data.dataset import Dataset, Windows
from anymae.errors import OutOfMemoryError, UserInputError
from anymae.training.device import Precision, choose_device, fastest_precision
from anymae.training.memory import is_out_of_memory, within_device

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]

MOST_ROWS = 1024
"""Rows of a batch at most."""


class ComputeConfig(Section):
    """Where and how numbers are computed."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Number format of the matrix products; `auto` takes the one that is faster on the device."""
    batch_inputs: Positive | None = None
    """Inputs of a batch, padding included; null is 16,384 on a CPU and 262,144 elsewhere."""

    def settled(self, device: torch.device) -> Precision:
        """Return the number format on a device.

        >>> ComputeConfig(precision="bf16").settled(torch.device("cpu"))
        'bf16'
        """
        return fastest_precision(device) if self.precision == "auto" else self.precision


class Computation:
    """Something that a model says about each row, as numbers."""

    model: nn.Module
    """What computes."""
    num_numbers: int
    """F."""
    per_input = False
    """True for F numbers about each input of a row, False for F numbers about the row."""
    sums = False
    """True for sums over the inputs of a row, False for what does not grow with their number."""
    fitting: int | None = None
    """Inputs of a batch that fitted where more did not: the next rows need not find that out."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return `(B, F)`, or `(B, N, F)` with `per_input`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Numbers:
    """What was computed for some rows."""

    values: FloatArray
    """`(R, F)`; with `per_input` the inputs of all rows below each other."""
    counts: IntArray
    """Lines of `values` that belong to each row, `(R,)`."""


Progress = Callable[[int, int], None]
"""Told how many rows (or windows of them) are done, and of how many."""


def compute(
    computation: Computation,
    dataset: Dataset,
    index: IntArray,
    config: ComputeConfig,
    progress: Progress | None = None,
) -> Numbers:
    """Compute numbers for rows of a data set.

    Args:
        computation: What to compute; its model is `placed` for it.
        dataset: The rows as inputs.
        index: Positions in the data set, `(R,)`, in any order.
        config: Where and how.
        progress: Called after each batch.

    Returns:
        The numbers, in the order of `index`; averaged over windows where rows are longer than the
        model reads at once and `too_long` is `window` (sums are then scaled to the whole row).

    Raises:
        UserInputError: Numbers of each input are wanted of rows that are read in windows.
        OutOfMemoryError: A single row is too much; of several, batches become smaller.
    """
    windows = windows_of(computation, dataset, index)
    if windows is None:
        whole = Windows(index, np.zeros_like(index))
        return _compute(computation, dataset, whole, config, progress)
    parts = _compute(computation, dataset, windows, config, progress).values
    # Windows stand in the order of the rows, and each row has at least one.
    starts = np.flatnonzero(np.r_[True, windows.first[1:] == 0])
    counts = np.diff(np.r_[starts, len(parts)])
    # A window of missing values only has nothing to say.
    speaks = np.asarray(~np.isnan(parts).any(1))
    means = np.add.reduceat(np.where(speaks[:, None], parts, 0), starts, dtype=np.float64)
    speak = np.add.reduceat(speaks, starts, dtype=np.float64)
    means /= np.where(speak == 0, np.nan, counts if computation.sums else speak)[:, None]
    if computation.sums:
        # The last window of a long row ends where the row does.
        most = dataset.input.length
        means *= np.where(counts > 1, windows.first[starts + counts - 1] / most + 1, 1.0)[:, None]
    return Numbers(means.astype(np.float32), np.ones(len(index), np.int64))


def windows_of(computation: Computation, dataset: Dataset, index: IntArray) -> Windows | None:
    """Return the windows to average over; `None` where each row is read at once.

    Raises:
        UserInputError: Numbers of each input are wanted of rows that are read in windows.
    """
    windows = dataset.windows(index) if dataset.reads_windows else None
    if windows is None or len(windows.rows) == len(index):
        return None
    if computation.per_input:
        raise UserInputError(
            "numbers of each input cannot be averaged over windows; choose --too-long truncate"
        )
    return windows


def _compute(
    computation: Computation,
    dataset: Dataset,
    windows: Windows,
    config: ComputeConfig,
    progress: Progress | None,
) -> Numbers:
    device = choose_device(config.device)
    lengths = _lengths(dataset, windows)
    counts = lengths if computation.per_input else np.ones(len(lengths), np.int64)
    starts = np.cumsum(counts) - counts
    values = np.full((int(counts.sum()), computation.num_numbers), np.nan, np.float32)
    most = config.batch_inputs or (16_384 if device.type == "cpu" else 262_144)
    cast = torch.autocast(device.type, torch.bfloat16, enabled=config.settled(device) == "bf16")
    here, done = placed(computation.model, config), 0
    with here, torch.inference_mode(), cast:
        for chosen, batch, found in _in_memory(computation, dataset, windows, lengths, most):
            done += len(chosen)
            if progress is not None:
                progress(done, len(lengths))
            if not computation.per_input:
                empty = ~valid_of(batch).any(1).numpy()
                values[starts[chosen]] = np.where(empty[:, None], np.nan, found)
                continue
            width = counts[chosen]
            real = np.arange(found.shape[1]) < width[:, None]
            values[(starts[chosen][:, None] + np.arange(found.shape[1]))[real]] = found[real]
    return Numbers(values, counts)


def _in_memory(
    computation: Computation, dataset: Dataset, windows: Windows, lengths: IntArray, most: int
) -> Iterator[tuple[IntArray, Batch, FloatArray]]:
    """Compute batch by batch; where memory runs out, go on with batches of half the size.

    Yielded are positions in `windows`, the batch of their inputs and what was computed of it.
    """
    done, fitting = 0, min(most, computation.fitting or most)
    before = fitting
    while done < len(lengths):
        for chosen in batches(lengths, fitting, first=done):
            computed = _attempt(computation, dataset, windows, chosen)
            if computed is None:
                fitting = max(1, len(chosen) * int(lengths[chosen].max()) // 2)
                break
            yield chosen, *computed
            done += len(chosen)
    if fitting < before:
        computation.fitting = fitting
        logger.warning(
            "memory ran out; numbers are computed in batches of at most %s inputs", f"{fitting:,}"
        )


def _attempt(
    computation: Computation, dataset: Dataset, windows: Windows, chosen: IntArray
) -> tuple[Batch, FloatArray] | None:
    """Compute a batch; `None` where several rows are too many, an error where a single one is."""
    device = next(computation.model.parameters()).device
    try:
        batch = dataset.batch(windows.rows[chosen], first=windows.first[chosen])
        return batch, computation(batch.to(device)).float().cpu().numpy()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(chosen) == 1:
            raise OutOfMemoryError(
                f"out of memory on {device.type} with a single row, of at most "
                f"{dataset.input.length:,} inputs; choose a device with more memory, or free what "
                "other programs take of this one's"
            ) from error
    # What failed is let go of by now.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def batches(lengths: IntArray, most_inputs: int, first: int = 0) -> Iterator[IntArray]:
    """Cut rows into batches of similar lengths.

    Args:
        lengths: Inputs of each row, `(R,)`.
        most_inputs: Inputs of a batch at most, padding included (a longer row is alone).
        first: Rows to leave out: the first so many of all batches.

    Yields:
        Positions in `lengths`, each once; rows of equal length in their order.

    >>> [batch.tolist() for batch in batches(np.array([8, 3, 8, 3]), 16)]
    [[1, 3], [0, 2]]
    """
    order = np.argsort(lengths, kind="stable")
    widths = lengths[order]
    start = first
    while start < len(order):
        # The last row of a batch is its longest: the padded size grows with every row.
        next_widths = widths[start : start + MOST_ROWS]
        sizes = next_widths * np.arange(1, len(next_widths) + 1)
        count = max(1, int((sizes <= most_inputs).sum()))
        yield order[start : start + count]
        start += count


@contextmanager
def placed(model: nn.Module, config: ComputeConfig) -> Iterator[None]:
    """Put a model where numbers are computed, in evaluation mode; then leave it as it was."""
    before, training = next(model.parameters()).device, model.training
    device = choose_device(config.device)
    try:
        with within_device(device):
            model.eval().to(device)
        yield
    finally:
        model.to(before).train(training)


def _lengths(dataset: Dataset, windows: Windows) -> IntArray:
    """Return the inputs of each window."""
    full = dataset.full_lengths
    if full is None:
        width = dataset.batch(windows.rows[:1]).inputs.shape[1]
        return np.full(len(windows.rows), width)
    left = full[windows.rows] - windows.first
    return np.asarray(np.minimum(left, dataset.input.length), np.int64)
