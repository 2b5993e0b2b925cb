"""Readouts and heads: what a row's answer depends on, and what its numbers mean."""

import math

import pytest
import torch
from torch.nn import functional

from anymae.errors import ConfigError
from anymae.model import MaskedAutoencoder
from anymae.nn.encoder import Encoded
from anymae.nn.readout import (
    COSINES,
    READOUTS,
    KernelReadout,
    layer_statistics,
    make_readout,
    mean_pool,
)
from anymae.predictor import Ensemble, Predictor, build, describe, to_answers
from anymae.task import ReadoutConfig, TaskConfig
from tiny import tiny_config, tiny_inputs

BINARY = TaskConfig(type="binary", targets=("y",), classes=("no", "yes"))


@pytest.mark.parametrize("kind", list(READOUTS))
@pytest.mark.parametrize("encoder", ["transformer", "perceiver"])
def test_an_answer_does_not_depend_on_padding_or_batch_mates(kind: str, encoder: str) -> None:
    config = tiny_config("bytes", encoder)
    task = BINARY.model_copy(update={"readout": ReadoutConfig(kind=kind)})  # type: ignore[arg-type]
    model = Predictor(config, task).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    inputs, lengths = tiny_inputs(config, 5), torch.tensor([24, 9, 1, 17, 3])
    valid = torch.arange(24) < lengths[:, None]
    together = model(inputs, valid)
    for row, length in enumerate(lengths.tolist()):
        alone = model(inputs[row : row + 1, :length])
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=1e-5)
    noise = torch.where(valid, inputs, torch.randint(6, 262, inputs.shape))
    torch.testing.assert_close(model(noise, valid), together)


def test_means_and_deviations_equal_a_loop() -> None:
    latents, valid = torch.randn(3, 7, 4), torch.rand(3, 7) < 0.6
    valid[:, 0] = True
    layers = [Encoded(latents, valid), Encoded(latents * 2, valid)]
    found = layer_statistics(layers)
    for row in range(3):
        kept = latents[row][valid[row]]
        assert torch.allclose(mean_pool(layers[0])[row], kept.mean(0), atol=1e-6)
        expected = [part for x in (kept, 2 * kept) for part in (x.mean(0), x.std(0, correction=0))]
        assert torch.allclose(found[row], torch.cat(expected), atol=2e-3)


def test_kernel_means_equal_a_loop_and_approximate_the_kernel() -> None:
    encoder = tiny_config().encoder
    readout = KernelReadout(ReadoutConfig(kind="kernel"), encoder)
    count = COSINES // (encoder.depth + 1)
    assert readout.num_features == count * (encoder.depth + 1)
    latents, valid = torch.randn(3, 7, encoder.width), torch.rand(3, 7) < 0.6
    valid[:, 0] = True
    layers = [Encoded(latents * (1 + number), valid) for number in range(encoder.depth + 1)]
    found = readout.raw(layers).view(3, encoder.depth + 1, count)
    normed = [
        functional.layer_norm(row[keep], (encoder.width,))
        for row, keep in zip(latents, valid, strict=True)
    ]
    for row, kept in enumerate(normed):
        for layer in range(encoder.depth + 1):
            cosines = [
                torch.cos(one @ readout.weight[layer] + readout.offset[layer]) for one in kept
            ]
            torch.testing.assert_close(
                found[row, layer], torch.stack(cosines).mean(0), atol=1e-4, rtol=0
            )
    # Twice the mean product of two rows' features is the mean kernel over their pairs of latents.
    product = 2 * (found[0] * found[1]).mean()
    distance = torch.cdist(normed[0], normed[1]).square()
    kernel = (-distance / (2 * encoder.width)).exp().mean()
    assert abs(product - kernel) < 0.03


