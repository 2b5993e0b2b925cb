"""Fine-tuning starts from the pretrained weights, learns every task, and says what fails."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from anymae.config import DataConfig, parse
from anymae.data.dataset import Dataset, open_data
from anymae.errors import ConfigError, DataError, FolderError, UserInputError
from anymae.evaluation import evaluate
from anymae.hub import load
from anymae.inference import predict
from anymae.inference.rows import open_rows
from anymae.inference.seen import read_seen, row_hashes
from anymae.model import MaskedAutoencoder
from anymae.nn.readout import READOUTS
from anymae.predictor import Ensemble, Predictor, build, describe
from anymae.task import FinetuneConfig, ReadoutConfig, ReadoutKind, TaskConfig, TaskType
from anymae.training.answers import balance
from anymae.training.finetune import finetune
from anymae.training.fit import layer_groups
from anymae.training.labelling import label
from anymae.training.linear import fit_linear
from anymae.training.losses import task_losses
from anymae.training.optim import TrainingConfig
from models import pretrained, strings
from runs import tuned, weights

COUNT = 24


@pytest.fixture(scope="module")
def model() -> MaskedAutoencoder:
    torch.manual_seed(1)
    return pretrained(strings(), width=32)


def table(count: int = COUNT, **columns: object) -> dict[str, object]:
    return {"smiles": strings(count), **columns}


RANDOM = np.random.default_rng(3)
TARGETS = {
    "regression": {"y": RANDOM.normal(50, 9, COUNT), "z": RANDOM.normal(size=COUNT)},
    "binary": {"y": RANDOM.choice(["no", "yes"], COUNT)},
    "multiclass": {"y": RANDOM.integers(3, 7, COUNT)},
    "multilabel": {
        "a": RANDOM.integers(0, 2, COUNT),
        "b": np.where(RANDOM.random(COUNT) < 0.3, np.nan, RANDOM.integers(0, 2, COUNT)),
    },
}
MEMORISE = {"steps": 120, "learning_rate": 3e-3, "batch_size": 24, "patience": None}
ONE_PART = DataConfig(split="part")
PARTS = ["train"] * (COUNT - 2) + ["valid", "test"]


@pytest.mark.parametrize(
    ("task", "encoder"),
    [
        *((task, "transformer") for task in TARGETS),
        ("multilabel", "perceiver"),
        *(
            pytest.param(task, "perceiver", marks=pytest.mark.slow)
            for task in TARGETS
            if task != "multilabel"
        ),
    ],
)
def test_small_data_are_memorised_and_the_round_trip_is_exact(
    task: str, encoder: str, tmp_path: Path
) -> None:
    model = pretrained(strings(), encoder, width=32)
    data = table(**TARGETS[task])
    # The training rows validate, so that the best look is the one that knows them.
    doubled = {name: [*values, *values] for name, values in data.items()}  # type: ignore[misc]
    doubled["part"] = ["train"] * COUNT + ["valid"] * COUNT
    mean = ReadoutConfig(kind="mean")
    done = finetune(
        model, doubled, target=list(TARGETS[task]), out=tmp_path / "m", data_config=ONE_PART,
        config=FinetuneConfig(drop_path=0, layer_decay=1, readout=mean), training=MEMORISE,
    )  # fmt: skip
    assert done.task.type == task
    found = done.evaluations["valid"].overall
    if task == "regression":
        assert found["r2"].value is not None
        assert found["r2"].value > 0.95
    else:
        assert found["accuracy"].value == 1
    again = predict(load(tmp_path / "m"), strings())
    np.testing.assert_array_equal(again.mean, predict(done.model, strings()).mean)
    assert json.loads((tmp_path / "m" / "finetune.json").read_text())["task"]["type"] == task


def test_the_learned_query_memorises_too(model: MaskedAutoencoder) -> None:
    data = table(y=TARGETS["regression"]["y"])
    doubled = {name: [*values, *values] for name, values in data.items()}  # type: ignore[misc]
    doubled["part"] = ["train"] * COUNT + ["valid"] * COUNT
    config = FinetuneConfig(drop_path=0, layer_decay=1, head_first="none")
    done = finetune(
        model, doubled, target="y", data_config=ONE_PART, config=config, training=MEMORISE
    )
    r2 = done.evaluations["valid"].overall["r2"].value
    assert r2 is not None
    assert r2 > 0.9


def test_training_starts_from_the_pretrained_weights(model: MaskedAutoencoder) -> None:
    """With a learning rate of nothing the encoder is the pretrained one, to the bit."""
    done = finetune(
        model, table(y=TARGETS["binary"]["y"]), target="y",
        config=FinetuneConfig(head_first="none", readout=ReadoutConfig(kind="mean")),
        training={"steps": 3, "learning_rate": 1e-38, "weight_decay": 0.0},
    )  # fmt: skip
    assert isinstance(done.model, Predictor)
    found, before = done.model.state_dict(), model.state_dict()
    encoder = [name for name in found if name.startswith(("embedding", "encoder"))]
    assert len(encoder) > 10
    for name in encoder:
        assert torch.equal(found[name], before[name]), name
    for text in strings()[:3]:
        inputs = torch.tensor([[*(byte + 6 for byte in text.encode()), 5]])
        latents = done.model.encode(inputs).latents
        assert torch.equal(latents, model.encode(inputs).latents)


@pytest.mark.parametrize("kind", list(READOUTS))
def test_every_weight_of_the_network_is_trained(kind: str, model: MaskedAutoencoder) -> None:
    done = finetune(
        model, table(y=TARGETS["binary"]["y"]), target="y",
        config=FinetuneConfig(head_first="none", readout=ReadoutConfig(kind=kind), drop_path=0),
        training={"steps": 2, "learning_rate": 1e-2, "weight_decay": 0.0, "keep": "last"},
    )  # fmt: skip
    assert isinstance(done.model, Predictor)
    before = model.state_dict()
    inputs = torch.tensor([[*(byte + 6 for byte in strings()[0].encode()), 5]])
    done.model.train()(inputs).sum().backward()
    for name, weight in done.model.named_parameters():
        assert weight.grad is not None, name
        if not name.startswith(("readout", "output")):
            assert not torch.equal(weight, before[name]), name


def test_a_start_from_nothing_forgets_the_pretrained_weights(model: MaskedAutoencoder) -> None:
    config = FinetuneConfig(start="random", head_first="none")
    training = {"steps": 1, "learning_rate": 1e-38, "weight_decay": 0.0}
    done = finetune(model, table(y=TARGETS["binary"]["y"]), target="y", config=config,
                    training=training)  # fmt: skip
    assert isinstance(done.model, Predictor)
    positions = done.model.embedding.positions
    assert positions is not None
    assert model.embedding.positions is not None
    assert not torch.equal(positions, model.embedding.positions)
    assert positions.std() < 0.03


def test_the_fitted_head_competes_with_the_trained_network(model: MaskedAutoencoder) -> None:
    """With a rate that ruins everything, the linear model on frozen features is kept."""
    config = FinetuneConfig(readout=ReadoutConfig(kind="layers"))
    done = finetune(
        model, table(y=TARGETS["regression"]["y"]), target="y", config=config,
        training={"steps": 10, "learning_rate": 3.0, "clip": 1.0},
    )  # fmt: skip
    assert done.steps == (0,)
    assert isinstance(done.model, Predictor)
    assert torch.equal(
        done.model.encoder.first.query.weight,
        model.encoder.first.query.weight,  # type: ignore[attr-defined]
    )


def test_the_head_starts_as_the_linear_model(model: MaskedAutoencoder) -> None:
    config = FinetuneConfig(readout=ReadoutConfig(kind="mean"))
    done = finetune(
        model, {**table(y=TARGETS["binary"]["y"]), "part": PARTS}, target="y", config=config,
        data_config=ONE_PART, training={"steps": 1, "learning_rate": 1e-38},
    )  # fmt: skip
    texts = strings()
    features = np.stack([
        model.eval().encode(torch.tensor([[*(b + 6 for b in t.encode()), 5]])).latents[0].mean(0)
        .detach().numpy() for t in texts
    ])  # fmt: skip
    codes = (TARGETS["binary"]["y"] == "yes").astype(float)[:, None]
    fitted = fit_linear(done.task, features[:-2], codes[:-2])
    expected = 1 / (1 + np.exp(-fitted.outputs(features)[:, 0]))
    np.testing.assert_allclose(predict(done.model, texts).mean[:, 1], expected, atol=1e-4)


def test_dropouts_of_fine_tuning_are_in_the_stored_model(
    model: MaskedAutoencoder, tmp_path: Path
) -> None:
    config = FinetuneConfig(dropout=0.25, attention_dropout=0.125, drop_path=0.5)
    finetune(model, table(y=TARGETS["binary"]["y"]), target="y", out=tmp_path / "m",
             config=config, training={"steps": 1, "learning_rate": 1e-3})  # fmt: skip
    encoder = load(tmp_path / "m").config.encoder
    assert (encoder.dropout, encoder.attention_dropout, encoder.drop_path) == (0.25, 0.125, 0.5)
    assert model.config.encoder.dropout == 0


def test_lower_layers_learn_more_slowly(model: MaskedAutoencoder) -> None:
    task = TaskConfig(type="binary", targets=("y",), classes=("0", "1"))
    predictor = Predictor.from_pretrained(model, task)
    groups = layer_groups(predictor, decay=0.5, training=TrainingConfig(weight_decay=0.1))
    scale = {id(p): group["scale"] for group in groups for p in group["params"]}  # type: ignore[attr-defined]
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}  # type: ignore[attr-defined]
    expected = {"output": 1, "readout": 1, "encoder.blocks.0": 0.5, "encoder.first": 0.25,
                "embedding": 0.125}  # fmt: skip
    for name, parameter in predictor.named_parameters():
        layer = next(value for start, value in expected.items() if name.startswith(start))
        assert scale[id(parameter)] == layer, name
        assert decay[id(parameter)] == (0.1 if parameter.dim() >= 2 else 0), name


def test_the_best_of_several_rates_is_kept(model: MaskedAutoencoder) -> None:
    config = FinetuneConfig(learning_rates=(1e-3, 1e-2))
    done = finetune(model, table(y=TARGETS["regression"]["y"]), target="y", config=config,
                    training={"steps": 20})  # fmt: skip
    tried = dict(done.history[0]["tried"])
    assert set(tried) == {1e-3, 1e-2}
    assert done.valid_loss == min(tried.values())
    assert done.learning_rate == min(tried, key=lambda rate: tried[rate])


def test_several_seeds_make_an_ensemble_with_spread(
    model: MaskedAutoencoder, tmp_path: Path
) -> None:
    done = finetune(model, table(y=TARGETS["regression"]["y"]), target="y", out=tmp_path / "m",
                    config=FinetuneConfig(seeds=2, head_epochs=1),
                    training={"steps": 5, "learning_rate": 1e-2})  # fmt: skip
    assert isinstance(done.model, Ensemble)
    loaded = predict(load(tmp_path / "m"), strings())
    np.testing.assert_array_equal(loaded.members, predict(done.model, strings()).members)
    assert loaded.std is not None
    assert (loaded.std > 0).all()


@pytest.mark.parametrize(("kind", "told"), [("mean", 1), ("query", 0)])
def test_members_that_keep_the_fitted_head_are_told(
    kind: ReadoutKind, told: int, model: MaskedAutoencoder, caplog: pytest.LogCaptureFixture
) -> None:
    config = FinetuneConfig(seeds=2, readout=ReadoutConfig(kind=kind), head_epochs=1)
    training = {"steps": 2, "learning_rate": 0.3, "device": "cpu"}
    data = {**table(y=[len(text) / 8 for text in strings(COUNT)]), "part": PARTS}
    with caplog.at_level("WARNING"):
        done = finetune(
            model, data, target="y", data_config=ONE_PART, config=config, training=training
        )
    assert done.steps == (0, 0)
    assert caplog.text.count("2 of the 2 models are the same: they keep step 0") == told
    std = predict(done.model, strings()).std
    assert std is not None and (std.max() == 0) == bool(told)


def test_the_same_seed_gives_the_same_weights(model: MaskedAutoencoder) -> None:
    def run(seed: int) -> Predictor:
        done = finetune(model, table(y=TARGETS["binary"]["y"]), target="y",
                        config=FinetuneConfig(dropout=0.2),
                        training={"steps": 4, "learning_rate": 1e-2, "seed": seed})  # fmt: skip
        assert isinstance(done.model, Predictor)
        return done.model

    first, second, other = run(5).state_dict(), run(5).state_dict(), run(6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["output.weight"], other["output.weight"])


def test_a_number_of_labels_is_what_is_learned_from(model: MaskedAutoencoder) -> None:
    data = table(80, y=RANDOM.integers(0, 2, 80))
    done = finetune(model, data, target="y", config=FinetuneConfig(num_labels=20),
                    training={"steps": 1, "learning_rate": 1e-3})  # fmt: skip
    assert done.rows == {"train": 16, "valid": 4, "test": 0}
    with pytest.raises(DataError, match="100 labels are asked for and 80 rows have one"):
        finetune(model, data, target="y", config=FinetuneConfig(num_labels=100),
                 training={"steps": 1, "learning_rate": 1e-3})  # fmt: skip


def test_a_split_column_decides_and_the_folder_remembers_the_rows(
    model: MaskedAutoencoder, tmp_path: Path
) -> None:
    data = {**table(y=TARGETS["binary"]["y"]), "part": PARTS}
    done = finetune(model, data, target="y", out=tmp_path / "m", data_config=ONE_PART,
                    training={"steps": 1, "learning_rate": 1e-3})  # fmt: skip
    assert done.rows == {"train": COUNT - 2, "valid": 1, "test": 1}
    assert set(done.evaluations) == {"valid", "test"}
    stored = json.loads((tmp_path / "m" / "finetune.json").read_text())
    assert stored["split"] == done.split
    assert stored["asked"]["data"] == {"target": ["y"], "split": "part"}
    seen = read_seen(tmp_path / "m")
    assert seen is not None
    dataset = open_data(data, DataConfig(column=("smiles",)))
    hashes = row_hashes(dataset, np.arange(COUNT - 2))
    assert sorted(hashes.tolist()) == seen.tolist()


def losses_by_loop(
    task: TaskConfig, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> float:
    total = weight = 0.0
    for out, target, importance in zip(outputs, targets, weights, strict=True):
        for column, value in enumerate(target):
            if math.isnan(value):
                continue
            if task.type == "multiclass":
                loss = math.log(sum(math.exp(x) for x in out)) - out[int(value)]
            elif task.type == "regression":
                loss = (out[column] - value) ** 2
            else:
                chance = 1 / (1 + math.exp(-out[column]))
                loss = -math.log(chance if value == 1 else 1 - chance)
            total += importance * loss
            weight += importance
    return total / weight


LOSS_TASKS = {
    "regression": TaskConfig(
        type="regression", targets=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0)
    ),
    "binary": TaskConfig(type="binary", targets=("a",), classes=("n", "y")),
    "multiclass": TaskConfig(type="multiclass", targets=("a",), classes=tuple("wxyz")),
    "multilabel": TaskConfig(type="multilabel", targets=("a", "b", "c")),
}


def drawn(task: TaskConfig, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs, targets of which some are unknown, and weights."""
    draw = np.random.default_rng(0)
    outputs = draw.normal(size=(rows, task.num_outputs))
    targets = draw.integers(0, max(2, len(task.classes)), (rows, len(task.targets))).astype(float)
    targets[draw.random(targets.shape) < 0.3] = np.nan
    return outputs, targets, draw.random(rows)


