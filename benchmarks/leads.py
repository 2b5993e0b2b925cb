"""Ways to train faster that were tried and not taken (`docs/performance.md`).

    python benchmarks/leads.py [--rounds 5]

Each is timed against training as it is, by turns in one process; more than 1 would be a gain.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from anymae.config import InputConfig
from anymae.data.sampler import WINDOW
from anymae.model import MaskedAutoencoder
from anymae.presets import build_config, preset_config
from cases import Batch, by_length, lengths, pretraining, strings
from harness import Step, machine, ratio, take_turns

STORED = Path(__file__).parent / "results" / "leads.json"
ROWS, LONGEST, COUNT = 64, 256, 4


def with_compiler(step: Step) -> Step:
    """Return a step whose forward pass is compiled, once it has been run."""
    forward = torch.compile(MaskedAutoencoder.forward)

    def run() -> None:
        eager = MaskedAutoencoder.forward
        MaskedAutoencoder.forward = forward
        try:
            step()
        finally:
            MaskedAutoencoder.forward = eager

    return run


def with_threads(step: Step, count: int) -> Step:
    """Return a step on so many threads."""

    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            step()
        finally:
            torch.set_num_threads(before)

    return run


def by_inputs() -> list[Batch]:
    """Cut a sorted window into batches of as many inputs, and return a few, evenly spread."""
    window = np.sort(lengths("chembl", WINDOW * ROWS, LONGEST))
    ends = np.cumsum(window)
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, WINDOW) / WINDOW)
    parts = np.split(window, cuts)
    return [strings(parts[int((i + 0.5) * WINDOW / COUNT)]) for i in range(COUNT)]


def real_inputs(batches: list[Batch]) -> int:
    """Count what is not padding."""
    return sum(int(batch.valid.sum()) for batch in batches)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(2)
    values = Batch(torch.randn(256, 28, 1), torch.ones(256, 28, dtype=torch.bool))
    small = build_config("small", InputConfig(kind="bytes", length=LONGEST))
    rows, inputs = by_length("chembl", ROWS, LONGEST, COUNT), by_inputs()
    works = {
        "paper-physics, batch 256": (preset_config("paper-physics"), [values]),
        "small, molecules, batch 64": (small, rows),
    }
    found: dict[str, object] = {"machine": machine(), "rounds": rounds}
    padding = 1 - real_inputs(rows) / sum(batch.valid.numel() for batch in rows)
    found["padding of sorted batches, which packing would save"] = padding
    print(f"padding of sorted batches: {padding:.2%}", flush=True)
    for name, (config, batches) in works.items():
        steps = {"as it is": pretraining(config, batches, "fp32")}
        steps["one thread"] = with_threads(steps["as it is"], 1)
        if batches is rows:
            steps["batches of as many inputs"] = pretraining(config, inputs, "fp32")
        else:  # Compiled steps of rows of many lengths ended in a segmentation fault (torch 2.13).
            steps["compiled"] = with_compiler(pretraining(config, batches, "fp32"))
        seconds = take_turns(steps, rounds=rounds, warmup=2)
        share = real_inputs(inputs) / real_inputs(rows)
        for way in list(steps)[1:]:
            spent = [x / share if "inputs" in way else x for x in seconds[way]]
            spread = ratio(seconds["as it is"], spent)
            found[f"{name}: {way}"] = spread._asdict()
            print(f"{name}: {way} {spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})")
        STORED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
