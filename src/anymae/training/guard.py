"""A step whose loss or gradient is not finite is captured, not taken.

The capture is one safetensors file: the weights, the rows and masks of every forward pass of the
step, and the counters. `replay` computes the step again from it.
"""

import json
import logging
import shlex
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from anymae.errors import NonFiniteError
from anymae.files import write_tensors
from anymae.training.loader import StepLoader
from anymae.training.objective import BatchT, Counters
from anymae.training.step import Stepper, StepResult, seed_dropout

logger = logging.getLogger(__name__)

EXAMPLES = ("inputs", "valid", "targets")
"""Tensors of a capture that hold the user's data."""


def refuse_step(
    stepper: Stepper[BatchT],
    loader: StepLoader[BatchT],
    counters: Counters,
    result: StepResult,
    *,
    folder: Path | None,
    with_examples: bool,
) -> NoReturn:
    """Capture a step that may not be taken, and say so.

    Every process finds the same numbers, so all of them get here together; the main one computes
    the others' forward passes again for the capture.

    Raises:
        NonFiniteError: Always.
    """
    what = "loss" if result.loss != result.loss or abs(result.loss) == torch.inf else "gradient"
    advice = "lower training.learning_rate, or look at the rows it names"
    sentence = f"the {what} is not finite at step {counters.step}; the step was not taken"
    if folder is None:
        raise NonFiniteError(f"{sentence}: {advice}")
    path = folder / f"nonfinite-step-{counters.step:08d}.safetensors"
    more = f"`anymae pretrain --replay {shlex.quote(str(path))}` computes it again"
    if stepper.processes.is_main:
        try:
            _capture(path, stepper, loader, counters, result, with_examples)
        except OSError as error:
            # That the run is not finite stays the news.
            more = f"it could not be captured in {folder} ({error.strerror or error})"
    stepper.processes.wait()
    raise NonFiniteError(f"{sentence} and the last good checkpoint is kept; {more}: {advice}")


def _capture(
    path: Path,
    stepper: Stepper[BatchT],
    loader: StepLoader[BatchT],
    counters: Counters,
    result: StepResult,
    with_examples: bool,
) -> None:
    base = getattr(stepper.model, "module", stepper.model)
    tensors: dict[str, Tensor] = {f"model.{name}": t for name, t in base.state_dict().items()}
    passes: list[dict[str, float]] = []
    for rank in range(loader.world):
        for number, piece in enumerate(loader.pieces(counters.step, rank)):
            seed_dropout(stepper.config.seed, counters.step, rank=rank, piece=number)
            batch = stepper.processes.send(piece.batch)
            # In another precision, attention ranks inputs otherwise: masks would be others.
            with torch.no_grad(), stepper.autocast():
                found = loader.objective.capture(base, batch, counters)
            name = f"pass-{len(passes)}"
            tensors[f"{name}.positions"] = torch.tensor(piece.positions)
            tensors |= {
                f"{name}.{key}": tensor
                for key, tensor in found.items()
                if with_examples or key not in EXAMPLES
            }
            passes.append({"rank": rank, "piece": number, "weight": piece.weight})
    facts = {
        "format_version": 1,
        **counters._asdict(),
        "seed": stepper.config.seed,
        "precision": stepper.config.precision,
        "terms": result.terms,
        "loss": str(result.loss),
        "grad_norm": str(result.grad_norm),
        "passes": passes,
    }
    write_tensors(path, tensors, {"capture": json.dumps(facts)})
