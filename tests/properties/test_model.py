"""What the model promises whatever its weights are: nothing hidden leaks, rows stand alone."""

import copy
import weakref
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from anymae.config import ModelConfig, parse
from anymae.errors import DataError
from anymae.masking import FirstAttention
from anymae.model import MaskedAutoencoder
from anymae.nn.attention import DropPath, attend, key_bias
from anymae.nn.heads import make_head
from anymae.nn.readout import layer_statistics
from anymae.predictor import Predictor
from anymae.randomness import Draws, Purpose, row_keys
from anymae.task import TaskConfig
from tiny import tiny_config, tiny_inputs

ENCODERS = ["transformer", "perceiver"]
KINDS = ["bytes", "values", "image", "table"]
every_model = pytest.mark.parametrize(
    ("kind", "encoder"), [(kind, encoder) for kind in KINDS for encoder in ENCODERS]
)


def make(kind: str = "bytes", encoder: str = "transformer", **options: object) -> MaskedAutoencoder:
    model = MaskedAutoencoder(tiny_config(kind, encoder, **options))
    with torch.no_grad():  # wider than the usual start, so that mistakes show
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def with_input(config: ModelConfig, **changes: object) -> ModelConfig:
    return config.model_copy(update={"input": config.input.model_copy(update=changes)})


def ragged(batch: int, length: int = 24) -> Tensor:
    """Validity with real inputs scattered, from one to all of them."""
    chance = torch.rand(batch, 1)
    valid = torch.rand(batch, length) < chance
    valid[:, 3] = True
    valid[0] = True
    return valid


def model_attention(model: MaskedAutoencoder, embedded: Tensor, valid: Tensor) -> Tensor:
    """All of the first attention, `(B, Q, N)`, averaged over heads."""
    attention = FirstAttention(model.encoder, embedded, valid)
    queries = torch.arange(attention.most_candidates).expand(len(embedded), -1)
    return attention.weights(queries, None)


def test_forward_reports_what_it_hid() -> None:
    model = make(ratio=0.25)
    out = model(tiny_inputs(model.config, 3))
    assert out.masked.sum(1).tolist() == [6, 6, 6]
    assert out.count == 18 and out.predictions.shape == (18, 262)
    assert torch.isclose(out.loss, out.loss_sum / 18)


@every_model
def test_predictions_follow_the_order_of_masked_positions(kind: str, encoder: str) -> None:
    model = make(kind, encoder)
    inputs, valid = tiny_inputs(model.config, 4), ragged(4)
    out = model(inputs, valid)
    positions = out.masked.nonzero()
    assert len(out.predictions) == len(positions)
    for prediction, (row, position) in zip(out.predictions, positions.tolist(), strict=True):
        # Decoding one position of one row alone gives the same numbers.
        encoded = model.encode(inputs[row : row + 1], valid[row : row + 1], out.masked[row][None])
        alone = model._decode(encoded, torch.tensor([[position]]))[0, 0]
        assert torch.allclose(prediction, alone, atol=1e-4)


@every_model
def test_loss_equals_a_naive_loop(kind: str, encoder: str) -> None:
    model = make(kind, encoder)
    inputs, valid = tiny_inputs(model.config, 4), ragged(4)
    out = model(inputs, valid)
    total = 0.0
    predictions = iter(out.predictions)
    for row, position in out.masked.nonzero().tolist():
        predicted, target = next(predictions), inputs[row, position]
        if kind == "bytes":
            total += -predicted.log_softmax(0)[target].item()
        elif kind == "table" and model.config.input.categories[position]:
            count = model.config.input.categories[position]
            surprise = -predicted[:count].log_softmax(0)[int(target)]
            total += (surprise / torch.tensor(count).log()).item()
        elif kind == "table":
            total += (predicted[0] - target[0]).square().item()
        else:
            total += (predicted - target).square().mean().item()
    assert out.loss_sum.item() == pytest.approx(total, rel=1e-4)


