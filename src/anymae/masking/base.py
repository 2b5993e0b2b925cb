"""What a masking is given and what it returns.

Shapes: B rows, N inputs, C candidate queries, Q sampled queries.
Booleans: `valid` and `masked` are True where an input is real, respectively hidden.
"""

from typing import Protocol

from torch import Tensor

from anymae.config import InputConfig, MaskingConfig, ModelConfig
from anymae.randomness import Draws
from anymae.registry import Registry


class FirstAttention(Protocol):
    """The model's own first attention, to be asked about a few queries."""

    num_inputs: int
    """N."""
    candidates: Tensor | None
    """`(B, C)` bool, True for queries that may be asked; `None` when all may be."""
    most_candidates: int
    """Upper bound of the candidates of a row with N inputs; known without looking at values."""
    num_heads: int

    def weights(self, queries: Tensor, heads: Tensor | None) -> Tensor:
        """Return `(B, Q, N)`: attention of queries `(B, Q)` over the valid inputs.

        Averaged over heads, or of the one head that `heads` `(B, Q)` names for each query.
        """
        ...


class Masking(Protocol):
    """Chooses which inputs are hidden; made from its settings and the input spec."""

    def __init__(self, config: MaskingConfig, inputs: InputConfig) -> None: ...

    def most_hidden(self, length: int) -> int:
        """Return the largest number of hidden inputs of a row with `length` valid ones."""
        ...

    def least_hidden(self, length: int) -> int:
        """Return the smallest number of hidden inputs of a row with `length` valid ones."""
        ...

    def counts(self, valid: Tensor, draws: Draws) -> Tensor:
        """Return how many inputs of each row will be hidden, `(B,)` int64."""
        ...

    def __call__(
        self, valid: Tensor | None, draws: Draws, *, attention: FirstAttention, progress: float
    ) -> Tensor:
        """Choose.

        Args:
            valid: `(B, N)` bool; `None` when all inputs are real.
            draws: The rows' random numbers.
            attention: The model's first attention over the inputs, without gradient.
            progress: How far training has come, in [0, 1].

        Returns:
            `masked`, `(B, N)` bool, with `least_hidden(n_valid)` to `most_hidden(n_valid)` True
            entries in each row, all at valid inputs.
        """
        ...


MASKINGS: Registry[type[Masking]] = Registry("masking")


def make_masking(config: ModelConfig) -> Masking:
    """Build the masking that `config.masking.kind` names."""
    return MASKINGS[config.masking.kind](config.masking, config.input)
