"""Evaluations are the metrics of the answers, by target and group, and say what was seen."""

import copy
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import TypeAdapter
from sklearn import metrics as sk

from anymae.cli.evaluations import show_evaluation
from anymae.config import DataConfig
from anymae.data.dataset import open_data
from anymae.errors import DataError, UserInputError
from anymae.evaluation import Evaluation, Part, draw, evaluate, store
from anymae.inference import predict
from anymae.inference.seen import row_hashes
from anymae.model import MaskedAutoencoder
from anymae.predictor import Predictor
from anymae.task import TaskConfig
from anymae.training.finetune import finetune
from models import pretrained, strings


@pytest.fixture(scope="module")
def model() -> MaskedAutoencoder:
    torch.manual_seed(0)
    return pretrained(strings(60))


BINARY = TaskConfig(type="binary", targets=("y",), classes=("no", "yes"))
LABELS = TaskConfig(type="multilabel", targets=("a", "b"))
NUMBERS = TaskConfig(type="regression", targets=("y",), mean=(3.0,), std=(2.0,))


def table(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"smiles": strings(60), **columns})


def test_weights_that_a_model_was_trained_with_are_not_dropped_in_silence(
    model: MaskedAutoencoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = table(y=np.arange(60.0), **{"my w": np.arange(60.0) + 1})
    training = {"steps": 1, "learning_rate": 1e-3, "device": "cpu"}
    for weight in ("my w", None):
        config, out = DataConfig(weight=weight), tmp_path / str(weight)
        done = finetune(model, data, target="y", data_config=config, training=training, out=out)
        assert done.evaluations["valid"].weight == weight
        card = (out / "README.md").read_text()
        assert ("Metrics are weighted by my w." in card) == (weight is not None)
        said = "unweighted; trained with weights of my w: --weight 'my w'" if weight else ""
        found = evaluate(out, data, resamples=0)
        assert found.weighting == said
        show_evaluation(found)
        assert said in capsys.readouterr().out
        asked = evaluate(out, data, data_config=DataConfig(weight="my w"), resamples=0)
        assert asked.weighting == "weighted by my w"
        assert asked.overall["rmse"] != found.overall["rmse"]
    assert model.data is not None and model.data["roles"]["weight"] is None


def test_groups_of_bytes_need_not_be_text(model: MaskedAutoencoder) -> None:
    data = table(y=["no", "yes"] * 30, g=[b"\xff\xfe", b"ab", None] * 20)
    predictor, config = Predictor.from_pretrained(model, BINARY), DataConfig(group="g")
    found = evaluate(predictor, data, data_config=config, resamples=0)
    assert set(found.groups) == {r"\xff\xfe", "ab", "missing"}


def test_rows_of_no_group_are_in_none_that_has_a_name(model: MaskedAutoencoder) -> None:
    predictor, config = Predictor.from_pretrained(model, BINARY), DataConfig(group="g")
    for groups, expected in (
        (["a", "None", None, ""], {"a", "None", "missing"}),
        (["nan", "missing", "missing_", None], {"nan", "missing", "missing_", "missing__"}),
        ([1.5, 2.5, float("nan"), 1.5], {"1.5", "2.5", "missing"}),
    ):
        data = table(y=["no", "yes"] * 30, g=groups * 15)
        found = evaluate(predictor, data, data_config=config, resamples=0)
        assert set(found.groups) == expected and found.num_groups == len(expected)


@pytest.mark.parametrize("task", [BINARY, LABELS], ids=["binary", "multilabel"])
def test_of_a_tie_the_first_class_is_judged_as_it_is_predicted(
    model: MaskedAutoencoder, task: TaskConfig
) -> None:
    predictor = Predictor.from_pretrained(model, task)
    for weights in predictor.output.parameters():
        torch.nn.init.zeros_(weights)
    classes = ["no", "yes"] if task is BINARY else [0, 1]
    data = table(**{name: [*classes, classes[1]] * 20 for name in task.targets})
    found = evaluate(predictor, data, resamples=0)
    assert found.overall["accuracy"].value == pytest.approx(1 / 3)
    for name in task.targets:
        assert found.confusion[name] == [[20, 0], [40, 0]]
    if task is BINARY:
        assert set(predict(predictor, data).classes) == {"no"}


def test_of_many_groups_the_largest_are_measured_and_all_are_counted(
    model: MaskedAutoencoder,
) -> None:
    groups = ["large"] * 5 + [f"g{place}" for place in range(55)]
    data = table(y=["no", "yes"] * 30, g=groups)
    predictor, config = Predictor.from_pretrained(model, BINARY), DataConfig(group="g")
    found = evaluate(predictor, data, data_config=config, resamples=0)
    assert len(found.groups) == 50 and next(iter(found.groups)) == "large"
    assert found.num_groups == found.to_json()["num_groups"] == 56
    assert found.group_rows.keys() == found.groups.keys()
    assert found.group_rows["large"] == 5 and found.group_rows["g0"] == 1
    assert evaluate(predictor, data, resamples=0).num_groups == 0


def test_metrics_are_those_of_the_answers(model: MaskedAutoencoder) -> None:
    random = np.random.default_rng(1)
    predictor = Predictor.from_pretrained(model, BINARY)
    data = table(y=random.choice(["no", "yes"], 60), w=random.random(60), g=["a", "b", "b"] * 20)
    found = evaluate(predictor, data, data_config=DataConfig(weight="w", group="g"), resamples=50)
    chance = predict(predictor, data["smiles"].tolist()).mean[:, 1]
    truth = (data.y == "yes").to_numpy()
    expected = sk.roc_auc_score(truth, chance, sample_weight=data.w)
    assert found.overall["roc_auc"].value == pytest.approx(expected)
    assert found.part == "all"
    assert found.rows == 60
    assert found.seen_in_training is None
    low, high = found.overall["roc_auc"].low, found.overall["roc_auc"].high
    assert low is not None
    assert high is not None
    assert low < expected < high
    here = data.g == "b"
    expected = sk.roc_auc_score(truth[here], chance[here], sample_weight=data.w[here])
    assert found.groups["b"]["roc_auc"].value == pytest.approx(expected)
    expected = sk.confusion_matrix(truth, chance > 0.5, sample_weight=data.w)
    np.testing.assert_allclose(found.confusion["y"], expected)
    assert json.loads(json.dumps(found.to_json()))["overall"]["roc_auc"]["low"] == low


def test_labels_are_averaged_over_targets_and_unknown_ones_left_out(
    model: MaskedAutoencoder,
) -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, (60, 2)).astype(float)
    labels[random.random((60, 2)) < 0.3] = np.nan
    labels[0] = np.nan
    predictor = Predictor.from_pretrained(model, LABELS)
    found = evaluate(predictor, table(a=labels[:, 0], b=labels[:, 1]), resamples=0)
    assert found.rows == (~np.isnan(labels).all(1)).sum()
    each = [found.targets[name]["accuracy"].value for name in "ab"]
    assert found.overall["accuracy"].value == pytest.approx(np.mean(each))  # type: ignore[arg-type]


