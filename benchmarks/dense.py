"""The same model computed the direct way: what anymae's speed and memory are measured against.

Written as the published implementation works, in its order and with its waste, on purpose:

- the whole first attention map, softmax written out, taken once to choose what to hide and again
  with the hidden inputs at minus infinity;
- a Python loop over the batch that draws queries and ranks inputs row by row;
- the first layer on all inputs; then a loop that packs what is visible to the longest row;
- every position decoded, decoder queries expanded for each row, the whole vocabulary predicted,
  and the hidden positions picked out at the end.

The numbers are the same: given a mask, loss and gradients agree with `MaskedAutoencoder`
(`tests/parity/test_dense.py`).

Shapes: B rows, N inputs, M queries or latents, H heads, D width.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from anymae.model import Backbone, MaskedAutoencoder
from anymae.nn.attention import ReadLayer, SelfAttentionLayer
from anymae.nn.encoder import PerceiverEncoder
from anymae.nn.readout import QueryReadout
from anymae.predictor import Predictor


class DenseLayer(nn.Module):
    """Pre-norm attention and MLP, with separate projections and a written-out softmax."""

    def __init__(self, ours: ReadLayer | SelfAttentionLayer) -> None:
        super().__init__()
        self.num_heads = ours.num_heads
        if isinstance(ours, SelfAttentionLayer):
            self.norm = ours.norm
            self.query, self.key, self.value = _separate(ours.query_key_value, ours.sizes)
        else:
            self.norm, self.query = ours.query_norm, ours.query
            self.key, self.value = _separate(ours.key_value, [ours.qk_width, ours.value_width])
        self.output, self.mlp_norm = ours.output, ours.mlp_norm
        self.expand, self.contract = ours.mlp.expand, ours.mlp.contract

    def scores(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the map before the softmax, `(B, H, M, N)`, and the values."""
        x = self.norm(x)
        context = x if context is None else context
        q, k, v = (
            y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for y in (self.query(x), self.key(context), self.value(context))
        )
        return q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), v

    def finish(self, x: Tensor, scores: Tensor, v: Tensor) -> Tensor:
        """Return the layer's output, `(B, M, D)`."""
        read = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        h = x + self.output(read)
        return h + self.contract(F.gelu(self.expand(self.mlp_norm(h))))

    def forward(self, x: Tensor, context: Tensor | None, readable: Tensor | None) -> Tensor:
        scores, v = self.scores(x, context)
        return self.finish(x, _block_out(scores, readable), v)


