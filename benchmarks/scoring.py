"""What scores without labels tell of labels: `python benchmarks/scoring.py CASE RUN [RUN ...]`.

CASE is `stability` or `fluorescence` (RUN pretrained on proteins; a protein that is likely should
be stable, or shine) or `higgs` (RUN pretrained on background events only; a signal event should
be odd). Test rows of the data folder ($ANYMAE_DATA) are scored; labels come in at the end. Prints,
and stores in `benchmarks/results/scoring.json`, Spearman's correlation of the label with minus the
score, or the ROC-AUC of the score for signal, with the bootstrap 95 % interval over rows.

The stored numbers are those of the guided encoder, seed 0, of `anymae benchmark tape --task
stability --seeds 1`, and of `anymae pretrain physics/higgs/higgs_extra_train.parquet --where
"label == 0" --preset tiny --steps 1500 --set training.threads=1`.
"""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.stats import rankdata

import anymae
from anymae import metrics
from anymae.config import DataConfig
from anymae.task import TaskConfig
from harness import machine

STORED = Path(__file__).parent / "results" / "scoring.json"
RESAMPLES = 200


class Case(NamedTuple):
    """Rows, and what their scores should tell."""

    path: str
    metric: str
    column: tuple[str, ...] = ()


CASES = {
    "stability": Case("proteins/tape/stability.parquet", "spearman", ("sequence",)),
    "fluorescence": Case("proteins/tape/fluorescence.parquet", "spearman", ("sequence",)),
    "higgs": Case("physics/higgs/higgs_small_valid_test.parquet", "roc_auc"),
}


REGRESSION = TaskConfig(type="regression", targets=("label",), mean=(0.0,), std=(1.0,))
BINARY = TaskConfig(type="binary", targets=("label",), classes=("background", "signal"))


def measure(case: Case, data: Path, run: str) -> dict[str, object]:
    """Score the test rows, then compare with their labels."""
    path = data / case.path
    config = DataConfig(column=case.column, where="split == 'test'", too_long="truncate")
    score = anymae.score(run, str(path), data_config=config)
    table = pq.read_table(path, columns=["label", "split"]).to_pandas()
    label = table.label[table.split == "test"].to_numpy(np.float64)
    known = np.isfinite(score)
    label, score = label[known], score[known]
    if case.metric == "spearman":
        task, answers = REGRESSION, -score[:, None]
    else:
        # The metric looks at ranks alone, and these are between 0 and 1 as probabilities are.
        signal = rankdata(score) / (len(score) + 1)
        task, answers = BINARY, np.stack([1 - signal, signal], axis=1)
    ones = np.ones(len(label))
    found = metrics.measure(task, label[:, None], answers, ones, resamples=RESAMPLES)
    return {
        "metric": case.metric,
        "rows": len(label),
        "not_scored": int((~known).sum()),
        **asdict(found.mean[case.metric]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--data", type=Path, default=os.environ.get("ANYMAE_DATA"))
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the data folder with --data or $ANYMAE_DATA")
    torch.set_num_threads(1)
    for run in options.runs:
        # Cases are measured one by one, and need not come from the same machine.
        found = {**measure(CASES[options.case], options.data, run), "machine": machine()}
        print(options.case, run, json.dumps(found), flush=True)
        stored = json.loads(STORED.read_text()) if STORED.exists() else {"cases": {}}
        stored["cases"].setdefault(options.case, {})[Path(run).name] = found
        STORED.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
