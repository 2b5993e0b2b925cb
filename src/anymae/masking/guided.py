"""Masking guided by the model's own first attention: the paper's method.

A few queries are drawn at random; the inputs that they attend to most, all votes summed, are
hidden together (`docs/method.md`, "Masking"). Only the drawn queries are scored.

Shapes: B rows, N inputs, C candidate queries, Q drawn queries.
"""

import math

import torch
from torch import Tensor

from anymae.config import InputConfig, MaskingConfig
from anymae.masking.base import MASKINGS, FirstAttention
from anymae.masking.random import RandomMasking
from anymae.masking.select import hide_top, query_counts, race, rank_by_score
from anymae.randomness import Draws, Purpose


@MASKINGS.register("guided")
class GuidedMasking(RandomMasking):
    """Hide what a few random queries attend to most."""

    def __init__(self, config: MaskingConfig, inputs: InputConfig) -> None:
        super().__init__(config, inputs)
        self._config = config
        every = torch.arange(inputs.length + 1, device="cpu")
        self._most_queries = query_counts(every, config.ratio, config.inputs_per_query).tolist()

    def __call__(
        self, valid: Tensor | None, draws: Draws, *, attention: FirstAttention, progress: float
    ) -> Tensor:
        """Return `masked`, `(B, N)` bool."""
        length = attention.num_inputs
        share = random_share(progress, self._config.random_start, self._config.random_floor)
        if valid is None and not (self.hides_alike and share == 0):
            valid = torch.ones(len(draws.keys), length, dtype=torch.bool, device=draws.keys.device)
        if share == 1:  # Whatever the scores are, none of them counts.
            return self.hide(draws.bits(Purpose.FILL, length), valid, draws)
        chance, ties = draws.bits_for(
            (Purpose.QUERY, Purpose.TIE), max(length, attention.most_candidates)
        )
        queries, votes = self._draw_queries(valid, draws, chance, attention)
        heads = self._draw_heads(draws, queries, attention)
        weights = attention.weights(queries, heads)
        scores = (weights if votes is None else weights.masked_fill(~votes[:, :, None], 0)).sum(1)
        if self._config.draw == "sample":
            scores = race(scores, draws.uniform(Purpose.RACE, length))
        first = None
        if self._config.hide_queries:
            first = torch.zeros_like(scores, dtype=torch.bool)
            first = first.scatter(1, queries, True if votes is None else votes)
        rank = rank_by_score(scores, ties[:, :length], first)
        if valid is None or share == 0:
            return self.hide(rank, valid, draws)
        return self._hide_with_random(rank, valid, draws, share)

    def _draw_queries(
        self, valid: Tensor | None, draws: Draws, chance: Tensor, attention: FirstAttention
    ) -> tuple[Tensor, Tensor | None]:
        """Draw queries without replacement: those with the largest `chance`, `(B, C or more)`.

        They come as numbers `(B, Q)`, with `(B, Q)` bool, True for those that vote: shorter rows
        have fewer. `None` when all vote.
        """
        most = min(self._most_queries[attention.num_inputs], attention.most_candidates)
        chance = chance[:, : attention.most_candidates]
        if attention.candidates is not None:
            chance = chance.masked_fill(~attention.candidates, -1)
        drawn = chance.topk(most, dim=1)
        if valid is None:
            return drawn.indices, None
        counts = query_counts(valid.sum(1), self.ratios(draws), self._config.inputs_per_query)
        votes = torch.arange(most, device=valid.device) < counts[:, None]
        return drawn.indices, votes & (drawn.values >= 0)

    def _draw_heads(
        self, draws: Draws, queries: Tensor, attention: FirstAttention
    ) -> Tensor | None:
        """Draw a head for each query, `(B, Q)`, unless heads are averaged."""
        if self._config.head_choice == "mean":
            return None
        # A head belongs to the query's number, not to its place in the list, so that padding,
        # which lengthens the list, changes nothing.
        return draws.below_at(Purpose.HEAD, queries, attention.num_heads)

    def _hide_with_random(self, rank: Tensor, valid: Tensor, draws: Draws, share: float) -> Tensor:
        """Hide by rank, and a share of the inputs at random."""
        most, counts = self.most_hidden(valid.shape[1]), self.counts(valid, draws)
        at_random = (counts * share).round().long()
        by_score = hide_top(rank, valid, counts - at_random, most)
        chance = draws.bits(Purpose.FILL, valid.shape[1])
        return by_score | hide_top(chance, valid & ~by_score, at_random, most)


def random_share(progress: float, random_start: float, floor: float = 0.0) -> float:
    """Return the share of hidden inputs that are chosen at random.

    Falls along half a cosine from 1 at the start to `floor` at `random_start` of training.

    >>> [random_share(p, 0.5) for p in (0.0, 0.25, 0.5, 1.0)]
    [1.0, 0.5, 0.0, 0.0]
    """
    if progress >= random_start:
        return floor
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress / random_start))
