"""What several pretraining runs on the same data share: rows, recipe and folder."""

import copy
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from anymae.comparison.baseline import Features
from anymae.config import DataConfig, Recipe, parse
from anymae.data.batch import IntArray
from anymae.data.dataset import Dataset, open_data
from anymae.data.frame import Frame
from anymae.data.splits import given_parts, named_parts, split_rows
from anymae.errors import DataError, FolderError
from anymae.files import read_json, require_free, require_writable, write_json
from anymae.hub import Model, load
from anymae.inference.computations import Embeddings, Reading
from anymae.inference.compute import ComputeConfig, compute
from anymae.inference.rows import open_rows
from anymae.metrics import HEADLINE
from anymae.probing import Judge
from anymae.recipes import apply_settings, load_recipe
from anymae.task import FinetuneConfig, TaskConfig, TaskType
from anymae.training.folder import RECIPE, RunFolder
from anymae.training.identity import unlike
from anymae.training.judges import NAME_MORE, are_drawn, tell_few
from anymae.training.labelling import Labelled
from anymae.training.pretrain import part_of_more, pretrain
from anymae.training.progress import Report, Tally
from anymae.training.resolve import (
    differing,
    length_is_open,
    resolve_job,
    resolved_recipe,
    steps_of,
)
from anymae.training.targets import weights_of

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]

TEST_SHARE = 0.2
"""Of the rows, where no split is named."""
READING: Reading = "layers"


HASHES = {"data": "the data differ", "kept": "the rows that are kept, or their parts, differ"}
"""What is compared as a whole, and how it is told."""