def test_numbers_far_from_zero_are_judged_as_those_near_it(model: MaskedAutoencoder) -> None:
    """Seconds since 1970, which float32 counts by 128."""
    y = np.random.default_rng(1).normal(size=60) * 2
    near = Predictor.from_pretrained(model, NUMBERS.model_copy(update={"mean": (0.0,)}))
    far = copy.deepcopy(near)
    far.task = NUMBERS.model_copy(update={"mean": (1.7e9,)})
    expected = evaluate(near, table(y=y), resamples=0).overall
    found = evaluate(far, table(y=y + 1.7e9), resamples=0).overall
    for name in ("rmse", "mae", "r2", "spearman"):
        assert found[name].value == pytest.approx(expected[name].value, rel=1e-5), name


def test_what_is_in_standard_deviations_says_so(model: MaskedAutoencoder) -> None:
    several = NUMBERS.model_copy(
        update={"targets": ("y", "z"), "mean": (0.0, 0.0), "std": (1.0, 100.0)}
    )
    data = table(y=np.arange(60.0), z=np.arange(60.0))
    found = evaluate(Predictor.from_pretrained(model, several), data, resamples=0)
    words = "rmse and mae in standard deviations of the training rows"
    assert words in str(found.units) and words in found._repr_html_()
    single = evaluate(Predictor.from_pretrained(model, NUMBERS), data, resamples=0)
    assert single.units == "" and words not in single._repr_html_()


def test_the_test_part_is_judged_where_the_data_name_one(model: MaskedAutoencoder) -> None:
    predictor = Predictor.from_pretrained(model, NUMBERS)
    data = table(y=np.arange(60.0), part=["train"] * 40 + ["test"] * 20)
    split = DataConfig(split="part")
    found = evaluate(predictor, data, data_config=split, resamples=0)
    assert (found.part, found.rows) == ("test", 20)
    answers = predict(predictor, data["smiles"].tolist()).mean[40:, 0]
    expected = sk.root_mean_squared_error(data.y[40:], answers)
    assert found.overall["rmse"].value == pytest.approx(expected)
    assert evaluate(predictor, data, data_config=split, part="all", resamples=0).rows == 60
    with pytest.raises(DataError, match="do not say which rows are valid"):
        evaluate(predictor, data, data_config=split, part="valid")


