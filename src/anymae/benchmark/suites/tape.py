"""TAPE: fold, fluorescence and stability of proteins, on the published splits."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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

CORPUS = "proteins/corpus/proteins.parquet"
FOLDER = "proteins/tape"
NUM_FOLDS = 1_195
UNLABELLED = ("fluorescence", "stability")
"""Tasks whose training sequences are pretrained on too: most of them keep their labels hidden."""

_TRAINING = {"batch_size": 32, "learning_rate": 1e-3, "warmup": 0.1}
_MASKING = {"guided": {"ratio": 0.3}, "random": {"ratio": 0.3}, "span": {"ratio": 0.3}}
_RECIPE = {
    "preset": "tiny",
    "encoder": {"kind": "transformer", "width": 128, "depth": 4, "num_heads": 4},
}
_LENGTH = 256  # A transformer's cost grows with the square; the longest of stability has 50.


@SUITES.register("tape")
class Tape(Suite):
    """Three tasks on protein sequences."""

    title = "TAPE"
    about = (
        "Amino acids as bytes, pretrained on 121,595 proteins that are in no TAPE validation or "
        "test part, and on the training sequences of fluorescence and stability, whose labels are "
        "not looked at. Splits are TAPE's: remote homology (1,195 folds, 12,312/736/718, the fold "
        "holdout), fluorescence (21,446/5,362/27,217, more than three mutations in the test), "
        "stability (53,614/2,512/12,851; 26 test sequences are also in training, as published). "
        "Fluorescence and stability are learned from 8,000 labels. The paper pretrained 82 M "
        "parameters on Pfam, more than a hundred times as many sequences, and used all labels."
    )
    files = (
        CORPUS,
        *(f"{FOLDER}/{name}.parquet" for name in ("remote_homology", "fluorescence", "stability")),
    )
    arms = ("guided", "random", "span", "none", "baseline", "baseline+embedding")
    config = DataConfig(kind="bytes", column=("sequence",), length=512, too_long="truncate")
    tasks = by_name(
        Task(
            name="remote_homology", type="multiclass", metric="accuracy", baseline="kmers",
            num_classes=NUM_FOLDS, published="paper 0.23; TAPE one-hot 0.09, transformer 0.21",
        ),
        Task(
            name="fluorescence", type="regression", metric="spearman", baseline="kmers",
            num_labels=8_000, published="TAPE one-hot 0.14, transformer 0.68 (all labels)",
        ),
        Task(
            name="stability", type="regression", metric="spearman", baseline="kmers",
            num_labels=8_000, published="TAPE one-hot 0.19, transformer 0.73 (all labels)",
        ),
    )  # fmt: skip
    budgets = {  # noqa: RUF012 - the base class declares it
        "mini": mini_budget(("stability",)),
        "cpu": Budget(
            summary=(
                "0.7 M parameters, 1,500 steps of 32 proteins cut to 256 residues, at most 1,000 "
                "validation rows"
            ),
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 1500}},
            masking=_MASKING,
            most_rows=(None, 1_000, None),
            length=_LENGTH,
            finetune=FineTuning(epochs=2, most_steps=400, tasks=("fluorescence", "stability")),
        ),
        "long": Budget(
            summary="0.7 M parameters, 20,000 steps of 32 proteins cut to 256 residues",
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 20_000}},
            masking=_MASKING,
            length=_LENGTH,
            readings=("layers", "kernel"),
            finetune=FineTuning(epochs=5),
        ),
        "paper": Budget(
            summary="82.3 M parameters, the published 10 epochs",
            recipe={"preset": "paper-protein"},
            length=1024,
            all_labels=True,
            finetune=FineTuning(learning_rates=(5e-5,), epochs=30, batch_size=64),
        ),
    }  # fmt: skip

    def corpus(self, name: str, seed: int) -> Corpus:
        """Return proteins that are in no validation or test part, and training sequences."""
        table = pq.read_table(self.folder / CORPUS, columns=["sequence", "in_tape_eval"])
        kept = table.filter(pc.invert(table["in_tape_eval"]))
        tables = map(self._table, UNLABELLED)
        trained = [table.filter(pc.equal(table["split"], "train")) for table in tables]
        return Corpus(
            inputs=pa.concat_tables(part.select(["sequence"]) for part in (kept, *trained)),
            config=self.config.model_copy(update={"too_long": "crop"}),
            flagged=table.num_rows - kept.num_rows,
        )

    def _read(self, task: Task, seed: int) -> tuple[pa.Table, np.ndarray, Parts]:
        table = self._table(task.name)
        labels = np.asarray(table["label"], np.float64)
        return table.select(["sequence"]), labels, named_parts(table["split"])

    def _table(self, name: str) -> pa.Table:
        return pq.read_table(self.folder / FOLDER / f"{name}.parquet")
