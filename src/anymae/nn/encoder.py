"""The two encoders: visible inputs attend to each other, or learned latents read them.

Both begin with the same first attention, whose map guides the masks (`docs/method.md`).

Shapes: B rows, N inputs, M latents, Q sampled queries, D width, E input width.
Booleans: `valid` is True where an input, or a latent, is real.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from anymae.config import EncoderConfig
from anymae.nn.attention import ReadLayer, SelfAttentionLayer, key_bias
from anymae.registry import Registry


class Encoded(NamedTuple):
    """What an encoder makes of a batch."""

    latents: Tensor
    """`(B, M, D)`: the visible inputs packed left in order (transformer), or the latents."""
    valid: Tensor | None
    """`(B, M)`, True for real latents; `None` when all are."""


def last(states: Iterable[Encoded]) -> Encoded:
    """Go through the states of an encoder, one at a time in memory, and return the last."""
    found: Encoded | None = None
    for state in states:
        found = state
    assert found is not None, "every encoder has a first layer"
    return found


ENCODERS: Registry[type[nn.Module]] = Registry("encoder")


class _Blocks(nn.Module):
    """The first layer and the blocks that every encoder has."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.recompute = False
        # Here and not in the embedding, from which masks are chosen: what is dropped depends on
        # the forward pass that a row falls to, and a row's mask may not.
        self.dropout = nn.Dropout(config.dropout)
        self.first = ReadLayer(
            width=config.width,
            context_width=config.input_width,
            qk_width=config.read_qk_width,
            value_width=config.value_width,
            num_heads=config.read_heads,
            mlp_ratio=config.read_mlp_ratio,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )
        # From 0 in the first block to the full rate in the last, which a single block is.
        numbers = range(config.depth) if config.depth > 1 else range(1, config.depth + 1)
        rates = [config.drop_path * i / max(1, config.depth - 1) for i in numbers]
        self.blocks = nn.ModuleList(
            SelfAttentionLayer(
                width=config.width,
                qk_width=config.qk_width,
                value_width=config.value_width,
                num_heads=config.num_heads,
                mlp_ratio=config.mlp_ratio,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                drop_path=rate,
            )
            for rate in rates
        )

    def _run(self, x: Tensor, valid: Tensor | None, bias: Tensor | None) -> Iterator[Encoded]:
        """Yield the given state and the one after each block."""
        yield Encoded(x, valid)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x = cast("Tensor", checkpoint(block, x, bias, use_reentrant=False))
            else:
                x = block(x, bias)
            yield Encoded(x, valid)


@ENCODERS.register("transformer")
class TransformerEncoder(_Blocks):
    """Visible inputs attend to each other; cost grows with N squared."""

    queries_are_inputs = True
    """The first attention's queries are the inputs themselves."""

    def num_queries(self, length: int) -> int:
        """Return how many queries the first attention has: each of `length` inputs is one."""
        return length

    def first_queries(self, embedded: Tensor, index: Tensor) -> Tensor:
        """Return the queries of the inputs number `index`, `(B, Q)`, as `(B, Q, H * d)`."""
        # Whole vectors are copied at once, which `take`, made for gradients, does one by one.
        rows = torch.arange(len(embedded), device=embedded.device)[:, None]
        return self.first.queries(embedded[rows, index])

    def hidden_states(self, embedded: Tensor, valid: Tensor | None) -> Iterator[Encoded]:
        """Yield the visible inputs after the first layer and each block; the last is the output."""
        embedded, bias = self.dropout(embedded), key_bias(valid, embedded.dtype)
        x = self.first(embedded, self.first.queries(embedded), embedded, bias)
        yield from self._run(x, valid, bias)


@ENCODERS.register("perceiver")
class PerceiverEncoder(_Blocks):
    """Learned latents read the visible inputs; cost grows with N (Jaegle et al. 2021)."""

    queries_are_inputs = False

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.latents = nn.Parameter(torch.empty(config.num_latents, config.width))

    def num_queries(self, length: int) -> int:
        """Return the number of latents, whatever `length` is."""
        return len(self.latents)

    def first_queries(self, embedded: Tensor, index: Tensor) -> Tensor:
        """Return the queries of the latents number `index`, `(B, Q)`, as `(B, Q, H * d)`."""
        return self.first.queries(self.latents)[index]

    def hidden_states(self, embedded: Tensor, valid: Tensor | None) -> Iterator[Encoded]:
        """Yield the latents after the first layer and each block; the last is the output."""
        # Every row starts from the same latents: their norm and projection are computed once.
        x = self.latents.expand(embedded.shape[0], -1, -1)
        q = self.first.queries(self.latents).expand(embedded.shape[0], -1, -1)
        x = self.first(x, q, self.dropout(embedded), key_bias(valid, embedded.dtype))
        yield from self._run(x, None, None)


Encoder = TransformerEncoder | PerceiverEncoder


def make_encoder(config: EncoderConfig) -> Encoder:
    """Build the encoder that `config.kind` names."""
    return cast("Encoder", ENCODERS[config.kind](config))


def take(vectors: Tensor, index: Tensor) -> Tensor:
    """Pick vectors of each row: `(B, N, X)` and `(B, Q)` int64 give `(B, Q, X)`."""
    return vectors.gather(1, index[:, :, None].expand(-1, -1, vectors.shape[2]))
