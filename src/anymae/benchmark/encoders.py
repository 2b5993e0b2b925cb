"""The encoder of an arm: pretrained once for all tasks of a corpus, or as it starts."""

import logging
import time
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from anymae.benchmark.arms import Arm
from anymae.benchmark.asked import asked_of, read_same
from anymae.benchmark.encoder_features import Reader
from anymae.benchmark.prepare import prepare_corpus
from anymae.benchmark.record import (
    ENCODER,
    JobName,
    Record,
    check_rows,
    describe_machine,
    write_record,
)
from anymae.benchmark.suite import THREADS, Budget, Corpus, Suite, num_rows
from anymae.config import Recipe
from anymae.data.sources import read_source
from anymae.files import remove_folder, sha256
from anymae.hub import WEIGHTS, load
from anymae.model import MaskedAutoencoder
from anymae.recipes import apply_settings, load_recipe, make_recipe
from anymae.training.folder import RECIPE
from anymae.training.pretrain import part_of_more, pretrain
from anymae.training.resolve import resolve_job
from anymae.training.session import make_model

logger = logging.getLogger(__name__)

RUNS = "runs"
"""Folder of the weights below the results folder; they can be computed again."""


class Where(NamedTuple):
    """Suite, budget, folder and place of a job."""

    suite: Suite
    suite_name: str
    budget: Budget
    budget_name: str
    out: Path
    device: str


class ArmEncoder:
    """The encoder of one arm and seed; what costs time is done once, when it is asked for.

    Args:
        where: Suite, budget, folder.
        arm: One that has an encoder of its own.
        corpus: Name of what it is pretrained on.
        seed: Of the job.
    """

    def __init__(self, where: Where, arm: Arm, corpus: str, seed: int) -> None:
        self.where, self.arm, self.seed = where, arm, seed
        self._corpus = corpus
        self._readers: dict[tuple[str, ...], Reader] = {}

    @cached_property
    def model(self) -> MaskedAutoencoder:
        """The model, in evaluation mode."""
        if self.record is None:
            job = resolve_job(self.cleaned.inputs, self._recipe)
            return make_model(job).eval()
        model = load(self._folder)
        assert isinstance(model, MaskedAutoencoder), "a pretraining leaves an autoencoder"
        return model

    @cached_property
    def record(self) -> Record | None:
        """The record of the pretraining, which is run now unless it was; `None` without one."""
        if not self.arm.pretrains:
            return None
        path, whole = self.where.out / self._name.file, (self._folder / WEIGHTS).exists()
        before = read_same(type(self.where.suite), path) if path.exists() else None
        if before is not None and whole:
            return before
        if whole:
            # Weights without their record may be those of other settings.
            remove_folder(self._folder)
        record = self._pretrain()
        if before is not None and before.facts.get(ENCODER) == record.facts[ENCODER]:
            # The same weights again: what is stored stays as it is.
            return before
        if before is not None:
            logger.warning("%s: weights differ from those of the record before", path)
        write_record(self.where.out, record)
        return record

    @cached_property
    def digest(self) -> str | None:
        """The hash of the weights as they lie there; `None` where nothing was pretrained."""
        return None if self.record is None else sha256(self._folder / WEIGHTS)

    @cached_property
    def cleaned(self) -> Corpus:
        """The corpus, without rows of any validation or test part."""
        return prepare_corpus(self.where.suite, self._corpus, self.where.budget, self.seed)

    def reader(self, readings: tuple[str, ...]) -> Reader:
        """Return what reads features of rows, one for each choice of readings."""
        if readings not in self._readers:
            self._readers[readings] = Reader(self.model, self.cleaned, readings, self.where.device)
        return self._readers[readings]

    @property
    def _name(self) -> JobName:
        return JobName(
            suite=self.where.suite_name,
            budget=self.where.budget_name,
            stage="final",
            task="pretraining" if self._corpus == "all" else f"pretraining-{self._corpus}",
            arm=self.arm.text,
            seed=self.seed,
        )

    @property
    def _folder(self) -> Path:
        return self.where.out / RUNS / self._name.file.with_suffix("")

    @property
    def _recipe(self) -> Recipe:
        settings = {
            **self.arm.recipe_settings(self.where.budget),
            "training.seed": self.arm.pretraining_seed(self.seed),
            "training.threads": THREADS,
            "training.device": self.where.device,
        }
        recipe = apply_settings(make_recipe(self.where.budget.recipe), settings)
        return recipe.model_copy(update={"data": self.cleaned.config})

    def _pretrain(self) -> Record:
        recipe, corpus = self._recipe, self.cleaned
        digest = read_source(corpus.inputs, recipe.data).digest
        check_rows(self.where.out, self._name, "corpus", digest)
        started = time.monotonic()
        with part_of_more(self._folder):
            run = pretrain(
                corpus.inputs, out=self._folder, recipe=recipe, resume=True, no_examples=True
            )
        weights = sum(parameter.numel() for parameter in run.model.parameters())
        resolved = load_recipe(self._folder / RECIPE).training
        return Record(
            job=self._name,
            command=self._name.command(self.where.device),
            machine=describe_machine(self.where.device),
            data={
                "corpus": digest,
                "rows": num_rows(corpus.inputs),
                "flagged": corpus.flagged,
                "removed": corpus.removed,
            },
            asked=asked_of(type(self.where.suite), self._name),
            settings=recipe.model_dump(mode="json", exclude_unset=True),
            # A run that was cut knows the seconds of all its parts.
            seconds=max(time.monotonic() - started, float(run.metrics.get("seconds", 0.0))),
            facts={
                ENCODER: sha256(self._folder / WEIGHTS),
                "weights": weights,
                "rows_visited": resolved["steps"] * resolved["batch_size"] * resolved["accumulate"],
                "masking": run.model.config.masking.model_dump(mode="json"),
                **run.metrics,
            },
        )