@dataclass(frozen=True)
class Study:
    """What is studied, and where the runs are kept."""

    dataset: Dataset
    """All rows; positions count in it."""
    config: DataConfig
    """How they were read and are split."""
    recipe: Recipe
    """Of the runs, but for what varies; its `data` read any rows of `frame`."""
    out: Path
    file: str
    """In the folder: what was asked for and what came of it."""
    also: Mapping[str, Any] = field(default_factory=dict)
    """What else was asked for, in plain values."""

    @property
    def frame(self) -> Frame:
        """The source."""
        return self.dataset.rows.frame

    @property
    def asked(self) -> dict[str, Any]:
        """What another study would differ in."""
        recipe = self.recipe.model_dump(mode="json", exclude_unset=True)
        rows = self.dataset.rows
        kept = hashlib.sha256(rows.numbers_of(np.arange(len(rows))).tobytes())
        # Rows that a split column names beside files of parts are in these parts too.
        parts = None if rows.files is None else given_parts(rows)
        kept.update(b"" if parts is None else parts.tobytes())
        return {
            "recipe": recipe,
            "data": self.frame.digest,
            "rows": len(rows),
            "kept": kept.hexdigest(),
            **self.also,
        }

    def pool(self, seed: int) -> Frame:
        """Return the rows to pretrain on: all but those of the test part."""
        parts = split_rows(
            self.dataset.rows, self.config, seed, valid_share=0.0, test_share=TEST_SHARE
        )
        kept = np.setdiff1d(np.arange(len(self.dataset)), parts.test)
        pool = self.frame.keep(self.dataset.rows.numbers_of(kept))
        return replace(pool, part_of=f"`anymae {Path(self.file).stem}` of {pool.name}")

    def sealed(self, test: IntArray) -> Dataset:
        """Return the data set without the labels of its test rows."""
        found, rows = copy.copy(self.dataset), copy.copy(self.dataset.rows)
        hidden = np.zeros(self.frame.table.num_rows, np.bool_)
        hidden[rows.numbers_of(test)] = True
        table = self.frame.table
        for name in rows.roles.target:
            blank = pc.if_else(pa.array(hidden), pa.scalar(None, table[name].type), table[name])
            table = table.set_column(table.column_names.index(name), name, blank)
        found.rows, rows.frame = rows, replace(self.frame, table=table)
        return found

    def rows_for(self, model: Model) -> Dataset:
        """Return all rows as inputs of a run's model, positions as in `dataset`."""
        return open_rows(model, self.frame, self.recipe.data)

    def features(self, model: Model, rows: Dataset, index: IntArray) -> FloatArray:
        """Return the frozen features of some rows, `(R, F)`."""
        config = ComputeConfig(device=self.recipe.training["device"])
        return compute(Embeddings(model, READING), rows, index, config).values

    def claim(self) -> dict[str, Any] | None:
        """Take the folder.

        Returns:
            What came of the same study before, if it was begun.

        Raises:
            FolderError: It holds something else, or is damaged.
        """
        path = self.out / self.file
        if not path.exists():
            require_free(self.out)
            self.write(None)
            return None
        require_writable(self.out)
        stored = read_json(path)
        asked, result = stored.get("asked"), stored.get("result")
        if not isinstance(asked, dict) or not isinstance(result, dict | None):
            raise self.damaged()
        now = self.asked
        found = [words for name, words in HASHES.items() if asked.get(name) != now[name]]
        one, two = ({k: v for k, v in of.items() if k not in HASHES} for of in (asked, now))
        found += differing(one, two)
        if found:
            raise FolderError(
                f"{path} is of other data or settings ({'; '.join(found[:3])}); name a new "
                "folder with --out"
            )
        return result

    def damaged(self) -> FolderError:
        """Return what to raise where the file holds something else than was written."""
        return FolderError(f"{self.out / self.file} is damaged; name a new folder with --out")

    def write(self, result: Mapping[str, Any] | None) -> None:
        """Write what was asked for and what came of it."""
        self.out.mkdir(parents=True, exist_ok=True)
        write_json(
            self.out / self.file, {"format_version": 1, "asked": self.asked, "result": result}
        )

    def telling(self, told: Report | None, runs: Iterable[str]) -> Callable[[], Report | None]:
        """Return what gives each run that is not finished whom to tell: time left is of them all.

        Where their steps are not known yet, each tells of itself.
        """
        steps = self.recipe.training.get("steps")
        if told is None or steps is None:
            return lambda: told
        waiting = [run for run in runs if not RunFolder(self.out / run).is_finished]
        tally = Tally(told, steps * len(waiting))
        return lambda: tally.part(steps)

    def pretrained(
        self,
        name: str,
        pool: Frame,
        recipe: Recipe,
        settings: Mapping[str, object],
        telling: Callable[[], Report | None],
    ) -> Model:
        """Return the encoder of a run, which is started or continued unless it is finished.

        Raises:
            FolderError: A finished run has other settings.
            InterruptedRunError: Asked to stop; what was computed is saved.
        """
        folder = self.out / name
        if not RunFolder(folder).is_finished:
            logger.info("pretraining %s", folder)
            with part_of_more(folder):
                pretrain(
                    pool, out=folder, recipe=recipe, settings=settings, resume=True,
                    progress=telling(),
                )  # fmt: skip
        _require_same(folder, apply_settings(recipe, settings))
        return load(folder)


def _require_same(folder: Path, recipe: Recipe) -> None:
    """Refuse a finished run of other settings: its scores would be told of these."""
    found = unlike(load_recipe(folder / RECIPE), recipe)
    if found:
        raise FolderError(
            f"{folder} is a run of other settings ({'; '.join(found[:3])}); remove it, or "
            "name a new folder with --out"
        )


def open_study(
    data: object, config: DataConfig, settings: Mapping[str, object], out: Path, file: str
) -> tuple[Study, list[str]]:
    """Open the data and decide what they leave open, so that runs differ in what varies alone.

    Args:
        data: A path or a Python object.
        config: Columns, roles, splits.
        settings: Keys of the recipe.
        out: Where the runs are kept.
        file: What the study is called there.

    Returns:
        The study, and what a user should know in sentences.

    Raises:
        UserInputError: Something does not fit.
    """
    recipe = apply_settings(Recipe(data=config), settings)
    config = recipe.data
    job = resolve_job(data, recipe)
    prepared, frame = job.dataset.preparation, job.dataset.rows.frame
    training = job.training
    if length_is_open(training):
        # Decided once, as the rows of its runs differ; where a batch is sought, by the usual one.
        batch = training.batch_size if isinstance(training.batch_size, int) else 64
        steps = steps_of(job, batch * training.accumulate)
        training = training.model_copy(update={"steps": steps})
    decided = resolved_recipe(job, training)
    # The frame was joined and filtered before. Fewer of its rows could be taken for another kind.
    fixed: dict[str, object] = dict.fromkeys(("path", "where", "valid", "test"))
    fixed["column"] = () if frame.shape is not None else prepared.roles.inputs
    if prepared.kind == "values":
        fixed["length"] = prepared.input.length
    decided = decided.model_copy(update={"data": decided.data.model_copy(update=fixed)})
    # As `probe` would, refuse rows that are too long to be embedded, before anything is trained.
    dataset = open_data(data, config.unpacked, preparation=prepared)
    return Study(dataset, config, decided, out, file), [*job.dataset.roles.describe(), *job.notes]


