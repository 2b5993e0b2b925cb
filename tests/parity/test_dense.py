"""The direct way, against which speed is measured, computes the same numbers as ours."""

import pytest
import torch
from torch import Tensor, nn

from anymae.model import MaskedAutoencoder
from anymae.nn.attention import SelfAttentionLayer
from anymae.predictor import Predictor
from anymae.task import TaskConfig
from dense import DenseAutoencoder, DenseEncoder, DenseLayer, DensePredictor
from harness import MatmulRecorder, matmuls_alone, ratio, take_turns
from tiny import tiny_config, tiny_inputs

every_model = pytest.mark.parametrize("encoder", ["transformer", "perceiver"])
every_kind = pytest.mark.parametrize("content", ["bytes", "values"])


def widened(model: nn.Module) -> nn.Module:
    """Move weights off their small start, so that a mistake shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def ragged(batch: int) -> Tensor:
    return torch.arange(24) < torch.tensor([24, 9, 17, 5])[:batch, None]


def gradients(layer: nn.Module) -> Tensor:
    """A layer's gradients side by side, whether projections are joint or separate."""
    if isinstance(layer, DenseLayer):
        parts = [layer.norm, layer.query, layer.key, layer.value, layer.output, layer.mlp_norm]
        parts += [layer.expand, layer.contract]
    elif isinstance(layer, SelfAttentionLayer):
        parts = [layer.norm, layer.query_key_value, layer.output, layer.mlp_norm, layer.mlp]
    else:
        parts = [layer.query_norm, layer.query, layer.key_value, layer.output, layer.mlp_norm]
        parts += [layer.mlp]
    weights = [p for part in parts for name, p in part.named_parameters() if "weight" in name]
    biases = [p for part in parts for name, p in part.named_parameters() if "bias" in name]
    return torch.cat([p.grad.flatten() for p in weights + biases])


@every_kind
@every_model
def test_loss_and_gradients_agree_given_the_mask(content: str, encoder: str) -> None:
    ours = widened(MaskedAutoencoder(tiny_config(content, encoder, hide_queries=False)))
    direct = DenseAutoencoder(ours)
    inputs, valid = tiny_inputs(ours.config, 4), ragged(4)
    out = ours(inputs, valid)
    loss = direct(inputs, valid, out.masked)
    assert torch.isclose(out.loss, loss, rtol=1e-5)
    out.loss.backward()
    loss.backward()
    pairs = [
        (ours.encoder.first, direct.encoder.first),
        *zip(ours.encoder.blocks, direct.encoder.layers, strict=True),
        (ours.decoder.layer, direct.decoder),
    ]
    for mine, theirs in pairs:
        assert torch.allclose(gradients(mine), gradients(theirs), atol=1e-5)
    positions = ours.embedding.positions, direct.encoder.embedding.positions
    assert torch.allclose(positions[0].grad, positions[1].grad, atol=1e-5)


@every_model
def test_latents_and_answers_agree(encoder: str) -> None:
    task = TaskConfig(type="regression", targets=("y",), mean=(0.0,), std=(1.0,))
    ours = widened(Predictor(tiny_config("bytes", encoder), task))
    inputs, valid = tiny_inputs(ours.config, 4), ragged(4)
    assert torch.allclose(ours(inputs, valid), DensePredictor(ours)(inputs, valid), atol=1e-5)
    (mine, real), (theirs, _) = ours.encode(inputs, valid), DenseEncoder(ours)(inputs, valid)
    keep = slice(None) if real is None else real
    assert torch.allclose(mine[keep], theirs[keep], atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"head_choice": "sample", "hide_queries": True}])
def test_the_direct_way_hides_as_many(options: dict[str, object]) -> None:
    ours = MaskedAutoencoder(tiny_config("bytes", "transformer", ratio=0.4, **options))
    direct, valid = DenseAutoencoder(ours), ragged(4)
    scores = torch.randn(4, 2, 24, 24).masked_fill(~valid[:, None, None], -1e30)
    masked = direct.choose(scores, valid)
    assert torch.equal(masked.sum(1), ours.masking.most_hidden(0) + (valid.sum(1) * 0.4).round())
    assert not (masked & ~valid).any()


def test_the_floor_counts_products_forward_and_backward() -> None:
    linear = nn.Linear(3, 5)
    x = torch.randn(7, 3, requires_grad=True)
    with MatmulRecorder() as recorder:
        linear(x).sum().backward()
    sizes = [[size for size, _ in product.operands] for product in recorder.products]
    assert [(7, 3), (3, 5)] in sizes and recorder.products.total() == 3
    matmuls_alone(lambda: linear(x).sum().backward())()


def test_ratios_are_taken_within_rounds() -> None:
    assert ratio([2.0, 6.0, 4.0], [1.0, 2.0, 4.0]) == (2.0, 1.0, 3.0)
    ticks = iter(range(100))
    seconds = take_turns({"a": int, "b": int}, rounds=2, clock=lambda: float(next(ticks)))
    assert seconds == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
