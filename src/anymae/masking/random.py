"""Hide inputs uniformly at random: what guided masks are measured against."""

import torch
from torch import Tensor

from anymae.config import InputConfig, MaskingConfig
from anymae.masking.base import MASKINGS, FirstAttention
from anymae.masking.select import hidden_counts, hide_top
from anymae.randomness import Draws, Purpose


@MASKINGS.register("random")
class RandomMasking:
    """Uniform over the valid inputs."""

    def __init__(self, config: MaskingConfig, inputs: InputConfig) -> None:
        self._ratio = config.ratio
        self._low = config.ratio if config.ratio_low is None else config.ratio_low
        every = torch.arange(inputs.length + 1, device="cpu")
        self._most = hidden_counts(every, config.ratio).tolist()
        self._least = hidden_counts(every, self._low).tolist()

    def most_hidden(self, length: int) -> int:
        """Return the largest number of hidden inputs of a row with `length` valid ones."""
        return int(self._most[length])

    def least_hidden(self, length: int) -> int:
        """Return the smallest number of hidden inputs of a row with `length` valid ones."""
        return int(self._least[length])

    @property
    def hides_alike(self) -> bool:
        """True where all rows with as many valid inputs hide as many."""
        return self._low == self._ratio

    def ratios(self, draws: Draws) -> Tensor | float:
        """Return the ratio of each row, `(B,)` float32, or the one number that all rows share."""
        if self.hides_alike:
            return self._ratio
        drawn = self._low + (self._ratio - self._low) * draws.uniform(Purpose.RATIO, 1).squeeze(1)
        return drawn.clamp(self._low, self._ratio)

    def counts(self, valid: Tensor, draws: Draws) -> Tensor:
        """Return how many inputs of each row to hide, `(B,)` int64."""
        return hidden_counts(valid.sum(1), self.ratios(draws))

    def hide(self, rank: Tensor, valid: Tensor | None, draws: Draws) -> Tensor:
        """Hide the best-ranked valid inputs, as many as the ratio says: `(B, N)` bool."""
        most = self.most_hidden(rank.shape[1])
        if valid is None and self.hides_alike:
            return hide_top(rank, None, None, most)
        if valid is None:
            valid = torch.ones_like(rank, dtype=torch.bool)
        return hide_top(rank, valid, self.counts(valid, draws), most)

    def __call__(
        self, valid: Tensor | None, draws: Draws, *, attention: FirstAttention, progress: float
    ) -> Tensor:
        """Return `masked`, `(B, N)` bool."""
        return self.hide(draws.bits(Purpose.HIDE, attention.num_inputs), valid, draws)
