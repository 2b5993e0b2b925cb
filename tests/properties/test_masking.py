"""What holds for every masking, on any lengths: exact counts, nothing unreal hidden, row by row."""

import math
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from anymae.config import MaskingConfig, ModelConfig, parse
from anymae.errors import ConfigError
from anymae.masking import MASKINGS
from anymae.masking.base import FirstAttention, make_masking
from anymae.masking.block import BlockMasking
from anymae.masking.guided import random_share
from anymae.masking.select import (
    hidden_counts,
    hide_top,
    pack,
    query_counts,
    race,
    rank_by_score,
)
from anymae.model import MaskedAutoencoder
from anymae.randomness import Draws, Purpose, row_keys
from tiny import tiny_config, tiny_inputs

ENCODERS = ["transformer", "perceiver"]
LENGTH = 24
lengths = st.lists(st.integers(0, LENGTH), min_size=1, max_size=5)
ratios = st.floats(0.01, 0.99)
EVERY_WAY: list[dict[str, object]] = [
    {},
    {"ratio_low": 0.1},
    {"head_choice": "sample"},
    {"hide_queries": True},
    {"inputs_per_query": 1},
    {"draw": "sample"},
    {"random_floor": 0.3},
    {"random_start": 0.5},
    {"random_start": 0.5, "random_floor": 0.3, "ratio_low": 0.1, "hide_queries": True},
    {"draw": "sample", "random_floor": 0.5, "hide_queries": True, "head_choice": "sample"},
]
every_way = pytest.mark.parametrize(
    "options", EVERY_WAY, ids=lambda options: "-".join(options) or "plain"
)


def make(kind: str, encoder: str = "transformer", **masking: object) -> MaskedAutoencoder:
    inputs = "image" if kind == "block" else "bytes"
    if encoder == "perceiver":  # its queries are no inputs, and cannot be hidden
        masking.pop("hide_queries", None)
    return MaskedAutoencoder(tiny_config(inputs, encoder, length=LENGTH, kind=kind, **masking))


def choose(model: MaskedAutoencoder, valid: Tensor, rows: Tensor, **options: float) -> Tensor:
    """Masks of rows whose content is a function of the row number."""
    generator = torch.Generator().manual_seed(5)
    every = tiny_like(model.config, 64, generator)[rows, : valid.shape[1]]
    embedded = model.embedding(every)
    progress = options.get("progress", 1.0)
    return model.mask(embedded, valid, Draws(row_keys(rows, seed=1, epoch=3)), progress)


def tiny_like(config: ModelConfig, batch: int, generator: torch.Generator) -> Tensor:
    if config.input.kind == "bytes":
        return torch.randint(6, 262, (batch, config.input.length), generator=generator)
    shape = (batch, config.input.length, config.input.channels)
    return torch.randn(shape, generator=generator)


def prefix(counts: list[int], length: int = LENGTH) -> Tensor:
    return torch.arange(length) < torch.tensor(counts)[:, None]


def rounded(product: np.float32) -> int:
    """Half to even, as Python rounds."""
    return round(Fraction(float(product)))


def expected_count(num_valid: int, ratio: float) -> int:
    count = rounded(np.float32(num_valid) * np.float32(ratio))
    return min(max(count, 1), num_valid - 1) if num_valid >= 2 else 0


@given(ratio=ratios)
@settings(max_examples=60, deadline=None)
def test_hidden_counts_equal_the_rule_written_out(ratio: float) -> None:
    ours = hidden_counts(torch.arange(200), ratio).tolist()
    assert ours == [expected_count(n, ratio) for n in range(200)]
    visible = [n - k for n, k in enumerate(ours)]
    assert visible == sorted(visible) and ours == sorted(ours)