@pytest.mark.parametrize("kind", TARGETS)
def test_weighted_losses_with_unknown_targets_equal_a_naive_loop(kind: str) -> None:
    task = LOSS_TASKS[kind]
    outputs, targets, weights = drawn(task, 40)
    weights[:5] = 0
    total, weight = task_losses(
        task, torch.tensor(outputs), torch.tensor(targets), weights=torch.tensor(weights)
    )
    expected = losses_by_loop(task, outputs, targets, weights)
    assert float(total / weight) == pytest.approx(expected, rel=1e-5)
    # A row of weight 2 is the same row twice.
    doubled = [torch.tensor(np.r_[part, part]) for part in (outputs, targets)]
    twice, weight_twice = task_losses(task, *doubled)
    once, weight_once = task_losses(
        task, torch.tensor(outputs), torch.tensor(targets), weights=torch.full((40,), 2.0)
    )
    assert float(twice) == pytest.approx(float(once), rel=1e-5)
    assert float(weight_twice) == float(weight_once)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_the_published_slip_is_the_squared_error_of_a_naive_loop(kind: str) -> None:
    task = LOSS_TASKS[kind]
    (outputs, targets, weights), total = drawn(task, 20), 0.0
    for out, target, importance in zip(outputs, targets, weights, strict=True):
        for column, value in enumerate(target):
            if math.isnan(value):
                continue
            if kind == "multiclass":
                hot = [float(number == value) for number in range(4)]
                total += importance * sum((x - t) ** 2 for x, t in zip(out, hot, strict=True)) / 4
            else:
                total += importance * (out[column] - value) ** 2
    found, _ = task_losses(
        task, torch.tensor(outputs), torch.tensor(targets), weights=torch.tensor(weights),
        squared_error=True,
    )  # fmt: skip
    assert float(found) == pytest.approx(total, rel=1e-5)


