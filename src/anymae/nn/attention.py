"""Multi-head attention and the pre-norm layer around it (`docs/method.md`, "Layers").

Shapes: B rows, M queries, N keys, H heads, d size of a head, D query width, E key width.
Booleans: `valid` is True where a key is real; keys that are not are never attended.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FUSED_FROM = 900
"""On a CPU in bf16, rows of fewer keys than this learn faster with the map written out: the fused
kernel's backward pass does not use the processor's bf16 products (`docs/performance.md`)."""

LOWEST = torch.finfo(torch.bfloat16).min
"""Lowest number that is finite in bf16 as well, whatever a score is added to it."""

LOWEST_FP16 = torch.finfo(torch.float16).min / 2
"""The same for fp16, whose numbers are few: its lowest is not finite with a score of -16."""


def key_bias(valid: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Turn validity into what is added to attention scores.

    Args:
        valid: `(B, N)` bool, True for real keys; `None` when all are.
        dtype: Number format of the scores; they may be less precise than this, not more.

    Returns:
        `(B, 1, 1, N)`: 0 for real keys, the lowest finite number for others, so that a row
        without any real key gives finite (and unused) numbers instead of NaN.
    """
    if valid is None:
        return None
    bias = torch.zeros(valid.shape, dtype=dtype, device=valid.device)
    lowest = LOWEST_FP16 if dtype == torch.float16 else LOWEST
    return bias.masked_fill(~valid, lowest)[:, None, None, :]


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, num_heads: int, bias: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """Compute softmax(q k^T / sqrt(d)) v for all heads.

    Args:
        q: `(B, M, H * d)`.
        k: `(B, N, H * d)`.
        v: `(B, N, H * dv)`.
        num_heads: H.
        bias: Added to the scores, `(B, 1, 1, N)`; see `key_bias`.
        dropout: Share of attention weights to drop.

    Returns:
        `(B, M, H * dv)`, heads joined.
    """
    if q.stride(0) == 0 and q.device.type != "cpu":
        # One row expanded over the batch: cuDNN lays its output out like the queries, and fails.
        q = q.contiguous()
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    if bias is not None and bias.dtype != q.dtype:
        bias = (bias.clamp(min=LOWEST_FP16) if q.dtype == torch.float16 else bias).to(q.dtype)
    if _prefers_fused(q, k, v):
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
    else:
        context = _written_out(q, k, v, bias, dropout)
    return context.transpose(1, 2).flatten(2)


