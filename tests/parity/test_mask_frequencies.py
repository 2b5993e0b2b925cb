"""Each position is hidden as often as by the published algorithm, written here as a naive loop.

The loop uses real lengths and hides sampled queries before everything else; in these two points
the published code errs (padded lengths, a bounded score).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from anymae.compat.published import convert
from anymae.config import MaskingConfig
from anymae.masking.guided import GuidedMasking
from anymae.model import MaskedAutoencoder
from anymae.randomness import Draws, row_keys

DRAWS = 16_000
VARIANTS = [
    ("self-discrete", "mean", False),
    ("self-discrete", "mean", True),
    ("self-discrete", "sample", False),
    ("self-discrete", "sample", True),
    ("cross-discrete", "mean", False),
    ("cross-discrete", "sample", False),
]


def naive_frequencies(
    attention: np.ndarray, candidates: int, masking: MaskingConfig, seed: int
) -> np.ndarray:
    """How often each of n inputs is hidden; `attention` is (heads, queries, n) after softmax."""
    random = np.random.default_rng(seed)
    num_heads, _, num_valid = attention.shape
    ratio = np.float32(masking.ratio)
    num_hidden = min(max(int(np.rint(num_valid * ratio)), 1), num_valid - 1)
    num_queries = int(np.rint(np.float32(num_valid) * ratio / np.float32(masking.inputs_per_query)))
    num_queries = min(candidates, max(1, num_queries))
    mean = attention.mean(0)
    hidden = np.zeros(num_valid)
    for _ in range(DRAWS):
        queries = random.permutation(candidates)[:num_queries]
        if masking.head_choice == "mean":
            scores = mean[queries].sum(0)
        else:
            scores = attention[random.integers(num_heads, size=num_queries), queries].sum(0)
        if masking.hide_queries:
            scores[queries] = np.inf
        hidden[np.argpartition(-scores, num_hidden - 1)[:num_hidden]] += 1
    return hidden / DRAWS


def our_frequencies(
    model: MaskedAutoencoder, inputs: torch.Tensor, valid: torch.Tensor
) -> np.ndarray:
    hidden = torch.zeros(len(inputs))
    for epoch in range(DRAWS // 2000):
        draws = Draws(row_keys(torch.arange(2000), seed=7, epoch=epoch))
        embedded = model.embedding(inputs[None]).expand(2000, -1, -1)
        hidden += model.mask(embedded, valid.expand(2000, -1), draws, 1.0).sum(0)
    return (hidden / DRAWS).numpy()


@pytest.mark.parametrize(("name", "head_choice", "hide_queries"), VARIANTS)
def test_positions_are_hidden_as_often_as_by_the_published_algorithm(
    golden_folder: Path, name: str, head_choice: str, hide_queries: bool
) -> None:
    tensors = load_file(golden_folder / f"{name}.safetensors")
    config = json.loads((golden_folder / f"{name}.json").read_text())
    weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if "weights/" in k}
    model = convert(config, weights)
    masking = model.config.masking.model_copy(
        update={"head_choice": head_choice, "hide_queries": hide_queries}
    )
    model.masking = GuidedMasking(masking, model.config.input)
    valid = tensors["io/attention_mask"].bool()
    counts = valid.sum(1)
    for row in {int(counts.argmin()), int(counts.argmax())}:
        num_valid = int(counts[row])
        scores = tensors["io/first_attention_scores"][row][:, :, :num_valid]
        candidates = num_valid if model.encoder.queries_are_inputs else scores.shape[1]
        attention = scores[:, :candidates].softmax(-1).numpy()
        theirs = naive_frequencies(attention, candidates, masking, seed=row)
        ours = our_frequencies(model, tensors["io/inputs"][row], valid[row])
        assert np.abs(ours[:num_valid] - theirs).max() < 0.03
        assert ours[num_valid:].sum() == 0
        assert theirs.std() > 0.01  # the attention has preferences: the comparison means something