def test_another_target_than_the_models_is_refused(model: MaskedAutoencoder) -> None:
    predictor = Predictor.from_pretrained(model, NUMBERS)
    data = table(y=np.arange(60.0), other=np.arange(60.0))
    with pytest.raises(UserInputError, match="the model answers y, not other"):
        evaluate(predictor, data, data_config=DataConfig(target=("other",)))
    config = DataConfig(target=("y",))
    assert evaluate(predictor, data, data_config=config, resamples=0).rows == 60


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_parts_that_the_data_do_not_name_are_not_drawn_anew(
    model: MaskedAutoencoder, part: Part
) -> None:
    """Rows drawn at evaluation would be others than those that training set apart."""
    predictor = Predictor.from_pretrained(model, NUMBERS)
    with pytest.raises(DataError, match=f"do not say which rows are {part}"):
        evaluate(predictor, table(y=np.arange(60.0)), part=part)


def test_rows_that_were_trained_on_are_counted(model: MaskedAutoencoder, tmp_path: Path) -> None:
    parts = ["train"] * 40 + ["valid"] * 5 + ["test"] * 15
    data = table(y=np.arange(60.0), part=parts)
    split = DataConfig(split="part")
    done = finetune(
        model, data, target="y", out=tmp_path / "m", data_config=split,
        training={"steps": 1, "learning_rate": 1e-3},
    )  # fmt: skip
    assert done.evaluations["test"].seen_in_training == 0
    assert evaluate(tmp_path / "m", data, data_config=split, resamples=0).seen_in_training == 0
    assert evaluate(tmp_path / "m", data, resamples=0).seen_in_training == 40
    other = pd.DataFrame({"smiles": [data.smiles[3], "CCCCC", data.smiles[50]], "y": [1.0, 2, 4]})
    assert evaluate(tmp_path / "m", other, resamples=0).seen_in_training == 1


def test_hashes_tell_rows_apart_by_their_inputs() -> None:
    dataset = open_data(["CCO", "OCC", "CCO", "CCOCC"])
    hashes = row_hashes(dataset, np.arange(4))
    assert hashes[0] == hashes[2]
    assert len(set(hashes.tolist())) == 3
    cells = open_data(np.array([[0.0, np.nan], [np.nan, 0.0], [0.0, 0.0], [1.0, 5.0], [3.0, 2.0]]))
    assert len(set(row_hashes(cells, np.arange(5)).tolist())) == 5


def test_hashes_are_of_all_that_a_model_reads() -> None:
    texts = ["abcdefgh" * 10, "abcdefgh" * 2 + "z" * 64, "abc"]
    config = DataConfig(kind="bytes", length=16, too_long="window")
    windows = row_hashes(open_data(texts, config), np.arange(3))
    cut = row_hashes(
        open_data(texts, config.model_copy(update={"too_long": "truncate"})), np.arange(3)
    )
    assert len(set(windows.tolist())) == 3
    assert cut[0] == cut[1]
    assert cut[2] == windows[2]


def test_a_part_that_is_none_is_one_sentence(model: MaskedAutoencoder) -> None:
    predictor = Predictor.from_pretrained(model, NUMBERS)
    with pytest.raises(UserInputError, match="part is 'validation'; expected test or valid or"):
        evaluate(predictor, table(y=np.arange(60.0)), part="validation")  # type: ignore[arg-type]


def test_names_with_dollars_are_drawn_as_they_are(tmp_path: Path) -> None:
    name, classes = "a$_$b", ("$_$", "US$")
    task = BINARY.model_copy(update={"targets": (name,), "classes": classes})
    found: Any = SimpleNamespace(confusion={name: [[1, 2], [3, 4]]}, classes=list(classes))
    draw(task, np.zeros((10, 1)), np.zeros((10, 2)), found, tmp_path / "c.png")
    parity = NUMBERS.model_copy(update={"targets": (name,)})
    draw(parity, np.ones((3, 1)), np.zeros((3, 1)), found, tmp_path / "p.png")
    assert all((tmp_path / f"{each}.png").stat().st_size > 1000 for each in "cp")


