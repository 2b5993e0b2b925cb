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
        self, valid: Tensor, draws: Draws, *, attention: FirstAttention, progress: float
    ) -> Tensor:
        """Return `masked`, `(B, N)` bool."""
        length = valid.shape[1]
        queries, votes = self._draw_queries(valid, draws, attention)
        heads = self._draw_heads(draws, queries, attention)
        weights = attention.weights(queries, heads)
        scores = torch.where(votes[:, :, None], weights, 0).sum(1)
        if self._config.draw == "sample":
            scores = race(scores, draws.uniform(Purpose.RACE, length))
        first = None
        if self._config.hide_queries:
            first = torch.zeros_like(valid).scatter(1, queries, votes)
        rank = rank_by_score(scores, draws.bits(Purpose.TIE, length), first)
        return self._hide(rank, valid, draws, progress)

    def _draw_queries(
        self, valid: Tensor, draws: Draws, attention: FirstAttention
    ) -> tuple[Tensor, Tensor]:
        """Draw queries without replacement.

        Returns:
            Query numbers `(B, Q)`, and `(B, Q)` bool, True for those that vote: shorter rows
            have fewer.
        """
        candidates = attention.candidates
        most = min(self._most_queries[valid.shape[1]], attention.most_candidates)
        chance = draws.bits(Purpose.QUERY, candidates.shape[1])
        queries = chance.masked_fill(~candidates, -1).topk(most, dim=1).indices
        counts = query_counts(valid.sum(1), self.ratios(draws), self._config.inputs_per_query)
        counts = counts.minimum(candidates.sum(1))
        return queries, torch.arange(most, device=valid.device) < counts[:, None]

    def _draw_heads(
        self, draws: Draws, queries: Tensor, attention: FirstAttention
    ) -> Tensor | None:
        """Draw a head for each query, `(B, Q)`, unless heads are averaged."""
        if self._config.head_choice == "mean":
            return None
        # A head belongs to the query's number, not to its place in the list, so that padding,
        # which lengthens the list, changes nothing.
        every = draws.below(Purpose.HEAD, attention.candidates.shape[1], attention.num_heads)
        return every.gather(1, queries)

    def _hide(self, rank: Tensor, valid: Tensor, draws: Draws, progress: float) -> Tensor:
        """Hide by rank, a share of the inputs at random while training is young."""
        share = random_share(progress, self._config.random_start, self._config.random_floor)
        if share == 0:
            return self.hide(rank, valid, draws)
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