@every_model
def test_hidden_content_cannot_leak(kind: str, encoder: str) -> None:
    model = make(kind, encoder)
    inputs, valid = tiny_inputs(model.config, 4), ragged(4)
    masked = model(inputs, valid).masked
    changed = inputs.clone()
    changed[masked] = tiny_inputs(model.config, 4)[masked]
    before, after = (model(x, valid, masked) for x in (inputs, changed))
    assert torch.equal(before.predictions, after.predictions)
    latents = [model.encode(x, valid, masked).latents for x in (inputs, changed)]
    assert torch.equal(*latents)


@every_model
def test_a_row_of_which_all_is_hidden_shows_nothing(kind: str, encoder: str) -> None:
    model = make(kind, encoder)
    inputs, valid = tiny_inputs(model.config, 4), ragged(4)
    changed, masked = tiny_inputs(model.config, 4), valid.clone()
    assert not torch.equal(inputs[valid], changed[valid])
    for given in (valid, None):
        before, after = (model(x, given, masked | (given is None)) for x in (inputs, changed))
        assert torch.equal(before.predictions, after.predictions)
        latents = [model.encode(x, given, masked | (given is None)) for x in (inputs, changed)]
        assert torch.equal(latents[0].latents, latents[1].latents)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_drop_path_grows_to_its_rate_and_a_single_block_has_all_of_it(encoder: str) -> None:
    config = tiny_config("values", encoder)
    for depth, rates in ((0, []), (1, [0.5]), (2, [0.0, 0.5]), (3, [0.0, 0.25, 0.5])):
        sizes = config.encoder.model_copy(update={"depth": depth, "drop_path": 0.5})
        model = MaskedAutoencoder(config.model_copy(update={"encoder": sizes}))
        found = [part.rate for part in model.modules() if isinstance(part, DropPath)]
        assert found == rates


@every_model
def test_layers_are_computed_one_by_one_and_not_kept(kind: str, encoder: str) -> None:
    model = make(kind, encoder)
    inputs, alive = tiny_inputs(model.config, 2), []
    before: list[weakref.ref[torch.Tensor]] = []
    with torch.no_grad():
        for state in model.encode_layers(inputs):
            alive.append(sum(ref() is not None for ref in before))
            before.append(weakref.ref(state.latents))
    # What is at hand is what the next layer is computed from.
    assert max(alive) <= 1 and len(before) == model.config.encoder.depth + 1


@every_model
def test_what_is_not_valid_is_never_seen(kind: str, encoder: str) -> None:
    model = make(kind, encoder)
    inputs, valid = tiny_inputs(model.config, 4), ragged(4)
    draws = Draws(row_keys(torch.arange(4), seed=0))
    spoiled = inputs.clone()
    spoiled[~valid] = 7 if kind == "bytes" else float("nan")
    before, after = (model(x, valid, draws=draws) for x in (inputs, spoiled))
    assert torch.equal(before.masked, after.masked)
    assert torch.equal(before.loss, after.loss) and before.loss.isfinite()
    assert torch.equal(model.encode(inputs, valid).latents, model.encode(spoiled, valid).latents)