def test_each_target_has_a_range_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda one, *_, **__: drawn.append(one))
    names = ("small", "large", "unknown")
    task = NUMBERS.model_copy(update={"targets": names})
    truth = np.array([[1.0, 1000, np.nan], [2.0, 3000, np.nan]])
    found: Any = SimpleNamespace(confusion={}, classes=[])
    draw(task, truth, truth[:, [0, 1, 0]] + 0.5, found, tmp_path / "p.png")
    lines = [panel.lines[0].get_xdata() for panel in drawn[0].axes]
    assert [list(line) for line in lines] == [[1, 2.5], [1000, 3000.5], []]


def test_plots_are_drawn(model: MaskedAutoencoder, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    parity = Predictor.from_pretrained(model, NUMBERS)
    evaluate(parity, table(y=random.normal(size=60)), resamples=0, plot=tmp_path / "p.png")
    confusion = Predictor.from_pretrained(model, BINARY)
    labels = random.choice(["no", "yes"], 60)
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # words as words
        found = evaluate(confusion, table(y=labels), resamples=0, plot=tmp_path / "c.svg")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    drawn = re.findall(r">([^<>\n]+)</text>", (tmp_path / "c.svg").read_text())
    assert drawn.count("yes") == drawn.count("no") == 2  # rows and columns
    assert {f"{count:g}" for row in found.confusion["y"] for count in row} <= set(drawn)


def test_bad_input_is_one_sentence(model: MaskedAutoencoder) -> None:
    binary = Predictor.from_pretrained(model, BINARY)
    with pytest.raises(DataError, match="there is no column 'y'"):
        evaluate(binary, table())
    with pytest.raises(DataError, match="holds 'maybe', which is no class of the model"):
        evaluate(binary, table(y=["no", "maybe", "yes"] * 20))
    with pytest.raises(DataError, match="none of the 60 rows has a value of y"):
        evaluate(binary, table(y=[None] * 60))
    with pytest.raises(DataError, match="holds 'high', which is no number"):
        evaluate(Predictor.from_pretrained(model, NUMBERS), table(y=["1.0", "high", "2"] * 20))
    with pytest.raises(UserInputError, match="anymae finetune"):
        evaluate(model, table(y=np.arange(60.0)))


def test_hashes_of_table_rows_do_not_depend_on_their_neighbours() -> None:
    cells = np.random.default_rng(0).normal(size=(3, 4))
    apart = open_data(pd.DataFrame(cells, columns=list("abcd")))
    cells_with_a_hole = np.vstack([cells, np.full((1, 4), 1.0)])
    cells_with_a_hole[3, 1] = np.nan
    beside = open_data(
        pd.DataFrame(cells_with_a_hole, columns=list("abcd")), preparation=apart.preparation
    )
    mine, theirs = row_hashes(apart, np.arange(3)), row_hashes(beside, np.arange(4))
    assert mine.tolist() == theirs[:3].tolist() and theirs[3] not in mine


def test_groups_have_intervals_and_the_file_has_everything(
    model: MaskedAutoencoder, tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    data = table(y=random.choice(["no", "yes"], 60), g=["a", "b", "b"] * 20)
    predictor = Predictor.from_pretrained(model, BINARY)
    found = evaluate(predictor, data, data_config=DataConfig(group="g"), resamples=20)
    accuracy = found.groups["b"]["accuracy"]
    assert accuracy.low is not None and accuracy.high is not None
    assert accuracy.low <= accuracy.value <= accuracy.high
    store(found, tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text())["groups"]["b"]["accuracy"]["low"]
    with pytest.raises(UserInputError, match=r"expected \.png"):
        evaluate(predictor, data, plot=tmp_path / "plot.txt")


def test_evaluations_of_before_are_read(model: MaskedAutoencoder) -> None:
    data = table(y=["no", "yes"] * 30)
    found = evaluate(Predictor.from_pretrained(model, BINARY), data, resamples=0)
    stored = {k: v for k, v in found.to_json().items() if k not in ("data", "num_groups")}
    again = TypeAdapter(Evaluation).validate_python(json.loads(json.dumps(stored)))
    assert (again.overall, again.data, again.num_groups) == (found.overall, "", 0)


def test_declared_missing_values_are_no_answers(model: MaskedAutoencoder) -> None:
    predictor = Predictor.from_pretrained(model, NUMBERS)
    data = table(y=[-999.0, *range(59)])
    assert evaluate(predictor, data, data_config=DataConfig(missing=("-999",))).rows == 59
