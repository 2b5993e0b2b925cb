"""Time and memory of training and embedding, against the direct way and against stored results.

    python benchmarks/bench.py                    the short form: every case, few rounds
    python benchmarks/bench.py --rounds 9 --memory --store
    python benchmarks/bench.py chemistry-packed   one case

Prints a table; a ratio is the median over rounds, its smallest and largest beside it. Exits
with 1 where a ratio fell by more than a tenth under the stored one and outside its spread. Each
kind of processor has stored results of its own; a new kind is compared with nothing.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from anymae.training.memory import freed_memory_kept
from cases import CASES
from harness import Spread, machine, matmuls_alone, peak_memory, ratio, take_turns

STORED = Path(__file__).parent / "results" / "bench"
TOLERANCE = 0.9
"""A ratio under this share of the stored one is a loss."""


def measure(name: str, *, rounds: int, memory: bool, busy: bool) -> dict[str, Any]:
    """Measure one case: seconds, ratios, the floor of each of our variants, peak memory."""
    case = CASES[name]()
    steps = {}
    for variant, (prepare, _) in case.variants.items():
        torch.manual_seed(0)
        steps[variant] = prepare()
    ours = [variant for variant in case.variants if not variant.startswith("dense")]
    floors = {f"{variant} floor": matmuls_alone(steps[variant]) for variant in ours}
    clock = time.process_time if busy else time.perf_counter
    seconds = take_turns({**steps, **floors}, rounds=rounds, clock=clock)
    # Seconds for a thousand real inputs, so that variants with other rows compare.
    for label, values in seconds.items():
        inputs = case.variants[label.removesuffix(" floor")].inputs
        seconds[label] = [1000 * value / inputs for value in values]
    found: dict[str, Any] = {
        "title": case.title, "rounds": rounds, "variants": {}, "ratios": {}
    }  # fmt: skip
    for variant in case.variants:
        spread = Spread.of(seconds[variant])
        rows = case.variants[variant].rows / case.variants[variant].inputs
        found["variants"][variant] = {
            "seconds_per_1000_inputs": spread._asdict(),
            "rows_per_second": 1000 * rows / spread.median,
        }
        if variant in ours:
            floor = ratio(seconds[variant], seconds[f"{variant} floor"])
            found["variants"][variant]["times_floor"] = floor._asdict()
        if memory:
            found["variants"][variant]["peak_bytes"] = memory_of(name, variant)
    for slow in (variant for variant in case.variants if variant not in ours):
        for fast in ours:
            spread = ratio(seconds[slow], seconds[fast])._asdict()
            wanted = case.wanted.get((slow, fast))
            found["ratios"][f"{slow} / {fast}"] = {**spread, "wanted": wanted}
    return found


def memory_of(name: str, variant: str) -> int:
    """Measure the peak in a process of its own, so that nothing else has left holes to fill."""
    command = [sys.executable, __file__, "--only-memory", name, variant]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


def only_memory(name: str, variant: str) -> int:
    """Return how far steps grow the process, after the model and optimizer state are there.

    Ours keeps freed memory where it trains, as `anymae` does; all else is as the system has it.
    """
    case = CASES[name]()
    step = case.variants[variant].prepare()
    ours_trains = case.trains and not variant.startswith("dense")
    keeping = freed_memory_kept() if ours_trains else nullcontext()
    with keeping, peak_memory() as growth:
        for _ in range(3):
            step()
    return growth[0]


def table(name: str, found: dict[str, Any]) -> str:
    """Lay out what was measured about a case."""
    lines = [f"{name}: {found['title']}"]
    for variant, values in found["variants"].items():
        line = f"  {variant:14s}{values['rows_per_second']:9.1f} rows/s"
        if "times_floor" in values:
            line += f"   {values['times_floor']['median']:4.2f} x matmuls alone"
        if "peak_bytes" in values:
            line += f"   {values['peak_bytes'] / 2**20:7.0f} MiB"
        lines.append(line)
    for pair, spread in found["ratios"].items():
        line = f"  {pair:24s}{spread['median']:5.2f} ({spread['low']:.2f} to {spread['high']:.2f})"
        if spread["wanted"]:
            line += f"   wanted {spread['wanted']}"
        lines.append(line)
    return "\n".join(lines)


def losses(found: dict[str, Any], stored: dict[str, Any]) -> list[str]:
    """Name the ratios that fell: under the tolerated share, and outside both spreads."""
    fallen = []
    for name, case in found["cases"].items():
        for pair, now in case["ratios"].items():
            before = stored["cases"].get(name, {}).get("ratios", {}).get(pair)
            if before is None:
                continue
            low = min(TOLERANCE * before["median"], before["low"])
            if now["high"] < before["low"] and now["median"] < low:
                fallen.append(f"{name}, {pair}: {before['median']:.2f} -> {now['median']:.2f}")
    return fallen


def stored_file(described: dict[str, Any]) -> Path:
    """Return where the results of a kind of processor are kept: `amd-epyc.json`."""
    words = re.findall("[a-z0-9]+", re.sub(r"\(\w+\)|processor", "", described["cpu"].lower()))
    # Names of virtual machines' processors hide what they can do.
    return STORED / f"{'-'.join([*words, *described['bf16']])}.json"


def main() -> int:
    """Measure, print, compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=[], metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--busy",
        action="store_true",
        help="other work runs as well: one thread, and processor instead of wall-clock time",
    )
    parser.add_argument("--memory", action="store_true", help="measure peak memory as well")
    parser.add_argument("--store", action="store_true", help="keep the results to compare with")
    parser.add_argument("--only-memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1 if options.busy else options.threads)
    if options.only_memory:
        print(only_memory(*options.only_memory))
        return 0
    found: dict[str, Any] = {"machine": machine(), "cases": {}}
    path = stored_file(found["machine"])
    stored = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    for name in options.cases or CASES:
        found["cases"][name] = measure(
            name, rounds=options.rounds, memory=options.memory, busy=options.busy
        )
        print(table(name, found["cases"][name]), flush=True)
        if options.store:
            # Ratios of another setting do not stand beside this one's: its file is replaced.
            before = stored["cases"] if stored.get("machine") == found["machine"] else {}
            kept = {**found, "cases": {**before, **found["cases"]}}
            path.write_text(json.dumps(kept, indent=1) + "\n")
    if options.store:
        return 0
    if not stored["cases"]:
        print(f"nothing is stored for this processor; --store would keep it in {path}")
        return 0
    if stored["machine"] != found["machine"]:
        print("the stored results are another setting's (threads, versions); ratios may differ")
    new = [name for name in found["cases"] if name not in stored["cases"]]
    if new:
        print(f"nothing is stored of {', '.join(new)}")
    fallen = losses(found, stored)
    print("\n".join(["slower than stored:", *fallen] if fallen else ["nothing got slower"]))
    return 1 if fallen else 0


if __name__ == "__main__":
    sys.exit(main())