def _prefers_fused(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Tell whether the fused kernel is the faster one, by what was measured."""
    if q.device.type != "cpu":
        return True
    if q.shape[-1] != v.shape[-1]:
        return False  # No kernel on a CPU: what would run is slower than the products themselves.
    return q.dtype != torch.bfloat16 or not q.requires_grad or k.shape[2] >= FUSED_FROM


def _written_out(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """Attend by plain products, `(B, H, M, dv)`; rows and heads are one dimension in them."""
    heads = q.shape[:2]
    q, k, v = (x.reshape(-1, x.shape[2], x.shape[3]) for x in (q, k, v))
    if dropout == 0 and q.requires_grad:
        context = _Products.apply(q, k, v, bias)  # type: ignore[no-untyped-call]
    else:
        context = F.dropout(_map(q, k, bias), dropout, training=dropout > 0) @ v
    out: Tensor = context.unflatten(0, heads)
    return out


def _map(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """Return the whole map of attention weights, `(B * H, M, N)`."""
    scale = 1 / math.sqrt(q.shape[-1])
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scale)
    if bias is not None and bias.shape[0]:
        scores.unflatten(0, (bias.shape[0], -1)).add_(bias)
    return scores.softmax(-1)


class _Products(torch.autograd.Function):
    """softmax(q k^T / sqrt(d) + bias) v; a map larger than q, k and v together is not kept.

    Long rows would else need most of their memory for maps; computing one again is one product
    more than six. Plain differentiation is slower, too: it copies and scales apart.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401
        weights = _map(q, k, bias)
        is_small = weights.numel() <= q.numel() + k.numel() + v.numel()
        ctx.save_for_backward(q, k, v, bias, weights if is_small else None)
        return torch.bmm(weights, v)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # noqa: ANN401
        """Return the gradients of q, k and v; the bias is fixed."""
        q, k, v, bias, weights = ctx.saved_tensors
        if weights is None:
            weights = _map(q, k, bias)
        gradient = gradient.contiguous()
        of_weights = torch.bmm(gradient, v.transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        none, scale = q.new_empty(()), 1 / math.sqrt(q.shape[-1])
        return (
            torch.baddbmm(none, of_scores, k, beta=0, alpha=scale),
            torch.baddbmm(none, of_scores.transpose(1, 2), q, beta=0, alpha=scale),
            torch.bmm(weights.transpose(1, 2), gradient),
            None,
        )


class MLP(nn.Module):
    """Two linear maps with a GELU between them."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = round(width * ratio)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape as `x`."""
        out: Tensor = self.contract(F.gelu(self.expand(x)))
        return out


class DropPath(nn.Module):
    """Skip a residual branch for a random share of the rows while training (stochastic depth)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Return `branch` with the skipped rows at 0 and the others scaled up."""
        if not self.training or self.rate == 0:
            return branch
        keep = torch.empty(len(branch), 1, 1, device=branch.device).bernoulli_(1 - self.rate)
        return branch * (keep / (1 - self.rate)).to(branch.dtype)


class ReadLayer(nn.Module):
    """Queries read other vectors: h = x + W_o attend(LN(x), c), then h + MLP(LN(h)).

    The encoder's first layer and the decoder. `c` is taken as it is, without a norm of its own.
    """

    def __init__(
        self,
        *,
        width: int,
        context_width: int,
        qk_width: int,
        value_width: int,
        num_heads: int,
        mlp_ratio: float,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qk_width, self.value_width = qk_width, value_width
        self.attention_dropout = attention_dropout
        self.query_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, qk_width)
        self.key_value = nn.Linear(context_width, qk_width + value_width)
        self.output = nn.Linear(value_width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, mlp_ratio)
        self.dropout = nn.Dropout(dropout)

    def queries(self, x: Tensor) -> Tensor:
        """Return LN(x) projected to queries, `(..., M, H * d)` from `(..., M, D)`."""
        out: Tensor = self.query(self.query_norm(x))
        return out

    def forward(self, x: Tensor, q: Tensor, context: Tensor, bias: Tensor | None) -> Tensor:
        """Read `context`.

        Args:
            x: Residual stream of the queries, `(B, M, D)`.
            q: `queries(x)`, `(B, M, H * d)`, apart because equal queries are projected once.
            context: What is read, `(B, N, E)`.
            bias: See `key_bias`.

        Returns:
            `(B, M, D)`.
        """
        k, v = self.key_value(context).split([self.qk_width, self.value_width], dim=-1)
        dropout = self.attention_dropout if self.training else 0.0
        read = attend(q, k, v, num_heads=self.num_heads, bias=bias, dropout=dropout)
        h = x + self.dropout(self.output(read))
        out: Tensor = h + self.dropout(self.mlp(self.mlp_norm(h)))
        return out

    def scores(self, q: Tensor, context: Tensor, heads: Tensor | None = None) -> Tensor:
        """Score given queries against all of `context`, before the softmax.

        Keys are not computed when there are fewer rows to score than key channels: then W_k is
        applied to the queries, q (W_k c + b) = (W_k^T q) c + q b, which is less work.

        Args:
            q: `(B, Q, H * d)`.
            context: `(B, N, E)`.
            heads: `(B, Q)` int64, the head to use for each query; `None` for all heads.

        Returns:
            `(B, Q, H, N)`, or `(B, Q, 1, N)` with `heads`.
        """
        q = q.unflatten(-1, (self.num_heads, -1))
        scale = 1 / math.sqrt(q.shape[-1])
        weight = self.key_value.weight[: self.qk_width].unflatten(0, (self.num_heads, -1))
        shift = self.key_value.bias[: self.qk_width].unflatten(0, (self.num_heads, -1))
        num_rows = q.shape[1] * (self.num_heads if heads is None else 1)
        if num_rows > self.qk_width:
            keys = torch.einsum("bne,hde->bhdn", context, weight) + shift[:, :, None]
            full = torch.einsum("bqhd,bhdn->bqhn", q * scale, keys)
            return full if heads is None else _take_head(full, heads)
        if heads is None:
            constant = (q * shift).sum(-1).flatten(1)
            reach = torch.einsum("bqhd,hde->bqhe", q, weight).flatten(1, 2)
        else:
            # The other heads' channels at 0: one product in place of one for each head.
            chosen = heads[:, :, None] == torch.arange(self.num_heads, device=heads.device)
            alone = (q * chosen[:, :, :, None]).flatten(2)
            constant = alone @ shift.flatten()
            reach = alone @ weight.flatten(0, 1)
        scores = torch.baddbmm(
            constant[:, :, None] * scale, reach, context.transpose(1, 2), alpha=scale
        )
        out: Tensor = scores.unflatten(1, (q.shape[1], -1))
        return out


class SelfAttentionLayer(nn.Module):
    """h = x + W_o attend(LN(x), LN(x)), then h + MLP(LN(h)): one block of the encoder."""

    def __init__(
        self,
        *,
        width: int,
        qk_width: int,
        value_width: int,
        num_heads: int,
        mlp_ratio: float,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.sizes = [qk_width, qk_width, value_width]
        self.attention_dropout = attention_dropout
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, sum(self.sizes))
        self.output = nn.Linear(value_width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, mlp_ratio)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return the next hidden state, `(B, M, D)` from `(B, M, D)`."""
        q, k, v = self.query_key_value(self.norm(x)).split(self.sizes, dim=-1)
        dropout = self.attention_dropout if self.training else 0.0
        read = attend(q, k, v, num_heads=self.num_heads, bias=bias, dropout=dropout)
        h = x + self.drop_path(self.dropout(self.output(read)))
        out: Tensor = h + self.drop_path(self.dropout(self.mlp(self.mlp_norm(h))))
        return out


def _take_head(x: Tensor, heads: Tensor) -> Tensor:
    """Keep one head of each query: `(B, Q, H, X)` to `(B, Q, 1, X)`."""
    return x.gather(2, heads[:, :, None, None].expand(-1, -1, 1, x.shape[-1]))
