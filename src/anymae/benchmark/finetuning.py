"""Fine-tuning as a benchmark method: the best of a few learning rates on validation.

Every arm, pretrained or not, is trained in the same way at the same rates. Where the budget asks
for several seeds, the first one finds the rate and the mean of all answers counts.

Shapes: V validation rows, T test rows, R rows, A numbers of an answer.
"""

import numpy as np
import torch

from anymae.benchmark.candidates import Candidate, Floats, describe_task
from anymae.benchmark.linear import standardise
from anymae.benchmark.suite import AT_ONCE, THREADS, FineTuning, Task, TaskData
from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset
from anymae.inference.computations import Answers
from anymae.inference.compute import ComputeConfig, compute
from anymae.inference.rows import open_rows
from anymae.model import MaskedAutoencoder
from anymae.predictor import Ensemble, to_answers
from anymae.training.fit import Fitted, finetune_training, fit
from anymae.training.labelling import Labelled
from anymae.training.processes import Processes
from anymae.training.requests import Requests

LOOKS = 10
"""Times that the validation rows are looked at; the weights of the best look are kept."""

NEXT_SEED = 1_000
"""From one seed of a job to its next, so that jobs share none."""


def finetuned(
    task: Task,
    data: TaskData,
    model: MaskedAutoencoder,
    plan: FineTuning,
    *,
    seed: int,
    device: str,
) -> Candidate:
    """Train at each rate, then with the other seeds at the best; rate and step by validation loss.

    Args:
        task: What is predicted.
        data: The rows; labels of training and validation rows are read.
        model: Whose encoder to start from.
        plan: Rates, epochs, steps, seeds.
        seed: Of the new head and the order of rows; the first of several.
        device: Where it trains.
    """
    dataset = open_rows(model, data.inputs, data.config)
    # Answers of test rows are not known to anything that trains.
    targets = np.full((len(dataset), 1), np.nan, np.float32)
    for part in (data.parts.train, data.parts.valid):
        targets[part, 0] = standardise(describe_task(task, data), data.labels.of(part))
    rows = Labelled(dataset, targets, None, data.parts.train, data.parts.valid)
    steps = num_steps(plan, len(data.parts.train))
    every = max(1, round(steps / LOOKS))
    training = finetune_training(
        {
            "batch_size": plan.batch_size, "steps": steps, "validate_every": every,
            "seed": seed, "threads": THREADS, "device": device,
        }
    )  # fmt: skip
    described = describe_task(task, data).model_copy(update={"readout": AT_ONCE.readout})
    fits: list[Fitted] = []
    with Processes(device) as processes, Requests() as requests:
        for number in range(plan.seeds):
            seeded = training.model_copy(update={"seed": seed + number * NEXT_SEED})
            rates = (fits[0].rate,) if fits else plan.learning_rates
            fits.append(
                fit(
                    model, described, rows, config=AT_ONCE, training=seeded, rates=rates,
                    processes=processes, requests=requests,
                )
            )  # fmt: skip
    settings = {
        "readout": AT_ONCE.readout.kind,
        "head_first": AT_ONCE.head_first,
        "learning_rate": fits[0].rate,
        "learning_rates": list(plan.learning_rates),
        "step": fits[0].step,
        "steps": steps,
        **({} if len(fits) == 1 else {"seeds": len(fits), "best_steps": [f.step for f in fits]}),
    }
    answers = _answers(fits, dataset, data.answered, device)
    return Candidate(settings, answers, looked_at=len(plan.learning_rates))


def _answers(fits: list[Fitted], dataset: Dataset, rows: IntArray, device: str) -> Floats:
    """Return the mean of what all trainings answer, `(R, A)`."""
    first, here = fits[0].predictor, ComputeConfig(device=device)
    predictor = first if len(fits) == 1 else Ensemble(one.predictor for one in fits)
    each = compute(Answers(predictor), dataset, rows, here).values.reshape(len(rows), len(fits), -1)
    if not predictor.task.is_classification:
        # Stored records were made in float32.
        each = to_answers(predictor.task, torch.from_numpy(each)).numpy()
    answers: Floats = each.mean(1)
    return answers


def num_steps(plan: FineTuning, num_labels: int) -> int:
    """Return the optimizer steps for a number of labels.

    >>> num_steps(FineTuning(learning_rates=(1e-3,), epochs=2, batch_size=10, least_steps=50), 100)
    50
    """
    steps = max(1, plan.least_steps, round(plan.epochs * -(-num_labels // plan.batch_size)))
    return steps if plan.most_steps is None else min(steps, plan.most_steps)
