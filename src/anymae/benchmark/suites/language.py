"""SST-2: the sentiment of sentences, read byte by byte."""

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
    mini_budget,
    named_parts,
)
from anymae.config import DataConfig
from anymae.data.splits import Parts

FILE = "text/sst2.parquet"
PARTS = ("train", "train_holdout", "glue_dev")
NUM_VALID = 2_000

_RECIPE = {
    "preset": "tiny",
    "encoder": {"kind": "transformer", "width": 128, "depth": 4, "num_heads": 8},
}
_TRAINING = {"batch_size": 64, "learning_rate": 1e-3, "warmup": 0.1}
_MASKING = {"guided": {"ratio": 0.3}, "random": {"ratio": 0.3}, "span": {"ratio": 0.3}}


def _task(name: str, num_labels: int) -> Task:
    return Task(
        name=name, type="binary", metric="accuracy", chosen_by="roc_auc", baseline="ngrams",
        num_labels=num_labels, curve="language",
        published="paper 0.883 after pretraining on Wikipedia and books",
    )  # fmt: skip


@SUITES.register("language")
class Language(Suite):
    """Positive or negative, with 1,000 and 10,000 labels."""

    title = "Language (SST-2)"
    about = (
        "Sentences of film reviews as bytes, many of them parts of each other. The 60,614 training "
        "sentences are pretrained on and give the labels, 2,000 others validate, GLUE's 872 "
        "development sentences are the test (GLUE's own test labels are not public). Of the "
        "sentences that validate 1,774 are part of a training sentence, of the test's 2: scores on "
        "validation rows, by which settings are chosen, are too good. The paper pretrained 82 M "
        "parameters on Wikipedia and books and reports the same development sentences."
    )
    files = (FILE,)
    arms = ("guided", "random", "span", "none", "baseline", "baseline+embedding")
    config = DataConfig(kind="bytes", column=("sentence",), length=272)
    tasks = by_name(_task("1k", 1_000), _task("10k", 10_000))
    budgets = {  # noqa: RUF012 - the base class declares it
        "mini": mini_budget(("1k",)),
        "cpu": Budget(
            summary="0.7 M parameters, 1,200 steps of 64 sentences",
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 1200}},
            masking=_MASKING,
            finetune=FineTuning(epochs=3, least_steps=150, most_steps=300),
        ),
        "long": Budget(
            summary="0.7 M parameters, 20,000 steps of 64 sentences",
            recipe={**_RECIPE, "training": {**_TRAINING, "steps": 20_000}},
            masking=_MASKING,
            finetune=FineTuning(epochs=5),
        ),
        "paper": Budget(
            summary="82.3 M parameters, the published million steps",
            recipe={"preset": "paper-language"},
            finetune=FineTuning(learning_rates=(2e-5,), epochs=5),
        ),
    }

    def _read(self, task: Task, seed: int) -> tuple[pa.Table, np.ndarray, Parts]:
        table = pq.read_table(self.folder / FILE)
        # Some sentences end with spaces.
        sentences = pa.table({"sentence": pc.utf8_trim_whitespace(table["sentence"])})
        train, valid, test = named_parts(table["split"], PARTS)
        labels = np.asarray(table["label"], np.float64)
        return sentences, labels, Parts(train, valid[:NUM_VALID], test)
