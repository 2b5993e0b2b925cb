"""Fine-tuning as a benchmark method: the best of a few learning rates on validation.

A pretrained encoder is treated gently: the head is fitted first, lower layers learn more slowly.
That may hold an untrained one back, so it tries two ways, each with as many rates: the same one,
and all at once, by the published head, at the full and at higher rates in every layer.

Shapes: V validation rows, T test rows, A numbers of an answer.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from anymae.benchmark.candidates import Candidate, describe_task
from anymae.benchmark.linear import MANY_CLASSES, standardise
from anymae.benchmark.suite import FineTuning, Task, TaskData
from anymae.inference.computations import Answers
from anymae.inference.compute import ComputeConfig, compute, placed
from anymae.inference.rows import open_rows
from anymae.model import MaskedAutoencoder
from anymae.task import FinetuneConfig, ReadoutConfig
from anymae.training.fit import Rows, finetune_training, fit
from anymae.training.processes import Processes
from anymae.training.requests import Requests
from anymae.training.targets import Labelled

CPU = ComputeConfig(device="cpu")
SCRATCH = 3.0
"""How many times the highest rate an untrained encoder tries besides."""
LOOKS = 10
"""Times that the validation rows are looked at; the weights of the best look are kept."""


def finetune_candidates(
    task: Task,
    data: TaskData,
    model: MaskedAutoencoder,
    plan: FineTuning,
    *,
    pretrained: bool,
    seed: int,
    threads: int,
) -> Iterator[Candidate]:
    """Train in each way that suits, at each rate; rate and epoch by the validation loss.

    Args:
        task: What is predicted.
        data: The rows; labels of training and validation rows are read.
        model: Whose encoder to start from.
        plan: Rates, epochs, steps.
        pretrained: False for an encoder with the weights it was born with.
        seed: Of the new head and the order of rows.
        threads: CPU threads.
    """
    dataset = open_rows(model, data.inputs, data.config)
    rest = np.concatenate([data.parts.valid, data.parts.test])
    # Answers of test rows are not known to anything that trains.
    targets = np.full((len(dataset), 1), np.nan, np.float32)
    for part in (data.parts.train, data.parts.valid):
        targets[part, 0] = standardise(describe_task(task, data), data.labels.of(part))
    rows = Rows(Labelled(dataset, targets, None), data.parts.train, data.parts.valid)
    steps = num_steps(plan, len(data.parts.train))
    training = finetune_training(
        {
            "batch_size": plan.batch_size,
            "steps": steps,
            "validate_every": max(1, round(steps / LOOKS)),
            "seed": seed,
            "threads": threads,
            "device": "cpu",
        }
    )
    for way in ways(data, plan, pretrained=pretrained):
        described = describe_task(task, data).model_copy(update={"readout": way.config.readout})
        with Processes("cpu") as processes, Requests() as requests:
            fitted = fit(
                model, described, rows, config=way.config, training=training, rates=way.rates,
                processes=processes, requests=requests,
            )  # fmt: skip
        with placed(fitted.predictor, CPU):
            found = compute(Answers(fitted.predictor), dataset, rest, CPU).values
        settings = {
            "readout": way.config.readout.kind,
            "head_first": way.config.head_first,
            "learning_rate": fitted.rate,
            "learning_rates": list(way.rates),
            "step": fitted.step,
            "steps": steps,
        }
        yield Candidate(settings, found)


def num_steps(plan: FineTuning, num_labels: int) -> int:
    """Return the optimizer steps for a number of labels.

    >>> num_steps(FineTuning(learning_rates=(1e-3,), epochs=2, batch_size=10, least_steps=50), 100)
    50
    """
    steps = max(1, plan.least_steps, round(plan.epochs * -(-num_labels // plan.batch_size)))
    return steps if plan.most_steps is None else min(steps, plan.most_steps)


class Way(NamedTuple):
    """A way to fine-tune."""

    config: FinetuneConfig
    rates: tuple[float, ...]


def ways(data: TaskData, plan: FineTuning, *, pretrained: bool) -> list[Way]:
    """Return the ways that are tried; an untrained encoder has all those of a pretrained one."""
    if data.num_classes > MANY_CLASSES:
        gentle = FinetuneConfig(readout=ReadoutConfig(kind="query"), head_first="train")
    else:
        gentle = FinetuneConfig(readout=ReadoutConfig(kind="layers"), head_first="probe")
    found = [Way(gentle, plan.learning_rates)]
    if not pretrained:
        fastest = max(plan.learning_rates)
        at_once = FinetuneConfig(
            readout=ReadoutConfig(kind="query"), head_first="none", layer_decay=1.0, drop_path=0.1
        )
        found.append(Way(at_once, (fastest, SCRATCH * fastest)))
    return found
