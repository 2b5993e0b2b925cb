"""Counting and ranking, for a whole batch at once and without looking at values on the host.

A rank is one int64 a position: larger is hidden first. Packing the score's bits above random
ones makes ties fall by chance, alike whatever the padding and the batch.

Shapes: B rows, N inputs.
"""

import torch
from torch import Tensor


def hidden_counts(num_valid: Tensor, ratio: Tensor | float) -> Tensor:
    """Return how many inputs to hide for numbers of valid ones, int64 of the same shape.

    `round(n * ratio)` in float32, half to even; at least 1 where n >= 2, at most n - 1.

    >>> hidden_counts(torch.arange(6), 0.5).tolist()
    [0, 0, 1, 2, 2, 2]
    """
    count = num_valid.float()
    return (count * ratio).round().clamp(min=1).minimum((count - 1).clamp(min=0)).long()


def query_counts(num_valid: Tensor, ratio: Tensor | float, inputs_per_query: float) -> Tensor:
    """Return how many queries vote for numbers of valid inputs, int64 of the same shape.

    `max(1, round(n * ratio / inputs_per_query))` in float32, half to even.

    >>> query_counts(torch.tensor([28]), 0.2, 3).item()
    2
    """
    hidden = num_valid.float() * ratio
    # A GPU divides by a number, unlike by a tensor, through its reciprocal, which rounds twice.
    divisor = hidden.new_full((), inputs_per_query)
    return (hidden / divisor).round().long().clamp(min=1)


def rank_by_score(scores: Tensor, ties: Tensor, first: Tensor | None = None) -> Tensor:
    """Rank by score, ties by chance.

    Args:
        scores: `(B, N)` float, not negative; one that is no number counts as the largest.
        ties: `(B, N)` int64 in [0, 2**31), such as `Draws.bits`.
        first: `(B, N)` bool, True for positions that go before all others.

    Returns:
        `(B, N)` int64, not negative; larger is hidden first.
    """
    # The bits of floats that are not negative are ordered as the floats are. The sign of what is
    # no number is set on some processors: such a position would come after those not allowed.
    bits = scores.float().contiguous().view(torch.int32) & 0x7FFFFFFF
    rank = (bits.long() << 31) | ties
    return rank if first is None else rank | (first.long() << 62)


def race(scores: Tensor, chance: Tensor) -> Tensor:
    """Turn scores into times of a race, so that the best of them are a draw by the scores.

    Score over exponential noise has the order of log score plus Gumbel noise: its k largest are a
    draw without replacement with probabilities proportional to the scores.

    Args:
        scores: `(B, N)` float, not negative.
        chance: `(B, N)` float32, uniform in (0, 1).

    Returns:
        `(B, N)` float, not negative; 0 where the score is 0.
    """
    return scores / -chance.log()


def hide_top(rank: Tensor, allowed: Tensor | None, counts: Tensor | None, most: int) -> Tensor:
    """Hide the best-ranked allowed positions of each row.

    Args:
        rank: `(B, N)` int64, not negative.
        allowed: `(B, N)` bool; `None` allows all.
        counts: `(B,)` int64, how many to hide, no more than a row allows; `None` is `most`.
        most: Upper bound of `counts`, known on the host.

    Returns:
        `(B, N)` bool.
    """
    ranked = rank if allowed is None else rank.masked_fill(~allowed, -1)
    top = ranked.topk(most, dim=1).indices
    nothing = torch.zeros_like(rank, dtype=torch.bool)
    if counts is None:
        return nothing.scatter(1, top, True)
    return nothing.scatter(1, top, torch.arange(most, device=rank.device) < counts[:, None])


def pack(flags: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """List the positions of the True entries of each row, in order.

    Args:
        flags: `(B, N)` bool.
        size: Places in the list; no row has more True entries.

    Returns:
        Positions `(B, size)` int64, the row's first one again in places that stay empty (so that
        these show nothing else), and `(B, size)` bool, True for places that are filled.
    """
    place = (flags.cumsum(1) - 1).masked_fill(~flags, size)
    positions = torch.arange(flags.shape[1], device=flags.device).expand_as(place)
    listed = torch.zeros(len(flags), size + 1, dtype=torch.int64, device=flags.device)
    listed = listed.scatter(1, place, positions)[:, :size]
    filled = torch.arange(size, device=flags.device) < flags.sum(1, keepdim=True)
    return listed.where(filled, listed[:, :1]), filled
