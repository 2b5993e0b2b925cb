"""Hide contiguous runs: the habit for sequences."""

import torch
from torch import Tensor

from anymae.config import InputConfig, MaskingConfig
from anymae.masking.base import MASKINGS, FirstAttention
from anymae.masking.random import RandomMasking
from anymae.randomness import Draws, Purpose


@MASKINGS.register("span")
class SpanMasking(RandomMasking):
    """Runs with geometric lengths (mean `span_length`), whole ones first, the last one cut.

    The valid inputs are cut into runs, each with a random rank; within a run the earlier input
    goes first. Hiding the best-ranked inputs then hides runs until the count is reached.
    """

    def __init__(self, config: MaskingConfig, inputs: InputConfig) -> None:
        super().__init__(config, inputs)
        self._chance = 1 / config.span_length

    def __call__(
        self, valid: Tensor | None, draws: Draws, *, attention: FirstAttention, progress: float
    ) -> Tensor:
        """Return `masked`, `(B, N)` bool."""
        length = attention.num_inputs
        begins = draws.uniform(Purpose.SPAN, length) < self._chance
        if valid is not None:
            begins = begins & valid
        run = begins.cumsum(1)
        chance = draws.bits(Purpose.HIDE, length + 1).gather(1, run)
        earlier = length - torch.arange(length, device=run.device)
        return self.hide((chance << 31) | earlier, valid, draws)
