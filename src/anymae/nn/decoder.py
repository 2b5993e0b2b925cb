"""The reconstruction decoder: one attention layer asked about hidden positions only.

A query is the raw vector of a position; it reads the encoder's output. Equal positions have
equal queries in every row, so they are normed and projected once for the whole batch
(`docs/method.md`, "Decoder").

Shapes: B rows, N inputs, M latents, k hidden inputs, W decoder width.
"""

import torch
from torch import Tensor, nn

from anymae.config import DecoderConfig, InputConfig
from anymae.nn.attention import ReadLayer, key_bias
from anymae.nn.encoder import Encoded


class Decoder(nn.Module):
    """Cross-attention from hidden positions to latents.

    Args:
        config: Widths and options.
        input_config: Tells how many positions there are.
        latent_width: Size of the encoder's vectors.
    """

    def __init__(
        self, config: DecoderConfig, *, input_config: InputConfig, latent_width: int
    ) -> None:
        super().__init__()
        # A set has no positions: its hidden members are asked for by slots.
        self.by_slot = input_config.positions == "none"
        own = self.by_slot or not config.share_positions
        shape = (input_config.length, config.width)
        self.positions = nn.Parameter(torch.empty(shape)) if own else None
        self.mask_token = nn.Parameter(torch.empty(config.width)) if config.mask_token else None
        self.latent_norm = nn.LayerNorm(latent_width)
        self.layer = ReadLayer(
            width=config.width,
            context_width=latent_width,
            qk_width=config.qk_width,
            value_width=config.width,
            num_heads=config.num_heads,
            mlp_ratio=config.mlp_ratio,
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-12)

    def forward(self, encoded: Encoded, hidden: Tensor, positions: Tensor | None) -> Tensor:
        """Describe the inputs at hidden positions.

        Args:
            encoded: The encoder's output.
            hidden: `(B, k)` int64, the positions to reconstruct.
            positions: The encoder's position table `(N, W)`, used where the decoder has none.

        Returns:
            `(B, k, W)`, normed; a head turns them into predictions. Of a set, one for each slot.
        """
        queries = self.positions if self.positions is not None else positions
        assert queries is not None
        if self.mask_token is not None:
            queries = queries + self.mask_token
        index = hidden
        if self.by_slot:
            index = torch.arange(hidden.shape[1], device=hidden.device).expand_as(hidden)
        context = self.latent_norm(encoded.latents)
        bias = key_bias(encoded.valid, context.dtype)
        decoded = self.layer(queries[index], self.layer.queries(queries)[index], context, bias)
        out: Tensor = self.norm(decoded)
        return out
