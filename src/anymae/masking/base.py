"""What a masking is given and what it returns.

Shapes: B rows, N inputs, C candidate queries, Q sampled queries.
Booleans: `valid` and `masked` are True where an input is real, respectively hidden.
"""

from typing import Protocol

from torch import Tensor

from anymae.config import InputConfig, MaskingConfig, ModelConfig
from anymae.nn.attention import key_bias
from anymae.nn.encoder import Encoder
from anymae.nn.heads import full
from anymae.randomness import Draws
from anymae.registry import Registry


class FirstAttention:
    """The model's own first attention over one embedded batch, to be asked about a few queries.

    Attributes:
        num_inputs: N.
        candidates: `(B, C)` bool, True for queries that may be asked; `None` when all may be.
        most_candidates: Upper bound of the candidates of a row with N inputs; known without
            looking at values.
        num_heads: Heads of the attention.
    """

    def __init__(self, encoder: Encoder, embedded: Tensor, valid: Tensor | None) -> None:
        self._encoder, self._embedded = encoder, embedded
        self._bias = key_bias(valid, embedded.dtype)
        self.num_heads = encoder.first.num_heads
        self.num_inputs = embedded.shape[1]
        self.most_candidates = encoder.num_queries(self.num_inputs)
        self.candidates = valid if encoder.queries_are_inputs else None

    def weights(self, queries: Tensor, heads: Tensor | None) -> Tensor:
        """Return `(B, Q, N)`: attention of queries `(B, Q)` over the valid inputs.

        Averaged over heads, or of the one head that `heads` `(B, Q)` names for each query.
        """
        q = self._encoder.first_queries(self._embedded, queries)
        scores = full(self._encoder.first.scores(q, self._embedded, heads))
        if self._bias is not None:
            scores = scores + self._bias
        weights = scores.softmax(-1)
        return weights.mean(2) if heads is None else weights.squeeze(2)


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