def test_squared_error_trains_classes_where_it_is_asked_for(
    model: MaskedAutoencoder, caplog: pytest.LogCaptureFixture
) -> None:
    data = {**table(y=TARGETS["binary"]["y"]), "part": PARTS}
    losses = []
    for loss in ("default", "squared_error"):
        config = FinetuneConfig(loss=loss, head_first="none")
        done = finetune(model, data, target="y", config=config, data_config=ONE_PART,
                        training={"steps": 1, "learning_rate": 1e-38})  # fmt: skip
        losses.append(done.valid_loss)
        assert ("probabilities come out wrong" in caplog.text) == (loss == "squared_error")
    # A head of small random weights says 0: log(2) in one loss; 0 or 1 squared in the other.
    truth = float(TARGETS["binary"]["y"][COUNT - 2] == "yes")
    assert losses[0] == pytest.approx(math.log(2), abs=0.2)
    assert losses[1] == pytest.approx(truth, abs=0.5)
    assert losses[0] != losses[1]


def test_patience_stops_before_the_last_step_and_the_best_look_is_kept(
    model: MaskedAutoencoder,
) -> None:
    config = FinetuneConfig(head_first="none")
    training = {"steps": 60, "learning_rate": 1.0, "clip": 1.0, "validate_every": 1, "patience": 3}
    done = finetune(model, table(y=TARGETS["regression"]["y"]), target="y", config=config,
                    training=training)  # fmt: skip
    looks = done.history[0]["looks"]
    assert [step for step, _ in looks] == list(range(len(looks)))
    assert len(looks) < 61
    # The look before training is not waited for.
    losses = [loss for _, loss in looks[1:]]
    assert len(losses) == int(np.argmin(losses)) + 1 + 3
    best = min(looks, key=lambda look: look[1])
    assert (done.steps[0], done.valid_loss) == tuple(best)


