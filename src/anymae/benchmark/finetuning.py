"""Fine-tuning as a benchmark method: the best of a few learning rates on validation.

Every arm, pretrained or not, is trained in the same way at the same rates.

Shapes: V validation rows, T test rows, A numbers of an answer.
"""

import numpy as np

from anymae.benchmark.candidates import Candidate, describe_task
from anymae.benchmark.linear import standardise
from anymae.benchmark.suite import AT_ONCE, FineTuning, Task, TaskData
from anymae.inference.computations import Answers
from anymae.inference.compute import ComputeConfig, compute, placed
from anymae.inference.rows import open_rows
from anymae.model import MaskedAutoencoder
from anymae.training.fit import Rows, finetune_training, fit
from anymae.training.processes import Processes
from anymae.training.requests import Requests
from anymae.training.targets import Labelled

LOOKS = 10
"""Times that the validation rows are looked at; the weights of the best look are kept."""


def finetuned(
    task: Task,
    data: TaskData,
    model: MaskedAutoencoder,
    plan: FineTuning,
    *,
    seed: int,
    threads: int,
    device: str,
) -> Candidate:
    """Train at each rate; rate and step by the validation loss.

    Args:
        task: What is predicted.
        data: The rows; labels of training and validation rows are read.
        model: Whose encoder to start from.
        plan: Rates, epochs, steps.
        seed: Of the new head and the order of rows.
        threads: CPU threads.
        device: Where it trains.
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
            "device": device,
        }
    )
    described = describe_task(task, data).model_copy(update={"readout": AT_ONCE.readout})
    with Processes(device) as processes, Requests() as requests:
        fitted = fit(
            model, described, rows, config=AT_ONCE, training=training, rates=plan.learning_rates,
            processes=processes, requests=requests,
        )  # fmt: skip
    here = ComputeConfig(device=device)
    with placed(fitted.predictor, here):
        found = compute(Answers(fitted.predictor), dataset, rest, here).values
    settings = {
        "readout": AT_ONCE.readout.kind,
        "head_first": AT_ONCE.head_first,
        "learning_rate": fitted.rate,
        "learning_rates": list(plan.learning_rates),
        "step": fitted.step,
        "steps": steps,
    }
    return Candidate(settings, found, looked_at=len(plan.learning_rates))


def num_steps(plan: FineTuning, num_labels: int) -> int:
    """Return the optimizer steps for a number of labels.

    >>> num_steps(FineTuning(learning_rates=(1e-3,), epochs=2, batch_size=10, least_steps=50), 100)
    50
    """
    steps = max(1, plan.least_steps, round(plan.epochs * -(-num_labels // plan.batch_size)))
    return steps if plan.most_steps is None else min(steps, plan.most_steps)