def test_random_cosines_are_drawn_alike_and_apart() -> None:
    encoder = tiny_config().encoder
    one, other = (KernelReadout(ReadoutConfig(kind="kernel"), encoder) for _ in range(2))
    torch.testing.assert_close(one.weight, other.weight, atol=0, rtol=0)
    torch.testing.assert_close(one.offset, other.offset, atol=0, rtol=0)
    flat = one.weight.flatten()
    assert abs(flat.mean()) < 0.01
    assert abs(flat.square().mean() * encoder.width - 1) < 0.02
    assert flat.unique().numel() > 0.95 * flat.numel()
    assert 0 < one.offset.min() < 0.1 < 6.1 < one.offset.max() < 2 * math.pi


def test_deviation_has_a_gradient_where_all_positions_agree() -> None:
    latents = torch.ones(2, 5, 3, requires_grad=True)
    layer_statistics([Encoded(latents, None)]).sum().backward()
    assert latents.grad is not None
    assert latents.grad.isfinite().all()


def test_the_readout_has_the_sizes_that_were_asked_for() -> None:
    encoder = tiny_config().encoder
    query = make_readout(ReadoutConfig(width=12, qk_width=6, num_heads=3), encoder)
    assert query.num_features == 12
    assert query([Encoded(torch.randn(2, 5, 16), None)]).shape == (2, 12)
    assert make_readout(ReadoutConfig(kind="mean"), encoder).num_features == 16
    assert make_readout(ReadoutConfig(kind="layers"), encoder).num_features == 3 * 2 * 16


def test_answers_are_probabilities_or_numbers_in_the_users_units() -> None:
    outputs = torch.tensor([[0.0], [2.0]])
    binary = to_answers(BINARY, outputs)
    torch.testing.assert_close(binary[:, 1], outputs[:, 0].sigmoid())
    torch.testing.assert_close(binary.sum(1), torch.ones(2))
    numbers = TaskConfig(type="regression", targets=("y",), mean=(100.0,), std=(10.0,))
    torch.testing.assert_close(to_answers(numbers, outputs), torch.tensor([[100.0], [120.0]]))
    classes = TaskConfig(type="multiclass", targets=("y",), classes=("a", "b", "c"))
    assert to_answers(classes, torch.randn(4, 3)).sum(1).allclose(torch.ones(4))
    labels = TaskConfig(type="multilabel", targets=("a", "b"))
    assert to_answers(labels, torch.zeros(4, 2)).tolist() == [[0.5, 0.5]] * 4


def test_an_ensemble_gives_each_members_answers() -> None:
    config = tiny_config("values")
    members = [Predictor(config, BINARY).eval() for _ in range(3)]
    inputs = tiny_inputs(config, 4)
    found = Ensemble(members).answer(inputs)
    assert found.shape == (3, 4, 2)
    for member, answer in zip(members, found, strict=True):
        assert torch.equal(member.answer(inputs)[0], answer)


def test_the_config_of_a_pretrained_model_has_no_task() -> None:
    model = MaskedAutoencoder(tiny_config())
    assert "task" not in describe(model)
    assert isinstance(build(describe(model)), MaskedAutoencoder)
    damaged = describe(Predictor(tiny_config(), BINARY))
    damaged["task"]["typo"] = 1
    with pytest.raises(ConfigError, match="unknown key 'typo'"):
        build(damaged)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"type": "binary", "targets": ("y",)}, "0 names for a binary task"),
        ({"type": "binary", "targets": ("y", "z"), "classes": ("a", "b")}, "takes one target"),
        ({"type": "regression", "targets": ("y",)}, "must have 1 numbers"),
        ({"type": "multilabel", "targets": ()}, "name at least one"),
        ({"type": "multilabel", "targets": ("y",), "classes": ("a", "b")}, "2 names for"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskConfig(**values)  # type: ignore[arg-type]


def test_members_of_an_ensemble_that_was_built_are_models_of_their_own() -> None:
    members = [Predictor(tiny_config("values"), BINARY).eval() for _ in range(3)]
    built = build(describe(Ensemble(members)))
    assert isinstance(built, Ensemble)
    assert built.task.members == 3
    for member in built.predictors():
        assert member.task == BINARY
        assert isinstance(build(describe(member)), Predictor)
