"""What all seeds of a comparison share: rows, recipe and folder."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anymae.comparison.result import Comparison
from anymae.config import DataConfig, Recipe
from anymae.data.dataset import Dataset, open_data
from anymae.data.frame import Frame
from anymae.errors import ConfigError, FolderError
from anymae.files import read_json, require_free, require_writable, write_json
from anymae.recipes import apply_settings
from anymae.training.resolve import differing, resolve_job, resolved_recipe

VARIED = ("masking.kind", "training.seed")
"""Settings in which the runs differ."""
RESULT = "compare.json"


@dataclass(frozen=True)
class Study:
    """What is compared, and where the runs are kept."""

    dataset: Dataset
    """All rows; positions count in it."""
    config: DataConfig
    """How they were read and are split."""
    recipe: Recipe
    """Of the runs, but for masking and seed; its `data` read any rows of `frame`."""
    out: Path

    @property
    def frame(self) -> Frame:
        """The source."""
        return self.dataset.rows.frame

    @property
    def asked(self) -> dict[str, Any]:
        """What another comparison would differ in; labels, baselines and seeds may change."""
        recipe = self.recipe.model_dump(mode="json", exclude_unset=True)
        rows = self.dataset.rows
        kept = hashlib.sha256(rows.numbers_of(np.arange(len(rows))).tobytes())
        kept.update(b"" if rows.files is None else rows.files.tobytes())
        return {
            "recipe": recipe,
            "data": self.frame.digest,
            "rows": len(rows),
            "kept": kept.hexdigest(),
        }

    def claim(self) -> None:
        """Take the folder.

        Raises:
            FolderError: It holds something else.
        """
        path = self.out / RESULT
        if not path.exists():
            require_free(self.out)
        else:
            require_writable(self.out)
            found = differing(read_json(path).get("asked", {}), self.asked)
            if found:
                raise FolderError(
                    f"{self.out} holds another comparison ({'; '.join(found[:3])}); name a new "
                    "folder with --out"
                )
        self.write(None)

    def write(self, result: Comparison | None) -> None:
        """Write what was asked for and what came of it."""
        self.out.mkdir(parents=True, exist_ok=True)
        found = None if result is None else result.to_json()
        write_json(self.out / RESULT, {"format_version": 1, "asked": self.asked, "result": found})


def open_study(
    data: object, config: DataConfig, settings: Mapping[str, object], out: Path
) -> tuple[Study, list[str]]:
    """Open the data and decide what they leave open, so that runs differ in mask and seed alone.

    Returns:
        The study, and what a user should know in sentences.

    Raises:
        UserInputError: Something does not fit.
    """
    for name in VARIED:
        if name in settings:
            raise ConfigError(f"{name} is varied by the comparison and cannot be set; leave it out")
    recipe = apply_settings(Recipe(data=config), settings)
    config = recipe.data
    job = resolve_job(data, recipe)
    prepared, frame = job.dataset.preparation, job.dataset.rows.frame
    decided = resolved_recipe(job, job.training)
    # The frame was joined and filtered before. Fewer of its rows could be taken for another kind.
    fixed: dict[str, object] = dict.fromkeys(("path", "where", "valid", "test"))
    fixed["column"] = () if frame.shape is not None else prepared.roles.inputs
    if prepared.kind == "values":
        fixed["length"] = prepared.input.length
    decided = decided.model_copy(update={"data": decided.data.model_copy(update=fixed)})
    # As `probe` would, refuse rows that are too long to be embedded, before anything is trained.
    dataset = open_data(data, config.unpacked, preparation=prepared)
    return Study(dataset, config, decided, out), [*job.dataset.roles.describe(), *job.notes]