@every_model
def test_a_row_alone_equals_the_row_in_a_batch(kind: str, encoder: str) -> None:
    model = make(kind, encoder)
    inputs, valid = tiny_inputs(model.config, 5), ragged(5)
    keys = row_keys(torch.arange(5), seed=0)
    together = model(inputs, valid, draws=Draws(keys))
    encoded = model.encode(inputs, valid)
    for row in range(5):
        one = slice(row, row + 1)
        alone = model(inputs[one], valid[one], draws=Draws(keys[one]))
        assert torch.equal(alone.masked, together.masked[one])
        mine = together.listed[row][together.filled[row]]
        assert torch.allclose(alone.predictions, mine, atol=1e-4)
        latents = model.encode(inputs[one], valid[one]).latents[0]
        assert torch.allclose(encoded.latents[row, : len(latents)], latents, atol=1e-4)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_all_valid_batch_needs_no_validity(encoder: str) -> None:
    model = make("values", encoder)
    inputs = tiny_inputs(model.config, 3)
    valid = torch.ones(3, 24, dtype=torch.bool)
    draws = Draws(row_keys(torch.arange(3), seed=0))
    with_valid, without = model(inputs, valid, draws=draws), model(inputs, draws=draws)
    assert torch.equal(with_valid.masked, without.masked)
    assert torch.allclose(with_valid.predictions, without.predictions, atol=1e-5)
    assert torch.allclose(
        model.encode(inputs, valid).latents, model.encode(inputs).latents, atol=1e-5
    )


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("kind", ["bytes", "values", "image"])  # tables have all their columns
@pytest.mark.parametrize("mask_token", [False, True])
def test_a_narrower_batch_equals_the_same_rows_padded(
    kind: str, encoder: str, mask_token: bool
) -> None:
    config = tiny_config(kind, encoder)
    config = config.model_copy(
        update={"decoder": config.decoder.model_copy(update={"mask_token": mask_token})}
    )
    model = MaskedAutoencoder(config).eval()
    inputs, draws = tiny_inputs(config, 3), Draws(row_keys(torch.arange(3), seed=0))
    valid = torch.arange(24) < torch.tensor([10, 7, 4])[:, None]
    narrow = model(inputs[:, :10], valid[:, :10], draws=draws)
    padded = model(inputs, valid, draws=draws)
    assert torch.equal(narrow.masked, padded.masked[:, :10])
    assert narrow.count == padded.count > 0
    assert torch.allclose(narrow.predictions, padded.predictions, atol=1e-5)
    assert torch.allclose(narrow.loss, padded.loss, atol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("draw", ["top", "sample"])
def test_attention_that_underflows_hides_as_many_and_leaves_finite_numbers(
    encoder: str, draw: str
) -> None:
    model = make("values", encoder, ratio=0.5, draw=draw)
    with torch.no_grad():
        model.encoder.first.query.weight.mul_(1e4)
    inputs = tiny_inputs(model.config, 16)
    valid = torch.arange(24) < torch.tensor([24, 9, 5, 2] * 4)[:, None]
    embedded, draws = model.embedding(inputs), Draws(row_keys(torch.arange(16), seed=0))
    attention = model_attention(model, embedded, valid)
    assert (attention > 0).sum(-1).max() <= 3  # of up to 24: it does underflow
    out = model(inputs, valid, draws=draws)
    assert out.masked.sum(1).tolist() == [12, 4, 2, 1] * 4
    assert not (out.masked & ~valid).any()
    assert out.loss.isfinite() and out.predictions.isfinite().all()
    out.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    encoded = model.encode(inputs, valid, out.masked)
    assert encoded.latents.isfinite().all()
    if encoded.valid is not None:
        assert torch.equal(encoded.valid.sum(1), (valid & ~out.masked).sum(1))


def test_rows_with_nothing_to_hide_cost_nothing() -> None:
    model = make()
    valid = torch.zeros(3, 24, dtype=torch.bool)
    valid[1, 4] = True
    out = model(tiny_inputs(model.config, 3), valid)
    assert out.count == 0 and out.loss == 0
    out.loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)