def test_the_encoder_waits_while_the_head_is_trained(model: MaskedAutoencoder) -> None:
    data = table(y=TARGETS["binary"]["y"])
    doubled = {name: [*values, *values] for name, values in data.items()}  # type: ignore[misc]
    doubled["part"] = ["train"] * COUNT + ["valid"] * COUNT
    heads = []
    for first in ("none", "train"):
        config = FinetuneConfig(head_first=first, readout=ReadoutConfig(kind="mean"))
        training = {"steps": 20, "learning_rate": 1e-38, "weight_decay": 0.0, "batch_size": 24}
        done = finetune(model, doubled, target="y", config=config, data_config=ONE_PART,
                        training=training)  # fmt: skip
        assert isinstance(done.model, Predictor)
        found, before = done.model.state_dict(), model.state_dict()
        encoder = [name for name in found if name.startswith(("embedding", "encoder"))]
        assert len(encoder) > 10
        assert all(torch.equal(found[name], before[name]) for name in encoder)
        assert all(parameter.requires_grad for parameter in done.model.parameters())
        heads.append((found["output.weight"], done.valid_loss))
    assert not torch.equal(heads[0][0], heads[1][0])
    assert heads[1][1] < heads[0][1]  # type: ignore[operator]


def test_splits_by_class_and_by_group_hold_in_fine_tuning(
    model: MaskedAutoencoder, tmp_path: Path
) -> None:
    rare = np.array(["a", "b", "b", "b"] * 6)
    groups = np.repeat(np.arange(6), 4)
    config = FinetuneConfig(valid_share=0.25, test_share=0.25)
    hashes = row_hashes(open_data(strings()), np.arange(COUNT))
    assert len(set(hashes.tolist())) == COUNT
    splits = {"stratified": DataConfig(split_by="stratified"),
              "group": DataConfig(split_by="group", group="g")}  # fmt: skip
    for name, split in splits.items():
        done = finetune(model, table(y=rare, g=groups), target="y", out=tmp_path / name,
                        config=config, data_config=split, training=QUICK)  # fmt: skip
        trained = np.isin(hashes, read_seen(tmp_path / name))
        assert done.rows["train"] == trained.sum()
        if name == "stratified":
            assert done.rows == {"train": 12, "valid": 6, "test": 6}
            assert (rare[trained] == "a").sum() == 3
        else:
            by_group = trained.reshape(6, 4)
            assert (by_group.all(1) | ~by_group.any(1)).all()
            assert all(count % 4 == 0 and count for count in done.rows.values())


