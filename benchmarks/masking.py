"""What guided masking costs: the masking call as a share of a training step.

    python benchmarks/masking.py [--rounds 9]
    python benchmarks/masking.py physics small --precision fp32    # cases whose name has a word

The call is timed where it happens, inside the step, with what a step leaves in the caches.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anymae.config import InputConfig, ModelConfig
from anymae.model import MaskedAutoencoder
from anymae.presets import build_config, preset_config
from cases import Batch, by_length, lengths, pretraining, strings
from harness import Spread, machine, ratio, take_turns

PRECISIONS, WARM_UP = ("fp32", "bf16"), 3
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


@contextmanager
def calls_timed() -> Iterator[list[float]]:
    """Note the seconds of each masking call that happens meanwhile."""
    spent: list[float] = []
    mask = MaskedAutoencoder.mask

    def timed(self: MaskedAutoencoder, *inputs: Any) -> Tensor:
        begin = time.perf_counter()
        masked = mask(self, *inputs)
        spent.append(time.perf_counter() - begin)
        return masked

    MaskedAutoencoder.mask = timed
    try:
        yield spent
    finally:
        MaskedAutoencoder.mask = mask


def share_of(config: ModelConfig, batch: Batch, precision: str, rounds: int) -> Spread:
    """Measure the share of the masking call in a step."""
    step = pretraining(config, [batch], precision)
    with calls_timed() as calls:
        steps = take_turns({"step": step}, rounds=rounds, warmup=WARM_UP)["step"]
    return ratio(calls[WARM_UP:], steps)


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
            share = share_of(config, batch, precision, options.rounds)
            found[f"{name}, {precision}"] = {"rounds": options.rounds, **share._asdict()}
            percent = [f"{100 * value:.2f}" for value in share]
            print(f"{name}, {precision}: {percent[0]} % ({percent[1]} to {percent[2]})", flush=True)
            STORED.parent.mkdir(exist_ok=True)
            kept = {"machine": machine(), "shares": found}
            STORED.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