def labelling(task: TaskType | None, num_labels: int | None) -> FinetuneConfig:
    """Return how rows are labelled and divided, for linear models on frozen features."""
    # These take no negative weights; metrics do.
    fixed = {"test_share": TEST_SHARE, "negative_weights": "zero"}
    return parse(FinetuneConfig, {"task": task, "num_labels": num_labels, **fixed})


def require_judges(labelled: Labelled, task: TaskConfig, index: IntArray, part: str) -> None:
    """Check that rows can judge: they count, and can be ranked where they are to be.

    Args:
        labelled: Rows with their targets.
        task: What is predicted.
        index: Positions of the rows that judge.
        part: Which rows these are.

    Raises:
        DataError: Their weights add up to nothing, or all have the same class, of every target.
    """
    weight, truth = weights_of(labelled.dataset, index).sum(), labelled.targets[index]
    if not weight > 0:
        raise DataError(
            f"the weights of the {len(index):,} {part} rows add up to {weight:g}; "
            "give some of them a weight above 0, or split the rows otherwise"
        )
    ranked = task.type in ("binary", "multilabel")
    if ranked and not (np.nanmin(truth, 0) < np.nanmax(truth, 0)).any():
        raise DataError(f"the {len(index):,} {part} rows have one class; name others with --split")


def tell_judges(
    study: Study,
    labelled: Labelled,
    task: TaskConfig,
    part: Literal["valid", "test"],
    num_labels: int | None = None,
) -> None:
    """Warn where hardly any rows judge, or a class has none.

    Args:
        study: Says how rows were divided.
        labelled: Rows with their targets; those of `valid` judge.
        task: What is predicted.
        part: Which rows these are.
        num_labels: How many labels they were drawn from, if from a number of them.
    """
    judges = labelled.valid
    tell_few(
        task,
        labelled.targets[judges],
        weights_of(labelled.dataset, judges),
        part,
        drawn=are_drawn(study.dataset, part, study.config, num_labels),
        resampled=False,
        more=NAME_MORE if num_labels is None else "ask for more with --n-labels",
    )


def tell_only_validate(study: Study, num_labels: int | None) -> None:
    """Warn of validation rows that the data name, where a number of labels leaves them out."""
    parts = named_parts(study.dataset.rows)
    if num_labels is not None and parts is not None and len(parts.valid):
        logger.warning(
            "the %s validation rows that the data name take no part in the fit, as the %s labels "
            "that are asked for are drawn from the training rows; they only choose the weights "
            "of each run",
            f"{len(parts.valid):,}", f"{num_labels:,}",
        )  # fmt: skip


def judge(
    features: Mapping[str, Features], task: TaskConfig, rows: Labelled, part: str, seed: int
) -> dict[str, float]:
    """Fit linear models to features of `rows.train`, `(R, F)` by name, and judge by `rows.valid`.

    The features of the rows that judge, which are those of a `part`, come last.

    Raises:
        DataError: The metric is not defined on them.
    """
    metric, fits = HEADLINE[task.type], Judge(rows, task, resamples=0, seed=seed)
    found = {}
    for name, values in features.items():
        score = fits.linear(name, "", values).mean[metric].value
        if score is None:
            raise DataError(f"{metric} is not defined on the {len(rows.valid):,} {part} rows")
        found[name] = score
    return found
