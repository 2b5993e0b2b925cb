"""What an evaluation says is what a naive computation finds."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from anymae.config import DataConfig, parse
from anymae.data.dataset import Dataset, open_data
from anymae.errors import DataError
from anymae.masking.random import RandomMasking
from anymae.model import MaskedAutoencoder
from anymae.nn.readout import mean_pool
from anymae.presets import build_config
from anymae.training.loop import Trained
from anymae.training.monitor import ReconstructionMonitor, spaced, spread
from anymae.training.objective import Counters
from anymae.training.online_probe import OnlineProbe
from anymae.training.processes import Processes
from anymae.training.session import summarise
from anymae.training.trivial import fit_trivial, trivial_losses
from anymae.training.verdict import judge
from models import pretrained
from runs import strings

SIZES = {"width": 16, "depth": 1, "num_heads": 2}


def table(rows: int = 200) -> Any:
    import pandas as pd

    source = np.random.default_rng(0)
    columns = {
        "x": source.normal(3, 2, rows),
        "color": source.choice(["red", "blue", "green"], rows, p=[0.7, 0.2, 0.1]),
        "y": source.exponential(size=rows),
    }
    frame = pd.DataFrame(columns)
    frame.loc[::7, "x"] = None
    return frame


DATA: dict[str, Any] = {
    "bytes": lambda: strings(200),
    "table": table,
    "values": lambda: np.random.default_rng(0).normal(2, 3, (200, 6, 2)),
}


def opened(kind: str) -> tuple[Dataset, MaskedAutoencoder]:
    dataset = open_data(DATA[kind](), parse(DataConfig, {}))
    config = build_config("tiny", dataset.input, encoder=SIZES, masking={"ratio": 0.4})
    return dataset, MaskedAutoencoder(config)


def monitor(dataset: Dataset, model: MaskedAutoencoder, processes: Processes) -> Any:
    parts = dataset.parts
    return ReconstructionMonitor(
        dataset,
        rows=parts.train[:50],
        train_rows=parts.train,
        model=model,
        batch_size=16,
        seed=0,
        processes=processes,
    )


@pytest.mark.parametrize("kind", DATA)
def test_the_trivial_predictor_is_the_best_that_looks_at_nothing(kind: str) -> None:
    """Its loss over all inputs is the entropy, or the variance, of the training rows."""
    dataset, model = opened(kind)
    index = np.arange(len(dataset))
    batch = dataset.batch(index)
    valid = batch.valid if batch.valid is not None else torch.ones(batch.inputs.shape[:2]).bool()
    trivial = fit_trivial(dataset, index)
    masked = valid.clone()
    masked[:, 0] = False
    made = model(batch.inputs, valid=batch.valid, masked=masked)
    found = float(trivial_losses(trivial, model.head, batch.inputs, made).sum())
    expected = 0.0
    if kind == "bytes":
        counts = np.bincount(batch.inputs[valid].numpy(), minlength=262) + 1.0
        log = np.log(counts / counts.sum())
        expected = -log[batch.inputs[masked].numpy()].sum()
    else:
        for column in range(1, batch.inputs.shape[1]):
            real = batch.inputs[:, column][valid[:, column]].numpy()
            if kind == "table" and dataset.input.categories[column]:
                size = dataset.input.categories[column]
                counts = np.bincount(real[:, 0].astype(int), minlength=size) + 1.0
                log = np.log(counts / counts.sum())
                expected += -log[real[:, 0].astype(int)].sum() / math.log(size)
            else:
                expected += np.square(real - real.mean(0)).mean(1).sum()
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", DATA)
def test_the_losses_of_a_look_are_means_over_hidden_inputs(kind: str) -> None:
    dataset, model = opened(kind)
    with Processes("cpu") as processes:
        looks = [monitor(dataset, model, processes)(model, Counters(0, 10, 0)) for _ in range(2)]
    assert looks[0] == looks[1]
    assert model.training
    look = looks[0].values
    assert 0 < looks[0].loss < 20
    # Before training the model's own masks are nearly random; both exams are about as hard.
    assert look["valid_loss_own_masks"] == pytest.approx(looks[0].loss, rel=0.5)
    assert 0.5 < look["mask_entropy"] <= 1.05
    assert 0 < look["mask_overlap"] <= 1
    assert 1 <= look["effective_rank"] <= 16
    assert look["embedded_rows"] == min(256, len(dataset.parts.train))


def test_masks_that_never_change_overlap_wholly_and_have_less_entropy() -> None:
    class Always(RandomMasking):
        def __call__(self, valid: Any, draws: Any, *, attention: Any, **more: Any) -> torch.Tensor:
            shape = len(draws.keys), attention.num_inputs
            return torch.zeros(shape, dtype=torch.bool).index_fill(1, torch.arange(2), True)

    dataset, model = opened("values")
    model.masking = Always(model.config.masking, model.config.input)
    with Processes("cpu") as processes:
        look = monitor(dataset, model, processes)(model, Counters(0, 10, 0)).values
    assert look["mask_overlap"] == 1.0
    assert look["mask_entropy"] == pytest.approx(math.log(2) / math.log(6), rel=1e-6)


def test_the_effective_rank_counts_directions() -> None:
    axes = torch.eye(8).repeat(10, 1)
    assert spread(axes)[0] == pytest.approx(7, rel=1e-6)
    line = torch.outer(torch.randn(50), torch.randn(8))
    assert spread(line)[0] == pytest.approx(1, abs=1e-4)
    assert all(math.isnan(number) for number in spread(torch.full((5, 3), torch.inf)))
    same = torch.ones(50, 8)
    assert spread(same)[1] == 0.0
    spherical = torch.randn(5000, 8)
    assert spread(spherical)[0] == pytest.approx(8, rel=0.01)
    assert spread(spherical)[1] == pytest.approx(1, rel=0.02)


def test_spaced_rows_cover_the_whole() -> None:
    rows = np.arange(100, 1100)
    assert spaced(rows, 5).tolist() == [100, 349, 599, 849, 1099]
    assert spaced(rows, 2000) is rows


@pytest.mark.parametrize("kind", DATA)
def test_the_error_of_the_gain_over_the_trivial_predictor_is_that_of_independent_rows(
    kind: str,
) -> None:
    dataset, model = opened(kind)
    parts = dataset.parts
    with Processes("cpu") as processes:
        evaluate = monitor(dataset, model, processes)
        look = evaluate(model, Counters(0, 10, 0))
        gains, terms = [], []
        for row in parts.train[:50]:
            evaluate._batches = [np.array([row])]
            alone = evaluate._sum(model.eval())
            if alone.terms:
                gains.append(float(alone.trivial - alone.loss))
                terms.append(float(alone.terms))
    residuals = np.array(gains) - np.sum(gains) / np.sum(terms) * np.array(terms)
    expected = residuals.std(ddof=1) * math.sqrt(len(gains)) / np.sum(terms)
    assert look.values["gain_error"] == pytest.approx(expected, rel=1e-3)
    assert look.values["valid_rows"] == len(gains) > 40
    gain = np.sum(gains) / np.sum(terms)
    assert look.values["trivial_loss"] - look.loss == pytest.approx(gain, rel=1e-4)


LOOK = {
    "trivial_loss": 3.0,
    "gain_error": 0.001,
    "valid_rows": 256.0,
    "trivial_loss_own_masks": 3.0,
    "valid_loss_own_masks": 1.5,
    "mask_overlap": 0.5,
    "effective_rank": 9.0,
    "embedding_std": 0.4,
}
NOT_FINITE = {"effective_rank": None, "embedding_std": None}


def looks(losses: list[float], **change: float | None) -> list[dict[str, float | None]]:
    """Of which each is fifty steps after the one before."""
    return [
        {**LOOK, "step": 50.0 * number, "valid_loss": loss, **change}
        for number, loss in enumerate(losses)
    ]


@pytest.mark.parametrize(
    ("losses", "change", "state", "words"),
    [
        ([5.5, 3.1, 2.4, 2.0], {}, "learning", "more steps would help"),
        ([5.5, 2.0, 1.995, 1.994], {}, "learning", "levelled off"),
        ([5.5, 2.0, 2.1, 2.2], {}, "learning", "overfitting"),
        ([5.5, 3.1, 3.0, 3.01], {"valid_loss_own_masks": 2.9}, "flat", "is not under the 3.000"),
        ([5.5, 3.1, 3.0, 2.99], {"valid_loss_own_masks": 2.9}, "flat", "hardly under the 3.000"),
        ([5.5, 3.1, 3.0, 2.97], {"valid_loss_own_masks": 2.9}, "learning", "1.0% under"),
        ([1.9, 3.1, 2.4, 2.0], {}, "learning", "loss 2.000 of 256 rows is 33% under"),
        ([5.5, 3.1, 2.4, 2.0], {"effective_rank": 1.1}, "collapsed", "effective rank 1.1"),
        ([5.5, 3.1, 2.4, 2.0], {"embedding_std": 1e-6}, "collapsed", "the same embedding"),
        # Three rows are near a line whatever the encoder, and one is a point.
        ([5.5, 2.0], {"effective_rank": 1.1, "embedded_rows": 7.0}, "learning", "33% under"),
        ([5.5, 2.0], {"effective_rank": 1.1, "embedded_rows": 8.0}, "collapsed", "rank 1.1"),
        ([5.5, 2.0], {"embedding_std": 1e-6, "embedded_rows": 7.0}, "collapsed", "the same"),
        ([5.5, 2.0], {"embedding_std": 0.0, "embedded_rows": 1.0}, "learning", "33% under"),
        ([5.5, 2.0], {**NOT_FINITE, "embedded_rows": 3.0}, "collapsed", "are not finite"),
        ([5.5, 3.1, 2.4, 2.0], NOT_FINITE, "collapsed", "some training rows are not finite"),
        ([5.5, 3.1, 2.4, 2.0], {"valid_loss_own_masks": None}, "learning", "33% under"),
        ([5.5, 3.1, 3.0, 4.2], {"mask_overlap": 0.9}, "learning", "only what its own masks ask"),
        ([2.0], {}, "learning", "33% under the trivial 3.000, by the only look that is known"),
        ([5.5, 3.1, 3.0, 2.6], {"gain_error": 0.2}, "unknown", "13% under the trivial 3.000, no"),
        ([5.5, 2.4, 2.4, 2.4], {"gain_error": 0.2}, "learning", "levelled off"),
        # Three times its error is much of 256 rows, and little of 4.
        ([5.5, 3.1, 3.0, 2.4], {"gain_error": 0.2, "valid_rows": 4.0}, "unknown", "of 4 rows"),
        # And the best of many looks is one of luck.
        ([5.5, *[3.1] * 30, 2.5], {"gain_error": 0.2}, "unknown", "cannot be told"),
        ([5.5, 3.1, 2.5], {"gain_error": 0.2}, "learning", "17% under"),
        ([5.5, 2.0], {"gain_error": None, "valid_rows": 1.0}, "unknown", "of 1 row is"),
        ([5.5, 2.0, 2.0], {"step": 40.0}, "learning", "has not had the time to level off"),
    ],
)
def test_the_verdict_says_what_the_numbers_say(
    losses: list[float], change: dict[str, float | None], state: str, words: str
) -> None:
    verdict = judge(looks(losses, **change))
    assert verdict.state == state
    assert words in verdict.words


def test_looks_of_a_log_that_knows_no_error_are_believed() -> None:
    before = [
        {name: value for name, value in look.items() if name not in ("gain_error", "valid_rows")}
        for look in looks([5.5, 3.1, 2.9])
    ]
    verdict = judge(before)
    assert verdict.state == "learning"
    assert verdict.words.startswith("learning: the validation loss 2.900 is 3.3% under")


@pytest.mark.parametrize(
    ("keep", "kept"), [("best", "best checkpoint is"), ("last", "last weights are")]
)
def test_the_verdict_says_which_weights_are_kept(keep: Any, kept: str) -> None:
    assert f"the {kept} kept" in judge(looks([5.5, 2.0, 2.1, 2.2]), keep).words


@pytest.mark.parametrize(
    ("has_valid", "why"), [(True, "its log holds no look any more"), (False, "no validation rows")]
)
def test_a_run_without_looks_says_why_it_is_not_judged(has_valid: bool, why: str) -> None:
    trained = Trained(step=12, best_step=8, best_loss=2.0, seconds=1.0)
    found = summarise([], trained, 8, "best", has_valid=has_valid)
    assert found["verdict"] == "unknown" and why in found["words"]


def test_embeddings_of_rows_of_other_lengths_come_in_the_order_of_the_rows() -> None:
    texts = strings(60)
    dataset, model = open_data(texts), pretrained(texts).eval()
    rows = np.arange(3, 60, 2)
    with Processes("cpu") as processes, torch.no_grad():
        monitor = ReconstructionMonitor(
            dataset, rows=rows, train_rows=rows, model=model, batch_size=4, seed=0,
            processes=processes,
        )  # fmt: skip
        found = monitor._embed(model, rows)
        alone = [
            mean_pool(model.encode(batch.inputs, valid=batch.valid))
            for batch in (dataset.batch(rows[place : place + 1]) for place in range(len(rows)))
        ]
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_a_look_drops_nothing() -> None:
    texts, looks = strings(40), []
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        model = pretrained(texts)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        with Processes("cpu") as processes:
            monitor = ReconstructionMonitor(
                open_data(texts), rows=np.arange(40), train_rows=np.arange(40), model=model,
                batch_size=8, seed=0, processes=processes,
            )  # fmt: skip
            looks.append(monitor(model.train(), Counters(0, 10, 0)))
    assert looks[0] == looks[1]


def test_validation_rows_in_which_nothing_can_be_hidden_are_refused() -> None:
    table = np.full((40, 3, 1), np.nan)
    table[:, 0], table[:30] = 1.0, np.random.default_rng(0).normal(size=(30, 3, 1))
    dataset = open_data(table)
    model = MaskedAutoencoder(build_config("tiny", dataset.input, encoder=SIZES))

    def look_at(rows: np.ndarray, processes: Processes) -> ReconstructionMonitor:
        return ReconstructionMonitor(
            dataset, rows=rows, train_rows=np.arange(20), model=model, batch_size=4, seed=0,
            processes=processes,
        )  # fmt: skip

    with Processes("cpu") as processes:
        with pytest.raises(DataError, match="no validation row has two inputs"):
            look_at(np.arange(30, 40), processes)
        # One is enough, wherever it stands.
        for row in (29, 0):
            assert look_at(np.r_[row, 30:40], processes)(model, Counters(0, 10, 0)).loss > 0


def test_a_probe_judges_numbers_far_from_zero_as_those_near_it() -> None:
    """Seconds since 1970, which float32 counts by 128."""
    draw = np.random.default_rng(0)
    features = draw.normal(size=(60, 3)).astype(np.float32)
    near = features[:, 0] + 0.1 * draw.normal(size=60)
    found = []
    for shift in (0.0, 1.7e9):
        data = {"text": strings(60), "y": near + shift}
        dataset = open_data(data, DataConfig(kind="bytes", column=("text",), target=("y",)))
        probe = OnlineProbe(dataset, "y", train=np.arange(40), valid=np.arange(40, 60))
        found.append(probe(lambda rows: features[rows]))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