@given(ratio=ratios, inputs_per_query=st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_query_counts_equal_the_rule_written_out(ratio: float, inputs_per_query: int) -> None:
    ours = query_counts(torch.arange(200), ratio, inputs_per_query).tolist()
    hidden = [np.float32(n) * np.float32(ratio) for n in range(200)]
    assert ours == [max(1, rounded(h / np.float32(inputs_per_query))) for h in hidden]


class DividingAsGPUsDo(TorchDispatchMode):
    """By a number through its reciprocal; a tensor on the GPU is a divisor as it is."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.div.Tensor and not isinstance(args[1], Tensor):
            return args[0] * float(np.float32(1) / np.float32(args[1]))
        return func(*args, **(kwargs or {}))


def test_query_counts_are_the_same_where_numbers_divide_by_their_reciprocals() -> None:
    every = torch.arange(2049)
    for inputs_per_query in range(1, 9):
        for ratio in (0.15, 0.2, 0.3, 0.5, 0.65, 0.75):
            here = query_counts(every, ratio, inputs_per_query)
            with DividingAsGPUsDo():
                there = query_counts(every, ratio, inputs_per_query)
            assert torch.equal(there, here), (ratio, inputs_per_query)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("kind", list(MASKINGS))
@given(
    counts=lengths,
    ratio=ratios,
    shuffle=st.booleans(),
    progress=st.sampled_from([0, 0.2, 1]),
    options=st.sampled_from([way for way in EVERY_WAY if "ratio_low" not in way]),
)
@settings(max_examples=20, deadline=None)
def test_counts_are_exact_and_only_valid_inputs_are_hidden(
    kind: str,
    encoder: str,
    counts: list[int],
    ratio: float,
    shuffle: bool,
    progress: float,
    options: dict[str, object],
) -> None:
    model = make(kind, encoder, **{"random_start": 0.5, **options, "ratio": ratio})
    valid = prefix(counts)
    if shuffle:  # padding wherever it stands
        valid = torch.stack([row[torch.randperm(LENGTH)] for row in valid])
    masked = choose(model, valid, torch.arange(len(counts)), progress=progress)
    assert masked.sum(1).tolist() == [expected_count(n, ratio) for n in counts]
    assert not (masked & ~valid).any()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("kind", list(MASKINGS))
@every_way
def test_a_rows_mask_does_not_depend_on_batch_padding_or_order(
    kind: str, encoder: str, options: dict[str, object]
) -> None:
    model = make(kind, encoder, ratio=0.4, **options)
    counts = [24, 9, 2, 1, 17, 5]
    together = choose(model, prefix(counts), torch.arange(6), progress=0.3)
    backwards = choose(model, prefix(counts).flip(0), torch.arange(6).flip(0), progress=0.3)
    assert torch.equal(together, backwards.flip(0))
    for row, count in enumerate(counts):
        length = max(count, 8) if kind != "block" else LENGTH
        alone = choose(model, prefix([count], length), torch.tensor([row]), progress=0.3)
        assert torch.equal(alone[0], together[row, :length])


def naive_mask(
    model: MaskedAutoencoder, embedded: Tensor, valid: Tensor, draws: Draws, progress: float
) -> list[set[int]]:
    """Guided masks by the numbered steps of `docs/method.md`, one row and one query at a time."""
    masking, first = model.config.masking, model.encoder.first
    num_heads, length = first.num_heads, valid.shape[1]
    query, tie, fill = (draws.bits(p, length) for p in (Purpose.QUERY, Purpose.TIE, Purpose.FILL))
    head, chance = draws.below(Purpose.HEAD, length, num_heads), draws.uniform(Purpose.RACE, length)
    lowest = masking.ratio if masking.ratio_low is None else masking.ratio_low
    floor, start, each = masking.random_floor, masking.random_start, masking.inputs_per_query
    falling = 0.5 * (1 + math.cos(math.pi * progress / start)) if progress < start else 0.0
    found = []
    for row, allowed in enumerate(valid):
        real = allowed.nonzero().flatten().tolist()
        ratio = lowest + (masking.ratio - lowest) * draws.uniform(Purpose.RATIO, 1)[row, 0].item()
        count = expected_count(len(real), ratio)
        voters = rounded(np.float32(len(real)) * np.float32(ratio) / np.float32(each))
        inputs = embedded[row]
        asked = inputs if model.encoder.queries_are_inputs else model.encoder.latents
        candidates = real if model.encoder.queries_are_inputs else range(len(asked))
        drawn = sorted(candidates, key=lambda i: -query[row, i].item())[: max(1, voters)]
        q = first.query(first.query_norm(asked)).unflatten(-1, (num_heads, -1))
        k = first.key_value(inputs[real])[:, : first.qk_width].unflatten(-1, (num_heads, -1))
        score = torch.zeros(len(real), dtype=torch.float64)
        for one in drawn:
            maps = [(k[:, h] @ q[one, h] / q.shape[-1] ** 0.5).softmax(0) for h in range(num_heads)]
            of_all = sum(maps) / num_heads
            score += of_all if masking.head_choice == "mean" else maps[head[row, one]]
        if masking.draw == "sample":
            score = score / -chance[row, real].double().log()
        rank = {
            i: (masking.hide_queries and i in drawn, s, tie[row, i].item())
            for i, s in zip(real, score.tolist(), strict=True)
        }
        at_random = rounded(np.float32(count) * np.float32(floor + (1 - floor) * falling))
        best = sorted(real, key=lambda i: rank[i], reverse=True)[: count - at_random]
        rest = sorted(set(real) - set(best), key=lambda i: -fill[row, i].item())
        found.append({*best, *rest[:at_random]})
    return found


@pytest.mark.parametrize("encoder", ENCODERS)
@every_way
@pytest.mark.parametrize("sharpness", [0.0, 20.0], ids=["even", "sharp"])
def test_guided_masks_equal_their_definition(
    sharpness: float, options: dict[str, object], encoder: str
) -> None:
    model = make("guided", encoder, ratio=0.4, **options).double()
    with torch.no_grad():
        # Attention that prefers something; or nothing at all, where ties decide.
        model.encoder.first.query.weight.mul_(sharpness)
        model.encoder.first.query.bias.normal_().mul_(sharpness)
        model.encoder.first.key_value.bias.normal_()
        valid = prefix([24, 9, 5] * 4)
        valid[3:] = torch.stack([row[torch.randperm(LENGTH)] for row in valid[3:]])
        embedded = model.embedding(tiny_inputs(model.config, len(valid)))
        draws = Draws(row_keys(torch.arange(len(valid)), seed=2, epoch=1))
        for progress in (0.1, 1.0):
            masked = model.mask(embedded, valid, draws, progress)
            ours = [set(row.nonzero().flatten().tolist()) for row in masked]
            assert ours == naive_mask(model, embedded, valid, draws, progress)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("kind", list(MASKINGS))
@every_way
def test_no_validity_means_that_all_are_valid(
    options: dict[str, object], kind: str, encoder: str
) -> None:
    model = make(kind, encoder, ratio=0.4, **options)
    embedded = model.embedding(tiny_inputs(model.config, 6))
    draws = Draws(row_keys(torch.arange(6), seed=1))
    every = torch.ones(6, LENGTH, dtype=torch.bool)
    for progress in (0.2, 1.0):
        told = model.mask(embedded, every, draws, progress)
        assert torch.equal(model.mask(embedded, None, draws, progress), told)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_dropout_leaves_the_mask_alone_and_drops_what_is_shown(encoder: str) -> None:
    config = make("guided", encoder, ratio=0.4).config
    dropping = config.encoder.model_copy(update={"dropout": 0.5})
    model = MaskedAutoencoder(config.model_copy(update={"encoder": dropping}))
    shown: list[Tensor] = []
    keys = model.encoder.first.key_value
    keys.register_forward_pre_hook(lambda module, args: shown.append(args[0]))
    inputs, draws = tiny_inputs(config, 16), Draws(row_keys(torch.arange(16), seed=1))
    with torch.no_grad():
        expected = model.eval()(inputs, draws=draws).masked
        assert not (shown[-1] == 0).any()
        model.train()
        for seed in range(2):
            torch.manual_seed(seed)
            assert torch.equal(model(inputs, draws=draws).masked, expected)
            assert 0.4 < (shown[-1] == 0).float().mean() < 0.6
            model.encode(inputs)
            assert 0.4 < (shown[-1] == 0).float().mean() < 0.6


@pytest.mark.parametrize("encoder", ENCODERS)
def test_masks_are_computed_in_full_precision_under_autocast(encoder: str) -> None:
    model = make("guided", encoder, ratio=0.4)
    with torch.no_grad():
        model.encoder.first.query.weight.mul_(20)
        embedded = model.embedding(tiny_inputs(model.config, 64))
    draws = Draws(row_keys(torch.arange(64), seed=1))
    outside = model.mask(embedded, None, draws, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.mask(embedded, None, draws, 1.0), outside)


@pytest.mark.parametrize("kind", list(MASKINGS))
def test_seed_epoch_and_row_each_change_the_mask(kind: str) -> None:
    model = make(kind, ratio=0.4)
    inputs = tiny_inputs(model.config, 1).expand(32, *[-1] * (model.config.input.channels > 1), -1)
    embedded = model.embedding(inputs)

    def masks(seed: int, epoch: int, first: int) -> Tensor:
        keys = row_keys(torch.arange(first, first + 32), seed=seed, epoch=epoch)
        return model.mask(embedded, None, Draws(keys), 1.0)

    base = masks(0, 0, 0)
    assert torch.equal(base, masks(0, 0, 0))
    assert len(base.unique(dim=0)) > 16  # the rows are equal: their numbers tell them apart
    assert all(not torch.equal(base, masks(*change)) for change in [(1, 0, 0), (0, 1, 0)])
    assert torch.equal(base[16:], masks(0, 0, 16)[:16])


def test_hidden_queries_come_first_even_when_all_attend_elsewhere() -> None:
    """More queries than heads, all attending one token: their own inputs are hidden all the same.

    The published code gives them the score `num_heads`, which a popular token can beat.
    """
    scores = torch.zeros(1, 20)
    scores[0, 0] = 12.0
    first = torch.zeros(1, 20, dtype=torch.bool)
    first[0, 5:17] = True
    rank = rank_by_score(scores, torch.randint(0, 2**31, (1, 20)), first)
    masked = hide_top(rank, torch.ones_like(first), torch.tensor([12]), 12)
    assert torch.equal(masked, first)


def test_scores_that_are_no_numbers_hide_nothing_that_may_not_be() -> None:
    scores = torch.tensor([[0.0, torch.nan, -torch.nan, 0.5, torch.inf, torch.nan]])
    allowed = torch.tensor([[True, True, True, True, False, False]])
    rank = rank_by_score(scores, torch.zeros(1, 6, dtype=torch.int64))
    assert (rank >= 0).all()
    masked = hide_top(rank, allowed, torch.tensor([3]), 3)
    assert masked.tolist() == [[False, True, True, True, False, False]]


def test_equal_scores_are_hidden_by_chance() -> None:
    model = make("guided", ratio=0.25)
    with torch.no_grad():
        model.encoder.first.query.weight.zero_()  # every input gets the same attention
    masked = choose(model, prefix([24] * 64), torch.arange(64))
    assert (masked.float().mean(0) > 0).all()


def test_random_fill_adds_up_and_falls_along_half_a_cosine() -> None:
    shares = [random_share(p / 100, 0.25) for p in range(101)]
    assert shares[0] == 1 and shares[25:] == [0.0] * 76
    assert shares == sorted(shares, reverse=True)
    # A third of the way down the angle the cosine has lost a quarter of its fall, a line a third.
    assert random_share(0.1, 0.3) == pytest.approx(0.75)
    assert random_share(0.2, 0.3) == pytest.approx(0.25)
    assert random_share(0.1, 0.3, 0.4) == pytest.approx(0.4 + 0.6 * 0.75)
    assert random_share(0.0, 0.0) == 0


def test_at_the_start_of_random_start_the_mask_ignores_attention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make("guided", ratio=0.4, random_start=0.5)
    before = choose(model, prefix([24] * 8), torch.arange(8), progress=0.0)
    with torch.no_grad():
        for parameter in model.encoder.first.parameters():
            parameter.normal_()
    assert torch.equal(before, choose(model, prefix([24] * 8), torch.arange(8), progress=0.0))
    late = choose(model, prefix([24] * 8), torch.arange(8), progress=1.0)
    assert not torch.equal(before, late)
    monkeypatch.delattr(FirstAttention, "weights")  # nor is it computed
    assert torch.equal(before, choose(model, prefix([24] * 8), torch.arange(8), progress=0.0))


def test_spans_are_runs_of_the_mean_length() -> None:
    config = tiny_config(length=512, kind="span", ratio=0.3, span_length=6)
    model = MaskedAutoencoder(config)
    embedded = model.embedding(tiny_inputs(config, 32))
    masked = model.mask(embedded, None, Draws(row_keys(torch.arange(32), seed=0)), 1.0)
    begins = masked[:, 1:] & ~masked[:, :-1]
    mean_run = masked.sum() / begins.sum()
    # Runs that touch join: at ratio 0.3 a run goes on with chance about 0.3.
    assert 6 < mean_run < 12


def test_blocks_are_squares() -> None:
    config = tiny_config("image", length=256, kind="block", ratio=0.25, block_side=4)
    config = config.model_copy(update={"input": config.input.model_copy(update={"grid": (16, 16)})})
    model = MaskedAutoencoder(config)
    embedded = model.embedding(tiny_inputs(config, 16))
    masked = model.mask(embedded, None, Draws(row_keys(torch.arange(16), seed=0)), 1.0)
    grid = masked.unflatten(1, (16, 16))
    below = (grid[:, 1:] & grid[:, :-1]).sum() / grid[:, 1:].sum()
    beside = (grid[:, :, 1:] & grid[:, :, :-1]).sum() / grid[:, :, 1:].sum()
    assert below > 0.6 and beside > 0.6  # a scattered mask has 0.25


@given(
    flags=st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4),
)
@settings(max_examples=50, deadline=None)
def test_pack_lists_true_positions_in_order(flags: list[list[bool]]) -> None:
    tensor = torch.tensor(flags)
    size = max(1, int(tensor.sum(1).max()))
    listed, filled = pack(tensor, size)
    for row, expected in enumerate(flags):
        positions = [i for i, flag in enumerate(expected) if flag]
        assert listed[row][filled[row]].tolist() == positions
        assert filled[row].tolist() == [True] * len(positions) + [False] * (size - len(positions))


@given(scores=st.lists(st.floats(0, 2.0**90, width=32), min_size=2, max_size=12))
@settings(max_examples=60, deadline=None)
def test_ranks_are_ordered_as_scores_are(scores: list[float]) -> None:
    tensor = torch.tensor([scores])
    ties = torch.arange(len(scores))[None].flip(1)
    order = rank_by_score(tensor, ties)[0].argsort(descending=True).tolist()
    assert order == sorted(range(len(scores)), key=lambda i: (-tensor[0, i].item(), i))


def test_a_random_floor_keeps_its_share_of_every_mask_uniform() -> None:
    assert [random_share(p, 0.5, 0.4) for p in (0.0, 0.25, 0.5, 1.0)] == [1.0, 0.7, 0.4, 0.4]
    whole = make("guided", ratio=0.5, random_floor=1.0)
    valid, rows = prefix([24] * 8), torch.arange(8)
    before = choose(whole, valid, rows)
    with torch.no_grad():
        for parameter in whole.encoder.first.parameters():
            parameter.normal_()
    assert torch.equal(before, choose(whole, valid, rows))
    # With half of the 12 hidden inputs left to the attention, sharp attention shows in each row.
    torch.manual_seed(0)
    half, none = make("guided", ratio=0.5, random_floor=0.5), make("guided", ratio=0.5)
    none.load_state_dict(half.state_dict())
    both = (choose(half, valid, rows) & choose(none, valid, rows)).sum(1)
    assert choose(half, valid, rows).sum(1).tolist() == [12] * 8
    assert both.min() >= 6


def test_a_race_draws_without_replacement_in_proportion_to_the_scores() -> None:
    scores = torch.tensor([0.5, 0.3, 0.2, 0.0])
    count = 20_000
    chance = Draws(row_keys(torch.arange(count), seed=0)).uniform(Purpose.RACE, 4)
    order = race(scores.expand(count, 4), chance).argsort(1, descending=True)
    first = torch.bincount(order[:, 0], minlength=4) / count
    assert torch.allclose(first, scores, atol=0.015)
    # Of the rows won by input 0, inputs 1 and 2 come next as 3 to 2; what scores 0 comes last.
    second = torch.bincount(order[order[:, 0] == 0][:, 1], minlength=4).float()
    assert torch.allclose(second / second.sum(), torch.tensor([0.0, 0.6, 0.4, 0.0]), atol=0.02)
    assert (order[:, 3] == 3).all()


def test_a_ratio_for_each_row_lies_between_its_bounds_and_needs_no_company() -> None:
    for kind in ("random", "guided", "span"):
        model = make(kind, ratio=0.6, ratio_low=0.1)
        valid, rows = prefix([24] * 40 + [9] * 20), torch.arange(60)
        masked = choose(model, valid, rows)
        counts = masked.sum(1)
        assert counts[:40].min() >= 2 and counts[:40].max() <= 14
        assert len(counts[:40].unique()) > 5
        assert counts[40:].min() >= 1 and counts[40:].max() <= 5
        alone = choose(model, valid[7:8], rows[7:8])
        assert torch.equal(alone, masked[7:8])


def test_rows_with_different_ratios_reconstruct_exactly_what_is_hidden() -> None:
    config = tiny_config(length=24, ratio=0.6, ratio_low=0.1)
    model = MaskedAutoencoder(config)
    inputs = tiny_inputs(config, 16)
    out = model(inputs)
    assert out.count == out.masked.sum() and len(out.predictions) == out.count
    again = model(inputs, masked=out.masked)
    assert torch.allclose(out.loss, again.loss, atol=1e-5)
    assert torch.allclose(out.predictions, again.predictions, atol=1e-5)


def test_a_lower_bound_above_the_ratio_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ratio_low is 0\.5, above"):
        parse(MaskingConfig, {"ratio": 0.3, "ratio_low": 0.5})


def test_blocks_are_shifted_along_both_axes_apart() -> None:
    config = tiny_config("image", length=256, kind="block", ratio=16 / 256, block_side=4)
    config = config.model_copy(update={"input": config.input.model_copy(update={"grid": (16, 16)})})
    masking = make_masking(config)
    assert isinstance(masking, BlockMasking)
    draws = Draws(row_keys(torch.arange(400), seed=0))
    attention = SimpleNamespace(num_inputs=256)
    masked = masking(None, draws, attention=attention, progress=1.0).view(-1, 16, 16)
    places = set()
    for mask in masked:
        at = mask.nonzero()
        (top, left), (bottom, right) = at.amin(0).tolist(), at.amax(0).tolist()
        if (bottom - top, right - left) == (3, 3):  # one whole block
            places.add((top % 4, left % 4))
    assert len(places) == 16
