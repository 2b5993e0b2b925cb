"""What guided masking costs: the masking call as a share of a training step.

    python benchmarks/masking.py [--rounds 9]
    python benchmarks/masking.py physics small --precision fp32    # cases whose name has a word

Call and step take turns in one process; the share is taken within each round.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from anymae.config import InputConfig, ModelConfig
from anymae.model import MaskedAutoencoder
from anymae.presets import build_config, preset_config
from anymae.randomness import Draws, row_keys
from cases import Batch, by_length, lengths, pretraining, strings
from harness import machine, ratio, take_turns

PRECISIONS = ("fp32", "bf16")
STORED = Path(__file__).parent / "results" / "masking.json"


def cases() -> dict[str, tuple[ModelConfig, Batch]]:
    """Published sizes on rows as long as real ones, and a 512-byte transformer of width 256."""
    small = build_config("small", InputConfig(kind="bytes", length=512))
    events = Batch(torch.randn(256, 28, 1), torch.ones(256, 28, dtype=torch.bool))
    return {
        "paper-physics, batch 256": (preset_config("paper-physics"), events),
        "paper-chemistry, packed 512, batch 8": (
            preset_config("paper-chemistry"),
            strings(np.full(8, 512)),
        ),
        "paper-chemistry, molecules, batch 32": (
            preset_config("paper-chemistry"),
            by_length("chembl", 32, 512, 1)[0],
        ),
        "paper-protein, batch 8": (
            preset_config("paper-protein"),
            strings(lengths("proteins", 8, 1024)),
        ),
        "small, 512 bytes, batch 16": (small, strings(np.full(16, 512))),
    }


def masking(config: ModelConfig, batch: Batch) -> Callable[[], object]:
    """Return the masking call of a model, past the random start."""
    device = batch.inputs.device
    model = MaskedAutoencoder(config).to(device)
    draws = Draws(row_keys(torch.arange(len(batch.valid)), seed=0).to(device))
    embedded = model.embedding(batch.inputs).detach()
    valid = None if batch.valid.all() else batch.valid
    return lambda: model.mask(embedded, valid, draws, 1.0)


def main() -> None:
    """Measure, print and store the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only cases whose name has one")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    found = stored["shares"] if stored.get("machine") == machine() else {}
    for name, (config, batch) in cases().items():
        if options.words and not any(word in name for word in options.words):
            continue
        for precision in options.precision:
            steps = {
                "call": masking(config, batch),
                "step": pretraining(config, [batch], precision),
            }
            seconds = take_turns(steps, rounds=options.rounds, warmup=2)
            share = ratio(seconds["call"], seconds["step"])
            found[f"{name}, {precision}"] = share._asdict()
            percent = [f"{100 * value:.2f}" for value in share]
            print(f"{name}, {precision}: {percent[0]} % ({percent[1]} to {percent[2]})", flush=True)
            STORED.parent.mkdir(exist_ok=True)
            kept = {"machine": machine(), "shares": found}
            STORED.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
