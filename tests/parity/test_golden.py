"""Our numbers are the published implementation's numbers, with its weights and its masks.

The reference tensors were computed once with the published code. Tolerance: 1e-5 times the
largest absolute value of a tensor (at least 1), fp32.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from anymae.compat.published import _translate, convert
from anymae.masking.select import hidden_counts, hide_top, query_counts, rank_by_score
from anymae.model import MaskedAutoencoder
from anymae.nn.encoder import take
from tiny import tiny_config

MODELS = ["self-discrete", "self-continuous", "cross-discrete"]


class Golden:
    """One reference model with its tensors, and ours with the same weights."""

    def __init__(self, folder: Path, name: str) -> None:
        self.tensors = load_file(folder / f"{name}.safetensors")
        config = json.loads((folder / f"{name}.json").read_text())
        self.model = convert(config, self.below("weights/"))
        self.inputs = self.tensors["io/inputs"]
        self.valid = self.tensors["io/attention_mask"].bool()
        self.masked = self.tensors["io/masked"]

    def below(self, prefix: str) -> dict[str, Tensor]:
        return {
            key.removeprefix(prefix): value
            for key, value in self.tensors.items()
            if key.startswith(prefix)
        }

    def io(self, name: str) -> Tensor:
        return self.tensors[f"io/{name}"]


@pytest.fixture(scope="module", params=MODELS)
def golden(request: pytest.FixtureRequest, golden_folder: Path) -> Golden:
    return Golden(golden_folder, request.param)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    tolerance = 1e-5 * max(1.0, theirs.abs().max().item())
    assert (ours - theirs).abs().max().item() <= tolerance


def test_embeddings_agree(golden: Golden) -> None:
    embedded = golden.model.embedding(golden.inputs)
    assert_close(embedded[golden.valid], golden.io("embedded")[golden.valid])


@pytest.mark.parametrize("num_queries", [None, 2], ids=["keys computed", "keys absorbed"])
def test_first_attention_scores_agree(golden: Golden, num_queries: int | None) -> None:
    embedded = golden.model.embedding(golden.inputs)
    encoder = golden.model.encoder
    count = num_queries or encoder.num_queries(embedded.shape[1])
    index = torch.arange(count).expand(len(embedded), -1)
    scores = encoder.first.scores(encoder.first_queries(embedded, index), embedded)
    theirs = golden.io("first_attention_scores").transpose(1, 2)[:, :count]
    real = golden.valid[:, None, None].expand_as(theirs)
    if encoder.queries_are_inputs:
        real = real & golden.valid[:, :count, None, None]
    assert_close(scores[real], theirs[real])


def test_encoder_output_agrees(golden: Golden) -> None:
    encoded = golden.model.encode(golden.inputs, golden.valid, golden.masked)
    theirs = golden.io("last_hidden_state")
    if encoded.valid is None:
        assert_close(encoded.latents, theirs)
        return
    assert torch.equal(encoded.valid.sum(1), golden.io("kept_per_sample"))
    assert_close(encoded.latents[encoded.valid], theirs[encoded.valid])


def test_logits_at_masked_positions_and_loss_agree(golden: Golden) -> None:
    out = golden.model(golden.inputs, golden.valid, golden.masked)
    length = golden.inputs.shape[1]
    assert_close(out.predictions, golden.io("decoder_logits")[:, :length][golden.masked])
    assert_close(out.loss, golden.io("loss"))


def test_every_gradient_agrees(golden: Golden) -> None:
    golden.model.zero_grad()
    golden.model(golden.inputs, golden.valid, golden.masked).loss.backward()
    theirs = _translate(golden.below("grad/"), golden.model)
    ours = {name: p.grad for name, p in golden.model.named_parameters() if p.grad is not None}
    assert ours.keys() == theirs.keys() == dict(golden.model.named_parameters()).keys()
    for name, gradient in ours.items():
        assert_close(gradient, theirs[name])


@pytest.mark.parametrize("encoder", ["transformer", "perceiver"])
def test_layer_norm_epsilons_are_the_published_ones(encoder: str) -> None:
    epsilons = {
        name: module.eps
        for name, module in MaskedAutoencoder(tiny_config("bytes", encoder)).named_modules()
        if isinstance(module, torch.nn.LayerNorm)
    }
    assert {name for name, eps in epsilons.items() if eps == 1e-12} == {
        "embedding.norm",
        "decoder.norm",
    }
    assert all(eps == 1e-5 for eps in epsilons.values() if eps != 1e-12)


@pytest.mark.parametrize("encoder", ["self", "cross"])
@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_selection_agrees_given_the_chosen_queries(
    golden_folder: Path, encoder: str, case: str
) -> None:
    stored = load_file(golden_folder / f"selection-{encoder}.safetensors")
    tensors = {k.removeprefix(f"{case}/"): v for k, v in stored.items() if k.startswith(case)}
    valid = tensors["attention_mask"].bool()
    ratio = tensors["masking_ratio"].item()
    queries, votes = tensors["chosen_queries"], tensors["chosen_queries"] >= 0
    queries = queries.clamp(min=0)
    weights = take(tensors["scores"].softmax(-1).mean(1), queries)
    scores = torch.where(votes[:, :, None], weights, 0).sum(1)
    first = None
    if tensors["mask_self"]:
        first = torch.zeros_like(valid).scatter(1, queries, votes)
    counts = hidden_counts(valid.sum(1), ratio)
    assert torch.equal(counts, tensors["num_masked"])
    if encoder == "self":
        ours = query_counts(valid.sum(1), ratio, tensors["num_per_query"].item())
        assert torch.equal(ours, tensors["chosen_count"])
    ties = torch.randint(0, 2**31, valid.shape)
    rank = rank_by_score(scores, ties, first)
    masked = hide_top(rank, valid, counts, int(counts.max()))
    assert torch.equal(masked, tensors["masked"])


def test_published_physics_and_chemistry_sizes() -> None:
    from anymae.presets import preset_config

    sizes = {"paper-physics": 602_241, "paper-chemistry": 50_252_038}
    for name, expected in sizes.items():
        with torch.device("meta"):
            model = MaskedAutoencoder(preset_config(name))
        assert sum(p.numel() for p in model.parameters()) == expected
