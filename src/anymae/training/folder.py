"""The run folder: whether it may be used, and what is written into it besides checkpoints."""

import logging
import platform
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from anymae.config import Recipe
from anymae.errors import FolderError
from anymae.files import (
    STAGED,
    read_json,
    remove_folder,
    remove_leftovers,
    require_free,
    require_writable,
    write_json,
    write_text,
)
from anymae.hub import CARD, CONFIG, DATA, FORMAT_VERSION, WEIGHTS, model_card
from anymae.model import MaskedAutoencoder
from anymae.predictor import describe
from anymae.recipes import dump_recipe

logger = logging.getLogger(__name__)

RECIPE, ENVIRONMENT, METRICS, CHECKPOINTS = (
    "run.yaml",
    "environment.json",
    "metrics.jsonl",
    "checkpoints",
)
OWN = (WEIGHTS, CHECKPOINTS, CONFIG, DATA, CARD, "report.html", METRICS, ENVIRONMENT)
"""What a run leaves behind, apart from recipe and captures, in the order in which it is removed:
what is half removed must not look finished, nor as if it could go on, but still like a run."""
MARKS = (RECIPE, STAGED + RECIPE, ENVIRONMENT, CHECKPOINTS)
"""Any of these says that a run has begun; the recipe is written first."""
NO_EXAMPLES = "no_examples"
"""Key of the environment that says whether rows are to be kept out of what is written."""
PART_OF = "part_of"
"""Key of the environment that says what chose a run's rows among others; absent where none did."""
CAPTURES = "nonfinite-step-*.safetensors"

PACKAGES = ("anymae", "torch", "accelerate", "safetensors", "numpy", "pyarrow")


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints stand."""
        return self.path / CHECKPOINTS

    @property
    def metrics(self) -> Path:
        """The log of numbers."""
        return self.path / METRICS

    @property
    def is_finished(self) -> bool:
        """True once the weights are there, which are written last."""
        return (self.path / WEIGHTS).exists()

    @property
    def is_run(self) -> bool:
        """True where a run has begun."""
        return any((self.path / name).exists() for name in MARKS)

    @property
    def has_no_examples(self) -> bool:
        """True where rows were to be kept out of what is written about the run."""
        path = self.path / ENVIRONMENT
        return path.exists() and read_json(path).get(NO_EXAMPLES) is True

    @property
    def part_of(self) -> str | None:
        """What chose the run's rows and set others aside, as `Frame.part_of`."""
        path = self.path / ENVIRONMENT
        found = read_json(path).get(PART_OF) if path.exists() else None
        return found if isinstance(found, str) else None

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that may not be used for this; nothing is changed.

        Raises:
            FolderError: It holds something that is not asked for.
        """
        if resume and overwrite:
            raise FolderError("--resume and --overwrite exclude each other")
        holds = self.path.is_dir() and any(self.path.iterdir())
        if not holds:
            require_free(self.path)
        elif resume or overwrite:
            if not self.is_run:
                raise FolderError(
                    f"{self.path} holds files but no run; name a new folder, or that of a run"
                )
            require_writable(self.path)
        else:
            raise FolderError(
                f"{self.path} holds something already; name a new folder, go on with --resume, "
                "or replace the run with --overwrite"
            )

    def clear(self) -> None:
        """Remove every trace of an earlier run but its recipe; other files stay."""
        for name in OWN:
            path = self.path / name
            remove_folder(path) if path.is_dir() else path.unlink(missing_ok=True)
        for path in self.path.glob(CAPTURES):
            path.unlink()
        remove_leftovers(self.path)

    def begin(self, model: MaskedAutoencoder, recipe: Recipe, environment: dict[str, Any]) -> None:
        """Clear the folder and write what is known before training."""
        self.path.mkdir(parents=True, exist_ok=True)
        # The recipe says which weights the run begins with: whenever the run is cut, that is known.
        (self.path / WEIGHTS).unlink(missing_ok=True)
        self._write_recipe(recipe, environment.get(PART_OF))
        self.clear()
        write_json(self.path / ENVIRONMENT, environment)
        self._describe(model)

    def _describe(self, model: MaskedAutoencoder) -> None:
        write_json(self.path / CONFIG, {"format_version": FORMAT_VERSION, **describe(model)})
        if model.data is not None:
            write_json(self.path / DATA, model.data)

    def _write_recipe(self, recipe: Recipe, part_of: str | None) -> None:
        comment = f"Repeats the run: anymae pretrain --recipe {RECIPE} --out NEW"
        if part_of is not None:
            # With a file named, rows that were set aside to judge would be trained on.
            comment = (
                f"A run of {part_of} on a part of the rows, which nothing here names.\n"
                "To repeat it, repeat that command."
            )
        elif recipe.data.path is None:
            comment += (
                "\nThe data came from Python; name a file with them: anymae pretrain DATA ..."
            )
        write_text(self.path / RECIPE, dump_recipe(recipe, comment=comment))

    def reopen(self, model: MaskedAutoencoder, recipe: Recipe) -> None:
        """Make a run that may be finished look unfinished, to go on with it."""
        (self.path / WEIGHTS).unlink(missing_ok=True)
        remove_leftovers(self.path)
        # A purge may have been cut after the last checkpoint: no later one would sweep it up.
        remove_leftovers(self.checkpoints)
        self._write_recipe(recipe, self.part_of)
        self._describe(model)

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add what is known at the end to the environment."""
        path = self.path / ENVIRONMENT
        write_json(path, {**(read_json(path) if path.exists() else {}), **facts})

    def write_end(self, model: MaskedAutoencoder, facts: dict[str, Any], methods: str) -> None:
        """Write the card; the weights come after it, last of all.

        Args:
            model: What came of the run.
            facts: Its numbers, and `words`.
            methods: What was done, as a paper would say it.
        """
        numbers = {name: value for name, value in facts.items() if isinstance(value, (int, float))}
        rows = "".join(f"| {name} | {value:.4g} |\n" for name, value in numbers.items())
        text = f"\n## Methods\n\n{methods}\n"
        text += f"\n## This run\n\nIn words: {facts['words']}.\n\n| | |\n| --- | --- |\n{rows}"
        write_text(self.path / CARD, model_card(model) + text)


def environment(device: torch.device, *, world: int) -> dict[str, Any]:
    """Describe where a run takes place: versions, machine, threads."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "format_version": 1,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": sys.version.split()[0],
        "versions": versions,
        "platform": platform.platform(),
        "processor": platform.machine(),
        "device": device.type,
        "gpu": gpu,
        "processes": world,
        "threads": torch.get_num_threads(),
    }
