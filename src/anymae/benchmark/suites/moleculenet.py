"""MoleculeNet: six properties of molecules written as SMILES, on the splits of ChemBench."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from anymae.benchmark.suite import (
    SUITES,
    Budget,
    Corpus,
    FineTuning,
    Suite,
    Task,
    by_name,
    mini_budget,
    named_parts,
)
from anymae.config import DataConfig
from anymae.data.splits import Parts
from anymae.task import TaskType

CORPUS = "chem/chembl_mix/chembl_mix.parquet"
FILES = {
    "esol": ("esol.csv", "measured log solubility in mols per litre"),
    "freesolv": ("freesolv.csv", "expt"),
    "lipophilicity": ("lipop.csv", "exp"),
    "bbbp": ("bbbp.csv", "p_np"),
    "bace": ("bace.csv", "Class"),
    "hiv": ("hiv.csv.gz", "HIV_active"),
}
FOLDER = "chem/chembench_splits"
HIV_LABELS = 8_000
"""Training labels of HIV; its 32,901 would take hours on a CPU."""


def _task(
    name: str, metric: str, kind: TaskType, paper: str, num_labels: int | None = None
) -> Task:
    return Task(
        name=name, type=kind, metric=metric, baseline="morgan_forest", num_labels=num_labels,
        published=f"paper {paper}; its splits are not known",
    )  # fmt: skip


_RECIPE = {
    "preset": "tiny",
    "encoder": {"kind": "transformer", "width": 128, "depth": 6, "num_heads": 8},
}
_TRAINING = {"batch_size": 64, "learning_rate": 1e-3, "warmup": 0.1}
_MASKING = {"guided": {"ratio": 0.3}, "random": {"ratio": 0.3}, "span": {"ratio": 0.3}}


@SUITES.register("moleculenet")
class MoleculeNet(Suite):
    """Regression and classification of molecules."""

    title = "MoleculeNet"
    about = (
        "SMILES as bytes, pretrained on a mix of ChEMBL subsets (605,231 molecules without those "
        "of MoleculeNet). The splits are ChemBench's: three random 80/10/10 ones for ESOL, "
        "FreeSolv and Lipophilicity (seed s takes number s mod 3), one scaffold split for BBBP, "
        "BACE and HIV. HIV is learned from 8,000 of its 32,901 training molecules. The paper "
        "pretrained a 50 M-parameter model on GuacaMol, 1.3 million molecules in its public "
        "training split, and does not name the splits of its tasks; numbers on other splits "
        "cannot be compared. Tests have 65 molecules (FreeSolv) to 420, that of HIV 4,113. Rows "
        "are compared as they are written; by structure ESOL's splits 1 and 2 have 2 and 1 of "
        "their test molecules among the training ones too, splits 0 and 2 each 4 of validation. "
        "BBBP, BACE and HIV, whose seeds share one split, have nine: seeds 5 to 8 were added once "
        "0 to 4 had been looked at."
    )
    files = (CORPUS, *(f"{FOLDER}/{file}" for file, _ in FILES.values()))
    arms = ("guided", "random", "span", "none", "baseline", "baseline+embedding")
    config = DataConfig(kind="bytes", column=("smiles",), length=256, too_long="truncate")
    tasks = by_name(
        _task("esol", "rmse", "regression", "0.623"),
        _task("freesolv", "rmse", "regression", "1.09"),
        _task("lipophilicity", "rmse", "regression", "0.609"),
        _task("bbbp", "roc_auc", "binary", "0.750"),
        _task("bace", "roc_auc", "binary", "0.843"),
        _task("hiv", "roc_auc", "binary", "0.789", HIV_LABELS),
    )
    budgets = {  # noqa: RUF012 - the base class declares it
        "mini": mini_budget(("esol", "bace")),
        "cpu": Budget(
            summary="0.9 M parameters, 4,000 steps of 64 molecules out of 150,000",
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 4000}},
            masking=_MASKING,
            corpus_rows=150_000,
            finetune=FineTuning(
                epochs=15, least_steps=200, most_steps=400,
                tasks=("esol", "freesolv", "lipophilicity", "bbbp", "bace"),
            ),
        ),
        "long": Budget(
            summary="0.9 M parameters, 20,000 steps of 64 molecules",
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 20_000}},
            masking=_MASKING,
            readings=("layers", "kernel"),
            finetune=FineTuning(learning_rates=(1e-4, 3e-4, 1e-3), epochs=30, least_steps=400),
        ),
        "paper": Budget(
            summary="50,252,038 parameters, the published 30 epochs",
            recipe={"preset": "paper-chemistry"},
            length=512,
            all_labels=True,
            finetune=FineTuning(learning_rates=(3e-5, 1e-4), epochs=40),
        ),
    }  # fmt: skip

    def corpus(self, name: str, seed: int) -> Corpus:
        """Return molecules that no task has."""
        table = pq.read_table(self.folder / CORPUS, columns=["smiles", "in_moleculenet"])
        kept = table.filter(pc.invert(table["in_moleculenet"])).select(["smiles"])
        return Corpus(
            inputs=kept,
            config=self.config.model_copy(update={"too_long": "crop"}),
            flagged=table.num_rows - kept.num_rows,
        )

    def _read(self, task: Task, seed: int) -> tuple[pa.Table, np.ndarray, Parts]:
        file, column = FILES[task.name]
        table = csv.read_csv(self.folder / FOLDER / file)
        parts = named_parts(table[f"split_{seed % 3}"])
        return table.select(["smiles"]), np.asarray(table[column], np.float64), parts
