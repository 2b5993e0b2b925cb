"""What is measured before training: the batch that fits, the steps that a budget of time holds.

Both are measured once and stored with the run, so that resuming repeats the same run.
"""

import copy
import logging
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from anymae.config import TrainingConfig
from anymae.data.batch import IntArray
from anymae.errors import ConfigError
from anymae.training.loader import StepLoader
from anymae.training.memory import SavedBytes, free_memory, is_out_of_memory, weights_memory
from anymae.training.objective import BatchT, Counters, Objective
from anymae.training.optim import decay_groups, make_optimizer
from anymae.training.processes import Processes
from anymae.training.step import Stepper

logger = logging.getLogger(__name__)

SMALLEST, LARGEST = 8, 1024
"""Batches that `batch_size: auto` tries, doubling."""
USED_SHARE = 0.6
"""Share of the free memory that a batch may take on a CPU, where failing is no option."""
WARM_UP, MEASURED = 3, 40
"""Steps before the clock runs, and steps that are timed at most."""


def heaviest_rows(
    lengths: npt.NDArray[np.int32] | None, rows: IntArray, count: int, strings: float = 1.0
) -> IntArray:
    """Return what `count` rows of a batch hold where they take the most memory.

    Args:
        lengths: Inputs of each row of the data set, or `None` where all are equal.
        rows: Positions of the training rows.
        count: Rows of the batch.
        strings: Of a packed row, on average; 1 without packing.

    Returns:
        The longest rows, repeated if there are fewer. Packed rows are all about full, so for
        them as many strings as they hold, evenly spread over all lengths.
    """
    if lengths is not None:
        rows = rows[np.argsort(-lengths[rows].astype(np.int64), kind="stable")]
    if strings > 1:
        return rows[np.linspace(0, len(rows) - 1, round(count * strings)).astype(np.int64)]
    return np.resize(rows, count)


def activation_memory(
    model: nn.Module, objective: Objective[BatchT], rows: IntArray, processes: Processes
) -> int:
    """Return the bytes that a forward pass over `rows` keeps for its backward pass."""
    batch = processes.send(objective.load(rows, 0))
    saved = SavedBytes(model)
    with saved:
        objective.loss_sum(model, batch, Counters(0, 1, 0))
    return saved.total


def find_batch_size(
    model: nn.Module,
    objective: Objective[BatchT],
    *,
    rows: IntArray,
    lengths: npt.NDArray[np.int32] | None,
    processes: Processes,
    strings: float = 1.0,
) -> int:
    """Find the largest batch whose forward and backward pass fit, at the longest rows.

    Args:
        model: Not wrapped for several processes.
        objective: The loss.
        rows: Positions of the training rows.
        lengths: Inputs of each row of the data set, or `None` where all are equal.
        processes: The main one's finding holds for all.
        strings: Of a packed row, on average.

    Raises:
        ConfigError: Not even the smallest fits.
    """
    most = min(LARGEST, max(SMALLEST, round(len(rows) / strings) // 10))
    if processes.device.type == "cpu":
        sample = heaviest_rows(lengths, rows, 2, strings)
        each = max(1, activation_memory(model, objective, sample, processes) // 2)
        # Processes on one machine look at the same free memory.
        free = free_memory(processes.device) / processes.neighbours
        room = USED_SHARE * free - weights_memory(model)
        most = min(most, int(room / each))
    fitting = 0
    size = SMALLEST
    while size <= most:
        if not _fits(model, objective, heaviest_rows(lengths, rows, size, strings), processes):
            break
        fitting, size = size, 2 * size
    fitting = int(processes.agree(fitting))
    if not fitting:
        raise ConfigError(
            f"training.batch_size auto: not even {SMALLEST} rows fit in memory; "
            "set training.recompute=true, cut rows shorter, or take a smaller preset"
        )
    return fitting


def _fits(
    model: nn.Module, objective: Objective[BatchT], rows: IntArray, processes: Processes
) -> bool:
    try:
        batch = processes.send(objective.load(rows, 0))
        objective.loss_sum(model, batch, Counters(0, 1, 0)).backward()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        model.zero_grad()
        if processes.device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def step_seconds(
    model: nn.Module,
    loader: StepLoader[BatchT],
    *,
    config: TrainingConfig,
    processes: Processes,
    limit: float,
) -> float:
    """Measure the time of an optimizer step, on a copy of the model.

    Args:
        model: Not wrapped for several processes; it is left as it is.
        loader: Gives the first steps.
        config: The run's settings.
        processes: Take part together.
        limit: Seconds that measuring may take.
    """
    trial = copy.deepcopy(model)
    optimizer = make_optimizer(decay_groups(trial, config), config)
    stepper = Stepper(
        processes.prepare(trial), loader.objective, optimizer, config=config, processes=processes
    )
    spent: list[float] = []
    begin = time.perf_counter()
    for step in range(WARM_UP + MEASURED):
        lap = time.perf_counter()
        place = step % loader.order.steps_per_epoch
        counters = Counters(place, WARM_UP + MEASURED + place, 0)
        pieces = loader[place]
        count = sum(loader.objective.count(p.batch, counters) * p.weight for p in pieces)
        stepper.compute(pieces, counters, processes.sum([count])[0])
        stepper.apply(counters)
        spent.append(time.perf_counter() - lap)
        if step and processes.agree(time.perf_counter() - begin) > limit:
            break
    # Slow steps are few: then the warm-up is the first of them only.
    return processes.agree(float(np.mean(spent[min(WARM_UP, len(spent) - 1) :])))


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
