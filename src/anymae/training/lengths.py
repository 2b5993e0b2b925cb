"""How many steps trainings take."""

import math

from anymae.config import TrainingConfig
from anymae.task import FinetuneConfig, TaskConfig

EPOCHS, FEWEST_STEPS = 30, 300
"""How long to train when nothing is said: so many passes, but at least so many steps."""


def total_steps(training: TrainingConfig, steps_per_epoch: int) -> int | None:
    """Return the optimizer steps that steps or epochs ask for; `None` where neither is named.

    >>> total_steps(TrainingConfig(epochs=2.2), 50)
    110
    """
    if training.epochs is not None:
        # 2.2 passes of 50 steps are 110, which floats make 110.00000000000001.
        return max(1, math.ceil(round(training.epochs * steps_per_epoch, 6)))
    return training.steps


def global_batch(training: TrainingConfig, world: int) -> int:
    """Return the rows of an optimizer step: of all forward passes of all processes."""
    assert isinstance(training.batch_size, int)
    return training.batch_size * training.accumulate * world


def fit_steps(training: TrainingConfig, num_rows: int, batch: int) -> int:
    """Return the optimizer steps of a fine-tuning that nothing stops early.

    Args:
        training: How long.
        num_rows: Training rows.
        batch: Rows of a step.
    """
    steps_per_epoch = -(-num_rows // batch)
    asked = total_steps(training, steps_per_epoch)
    return max(FEWEST_STEPS, EPOCHS * steps_per_epoch) if asked is None else asked


def head_steps(
    task: TaskConfig, num_rows: int, config: FinetuneConfig, training: TrainingConfig, world: int
) -> int:
    """Return the steps that train the head alone; 0 where it is fitted, or left as it is."""
    fitted = config.head_first == "probe" and task.readout.kind != "query"
    if config.head_first == "none" or fitted:
        return 0
    batch = global_batch(training, world)
    steps = max(round(config.head_epochs * -(-num_rows // batch)), FEWEST_STEPS)
    return min(steps, fit_steps(training, num_rows, batch))
