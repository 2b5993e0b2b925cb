"""Four ordinary tables with numeric and categorical columns, each pretrained on by itself."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anymae.benchmark.suite import (
    SUITES,
    Budget,
    FineTuning,
    Suite,
    Task,
    by_name,
    hold_out,
    mini_budget,
    named_parts,
)
from anymae.config import DataConfig
from anymae.data.splits import Parts
from anymae.task import TaskType

FOLDER = "tabular"
NUM_LABELS, ADULT_VALID = 1_000, 3_000
NOT_INPUTS = ("label", "target", "split")

_RECIPE = {"preset": "tiny", "encoder": {"width": 64, "depth": 3, "num_heads": 4}}
_TRAINING = {"batch_size": 128, "learning_rate": 2e-3}
_MASKING = {"guided": {"ratio": 0.3}, "random": {"ratio": 0.3}}


def _task(name: str, kind: TaskType, metric: str) -> Task:
    return Task(
        name=name, type=kind, metric=metric, baseline="boosted_trees", num_labels=NUM_LABELS,
        corpus=name,
    )  # fmt: skip


@SUITES.register("tables")
class Tables(Suite):
    """Housing prices, income, credit."""

    title = "Tables"
    about = (
        "California Housing, Adult, House 16H and Default of Credit Card Clients, each pretrained "
        "on its own training rows without their labels and learned from 1,000 labels. The splits "
        "are those of tab-ddpm, but for Adult: the published test file is the test; of the "
        "published 32,561 training rows 19,537 are used, and 3,000 of these validate, by seed. "
        "House prices are in logarithms."
    )
    files = tuple(
        f"{FOLDER}/{name}.parquet" for name in ("california", "adult", "house", "default")
    )
    arms = ("guided", "random", "none", "baseline", "baseline+embedding")
    config = DataConfig(kind="table")
    tasks = by_name(
        _task("california", "regression", "rmse"),
        _task("adult", "binary", "roc_auc"),
        _task("house", "regression", "rmse"),
        _task("default", "binary", "roc_auc"),
    )
    budgets = {  # noqa: RUF012 - the base class declares it
        "mini": mini_budget(("california",)),
        "cpu": Budget(
            summary="0.1 M parameters, 2,000 steps of 128 rows",
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 2000}},
            masking=_MASKING,
            finetune=FineTuning(epochs=15),
        ),
        "long": Budget(
            summary="0.1 M parameters, 20,000 steps of 128 rows",
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 20_000}},
            masking=_MASKING,
            finetune=FineTuning(epochs=15),
        ),
    }

    def _read(self, task: Task, seed: int) -> tuple[pa.Table, np.ndarray, Parts]:
        table = pq.read_table(self.folder / FOLDER / f"{task.name}.parquet")
        train, valid, test = named_parts(table["split"])
        if not len(valid):
            # Of Adult's training rows some validate.
            train, valid = hold_out(train, ADULT_VALID, seed)
        inputs = table.select([name for name in table.column_names if name not in NOT_INPUTS])
        return inputs, _labels(table, task), Parts(train, valid, test)


def _labels(table: pa.Table, task: Task) -> np.ndarray:
    if "target" in table.column_names:
        return np.asarray(pc.equal(table["target"], ">50K").cast(pa.float64()))
    labels = np.asarray(table["label"], np.float64)
    return np.log1p(labels) if task.name == "house" else labels
