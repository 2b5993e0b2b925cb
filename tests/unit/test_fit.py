"""What fine-tuning learns from: weights, windows, groups, and what identifies it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anymae.config import DataConfig, parse
from anymae.data.dataset import open_data
from anymae.errors import NonFiniteError, OutOfMemoryError
from anymae.predictor import Predictor, to_outputs, to_probabilities
from anymae.task import FinetuneConfig, ReadoutConfig, TaskConfig, TaskType
from anymae.training import fit, labelling
from anymae.training.answers import AnswerObjective, balance
from anymae.training.finetune import _ask, finetune
from anymae.training.fit import finetune_training
from anymae.training.labelling import Labelled, label
from anymae.training.lengths import head_steps
from anymae.training.processes import Processes
from anymae.training.step import Stepper
from models import pretrained, strings
from runs import tuned


def test_the_head_is_fitted_to_features_of_which_nothing_is_dropped() -> None:
    texts = strings()
    model = pretrained(texts)
    data = {"smiles": texts, "y": [float(text.count("O")) for text in texts]}
    heads = []
    for rate in (0.0, 0.5):
        config = FinetuneConfig(
            dropout=rate, attention_dropout=rate, drop_path=rate,
            readout=ReadoutConfig(kind="mean"), task="regression",
        )  # fmt: skip
        done = finetune(model, data, target="y", config=config,
                        training={"steps": 1, "learning_rate": 1e-38})  # fmt: skip
        heads.append(done.model.state_dict()["output.weight"])
    torch.testing.assert_close(heads[0], heads[1])


def test_groups_stay_together_while_the_heads_strength_is_chosen(monkeypatch) -> None:
    seen, plain = [], fit.fit_linear

    def noted(*words, groups, **named):
        seen.append(groups)
        return plain(*words, groups=groups, **named)

    monkeypatch.setattr(fit, "fit_linear", noted)
    texts = strings(40)
    data = {"smiles": texts, "y": [float(text.count("O")) for text in texts],
            "g": np.arange(40) // 4}  # fmt: skip
    config = FinetuneConfig(readout=ReadoutConfig(kind="mean"), task="regression")
    finetune(
        pretrained(texts), data, target="y", config=config, data_config=DataConfig(group="g"),
        training={"steps": 1, "learning_rate": 1e-3},
    )  # fmt: skip
    (groups,) = seen
    assert groups is not None and set(np.bincount(groups)) <= {0, 4}


def test_a_head_is_trained_no_longer_than_all_weights() -> None:
    task = TaskConfig(type="regression", targets=("y",), mean=(0.0,), std=(1.0,))
    config = FinetuneConfig(head_first="train", readout=ReadoutConfig(kind="mean"))
    assert head_steps(task, 100, config, finetune_training({"steps": 5}), 1) == 5


def test_of_a_head_that_trains_alone_matrices_decay_and_vectors_do_not(monkeypatch) -> None:
    seen, plain = [], fit.make_optimizer

    def noted(groups, training):
        seen.append({(p.dim() >= 2, group["weight_decay"]) for group in groups
                     for p in group["params"]})  # fmt: skip
        return plain(groups, training)

    monkeypatch.setattr(fit, "make_optimizer", noted)
    tuned(None, training={"weight_decay": 0.3}, config={"learning_rates": (1e-3,)})
    head, everything = seen
    assert head == everything == {(True, 0.3), (False, 0.0)}


def test_classes_are_balanced_by_weight() -> None:
    task = TaskConfig(type="binary", targets=("y",), classes=("0", "1"))
    targets, weights = np.array([[0.0], [0.0], [1.0]]), np.array([1.0, 1.0, 8.0])
    np.testing.assert_allclose(balance(task, targets, weights), [[10 / 2 / 2], [10 / 2 / 8]])


def test_rows_too_long_show_another_window_in_each_epoch() -> None:
    texts = ["".join(np.random.default_rng(0).choice(list("CNO"), 400))]
    dataset = open_data(texts, DataConfig(length=16, too_long="crop"))
    task = TaskConfig(type="regression", targets=("y",), mean=(0.0,), std=(1.0,))
    objective = AnswerObjective(
        Labelled(dataset, np.zeros((1, 1), np.float32), None, np.arange(1), np.arange(0)), task,
        config=FinetuneConfig(), seed=0,
    )  # fmt: skip
    first, again, later = (objective.load(np.arange(1), epoch).inputs for epoch in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, later)


@pytest.mark.parametrize("kind", ["regression", "binary", "multiclass", "multilabel"])
def test_probabilities_go_back_to_outputs(kind: TaskType) -> None:
    more = {"mean": (0.0, 1.0), "std": (1.0, 2.0)} if kind == "regression" else {}
    classes = {"binary": ("a", "b"), "multiclass": ("a", "b", "c")}.get(kind, ())
    targets = ("y",) if classes else ("y", "z")
    task = TaskConfig(type=kind, targets=targets, classes=classes, **more)
    outputs = torch.randn(9, task.num_outputs, generator=torch.Generator().manual_seed(0))
    answers = to_probabilities(task, outputs)
    torch.testing.assert_close(to_probabilities(task, to_outputs(task, answers)), answers)


@pytest.mark.parametrize("head", ["probe", "none"])
def test_rows_read_in_windows_are_looked_at_as_they_are_answered(head: str) -> None:
    source = np.random.default_rng(0)
    # What is asked stands behind the first window.
    texts = ["C" * 31 + "".join(source.choice(list("CN"), 64)) for _ in range(80)]
    data = {"x": texts, "y": [text.count("N") / 7 for text in texts]}
    config = {"readout": {"kind": "mean"}, "head_first": head, "learning_rates": (1e-4,)}
    done = tuned(
        None, data, config=config, training={"steps": 2, "keep": "last"},
        data_config={"too_long": "window"},
    )  # fmt: skip
    found = done.evaluations["valid"].overall["rmse"].value
    assert found is not None
    assert done.valid_loss == pytest.approx((found / done.task.std[0]) ** 2, rel=1e-4)
    if head == "probe":
        assert done.history[0]["looks"][0][1] < 0.5


def test_other_weights_of_the_same_sizes_are_another_encoder() -> None:
    texts = strings(24)
    targets = np.zeros((24, 1), np.float32)
    rows = Labelled(open_data(texts), targets, None, np.arange(20), np.arange(20, 24))
    task = TaskConfig(type="regression", targets=("y",), mean=(0.0,), std=(1.0,))
    model = pretrained(texts)
    with Processes("cpu") as processes:
        asked = _ask("y", None, FinetuneConfig(), {"device": "cpu"})
        before = asked.identify(model, task, rows, processes)["encoder"]
        assert asked.identify(model, task, rows, processes)["encoder"] == before
        with torch.no_grad():
            model.encoder.first.query.weight[0, 0] += 1  # type: ignore[attr-defined]
        assert asked.identify(model, task, rows, processes)["encoder"] != before


@pytest.mark.parametrize("readout", ["query", "mean"])
@pytest.mark.parametrize("passed", [0, 1, 2, 3])
def test_memory_that_runs_out_anywhere_is_one_sentence_that_helps(
    monkeypatch: pytest.MonkeyPatch, readout: str, passed: int
) -> None:
    texts = strings(40)
    data = {"smiles": texts, "y": [float(text.count("O")) for text in texts]}
    config = FinetuneConfig(readout=ReadoutConfig(kind=readout), task="regression")
    moves = [0]
    to = Predictor.to

    def full(self, *places):
        moves[0] += 1
        if moves[0] > passed:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return to(self, *places)

    def starve(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    if passed == 3:
        what = "a look at the validation rows" if readout == "query" else "the features of the"
        place = (AnswerObjective, "losses") if readout == "query" else (Predictor, "features")
        monkeypatch.setattr(*place, starve)
    else:
        what = "the weights of the model"
        monkeypatch.setattr(Predictor, "to", full)
    with pytest.raises(OutOfMemoryError, match=f"on cpu for {what}.*; choose another device"):
        finetune(pretrained(texts), data, target="y", config=config, training={"steps": 2})


@pytest.mark.parametrize("looks", [None, 2, 1], ids=["no folder", "no checkpoint", "one"])
@pytest.mark.parametrize("found", ["loss", "weights"])
def test_what_is_not_finite_names_no_more_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int | None, found: str
) -> None:
    apply, loss_sum = Stepper.apply, AnswerObjective.loss_sum

    def explode(self, model, batch, counters):
        return loss_sum(self, model, batch, counters) * (torch.nan if counters.step == 1 else 1.0)

    def leap(self, counters):
        taken = apply(self, counters)
        if counters.step == 1:
            with torch.no_grad():
                next(self.model.parameters()).view(-1)[0] = torch.inf
        return taken

    if found == "loss":
        monkeypatch.setattr(AnswerObjective, "loss_sum", explode)
    else:
        monkeypatch.setattr(Stepper, "apply", leap)
    with pytest.raises(NonFiniteError) as caught:
        tuned(None if looks is None else tmp_path / "m", training={"validate_every": looks or 1},
              config={"learning_rates": (1e-3,), "head_first": "none"})  # fmt: skip
    told = "step 1; the step was not taken" if found == "loss" else "step 2; they are not saved"
    kept = " and the last good checkpoint is kept" if looks == 1 else ""
    assert str(caught.value).endswith(f"{told}{kept}: lower training.learning_rate")


def test_target_columns_are_read_once(monkeypatch) -> None:
    seen, plain = [], labelling.read_labels

    def noted(dataset, names):
        seen.append(names)
        return plain(dataset, names)

    monkeypatch.setattr(labelling, "read_labels", noted)
    texts = strings(24)
    asked = DataConfig(target=("y",), column=("text",))
    dataset = open_data({"text": texts, "y": np.arange(24) / 7}, asked)
    label(dataset, asked, FinetuneConfig(), seed=0)
    assert seen == [("y",)]


@pytest.mark.parametrize(("negative", "first"), [("absolute", 3.0), ("zero", 0.0)])
def test_weights_to_train_with_are_one_on_average(negative: str, first: float) -> None:
    weights = np.array([-3.0, *np.linspace(1, 9, 23)])
    table = {"text": strings(), "y": np.arange(24) / 7, "w": weights}
    asked = DataConfig(target=("y",), weight="w", column=("text",))
    config = parse(FinetuneConfig, {"negative_weights": negative})
    _, rows, _ = label(open_data(table, asked), asked, config, seed=0)
    usable = np.r_[first, weights[1:]]
    np.testing.assert_allclose(rows.weights, usable / usable.mean(), rtol=1e-6)
