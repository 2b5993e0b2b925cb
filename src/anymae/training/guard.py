"""A step whose loss or gradient is not finite is captured, not taken.

The capture is one safetensors file: the weights, the rows and masks of every forward pass of the
step, and the counters. `replay` computes the step again from it.
"""

import json
import logging
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from anymae.errors import NonFiniteError
from anymae.files import write_tensors
from anymae.training.loader import StepLoader
from anymae.training.objective import BatchT, Counters
from anymae.training.step import Stepper, StepResult, seed_dropout

logger = logging.getLogger(__name__)

EXAMPLES = ("inputs", "valid")
"""Tensors of a capture that hold the user's data."""


class Captures(NamedTuple, Generic[BatchT]):
    """How a step that may not be taken is captured."""

    folder: Path
    with_examples: bool
    """Whether it may hold inputs."""
    of: Callable[[nn.Module, BatchT, Counters], dict[str, Tensor]]
    """Returns what is needed to repeat the loss of a batch: rows, inputs, masks."""


def refuse_step(
    stepper: Stepper[BatchT],
    loader: StepLoader[BatchT],
    counters: Counters,
    result: StepResult,
    captures: Captures[BatchT] | None,
    *,
    kept: str,
) -> NoReturn:
    """Capture a step that may not be taken, and say so.

    Every process finds the same numbers, so all of them get here together; the main one computes
    the others' forward passes again for the capture.

    Args:
        stepper: Computed it.
        loader: Gave its rows.
        counters: Where training stands.
        result: What came out.
        captures: Where and how it is captured; `None` captures nothing.
        kept: Words for what is left of earlier steps.

    Raises:
        NonFiniteError: Always.
    """
    what = "gradient" if math.isfinite(result.loss) else "loss"
    advice = "lower training.learning_rate"
    sentence = f"the {what} is not finite at step {counters.step}; the step was not taken{kept}"
    if captures is None:
        raise NonFiniteError(f"{sentence}: {advice}")
    path = captures.folder / f"nonfinite-step-{counters.step:08d}.safetensors"
    again = f"`anymae pretrain --replay {shlex.quote(str(path))}` computes it again"
    more = f"{again}: {advice}, or look at the rows it names"
    if stepper.processes.is_main:
        try:
            _capture(path, stepper, loader, counters, result, captures)
        except OSError as error:
            # That the run is not finite stays the news.
            why = error.strerror or error
            more = f"it could not be captured in {captures.folder} ({why}): {advice}"
    stepper.processes.wait()
    raise NonFiniteError(f"{sentence}; {more}")


def _capture(
    path: Path,
    stepper: Stepper[BatchT],
    loader: StepLoader[BatchT],
    counters: Counters,
    result: StepResult,
    captures: Captures[BatchT],
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
                found = captures.of(base, batch, counters)
            name = f"pass-{len(passes)}"
            tensors[f"{name}.positions"] = torch.tensor(piece.positions)
            tensors |= {
                f"{name}.{key}": tensor
                for key, tensor in found.items()
                if captures.with_examples or key not in EXAMPLES
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
