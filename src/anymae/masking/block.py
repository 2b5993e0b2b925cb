"""Hide squares of an image: the habit for pictures."""

import torch
from torch import Tensor

from anymae.config import InputConfig, MaskingConfig
from anymae.errors import ConfigError
from anymae.masking.base import MASKINGS, FirstAttention
from anymae.masking.random import RandomMasking
from anymae.randomness import Draws, Purpose


@MASKINGS.register("block")
class BlockMasking(RandomMasking):
    """Squares of side `block_side` on a grid shifted at random, the last one cut.

    Raises:
        ConfigError: The inputs are no image.
    """

    def __init__(self, config: MaskingConfig, inputs: InputConfig) -> None:
        super().__init__(config, inputs)
        if inputs.grid is None:
            raise ConfigError(f"block masking needs image inputs, not {inputs.kind}")
        self._grid, self._side = inputs.grid, config.block_side

    def __call__(
        self, valid: Tensor | None, draws: Draws, *, attention: FirstAttention, progress: float
    ) -> Tensor:
        """Return `masked`, `(B, N)` bool."""
        length, columns = attention.num_inputs, self._grid[1]
        index = torch.arange(length, device=draws.keys.device)
        shift = draws.below(Purpose.BLOCK, 2, self._side)
        across = columns // self._side + 2
        block_row = (index // columns + shift[:, :1]) // self._side
        block_column = (index % columns + shift[:, 1:]) // self._side
        block = block_row * across + block_column
        most_blocks = (self._grid[0] // self._side + 2) * across
        chance = draws.bits(Purpose.HIDE, most_blocks).gather(1, block)
        return self.hide((chance << 31) | (length - index), valid, draws)