def test_a_notebook_shows_results_and_no_markup_of_the_data(model: MaskedAutoencoder) -> None:
    data = {"smiles": strings(), "<b>": TARGETS["binary"]["y"]}
    done = finetune(model, data, target="<b>", training=QUICK)
    shown = done._repr_html_()
    assert "<h4>&lt;b&gt; (binary)</h4>" in shown
    assert "<caption>valid: 2 rows; positive: yes</caption>" in shown
    assert "<tr><th>roc_auc</th>" in done.evaluations["valid"]._repr_html_()
    assert "<b>" not in shown


def test_balanced_classes_count_alike() -> None:
    task = TaskConfig(type="multiclass", targets=("y",), classes=("a", "b", "c"))
    targets = np.array([[0.0]] * 8 + [[1.0]] * 2 + [[np.nan]])
    factors = balance(task, targets, None)
    assert factors.tolist() == [10 / 2 / 8, 10 / 2 / 2, 0]
    outputs = torch.randn(11, 3)
    total, weight = task_losses(task, outputs, torch.tensor(targets), class_weights=factors)
    each = -outputs.log_softmax(1)
    expected = (each[:8, 0].mean() + each[8:10, 1].mean()) / 2
    assert float(total / weight) == pytest.approx(float(expected), rel=1e-5)
    labels = TaskConfig(type="multilabel", targets=("a", "b"))
    pairs = np.array([[0, 1], [0, 1], [0, np.nan], [1, 0]], float)
    np.testing.assert_allclose(balance(labels, pairs, None), [[2 / 3, 1.5], [2, 0.75]], rtol=1e-6)


def test_imbalance_and_weights_change_what_is_learned(model: MaskedAutoencoder) -> None:
    rare = np.r_[np.ones(4), np.zeros(COUNT - 4)].astype(int)
    data = {**table(y=rare, w=np.linspace(0.1, 5, COUNT)), "part": PARTS}

    def run(config: FinetuneConfig, data_config: DataConfig) -> float:
        done = finetune(model, data, target="y", config=config, data_config=data_config,
                        training={"steps": 3, "learning_rate": 1e-2})  # fmt: skip
        return float(predict(done.model, strings()).mean[:, 1].mean())

    plain = run(FinetuneConfig(), ONE_PART)
    assert run(FinetuneConfig(imbalance="balanced"), ONE_PART) > plain
    assert run(FinetuneConfig(), DataConfig(split="part", weight="w")) != plain


@pytest.mark.parametrize("target", ["y", ["y", "z"]])
def test_a_balanced_head_starts_balanced(model: MaskedAutoencoder, target: str | list[str]) -> None:
    rare = np.r_[np.ones(4), np.zeros(COUNT - 4)].astype(int)
    data = {**table(y=rare, z=np.roll(rare, 1)), "part": PARTS}
    chances = []
    for imbalance in ("none", "balanced"):
        config = FinetuneConfig(imbalance=imbalance, readout=ReadoutConfig(kind="mean"))
        done = finetune(model, data, target=target, config=config, data_config=ONE_PART,
                        training={"steps": 1, "learning_rate": 1e-38})  # fmt: skip
        assert done.steps == (0,)
        chances.append(predict(done.model, strings()).mean[:, -1].mean())
    assert chances[1] > 2 * chances[0]


def test_negative_weights_are_refused_with_a_choice(model: MaskedAutoencoder) -> None:
    data = table(y=TARGETS["binary"]["y"], w=np.r_[-1.0, np.ones(COUNT - 1)])
    weighted = DataConfig(weight="w")
    with pytest.raises(DataError, match="set negative_weights to absolute or zero"):
        finetune(model, data, target="y", data_config=weighted)


def test_negative_weights_are_taken_without_their_sign_or_as_nothing(
    model: MaskedAutoencoder,
) -> None:
    signed = np.where(np.arange(COUNT) % 3 == 0, -4.0, 1.0)

    def answers(weights: np.ndarray, choice: str) -> np.ndarray:
        done = finetune(model, table(y=TARGETS["binary"]["y"], w=weights), target="y",
                        data_config=DataConfig(weight="w"),
                        config=FinetuneConfig(negative_weights=choice),
                        training={"steps": 2, "learning_rate": 1e-3})  # fmt: skip
        return predict(done.model, strings()).mean

    absolute, zero = answers(signed, "absolute"), answers(signed, "zero")
    np.testing.assert_array_equal(absolute, answers(np.abs(signed), "error"))
    np.testing.assert_array_equal(zero, answers(np.maximum(signed, 0), "error"))
    assert np.abs(absolute - zero).max() > 1e-3