def test_transformer_latents_are_the_visible_inputs_in_order() -> None:
    model = make("values")
    inputs, valid = tiny_inputs(model.config, 2), ragged(2)
    masked = model(inputs, valid).masked
    encoded = model.encode(inputs, valid, masked)
    kept = (valid & ~masked)[1].nonzero().flatten()
    permuted_alone = model.encode(inputs[1:2], valid[1:2], masked[1:2])
    assert encoded.valid is not None and encoded.valid[1].sum() == len(kept)
    assert torch.allclose(permuted_alone.latents[0], encoded.latents[1, : len(kept)], atol=1e-5)
    with torch.no_grad():  # Without what attention adds, each latent shows its own input alone.
        for layer in (model.encoder.first, *model.encoder.blocks):
            layer.output.weight.zero_()
    latents = model.encode(inputs, valid, masked).latents[1, : len(kept)]
    for place, position in enumerate(kept.tolist()):
        others = torch.arange(24)[None] != position
        alone = model.encode(inputs[1:2], valid[1:2], others).latents[0, 0]
        assert torch.allclose(latents[place], alone, atol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_choice_takes_no_gradient_and_the_read_does(encoder: str) -> None:
    model = make("values", encoder)
    inputs = tiny_inputs(model.config, 2)
    embedded = model.embedding(inputs).detach().requires_grad_()
    draws = Draws(row_keys(torch.arange(2), seed=0))
    masked = model.mask(embedded, None, draws, 1.0)
    assert not masked.requires_grad and embedded.grad is None
    model(inputs, draws=draws).loss.backward()
    assert model.encoder.first.query.weight.grad.abs().sum() > 0
    chosen = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model(inputs, masked=masked).loss.backward()  # replayed: the choice added nothing
    assert all(torch.allclose(p.grad, chosen[n], atol=1e-6) for n, p in model.named_parameters())


class PermutedDraws(Draws):
    """Draws whose index i belongs to input `order[i]`, where they are about inputs."""

    order: Tensor
    about_inputs: tuple[Purpose, ...]

    def bits_for(self, purposes: Sequence[Purpose], count: int) -> tuple[Tensor, ...]:
        found = zip(purposes, super().bits_for(purposes, count), strict=True)
        return tuple(b[:, self.order] if p in self.about_inputs else b for p, b in found)

    def bits_at(self, purpose: Purpose, columns: Tensor) -> Tensor:
        own = self.order[columns] if purpose in self.about_inputs else columns
        return super().bits_at(purpose, own)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_permuting_inputs_positions_and_draws_permutes_the_mask(encoder: str) -> None:
    """The paper's definition of domain-agnostic: no order of the inputs is special."""
    model = make("values", encoder, ratio=0.4, random_start=0.5)
    inputs = tiny_inputs(model.config, 3)
    order = torch.randperm(24)
    keys = row_keys(torch.arange(3), seed=0)
    permuted_draws = PermutedDraws(keys)
    permuted_draws.order = order
    permuted_draws.about_inputs = (Purpose.TIE, Purpose.FILL)
    if encoder == "transformer":  # its queries are inputs; a perceiver's are latents
        permuted_draws.about_inputs += (Purpose.QUERY, Purpose.HEAD)
    masked = model(inputs, draws=Draws(keys), progress=0.2).masked
    latents = model.encode(inputs, masked=masked)
    assert model.embedding.positions is not None
    with torch.no_grad():
        model.embedding.positions.copy_(model.embedding.positions[order].clone())
    permuted = model(inputs[:, order], draws=permuted_draws, progress=0.2).masked
    assert torch.equal(permuted, masked[:, order])
    after = model.encode(inputs[:, order], masked=permuted)
    if encoder == "perceiver":
        assert torch.allclose(after.latents, latents.latents, atol=1e-4)
    else:  # the visible inputs come in the new order
        for row in range(3):
            place = {int(p): i for i, p in enumerate((~masked[row]).nonzero().flatten())}
            back = [place[int(p)] for p in order[~permuted[row]]]
            assert torch.allclose(after.latents[row], latents.latents[row, back], atol=1e-4)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("kind", ["bytes", "values", "table"])
def test_forward_never_waits_for_a_value_on_the_host(kind: str, encoder: str) -> None:
    """Fake tensors hold no values: whatever needs one fails."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = make(kind, encoder, head_choice="sample", random_start=0.5)
    inputs, valid = tiny_inputs(model.config, 2), ragged(2)
    draws = Draws(row_keys(torch.arange(2), seed=0))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [mode.from_tensor(x) for x in (inputs, valid, draws.keys)]
        out = model(fake[0], fake[1], draws=Draws(fake[2]), progress=0.2)
    assert out.loss_sum.shape == ()


@every_model
def test_encoding_without_a_mask_waits_for_no_value_away_from_the_cpu(
    kind: str, encoder: str
) -> None:
    """Tensors of the device `meta` hold no values: whatever needs one fails."""
    model = make(kind, encoder)
    inputs = tiny_inputs(model.config, 3)
    valid = torch.arange(24) < torch.tensor([3, 17, 9])[:, None]
    here = model.encode(inputs, valid)
    task = TaskConfig(type="binary", targets=("y",), classes=("no", "yes"))
    tuned = Predictor.from_pretrained(model, task).to("meta")
    assert tuned(inputs.to("meta"), valid.to("meta")).shape == (3, 1)
    there = model.to("meta").encode(inputs.to("meta"), valid.to("meta"))
    if encoder == "perceiver":
        assert there.latents.shape == here.latents.shape
    else:  # with as many places as a row has inputs
        assert there.latents.shape[1] == 24 > here.latents.shape[1] == 17


def test_places_that_stay_empty_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, encoder in [(kind, encoder) for kind in KINDS for encoder in ENCODERS]:
        model = make(kind, encoder)
        inputs = tiny_inputs(model.config, 3)
        valid = torch.arange(24) < torch.tensor([3, 17, 9])[:, None]
        here = list(model.encode_layers(inputs, valid))
        with monkeypatch.context() as patched:
            patched.setattr("anymae.model._most_true", lambda flags: flags.shape[1])
            there = list(model.encode_layers(inputs, valid))
        assert torch.allclose(layer_statistics(here), layer_statistics(there), atol=1e-5)


def test_lengths_in_a_batch_do_not_change_the_shapes() -> None:
    model = make()
    inputs = tiny_inputs(model.config, 3)
    shapes = set()
    for counts in ([24, 24, 24], [1, 2, 3], [24, 1, 12]):
        valid = torch.arange(24) < torch.tensor(counts)[:, None]
        out = model(inputs, valid)
        shapes.add((out.listed.shape, out.hidden.shape))
    assert len(shapes) == 1


def test_same_generator_state_gives_the_same_mask() -> None:
    model = make()
    inputs = tiny_inputs(model.config, 4)
    first, second, third = (
        model(inputs, generator=torch.Generator().manual_seed(seed)).masked for seed in (3, 3, 4)
    )
    assert torch.equal(first, second) and not torch.equal(first, third)
    torch.manual_seed(9)
    before = model(inputs).masked
    torch.manual_seed(9)
    assert torch.equal(before, model(inputs).masked)


def test_training_and_evaluation_mode_reconstruct_alike() -> None:
    """The published loss is NaN in evaluation mode, where nothing is hidden."""
    model = make()
    inputs = tiny_inputs(model.config, 4)
    draws = Draws(row_keys(torch.arange(4), seed=0))
    evaluated = model.eval()(inputs, draws=draws).loss
    trained = model.train()(inputs, draws=draws).loss
    assert evaluated.isfinite() and torch.equal(evaluated, trained)


def test_too_long_rows_are_refused() -> None:
    model = make()
    with pytest.raises(DataError, match=r"25 inputs .* at most 24"):
        model(torch.full((1, 25), 7))


@every_model
@pytest.mark.parametrize("padded", [False, True])
def test_one_mask_for_all_rows_hides_in_all_of_them(kind: str, encoder: str, padded: bool) -> None:
    model = make(kind, encoder)
    inputs, valid = tiny_inputs(model.config, 3), ragged(3) if padded else None
    one = torch.arange(24)[None] % 3 == 0
    shared, apart = (model(inputs, valid, mask) for mask in (one, one.expand(3, -1).clone()))
    assert torch.equal(shared.masked, apart.masked)
    assert torch.equal(shared.predictions, apart.predictions)
    encoded = [model.encode(inputs, valid, mask).latents for mask in (one, apart.masked)]
    assert len(encoded[0]) == 3 and torch.equal(*encoded)


def test_what_is_no_batch_of_the_model_is_refused_in_a_sentence() -> None:
    tokens, numbers = make("bytes"), make("values")
    x, y = tiny_inputs(tokens.config, 2), tiny_inputs(numbers.config, 2)
    flags = torch.ones(2, 24, dtype=torch.bool)
    inputs: list[tuple[MaskedAutoencoder, Tensor, str]] = [
        (tokens, x[0], r"are \(24,\) int64; expected \(rows, inputs\) int64 for bytes"),
        (tokens, x.float(), r"are \(2, 24\) float32; expected"),
        (tokens, x.bool(), r"are \(2, 24\) bool; expected"),
        (numbers, y[:, :, 0], r"are \(2, 24\) float32; expected \(rows, inputs, 3\) float32"),
        (numbers, y[:, :, :2], r"are \(2, 24, 2\) float32; expected"),
        (numbers, y.long(), r"are \(2, 24, 3\) int64; expected"),
        (tokens, x[:, :0], r"are \(2, 0\) int64, rows without a place; expected one place"),
        (numbers, y[:, :0], r"are \(2, 0, 3\) float32, rows without a place"),
    ]
    for model, batch, words in inputs:
        for call in (model, model.encode):
            with pytest.raises(DataError, match=words):
                call(batch)
    wrong = [flags[:1, :23], flags[:, :23], flags[0], flags.float(), flags[:, :, None]]
    for given in [*wrong, flags[:1]]:
        with pytest.raises(DataError, match=r"valid is .* beside inputs .*; expected one bool for"):
            tokens.encode(x, given)
    for given in [*wrong, flags[[0, 0, 0]]]:
        for call in (tokens, tokens.encode):
            with pytest.raises(DataError, match=r"masked is .*; expected one bool for each input"):
                call(x, masked=given)


@every_model
@pytest.mark.parametrize("padded", [False, True])
def test_a_batch_of_no_rows_gives_nothing(kind: str, encoder: str, padded: bool) -> None:
    model = make(kind, encoder)
    inputs = tiny_inputs(model.config, 2)[:0]
    none = torch.zeros(0, 24, dtype=torch.bool)
    for masked in (None, none):
        out = model(inputs, none if padded else None, masked)
        assert out.count == 0 and out.loss == 0 and len(out.predictions) == 0
        assert len(model.encode(inputs, none if padded else None, masked).latents) == 0


@pytest.mark.parametrize("encoder", ENCODERS)
def test_as_many_inputs_as_latents_changes_nothing(encoder: str) -> None:
    """The published code guesses the encoder from equal lengths."""
    model = make("bytes", encoder, length=8, ratio=0.5)
    inputs = tiny_inputs(model.config, 64)
    valid = (torch.arange(8) < 3).expand(64, -1)
    draws = Draws(row_keys(torch.arange(64), seed=0))
    embedded = model.embedding(inputs)
    # Of 6 inputs there are as many as latents; 8 are the same rows, padded.
    equal, padded = (model.mask(embedded[:, :n], valid[:, :n], draws, 1.0) for n in (6, 8))
    assert torch.equal(equal[:, :3], padded[:, :3])
    assert padded.sum(1).tolist() == [2] * 64 and len(padded.unique(dim=0)) == 3


@pytest.mark.parametrize("most", [1, 3])
def test_a_column_of_one_category_costs_nothing(most: int) -> None:
    config = with_input(tiny_config("table", length=3), categories=(0, 1, most))
    model = MaskedAutoencoder(config)
    with torch.no_grad():
        model.head.linear.bias.copy_(torch.arange(2.0, 4.0 + most))
    inputs = torch.tensor([[0.5, 0.0, 0.0]])[:, :, None]
    out = model(inputs, masked=torch.tensor([[True, True, False]]))
    number, category = out.losses[0].tolist()
    assert category == 0
    assert number == pytest.approx((out.listed[0, 0, 0].item() - 0.5) ** 2)
    assert out.listed[0, 0, 0].item() == pytest.approx(2, abs=0.5)


def test_sets_ignore_the_order_of_their_inputs() -> None:
    config = with_input(tiny_config("values", "transformer"), positions="none")
    model = MaskedAutoencoder(config).eval()
    inputs = tiny_inputs(config, 2)
    order = torch.randperm(24)
    before, after = (model.encode(x).latents.mean(1) for x in (inputs, inputs[:, order]))
    assert torch.allclose(before, after, atol=1e-6)


def test_a_set_may_have_a_decoder_of_another_width() -> None:
    config = parse(ModelConfig, {
        "input": {"kind": "values", "length": 8, "channels": 3, "positions": "none"},
        "encoder": {"width": 16, "depth": 1, "num_heads": 2},
        "decoder": {"width": 12},
    })  # fmt: skip
    out = MaskedAutoencoder(config)(tiny_inputs(config, 2))
    assert out.loss.isfinite() and out.predictions.shape == (int(out.count), 3)


def test_the_loss_of_a_set_is_computed_in_full_precision() -> None:
    """Near its end, distances are small differences of large squares."""
    torch.manual_seed(0)
    head = make_head(parse(ModelConfig, {
        "input": {"kind": "values", "length": 8, "channels": 3, "positions": "none"},
        "encoder": {"kind": "transformer", "width": 16, "depth": 1, "num_heads": 2},
    }))  # fmt: skip
    targets = 3 + torch.randn(4, 8, 3)
    predictions = (targets + 0.01 * torch.randn(4, 8, 3)).requires_grad_()
    hidden, filled = torch.arange(8).expand(4, 8), torch.ones(4, 8, dtype=torch.bool)
    expected = head.losses(predictions, targets, hidden, filled)
    (gradient,) = torch.autograd.grad(expected.sum(), predictions)
    with torch.autocast("cpu", torch.bfloat16):
        found = head.losses(predictions, targets, hidden, filled)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), predictions)[0], gradient)


@pytest.mark.parametrize("positions", ["none", "learned"])
def test_in_bf16_the_residual_stream_is_float32(positions: str) -> None:
    config = with_input(tiny_config("values"), positions=positions)
    model = MaskedAutoencoder(config)
    with torch.autocast("cpu", torch.bfloat16):
        layers = list(model.encode_layers(tiny_inputs(config, 2)))
    assert {layer.latents.dtype for layer in layers} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("content", [*KINDS, "set"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_models_of_another_number_format_work(
    content: str, encoder: str, dtype: torch.dtype
) -> None:
    config = tiny_config("values" if content == "set" else content, encoder, head_choice="sample")
    if content == "set":
        config = with_input(config, positions="none")
    exact = MaskedAutoencoder(config).eval()
    other = copy.deepcopy(exact).to(dtype)
    inputs, valid = tiny_inputs(config, 4), ragged(4)
    valid[1] = False
    for given in (valid, None):
        out = other(inputs, given, draws=Draws(row_keys(torch.arange(4), seed=0)))
        wanted = exact(inputs, given, masked=out.masked)
        assert out.loss.isfinite() and out.loss.dtype in (torch.float32, torch.float64)
        assert out.loss.item() == pytest.approx(wanted.loss.item(), rel=0.05)
        if dtype != torch.float16:  # whose range is too small for gradients without a scale
            out.loss.backward()
            assert all(p.grad is None or p.grad.isfinite().all() for p in other.parameters())
        latents, close = other.encode(inputs, given), exact.encode(inputs, given)
        assert latents.latents.dtype == dtype
        assert torch.allclose(latents.latents.float(), close.latents, atol=0.1)


def test_a_code_is_the_same_category_in_half_precision() -> None:
    config = with_input(tiny_config("table", length=2), categories=(0, 3000))
    model = MaskedAutoencoder(config)
    code = torch.tensor([[0.0, 2999.0]])[:, :, None]
    rounded = copy.deepcopy(model).bfloat16().embedding.content(code)
    assert torch.equal(rounded[0, 1], model.embedding.content(code)[0, 1].bfloat16())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rows_without_a_key_stay_finite_when_scores_are_rounded(dtype: torch.dtype) -> None:
    valid = torch.zeros(1, 6, dtype=torch.bool)
    q, k, v = (torch.full((1, 6, 8), size) for size in (-9.0, 9.0, 1.0))
    for given in (key_bias(valid, torch.float32), key_bias(valid, dtype)):
        out = attend(q.to(dtype), k.to(dtype), v.to(dtype), num_heads=2, bias=given)
        assert out.isfinite().all()


def test_the_loss_of_a_set_equals_a_naive_matching() -> None:
    config = with_input(tiny_config("values"), positions="none")
    model = MaskedAutoencoder(config).eval()
    inputs, valid = tiny_inputs(config, 4), ragged(4)
    out = model(inputs, valid)
    total = 0.0
    for row in range(4):
        targets = inputs[row][out.masked[row]]
        predictions = out.listed[row][out.filled[row]]
        if len(targets):
            apart = (predictions[:, None] - targets).square().mean(-1)
            total += (apart.amin(0).sum() + apart.amin(1).sum()).item() / 2
    assert out.loss_sum.item() == pytest.approx(total, rel=1e-4)
    out.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("value_width", [8, 12])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_equals_its_definition(value_width: int, padded: bool) -> None:
    num_keys = 40
    q, k = torch.randn(2, 3, 8), torch.randn(2, num_keys, 8)
    v = torch.randn(2, num_keys, value_width)
    valid = torch.ones(2, num_keys, dtype=torch.bool)
    valid[1, num_keys // 2 :] = not padded
    bias = key_bias(valid, torch.float32) if padded else None
    ours = attend(q, k, v, num_heads=4, bias=bias)
    for row in range(2):
        keys, values = k[row][valid[row]], v[row][valid[row]]
        for head in range(4):
            mine = slice(2 * head, 2 * head + 2)
            weights = (q[row][:, mine] @ keys[:, mine].T / 2**0.5).softmax(1)
            part = slice(value_width // 4 * head, value_width // 4 * (head + 1))
            assert torch.allclose(ours[row][:, part], weights @ values[:, part], atol=1e-5)


def test_no_accelerator_sees_queries_expanded_over_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """cuDNN lays its output out like the queries: a stride of 0 makes one that it refuses."""
    seen: list[tuple[int, ...]] = []

    def kernel(q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        seen.append(q.stride())
        return q.new_empty(*q.shape[:3], v.shape[3])

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", kernel)
    one, k, v = (torch.empty(*size, device="meta") for size in ((3, 8), (2, 40, 8), (2, 40, 16)))
    assert attend(one.expand(2, -1, -1), k, v, num_heads=4, bias=None).shape == (2, 3, 16)
    assert min(seen[0]) > 0


@pytest.mark.parametrize("num_keys", [6, 90], ids=["map kept", "map computed again"])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_by_plain_products_has_the_gradients_of_its_definition(
    num_keys: int, padded: bool
) -> None:
    # Values wider than keys have no fused kernel on a CPU.
    inputs = [
        torch.randn(2, length, width, dtype=torch.float64, requires_grad=True)
        for length, width in ((7, 8), (num_keys, 8), (num_keys, 16))
    ]
    valid = torch.arange(num_keys) < torch.tensor([num_keys, num_keys // 2])[:, None]
    bias = key_bias(valid, torch.float64) if padded else None
    q, k, v = (x.unflatten(-1, (4, -1)).transpose(1, 2) for x in inputs)
    scores = q @ k.transpose(2, 3) / 2**0.5
    weights = (scores if bias is None else scores + bias).softmax(-1)
    theirs = (weights @ v).transpose(1, 2).flatten(2)
    ours = attend(*inputs, num_heads=4, bias=bias)
    direction = torch.randn_like(theirs)
    for mine, other in zip(
        torch.autograd.grad(ours, inputs, direction),
        torch.autograd.grad(theirs, inputs, direction),
        strict=True,
    ):
        assert torch.allclose(mine, other, atol=1e-10)
