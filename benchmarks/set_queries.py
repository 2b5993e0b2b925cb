"""What should the decoder ask about a hidden member of a set, which has no position?

Three answers on simulated jets (ragged sets of particles; one prong against two), each pretrained
alike and judged by a probe on frozen, mean-pooled features with 200 labels:

- `slots`, the library's: a learned query for each slot, each hidden member compared with the
  nearest prediction and the other way round;
- `one`: one learned query for every hidden member: the model predicts what is hidden on average;
- `rank`: a learned query for each rank, hidden members ordered by their first channel.

    python benchmarks/set_queries.py [--steps 600] [--seeds 3]
"""

import argparse
import json
from dataclasses import replace

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from anymae.config import ModelConfig, parse
from anymae.model import MaskedAutoencoder, Reconstruction
from anymae.nn.encoder import take
from anymae.randomness import Draws, row_keys

LENGTH = 32


def jets(count: int, seed: int) -> tuple[Tensor, Tensor, np.ndarray]:
    """Simulate jets: `(count, 32, 3)` log share of momentum, two angles; validity; prongs - 1."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    valid = np.arange(LENGTH) < random.integers(8, LENGTH + 1, count)[:, None]
    share = random.exponential(1, (count, LENGTH)) * valid
    share /= share.sum(1, keepdims=True)
    turn = random.uniform(0, 2 * np.pi, (count, 1))
    second = random.random((count, LENGTH)) < random.uniform(0.25, 0.5, (count, 1))
    apart = np.where(labels, random.uniform(0.3, 0.8, count), 0)[:, None]
    # A single prong is as wide on average, so that the spread alone does not tell.
    width = np.where(labels, 0.1, random.uniform(0.12, 0.35, count))[:, None]
    centre = np.where(second, 1.0, -0.5) * apart
    angles = [
        centre * wave(turn) + width * random.normal(size=(count, LENGTH))
        for wave in (np.cos, np.sin)
    ]
    values = np.stack([np.log(share + 1e-4), *angles], -1).astype(np.float32)
    mean, std = values[valid].mean(0), values[valid].std(0)
    return torch.tensor((values - mean) / std), torch.tensor(valid), labels


def make_model(seed: int) -> MaskedAutoencoder:
    torch.manual_seed(seed)
    config = {
        "input": {"kind": "values", "length": LENGTH, "channels": 3, "positions": "none"},
        "encoder": {"width": 64, "depth": 3, "num_heads": 4},
        "masking": {"kind": "random", "ratio": 0.4},
    }
    return MaskedAutoencoder(parse(ModelConfig, config))


class Other(nn.Module):
    """The library's model, asked in another way."""

    def __init__(self, model: MaskedAutoencoder, query: str) -> None:
        super().__init__()
        self.model, self.query = model, query

    def forward(self, inputs: Tensor, valid: Tensor, draws: Draws) -> Reconstruction:
        out = self.model(inputs, valid, draws=draws)
        targets = take(inputs, out.hidden)
        predictions = out.listed
        if self.query == "one":
            predictions = predictions[:, :1]
        else:
            order = targets[..., 0].masked_fill(~out.filled, -1e9).argsort(1, descending=True)
            targets = take(targets, order)
        losses = (predictions - targets).square().mean(-1)
        return replace(out, loss_sum=losses.where(out.filled, 0).sum())


def pretrain(model: MaskedAutoencoder, query: str, steps: int, seed: int) -> None:
    inputs, valid, _ = jets(20_000, seed)
    trained = model if query == "slots" else Other(model, query)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        rows = torch.randint(len(inputs), (128,))
        draws = Draws(row_keys(rows, seed=seed, epoch=step))
        optimizer.zero_grad()
        trained(inputs[rows], valid[rows], draws=draws).loss.backward()
        optimizer.step()
        schedule.step()


def probe(model: MaskedAutoencoder, seed: int) -> float:
    """Accuracy of a logistic regression on frozen features, 200 labels, mean of ten draws."""
    inputs, valid, labels = jets(6_000, 10_000 + seed)
    with torch.no_grad():
        encoded = model.eval().encode(inputs, valid)
        assert encoded.valid is not None
        weight = encoded.valid[:, :, None].float()
        features = ((encoded.latents * weight).sum(1) / weight.sum(1)).numpy()
    random = np.random.default_rng(seed)
    accuracies = []
    for _ in range(10):
        train = random.choice(4000, 200, replace=False)
        fit = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        fit.fit(features[train], labels[train])
        accuracies.append(fit.score(features[4000:], labels[4000:]))
    return float(np.mean(accuracies))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        results.setdefault("unpretrained", []).append(probe(make_model(seed), seed))
        for query in ("slots", "one", "rank"):
            model = make_model(seed)
            pretrain(model, query, options.steps, seed)
            results.setdefault(query, []).append(probe(model, seed))
    print(json.dumps({name: [round(x, 4) for x in values] for name, values in results.items()}))


if __name__ == "__main__":
    main()
