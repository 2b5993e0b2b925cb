"""Sets of points: what is computed of them does not depend on the order in which they come."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from anymae.cli import main

COUNT = 40


def jets(path: Path, *, seed: int | None) -> Path:
    """Write rows of 3 to 12 points of 3 numbers, in an order that `seed` draws."""
    draw = np.random.default_rng(0)
    rows = [draw.normal(2, 3, (draw.integers(3, 13), 3)) for _ in range(COUNT)]
    if seed is not None:
        order = np.random.default_rng(seed)
        rows = [order.permutation(row) for row in rows]
    table = pa.table({"points": pa.array([row.tolist() for row in rows])})
    pyarrow.parquet.write_table(table, path)
    return path


def embedded(run: Path, data: Path) -> np.ndarray:
    out = data.with_suffix(".npy")
    assert main(["embed", str(run), str(data), "--out", str(out), "--device", "cpu"]) == 0
    return np.load(out)


@pytest.mark.parametrize("encoder", ["transformer", "perceiver"])
@pytest.mark.parametrize("positions", ["none", "learned"])
def test_a_ragged_file_of_sets_embeds_alike_in_any_order(
    positions: str, encoder: str, tmp_path: Path
) -> None:
    data, run = jets(tmp_path / "jets.parquet", seed=None), tmp_path / "run"
    sizes = {"width": 16, "depth": 2, "num_heads": 2, "kind": encoder}
    sizes |= {"num_latents": 4, "input_width": 8} if encoder == "perceiver" else {}
    settings = {f"encoder.{key}": value for key, value in sizes.items()}
    settings |= {"data.positions": positions, "training.learning_rate": 0.01}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    words += ["--steps", "8", "--batch-size", "8", "--device", "cpu", "--out", str(run)]
    assert main(["pretrain", str(data), *words]) == 0
    found = embedded(run, data)
    assert found.shape == (COUNT, 16)
    assert np.isfinite(found).all()
    assert found.std(0).min() > 1e-3
    moved = [embedded(run, jets(tmp_path / f"{i}.parquet", seed=i)) for i in (1, 2)]
    distance = max(np.abs(one - found).max() for one in moved)
    assert (distance < 1e-5) == (positions == "none")
