"""How time and memory of a training step grow with inputs, rows, width and depth.

    python benchmarks/scaling.py            every series, then the plots
    python benchmarks/scaling.py perceiver  one series

A point is a process of its own: the fastest of a few steps (a machine's noise only ever adds),
and the growth of the resident size over them. `small`'s sizes, bytes, fp32. Results go to
`benchmarks/results/scaling.json`, plots to `docs/performance/`, slopes to the screen.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from anymae.config import InputConfig
from anymae.presets import build_config
from cases import pretraining, strings
from harness import machine, peak_memory, take_turns

STORED = Path(__file__).parent / "results" / "scaling.json"
PLOTS = Path(__file__).parents[1] / "docs" / "performance"


class Point(NamedTuple):
    """One size."""

    encoder: str
    inputs: int
    rows: int = 1
    width: int = 256
    depth: int = 6


class Series(NamedTuple):
    """Sizes that differ in one number."""

    axis: str
    points: list[Point]
    slope_from: int
    """Slopes are fitted to sizes from here on: below, what does not grow shows."""


def _powers(first: int, last: int) -> list[int]:
    return [2**n for n in range(int(math.log2(first)), int(math.log2(last)) + 1)]


SERIES = {
    "perceiver": Series(
        "inputs", [Point("perceiver", n) for n in _powers(128, 65536)], slope_from=1024
    ),
    "transformer": Series(
        "inputs", [Point("transformer", n) for n in _powers(128, 8192)], slope_from=1024
    ),
    "rows": Series(
        "rows", [Point("transformer", 128, rows=n) for n in _powers(1, 128)], slope_from=8
    ),
    "width": Series(
        "width",
        [Point("transformer", 128, rows=8, width=n) for n in _powers(64, 1024)],
        slope_from=256,
    ),
    "depth": Series(
        "depth", [Point("transformer", 128, rows=8, depth=n) for n in _powers(2, 32)], slope_from=8
    ),
}


def measure(point: Point, rounds: int) -> dict[str, float]:
    """Return seconds and bytes of a training step on one batch."""
    sizes = {"kind": point.encoder, "width": point.width, "depth": point.depth}
    config = build_config("small", InputConfig(kind="bytes", length=point.inputs), encoder=sizes)
    step = pretraining(config, [strings(np.full(point.rows, point.inputs))], "fp32")
    with peak_memory() as growth:
        step()
    seconds = take_turns({"step": step}, rounds=rounds, warmup=0)["step"]
    return {"seconds": min(seconds), "bytes": growth[0]}


def slope(sizes: list[float], values: list[float], start: float) -> float:
    """Fit a power law to the values of sizes from `start` on; returns its exponent."""
    kept = [(math.log(x), math.log(y)) for x, y in zip(sizes, values, strict=True) if x >= start]
    return float(np.polyfit(*np.array(kept).T, 1)[0])


def plot(name: str, series: Series, points: list[dict[str, float]]) -> dict[str, float]:
    """Draw time and memory of a series; returns their slopes."""
    import matplotlib.pyplot as plt

    sizes = [getattr(point, series.axis) for point in series.points]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    slopes = {}
    scales = {"seconds": (1.0, "s a step"), "bytes": (2**-20, "MiB above the level before")}
    for axis, (key, (scale, label)) in zip(axes, scales.items(), strict=True):
        values = [point[key] * scale for point in points]
        slopes[key] = slope(sizes, values, series.slope_from)
        axis.loglog(sizes, values, "o-", base=2)
        axis.set(xlabel=series.axis, ylabel=label)
        axis.set_title(f"slope {slopes[key]:.2f} from {series.slope_from:,} on", fontsize=10)
    figure.suptitle(name)
    PLOTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOTS / f"{name}.png", dpi=110)
    plt.close(figure)
    return slopes


def main() -> None:
    """Measure series, store and plot them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series", nargs="*", metavar="SERIES", help=", ".join(SERIES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.point:
        point = Point(**json.loads(options.point))
        print(json.dumps(measure(point, options.rounds)))
        return
    stored = json.loads(STORED.read_text()) if STORED.exists() else {"series": {}}
    stored["machine"] = machine()
    for name in options.series or SERIES:
        series, found = SERIES[name], []
        for point in series.points:
            command = [sys.executable, __file__, "--point", json.dumps(point._asdict())]
            command += ["--rounds", str(options.rounds), "--threads", str(options.threads)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout))
            print(name, getattr(point, series.axis), found[-1], flush=True)
        slopes = plot(name, series, found)
        print(name, "slopes", slopes, flush=True)
        sizes = [getattr(point, series.axis) for point in series.points]
        stored["series"][name] = {
            "axis": series.axis, "sizes": sizes, "points": found, "slopes": slopes
        }  # fmt: skip
        STORED.parent.mkdir(exist_ok=True)
        STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
