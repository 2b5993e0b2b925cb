"""What makes a run this run: what may not differ when it goes on from a checkpoint."""

import json
from collections.abc import Mapping
from typing import Any

from anymae.config import DataConfig, Recipe
from anymae.data.preparation import Preparation
from anymae.errors import ConfigError
from anymae.recipes import LENGTHS
from anymae.training.optim import warmup_steps
from anymae.training.processes import Processes
from anymae.training.resolve import Job, differing, few, length_is_open, steps_of

FREE = (
    "workers", "keep_checkpoints", "checkpoint_every", "recompute", "device", "threads", "precision"
)  # fmt: skip
"""Settings of `training` that change no result, or are compared by what they came to."""
DECIDED = ("path", "kind", "length")
"""Settings of `data` that are compared by the content, and by the inputs of the model."""
_ANY_PASSES = (*FREE, "batch_size", "accumulate")
FILES = ("valid", "test")
"""Settings of `data` that name further files: these, too, are compared by their content."""


def identify(job: Job, processes: Processes, *, threads: int, precision: str) -> dict[str, Any]:
    """Return what is compared, as plain values.

    Args:
        job: The run as asked for.
        processes: Where it runs; their number may change, the device may not.
        threads: CPU threads.
        precision: Number format of the matrix products.
    """
    training = job.training.model_dump(mode="json", exclude=set(FREE))
    data = job.recipe.data.model_dump(mode="json", exclude=set(DECIDED))
    return {
        "model": job.config.model_dump(mode="json"),
        "training": training,
        "data": data,
        # Weights may be other ones where a run was begun anew in the folder and cut at once.
        "init": job.init.sha256 if job.init is not None else None,
        "device": processes.device.type,
        "threads": threads,
        "precision": precision,
    }


def unlike(stored: Recipe, asked: Recipe) -> list[str]:
    """Say in what settings differ from those of a finished run, where both name something.

    What changes no result is left out, and how a step is cut into passes: by what memory holds,
    but where strings are packed within a pass.
    What was left open was decided in the run, such as minutes that became steps.
    """
    found, left_out = [], FREE if stored.data.pack else _ANY_PASSES
    if None not in (stored.preset, asked.preset) and stored.preset != asked.preset:
        found.append(f"preset is {asked.preset}, not {stored.preset}")
    for section in ("encoder", "decoder", "masking", "training"):
        before, now = (json.loads(json.dumps(getattr(of, section))) for of in (stored, asked))
        named = {
            name: value
            for name, value in now.items()
            if name in before
            and value != "auto"
            and name not in left_out
            # A length that is null is left open; elsewhere null says something (`clip: null`).
            and not (value is None and name in LENGTHS)
        }
        found += differing({name: before[name] for name in named}, named, f"{section}.")
    return found


def unlike_data(stored: DataConfig, asked: DataConfig) -> list[str]:
    """Say in what the reading of data differs from that of a finished run, but for their files."""
    asked = asked.model_copy(update={"too_long": asked.too_long or "crop"})
    before, now = (_read_as(of.model_dump(mode="json")) for of in (stored, asked))
    return differing(before, now, "data.")


def check_identity(
    job: Job, state: Mapping[str, Any], data: Mapping[str, Any], processes: Processes
) -> None:
    """Refuse to go on as another run.

    Args:
        job: What is asked for now.
        state: Of the checkpoint.
        data: The `data.json` of the run.
        processes: Where it would go on.

    Raises:
        ConfigError: Something differs; each difference is named.
    """
    stored = state["identity"]
    precision = job.training.precision
    asked = identify(
        job,
        processes,
        threads=job.training.threads or stored["threads"],
        precision=stored["precision"] if precision == "auto" else precision,
    )
    rows = state["batch_size"] * stored["training"]["accumulate"]
    stored, asked = (_comparable(of, rows) for of in (stored, asked))
    stored, asked = _without_passes(stored, asked)
    found = Preparation.from_json(dict(data)).differences(job.dataset.preparation)
    found = [f"the data: {difference}" for difference in found] + differing(stored, asked)
    if found:
        raise ConfigError(
            f"cannot go on from step {state['step']} as another run: {few(found)}; "
            "repeat the command of the run, or start a new one from its weights with --init"
        )
    _check_length(job, state)


def _comparable(identity: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Leave out what is compared elsewhere; a batch left to `auto` makes steps of `rows`."""
    training = {k: v for k, v in identity["training"].items() if k not in LENGTHS}
    if training["batch_size"] == "auto":
        training["batch_size"] = rows // training["accumulate"]
    return {**identity, "training": training, "data": _read_as(identity["data"])}


def _read_as(data: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of `data` what is compared by the content, and by the inputs of the model."""
    found = {name: value for name, value in data.items() if name not in DECIDED}
    return found | {name: "a file" for name in FILES if found.get(name) is not None}


def _without_passes(stored: dict[str, Any], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Leave out how a step of as many rows is cut into forward passes: by what memory holds.

    Strings are packed within a pass, so that of packed ones another cut makes other rows.
    """
    found = [stored, asked]
    if stored["data"].get("pack"):
        return found
    if len({of["training"]["batch_size"] * of["training"]["accumulate"] for of in found}) > 1:
        return found
    passes = ("batch_size", "accumulate")
    return [
        {**of, "training": {k: v for k, v in of["training"].items() if k not in passes}}
        for of in found
    ]


def _check_length(job: Job, state: Mapping[str, Any]) -> None:
    """Allow other lengths only where all that was computed would be the same."""
    before, now = state["identity"]["training"], job.training.model_dump(mode="json")
    # Where none is named nobody asks for another one.
    if length_is_open(job.training) or all(before[name] == now[name] for name in LENGTHS):
        return
    steps, done = state["rhythm"]["steps"], state["step"]
    wanted = steps_of(job, state["global_batch"])
    if wanted == steps:
        return
    if wanted is None:
        raise ConfigError(
            f"the run has {steps} steps; training.minutes cannot change that: leave it out, or "
            "name --steps"
        )
    if wanted < done:
        raise ConfigError(f"the run is at step {done} already, beyond the {wanted} asked for")
    reason = None
    if job.training.schedule == "cosine":
        reason = f"its learning rate falls to 0 at step {steps} (training.schedule cosine)"
    elif job.config.masking.random_start > 0:
        reason = f"its masks follow masking.random_start over {steps} steps"
    elif warmup_steps(job.training, steps) != warmup_steps(job.training, wanted):
        reason = f"its warm-up is a share of {steps} steps"
    elif _looked_out_of_turn(job, state):
        reason = f"its look at step {steps} would not have been one (training.validate_every)"
    if reason is not None:
        raise ConfigError(
            f"training.steps is {wanted}, not {steps}: the run cannot be extended, as {reason}; "
            "start a new one from its weights with --init"
        )


def _looked_out_of_turn(job: Job, state: Mapping[str, Any]) -> bool:
    """Say whether a look at a last step, which a longer run has not there, decided something."""
    steps, every = state["rhythm"]["steps"], state["rhythm"]["validate_every"]
    kept = job.training.keep == "best" and state["best_step"] == steps
    counted = job.training.patience is not None and state["step"] == steps
    return steps % every > 0 and (kept or counted)
