"""Which readout and which start should fine-tuning have, with few labels?

Pretrains once on HIGGS events, then fine-tunes with 1,000 labels (a fifth of them validate) by
every combination, for several draws of the labels, and prints the test AUC of each.

    python benchmarks/readouts.py DATA_FOLDER [--steps 2000] [--labels 1000] [--seeds 3]
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import anymae
from anymae.config import DataConfig
from anymae.task import FinetuneConfig, ReadoutConfig

ARMS = {
    "query, head from nothing": {"readout": "query", "head_first": "none"},
    "query, head trained first": {"readout": "query", "head_first": "train"},
    "mean, probe": {"readout": "mean", "head_first": "probe"},
    "layers, probe": {"readout": "layers", "head_first": "probe"},
    "layers, probe, no layer decay": {
        "readout": "layers", "head_first": "probe", "layer_decay": 1.0,
    },
    "layers, probe, no drop path": {"readout": "layers", "head_first": "probe", "drop_path": 0.0},
    "from scratch, query": {
        "readout": "query", "head_first": "none", "start": "random", "layer_decay": 1.0,
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--run", type=Path, help="pretrained run; made here if it is not there")
    args = parser.parse_args()
    folder = args.data / "physics" / "higgs"
    labelled = pd.read_parquet(folder / "higgs_small_valid_test.parquet")
    more = pd.read_parquet(folder / "higgs_extra_train.parquet")
    inputs = [name for name in labelled.columns if name not in ("label", "split", "source")]
    train, test = (labelled[labelled.split == part] for part in ("valid", "test"))
    run = args.run or Path(tempfile.mkdtemp()) / "run"
    if not run.exists():
        anymae.pretrain(
            pd.concat([train, more])[inputs], out=run, preset="tiny", steps=args.steps,
            batch_size=256, settings={"masking.kind": "random", "masking.ratio": 0.3},
        )  # fmt: skip
    test = test.iloc[:8000]
    rows = pd.concat([train.assign(part="train"), test.assign(part="test")])[
        [*inputs, "label", "part"]
    ]
    table = {}
    for name, arm in ARMS.items():
        settings = {**arm, "readout": ReadoutConfig(kind=arm["readout"])}
        found = []
        for seed in range(args.seeds):
            done = anymae.finetune(
                run, rows, target="label", data_config=DataConfig(split="part"),
                config=FinetuneConfig(num_labels=args.labels, **settings),
                training={"seed": seed, "device": "cpu", "threads": 1},
            )  # fmt: skip
            found.append(done.evaluations["test"].overall["roc_auc"].value)
            print(json.dumps({
                "arm": name, "seed": seed, "auc": found[-1], "rate": done.learning_rate,
                "step": done.steps[0], "seconds": done.seconds,
            }), flush=True)  # fmt: skip
        table[name] = [float(np.mean(found)), float(np.std(found, ddof=1))]
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