class DenseEncoder(nn.Module):
    """Embedding and encoder without any saving of work; made from ours, with its weights."""

    def __init__(self, ours: Backbone) -> None:
        super().__init__()
        ours = copy.deepcopy(ours)
        self.embedding = ours.embedding
        self.latents = ours.encoder.latents if isinstance(ours.encoder, PerceiverEncoder) else None
        self.first = DenseLayer(ours.encoder.first)
        self.layers = nn.ModuleList(DenseLayer(block) for block in ours.encoder.blocks)

    def forward(self, inputs: Tensor, valid: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return latents, and which of them are real; nothing is hidden."""
        embedded = self.embedding(inputs)
        return self.blocks(self.first(self.queries(embedded), embedded, valid), valid)

    def queries(self, embedded: Tensor) -> Tensor:
        """What the first attention asks with: the inputs, or the latents of each row."""
        return embedded if self.latents is None else self.latents.expand(len(embedded), -1, -1)

    def blocks(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pack what is visible, row by row, and run the rest of the encoder on it."""
        readable = None
        if self.latents is None:
            x = pad_sequence([x[i, visible[i]] for i in range(len(x))], batch_first=True)
            counts = torch.stack([visible[i].sum() for i in range(len(x))])
            readable = torch.arange(x.shape[1], device=x.device) < counts[:, None]
        for layer in self.layers:
            x = layer(x, None, readable)
        return x, readable


class DenseAutoencoder(nn.Module):
    """`MaskedAutoencoder` without any saving of work; made from one, with the same weights."""

    def __init__(self, ours: MaskedAutoencoder) -> None:
        super().__init__()
        self.encoder = DenseEncoder(ours)
        ours = copy.deepcopy(ours)
        self.masking = ours.config.masking
        self.head = ours.head
        self.tied = ours.config.decoder.tie_output
        self.positions = ours.decoder.positions
        self.latent_norm, self.norm = ours.decoder.latent_norm, ours.decoder.norm
        self.decoder = DenseLayer(ours.decoder.layer)

    def forward(self, inputs: Tensor, valid: Tensor, masked: Tensor | None = None) -> Tensor:
        """Return the mean loss over the hidden inputs, of the own choice or as given."""
        encoder = self.encoder
        embedded = encoder.embedding(inputs)
        x = encoder.queries(embedded)
        scores, v = encoder.first.scores(x, embedded)
        scores = _block_out(scores, valid)
        if masked is None:
            masked = self.choose(scores.detach(), valid)
        x = encoder.first.finish(x, _block_out(scores, ~masked), v)
        x, readable = encoder.blocks(x, valid & ~masked)
        predictions = self.decode(x, readable, inputs.shape[1])[masked]
        if inputs.dim() == 2:
            return F.cross_entropy(predictions, inputs[masked])
        return F.mse_loss(predictions, inputs[masked])

    def decode(self, latents: Tensor, readable: Tensor | None, length: int) -> Tensor:
        """Predict every input of every row."""
        embedding = self.encoder.embedding
        positions = embedding.positions if self.positions is None else self.positions
        queries = positions[:length].expand(len(latents), -1, -1)
        decoded = self.norm(self.decoder(queries, self.latent_norm(latents), readable))
        everywhere = torch.arange(length, device=latents.device).expand(len(latents), -1)
        tied = embedding.content.weight if self.tied else None
        return self.head.predict(decoded, everywhere, tied)

    def choose(self, scores: Tensor, valid: Tensor) -> Tensor:
        """Hide what a few random queries attend to, row by row."""
        weights = scores.softmax(-1)
        if self.masking.head_choice == "sample":
            shape = (len(weights), 1, weights.shape[2], 1)
            heads = torch.randint(weights.shape[1], shape, device=weights.device)
            weights = weights.gather(1, heads.expand(-1, -1, -1, weights.shape[3]))
        weights = weights.mean(1)
        masked = torch.zeros_like(valid)
        for i in range(len(valid)):
            count = valid[i].sum()
            hide = round(count.item() * self.masking.ratio)
            voters = round(count.item() * self.masking.ratio / self.masking.inputs_per_query)
            candidates = weights.shape[1] if self.encoder.latents is not None else int(count)
            queries = torch.randperm(candidates, device=valid.device)[:voters]
            score = weights[i, queries].sum(0)
            if self.masking.hide_queries:
                score[queries] = float(self.encoder.first.num_heads)
            masked[i, score.topk(hide).indices] = True
        return masked


class DensePredictor(nn.Module):
    """`Predictor` with the published head, over the direct encoder."""

    def __init__(self, ours: Predictor) -> None:
        super().__init__()
        readout = copy.deepcopy(ours.readout)
        assert isinstance(readout, QueryReadout)
        self.encoder = DenseEncoder(ours)
        self.query, self.latent_norm = readout.query, readout.latent_norm
        self.layer, self.norm = DenseLayer(readout.layer), readout.norm
        self.output = copy.deepcopy(ours.output)

    def forward(self, inputs: Tensor, valid: Tensor) -> Tensor:
        """Return logits or standardised numbers, `(B, O)`."""
        latents, readable = self.encoder(inputs, valid)
        queries = self.query.expand(len(inputs), -1, -1)
        read = self.layer(queries, self.latent_norm(latents), readable)
        return self.output(self.norm(read).squeeze(1))


def _separate(joint: nn.Linear, sizes: list[int]) -> list[nn.Linear]:
    """Cut a joint projection into one for each of its parts."""
    parts = []
    for weight, bias in zip(joint.weight.split(sizes), joint.bias.split(sizes), strict=True):
        part = nn.Linear(joint.in_features, len(weight))
        part.weight = nn.Parameter(weight.detach().clone())
        part.bias = nn.Parameter(bias.detach().clone())
        parts.append(part)
    return parts


def _block_out(scores: Tensor, readable: Tensor | None) -> Tensor:
    if readable is None:
        return scores
    return scores + torch.where(readable, 0.0, torch.finfo(scores.dtype).min)[:, None, None]