@pytest.mark.parametrize("part", ["training", "validation"])
def test_parts_without_any_weight_are_refused_before_anything_is_replaced(
    model: MaskedAutoencoder, tmp_path: Path, part: str
) -> None:
    named = ["train"] * (COUNT - 5) + ["valid"] * 5
    data = table(y=TARGETS["binary"]["y"], part=named)
    training = {"steps": 1, "learning_rate": 1e-3}
    finetune(model, data, target="y", out=tmp_path / "m", data_config=ONE_PART, training=training)
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    data["w"] = [float(name[:5] != part[:5]) for name in named]
    weighted = DataConfig(split="part", weight="w")
    with pytest.raises(DataError, match=f"{part} rows have the weight 0"):
        finetune(model, data, target="y", out=tmp_path / "m", data_config=weighted,
                 training=training, overwrite=True)  # fmt: skip
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before


BAD = {
    "has one value, 'a', in all": {"y": ["a"] * COUNT},
    "has no value in any of": {"y": pa.array([None] * COUNT, pa.float64())},
    "holds 'high', which is no number": {"y": ["1.5", "high", *["2.5"] * (COUNT - 2)]},
    "holds lists, a value for each input": {"y": [[1.0, 2.0]] * COUNT},
    "holds strings as long as their rows": {
        "y": ["".join("HE-"[ord(c) % 3] for c in text) for text in strings(COUNT - 1)] + ["?"]
    },
    "holds infinity": {"y": [math.inf, *np.arange(COUNT - 1.0)]},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_targets_are_one_sentence(
    model: MaskedAutoencoder, message: str, tmp_path: Path
) -> None:
    config = FinetuneConfig(task="regression" if "no number" in message else None)
    with pytest.raises(DataError, match=message):
        finetune(model, table(**BAD[message]), target="y", out=tmp_path / "m", config=config)
    assert not (tmp_path / "m").exists()


def test_classes_among_several_targets_are_told_what_to_do(model: MaskedAutoencoder) -> None:
    income = ["<=50K", ">50K", None] * (COUNT // 3)
    data = table(y=[1.5, 2.5, 0.5] * (COUNT // 3), income=income)
    words = "'income' holds '<=50K', and several targets must be numbers or 0 and 1; name one"
    with pytest.raises(DataError, match=words):
        finetune(model, data, target=["y", "income"])
    slip = table(y=[1.5, 2.5, 0.5] * (COUNT // 3), z=["1", "2", "high"] * (COUNT // 3))
    with pytest.raises(DataError, match="'z' holds 'high', which is no number; repair it"):
        finetune(model, slip, target=["y", "z"])


def test_classes_named_as_long_as_rows_of_one_length_are_classes() -> None:
    rows = ["".join(row) for row in itertools.product("CNO", repeat=3)]
    data = {"smiles": rows, "y": ["yes", "non", "yes"] * 9}
    done = finetune(pretrained(rows, width=32), data, target="y", training=QUICK)
    assert done.task.classes == ("non", "yes")


def test_whole_numbers_too_large_for_codes_are_amounts(model: MaskedAutoencoder) -> None:
    data = table(y=[1e20, 2e20, 3e20] * (COUNT // 3))
    done = finetune(model, data, target="y", training={"steps": 1, "learning_rate": 1e-3})
    assert done.task.type == "regression"
    assert done.valid_loss is not None and done.valid_loss < 10


@pytest.mark.parametrize(("days", "asked"), [(24, None), (3, "regression")])
def test_times_are_seconds_since_1970(
    days: int, asked: TaskType | None, model: MaskedAutoencoder
) -> None:
    seconds = 1.7e9 + 86400.0 * (np.arange(COUNT) % days)
    times = (seconds * 1e6).astype("int64").astype("datetime64[us]")
    training = {"steps": 1, "learning_rate": 1e-3}
    found, expected = (
        finetune(model, table(y=y), target="y", config=FinetuneConfig(task=task), training=training)
        for y, task in ((times, asked), (seconds, "regression"))
    )
    assert found.task == expected.task
    assert found.evaluations["valid"].overall == expected.evaluations["valid"].overall


def test_bad_requests_are_one_sentence(model: MaskedAutoencoder, tmp_path: Path) -> None:
    data = table(y=TARGETS["binary"]["y"])
    with pytest.raises(DataError, match="there is no column 'z'"):
        finetune(model, data, target="z")
    with pytest.raises(DataError, match="no target is named"):
        finetune(model, data)
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        finetune(model, data, target="y", training={"epoch": 1})
    (tmp_path / "taken").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(FolderError):
            finetune(model, data, target="y", out=tmp_path, overwrite=overwrite)
    ensemble = Ensemble([Predictor.from_pretrained(model, TaskConfig(
        type="binary", targets=("y",), classes=("no", "yes"))) for _ in range(2)])  # fmt: skip
    with pytest.raises(UserInputError, match="ensemble"):
        finetune(ensemble, data, target="y")
    cells = np.random.default_rng(0).normal(size=(30, 3))
    columns = pretrained({"a": cells[:, 0], "b": cells[:, 1], "c": cells[:, 2]}, width=32)
    with pytest.raises(DataError, match="'c' was an input of the encoder"):
        finetune(columns, dict(zip("abc", cells.T, strict=True)), target="c")


def test_overwrite_replaces_a_fine_tuned_model_only(
    model: MaskedAutoencoder, tmp_path: Path
) -> None:
    data, training = table(y=TARGETS["binary"]["y"]), {"steps": 1, "learning_rate": 1e-3}
    finetune(model, data, target="y", out=tmp_path / "m", training=training)
    with pytest.raises(
        FolderError,
        match=r"a fine-tuned model already; .* --resume, or replace it with --overwrite",
    ):
        finetune(model, data, target="y", out=tmp_path / "m", training=training)
    again = table(y=TARGETS["multiclass"]["y"])
    finetune(model, again, target="y", out=tmp_path / "m", training=training, overwrite=True)
    loaded = load(tmp_path / "m")
    assert isinstance(loaded, Predictor)
    assert loaded.task.type == "multiclass"


def test_a_config_builds_the_same_model_again(model: MaskedAutoencoder) -> None:
    task = TaskConfig(type="multilabel", targets=("a", "b"))
    single = Predictor.from_pretrained(model, task)
    for made in (model, single, Ensemble([single, single])):
        config = json.loads(json.dumps(describe(made)))
        built = build(config)
        assert type(built) is type(made)
        assert built.state_dict().keys() == made.state_dict().keys()
        assert describe(built) == describe(made)


def test_missing_pretrained_weights_are_named(model: MaskedAutoencoder) -> None:
    task = TaskConfig(type="multilabel", targets=("a", "b"))
    state = dict(model.state_dict())
    del state["encoder.first.query.weight"]
    with pytest.raises(UserInputError, match=r"lack 1 tensors .* encoder\.first\.query\.weight"):
        Predictor(model.config, task).load_encoder(state)
    with pytest.raises(UserInputError, match=r"no place for the pretrained encoder\.more"):
        Predictor(model.config, task).load_encoder(
            {**model.state_dict(), "encoder.more": torch.zeros(1)}
        )


QUICK = {"steps": 2, "learning_rate": 1e-3}


def test_without_validation_rows_the_folder_is_written_all_the_same(
    model: MaskedAutoencoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="anymae")
    answers = np.r_[RANDOM.normal(size=COUNT - 2), np.nan, np.nan]
    data = table(y=answers, part=["train"] * (COUNT - 2) + ["valid"] * 2)
    done = finetune(model, data, target="y", out=tmp_path / "m", data_config=ONE_PART,
                    training=QUICK)  # fmt: skip
    assert done.valid_loss is None and done.history[0]["tried"] == [[1e-3, None]]
    assert done.steps == (2,)
    assert "rate 0.001: no validation row has a label; step 2 is kept" in caplog.messages
    assert isinstance(load(tmp_path / "m"), Predictor)


def test_declared_missing_values_are_not_learned(model: MaskedAutoencoder) -> None:
    answers = np.where(np.arange(COUNT) % 2, RANDOM.normal(size=COUNT), -999.0)
    done = finetune(
        model, table(y=answers), target="y", data_config=DataConfig(missing=("-999",)),
        training=QUICK,
    )  # fmt: skip
    assert sum(done.rows.values()) == COUNT // 2 and done.task.std[0] < 10


def test_codes_of_the_run_and_of_the_labels_hold_together_and_are_stored(tmp_path: Path) -> None:
    rows = np.arange(COUNT)
    data = {
        "a": np.where(rows % 5, RANDOM.normal(size=COUNT), -999.0),
        "b": RANDOM.normal(size=COUNT),
        "y": np.where(rows % 2, RANDOM.normal(size=COUNT), -1.0),
    }
    model = pretrained({name: data[name] for name in "ab"}, missing=("-999",))
    asked = DataConfig(target=("y",), missing=("y=-1",))
    valid = open_rows(model, data, asked).batch(rows).valid
    assert valid is not None and valid[:, 0].tolist() == (rows % 5 > 0).tolist()
    done = finetune(model, data, data_config=asked, training=QUICK, out=tmp_path / "m")
    assert sum(done.rows.values()) == COUNT // 2
    assert model.data is not None and model.data["missing"] == ["-999"]
    again = load(tmp_path / "m")
    assert again.data is not None and again.data["missing"] == ["-999", "y=-1"]
    assert evaluate(again, data).rows == COUNT // 2


def test_a_class_that_only_test_rows_have_is_a_class(model: MaskedAutoencoder) -> None:
    part = ["train"] * 16 + ["valid"] * 4 + ["test"] * 4
    data = table(y=["a", "b"] * 11 + ["c", "c"], part=part)
    done = finetune(model, data, target="y", data_config=ONE_PART, training=QUICK)
    assert done.task.classes == ("a", "b", "c")


def test_validation_rows_are_drawn_by_groups(model: MaskedAutoencoder) -> None:
    groups = np.repeat(np.arange(8), 3)
    data = table(y=RANDOM.normal(size=COUNT), g=groups)
    asked = DataConfig(target=("y",), group="g")
    dataset = open_rows(model, data, asked)
    config = FinetuneConfig(num_labels=15, test_share=0.0)
    _, rows, _ = label(dataset, asked, config, seed=0)
    assert len(rows.train) and len(rows.valid)
    assert not set(groups[rows.train]) & set(groups[rows.valid])


@pytest.mark.parametrize("split_by", ["random", "stratified", "group"])
def test_validation_and_test_rows_are_drawn_among_those_with_a_label(
    model: MaskedAutoencoder, split_by: str
) -> None:
    """As if the rows without one were not there."""
    few = np.arange(5, 300, 10)
    answers = np.full(300, np.nan)
    answers[few] = np.arange(30) % 2
    data = table(300, y=answers, g=np.arange(300) // 20)
    some = {name: np.array(column)[few] for name, column in data.items()}
    group = "g" if split_by == "group" else None
    asked = parse(DataConfig, {"target": ["y"], "split_by": split_by, "group": group})
    found = []
    for each in (data, some):
        dataset = open_rows(model, each, asked)
        _, rows, test = label(dataset, asked, FinetuneConfig(test_share=0.2), seed=1)
        found.append([part.tolist() for part in (rows.train, rows.valid, test)])
    assert [few[part].tolist() for part in found[1]] == found[0]
    assert len(found[0][1]) in (2, 3, 4) and len(found[0][2]) in (5, 6, 7)


def test_validation_rows_that_a_number_of_labels_leaves_out_are_told(
    model: MaskedAutoencoder, caplog: pytest.LogCaptureFixture
) -> None:
    data = table(y=RANDOM.normal(size=COUNT), part=["train"] * 16 + ["valid"] * 8)
    asked = DataConfig(target=("y",), split="part")
    dataset = open_rows(model, data, asked)
    for config, told in ((FinetuneConfig(num_labels=10), True), (FinetuneConfig(), False)):
        caplog.clear()
        _, rows, _ = label(dataset, asked, config, seed=0)
        said = "the 8 validation rows that the data name have no part in this: the 10 labels"
        assert (said in caplog.text) == told
        assert (rows.valid.min() >= 16) != told and len(rows.valid) == (2 if told else 8)


def test_training_rows_are_hashed_once(
    model: MaskedAutoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []

    def counted(dataset: Dataset, index: np.ndarray) -> np.ndarray:
        hashed.append(len(index))
        return row_hashes(dataset, index)

    for module in ("anymae.inference.seen", "anymae.training.finetune"):
        monkeypatch.setattr(f"{module}.row_hashes", counted)
    data = table(y=RANDOM.normal(size=COUNT), part=PARTS)
    done = finetune(
        model, data, target="y", out=tmp_path / "m", data_config=ONE_PART, training=QUICK
    )
    assert hashed == [COUNT - 2, 1, 1]
    assert done.evaluations["test"].seen_in_training is not None
    seen = read_seen(tmp_path / "m")
    assert seen is not None and len(seen) == COUNT - 2


def test_weights_of_nothing_are_one_sentence(model: MaskedAutoencoder) -> None:
    data = table(y=RANDOM.normal(size=COUNT), w=np.zeros(COUNT))
    with pytest.raises(DataError, match="no row has a weight above 0"):
        finetune(model, data, target="y", data_config=DataConfig(weight="w"), training=QUICK)


def test_a_word_among_numbers_is_no_class(model: MaskedAutoencoder) -> None:
    data = table(y=["1.5", "high", *map(str, range(COUNT - 2))])
    with pytest.raises(DataError, match="'high' where most values are numbers"):
        finetune(model, data, target="y", training=QUICK)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_left_to_auto_is_that_of_the_processor(
    model: MaskedAutoencoder, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anymae.training.device.fastest_precision", lambda device: precision)
    data = table(y=RANDOM.normal(size=COUNT))
    losses = [
        finetune(model, data, target="y", training={**QUICK, "precision": asked}).history
        for asked in ("auto", precision)
    ]
    assert losses[0] == losses[1]


def test_half_the_batch_and_twice_the_passes_train_the_same() -> None:
    config = {"dropout": 0.0, "drop_path": 0.0}
    whole = tuned(None, config=config)
    halves = tuned(None, config=config, training={"batch_size": 8, "accumulate": 2})
    assert whole.rows == halves.rows
    for one, two in zip(whole.history, halves.history, strict=True):
        np.testing.assert_allclose(one["tried"], two["tried"], rtol=1e-4)
        np.testing.assert_allclose(one["looks"], two["looks"], rtol=1e-4)


def test_the_last_weights_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    last = tuned(None, training={"keep": "last"}, config={"learning_rates": (0.3,)})
    looks = last.history[0]["looks"]
    assert last.steps == (8,) == (looks[-1][0],)
    assert last.valid_loss == looks[-1][1] > min(loss for _, loss in looks)


def test_activations_computed_again_change_nothing(tmp_path: Path) -> None:
    tuned(tmp_path / "kept")
    tuned(tmp_path / "again", training={"recompute": True})
    assert weights(tmp_path / "kept") == weights(tmp_path / "again")


@pytest.mark.parametrize(
    "labels", [[2**53 + n % 2 for n in range(COUNT)], [n * 1e-200 for n in range(COUNT)]]
)
def test_labels_that_floats_do_not_tell_apart_are_refused(
    labels: list[float], model: MaskedAutoencoder
) -> None:
    with pytest.raises(DataError, match="'y' do not differ as numbers of 64 bits"):
        finetune(
            model, table(y=labels), target="y", config=FinetuneConfig(task="regression"),
            training={"steps": 1},
        )  # fmt: skip
