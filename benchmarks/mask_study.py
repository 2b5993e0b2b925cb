"""What masks hide on the digits, how hard that is, and whether the encoder gets better by it.

    python benchmarks/mask_study.py [--out runs/mask-study] [--seeds 4] [--only masks]

First, masks of many kinds are put on the rows of one encoder, pretrained with random masks: the
reconstruction loss under them, how alike the hidden pixels are (mean squared correlation of two
hidden pixels, against that of a hidden and a visible one), and how evenly they fall (entropy of
the pixels' shares, 1 is even). *Relative* masks follow attention divided by what all queries
together pay to an input, so that an input that everyone looks at is no more likely to go. Then
encoders pretrained with some of these masks are probed with
50 and 200 labels, 20 draws each, on all other rows outside the test part: a number with far less
noise than a benchmark's, which has one draw and few validation rows. Weights are taken from
`--out` where they are, as `anymae benchmark digits` leaves them, and made there where not.
"""

import argparse
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from anymae.benchmark.arms import parse_arm
from anymae.benchmark.encoders import ArmEncoder, Where
from anymae.benchmark.location import data_folder
from anymae.benchmark.suite import SUITES, TaskData, take
from anymae.config import MaskingConfig
from anymae.inference.rows import open_rows
from anymae.masking import MASKINGS, FirstAttention
from anymae.masking.guided import GuidedMasking
from anymae.model import MaskedAutoencoder
from anymae.randomness import Draws, row_keys
from harness import machine

STORED = Path(__file__).parent / "results" / "mask_study.json"
SUITE, BUDGET, TASK = "digits", "cpu", "200"
ROWS, DRAWS = 600, 3
"""Rows that masks are put on, and masks for each."""

LABELS, LABEL_DRAWS = (50, 200), 20
READINGS = ("mean", "layers")
STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Inverse penalties; the best of each draw counts, the same for every arm."""


class _Relative(FirstAttention):
    """The first attention, relative to the mean over all queries of a row and all heads."""

    def __init__(self, attention: FirstAttention) -> None:
        self._attention = attention
        self.num_inputs, self.num_heads = attention.num_inputs, attention.num_heads
        self.candidates, self.most_candidates = attention.candidates, attention.most_candidates

    def weights(self, queries: Tensor, heads: Tensor | None) -> Tensor:
        every = torch.arange(self.most_candidates).expand(len(queries), -1)
        popular = self._attention.weights(every, None).mean(1, keepdim=True)
        return self._attention.weights(queries, heads) / popular.clamp(min=1e-9)


@MASKINGS.register("relative")
class RelativeMasking(GuidedMasking):
    """Guided masks that follow relative attention."""

    def __call__(
        self, valid: Tensor | None, draws: Draws, *, attention: FirstAttention, progress: float
    ) -> Tensor:
        return super().__call__(valid, draws, attention=_Relative(attention), progress=progress)


_BY_ATTENTION = {"kind": "guided", "random_floor": 0.0, "hide_queries": False}
_RELATIVE = {**_BY_ATTENTION, "kind": "relative", "draw": "top"}
MASKS: dict[str, dict[str, Any]] = {
    "random": {"kind": "random"},
    "squares of 2": {"kind": "block", "block_side": 2},
    "squares of 4": {"kind": "block", "block_side": 4},
    "guided, the presets'": {
        "kind": "guided", "draw": "sample", "random_floor": 0.5, "hide_queries": True,
    },
    "guided, half by attention": {**_BY_ATTENTION, "draw": "sample", "random_floor": 0.5},
    "guided, all drawn by attention": {**_BY_ATTENTION, "draw": "sample"},
    "guided, all drawn, 12 inputs a query": {
        **_BY_ATTENTION, "draw": "sample", "inputs_per_query": 12.0,
    },
    "guided, ranked, queries hidden (paper)": {
        **_BY_ATTENTION, "draw": "top", "hide_queries": True,
    },
    "guided, ranked": {**_BY_ATTENTION, "draw": "top"},
    "guided, ranked, 12 inputs a query": {
        **_BY_ATTENTION, "draw": "top", "inputs_per_query": 12.0,
    },
    "relative, ranked": _RELATIVE,
    "relative, ranked, 12 inputs a query": {**_RELATIVE, "inputs_per_query": 12.0},
}  # fmt: skip
ARMS = (
    "random",
    "random-again",
    "block",
    "guided",
    "guided:inputs_per_query=12:draw=top:random_floor=0.5",
)


def encoder_of(arm: str, seed: int, out: Path) -> tuple[ArmEncoder, TaskData]:
    """Return an arm's encoder, and the rows that are not for the test."""
    kind = SUITES[SUITE]
    suite = kind(data_folder(None, SUITE))
    where = Where(suite, SUITE, kind.budgets[BUDGET], BUDGET, out, "cpu")
    data = suite.load(kind.tasks[TASK], seed)
    return ArmEncoder(where, parse_arm(arm), "all", seed), data


def masks_of(model: MaskedAutoencoder, pixels: Tensor) -> Iterator[dict[str, Any]]:
    """Put each kind of mask on `pixels`, `(R, 64, 1)`."""
    alike = torch.from_numpy(_squared_correlation(pixels.squeeze(2).numpy()))
    for name, settings in MASKS.items():
        config = MaskingConfig.model_validate({"ratio": 0.5, "head_choice": "sample", **settings})
        model.masking = MASKINGS[config.kind](config, model.config.input)
        losses, hidden, pairs, across = [], torch.zeros(pixels.shape[1]), [], []
        for seed in range(DRAWS):
            draws = Draws(row_keys(torch.arange(len(pixels)), seed=seed))
            with torch.inference_mode():
                made = model(pixels, draws=draws)
            masked = made.masked.float()
            losses.append(made.loss.item())
            hidden += masked.sum(0)
            pairs.append(_mean_between(alike, masked, masked))
            across.append(_mean_between(alike, masked, 1 - masked))
        share = hidden / hidden.sum()
        entropy = torch.special.entr(share).sum() / np.log(len(share))
        yield {
            "masks": name,
            "loss": float(np.mean(losses)),
            "alike_hidden": float(np.mean(pairs)),
            "alike_across": float(np.mean(across)),
            "entropy": float(entropy),
        }


def _squared_correlation(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Correlate columns; those that never change are like none."""
    with np.errstate(invalid="ignore"):
        found = np.nan_to_num(np.corrcoef(values.T)) ** 2
    np.fill_diagonal(found, 0)
    return found.astype(np.float32)


def _mean_between(alike: Tensor, one: Tensor, other: Tensor) -> float:
    """Average over pairs of different pixels, one from each set of a row."""
    total = torch.einsum("ri,ij,rj->r", one, alike, other)
    count = one.sum(1) * other.sum(1) - (one * other).sum(1)
    return (total / count).mean().item()


def probed(encoder: ArmEncoder, data: TaskData) -> dict[str, float]:
    """Return the accuracy of linear models on frozen features, averaged over label draws."""
    rows = np.sort(np.concatenate([data.parts.train, data.parts.valid]))
    seen = TaskData(
        inputs=take(data.inputs, rows), config=data.config, parts=data.parts, labels=data.labels
    )
    features = encoder.reader(READINGS).read("study", seen, rows)
    known = data.labels.of(rows)
    found = {}
    for count in LABELS:
        for reading in READINGS:
            scores = []
            for draw in range(LABEL_DRAWS):
                mixed = np.random.default_rng([draw, count]).permutation(len(rows))
                train, rest = mixed[:count], mixed[count:]
                models = (
                    make_pipeline(StandardScaler(), LogisticRegression(C=c)).fit(
                        features[reading][train], known[train]
                    )
                    for c in STRENGTHS
                )
                scores.append(max(m.score(features[reading][rest], known[rest]) for m in models))
            found[f"{reading}/{count}"] = float(np.mean(scores))
    return found


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/mask-study"), help="records and weights"
    )
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", choices=["masks", "probes"], help="leave the rest as stored")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    found = json.loads(STORED.read_text())
    if options.only != "probes":
        found["masks"] = {"machine": machine(), "rows": _shown(study_masks(options.out))}
    if options.only != "masks":
        rows = _shown(study_probes(options.out, options.seeds))
        found["probes"] = {"machine": machine(), "rows": rows}
    STORED.write_text(json.dumps(found, indent=1) + "\n")


def study_masks(out: Path) -> Iterator[dict[str, Any]]:
    """Put masks on rows of one encoder."""
    encoder, data = encoder_of("random", 0, out)
    inputs = take(data.inputs, data.parts.train[:ROWS])
    dataset = open_rows(encoder.model, inputs, data.config)
    yield from masks_of(encoder.model, dataset.batch(np.arange(len(dataset))).inputs)


def study_probes(out: Path, seeds: int) -> Iterator[dict[str, Any]]:
    """Probe encoders pretrained with some of the masks."""
    for seed in range(seeds):
        for arm in ARMS:
            encoder, data = encoder_of(arm, seed, out)
            yield {"arm": arm, "seed": seed, **probed(encoder, data)}


def _shown(lines: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print lines as they come."""
    kept = []
    for line in lines:
        print(json.dumps(line), flush=True)
        kept.append(line)
    return kept


if __name__ == "__main__":
    main()
