"""Each verb does what it says, prints what it promises, and names the next command."""

import errno
import io
import json
import math
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

import anymae
from anymae import files
from anymae.cli import main, train
from anymae.cli.options import ReadingName
from anymae.config import DataConfig, ModelConfig, parse
from anymae.data.dataset import open_data
from anymae.inference.computations import Reading
from anymae.model import MaskedAutoencoder
from anymae.predictor import Ensemble, Predictor
from anymae.recipes import load_recipe
from anymae.task import TaskConfig
from anymae.training.pretrain import Run
from commands import TINY, Command, assert_refused
from tiny import tiny_config


def test_pretrain_leaves_a_run_that_loads(run: Path) -> None:
    model = anymae.load(run)
    assert isinstance(model.config, ModelConfig)
    assert model.config.encoder.width == 16
    assert model.data is not None
    assert model.data["roles"]["target"] == ["y"]
    assert model.data["roles"]["inputs"] == ["smiles"]


def test_pretrain_prints_one_json_object(command: Command, molecules: Path, tmp_path: Path) -> None:
    outcome = command("pretrain", molecules, "--out", tmp_path / "r", *TINY, "--json")
    assert outcome.status == 0
    assert outcome.json["steps"] == 4
    assert outcome.json["folder"] == str(tmp_path / "r")
    assert "valid_loss" in outcome.json


def test_pretrain_says_what_came_out_and_what_is_next(
    command: Command, molecules: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    outcome = command("pretrain", molecules, "--out", folder, *TINY)
    assert outcome.out.startswith(f"{folder}: 4 steps in")
    assert "trivial" in outcome.out
    assert outcome.err.splitlines()[-1] == f"next: anymae report {folder}"


def test_losses_of_nothing_are_told_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics: dict[str, Any] = {"steps": 1, "valid_loss": 0.0, "trivial_loss": 0.0}
    for losses in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5)):
        metrics["valid_loss"], metrics["trivial_loss"] = losses
        train._report(Run(run, anymae.load(run), metrics), json=False)
        expected = "1 step in 0 s, validation loss {:.4f} (trivial {:.4f})\n".format(*losses)
        assert capsys.readouterr().out == f"{run}: {expected}"
    train._report(Run(run, anymae.load(run), metrics | {"valid_loss": None}), json=False)
    assert capsys.readouterr().out == f"{run}: 1 step in 0 s\n"


def test_dry_run_prints_a_recipe_that_repeats_the_run_and_writes_nothing(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    words = ["pretrain", molecules, "--out", tmp_path / "r", *TINY, "--dry-run"]
    outcome = command(*words)
    assert outcome.status == 0
    assert not (tmp_path / "r").exists()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(outcome.out)
    assert command("pretrain", "--recipe", recipe, "--out", tmp_path / "r").status == 0
    weights = [folder / "model.safetensors" for folder in (run, tmp_path / "r")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_dry_run_tells_memory_and_time_in_text_and_json(command: Command, molecules: Path) -> None:
    words = ["pretrain", molecules, *TINY, "--dry-run"]
    first = command(*words).out.splitlines()[0]
    assert re.fullmatch(
        r"# [\d,]+ weights; about [\d,]+ MiB of memory with 8 rows at once; "
        r"4 steps in about [\d,]+ s \([\d.e-]+ s each on this cpu\)",
        first,
    )
    found = command(*words, "--json").json
    assert found["steps"] == 4
    assert found["memory_bytes"] > 0 and found["seconds"] > 0
    assert found["recipe"]["training"]["steps"] == 4


def test_dry_run_names_no_steps_of_epochs_while_the_batch_is_sought(
    command: Command, molecules: Path
) -> None:
    words = ["pretrain", molecules, *TINY[2:], "--epochs", "2", "--batch-size", "auto", "--dry-run"]
    found = command(*words, "--json").json
    assert found["steps"] is None
    # A larger batch takes fewer steps, and as long: two epochs of these rows, 8 at once.
    assert found["seconds"] == pytest.approx(2 * math.ceil(59 / 8) * found["step_seconds"])
    assert "as many steps as its epochs take of the batch that fits, about " in command(*words).out


def test_dry_run_counts_the_steps_that_epochs_take(
    command: Command, molecules: Path, tmp_path: Path
) -> None:
    words = ["pretrain", molecules, *TINY[2:], "--epochs", "1", "--batch-size", "24"]
    planned = command(*words, "--dry-run", "--json").json["steps"]
    made = command(*words, "--out", tmp_path / "r", "--json").json["steps"]
    # The last, smaller batch of a pass is a step too.
    assert planned == made == 3


def test_dry_run_keeps_what_a_probe_predicts_from_the_inputs(
    command: Command, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b,y\n" + "".join(f"{i / 7},{i % 5 / 3},{i / 11}\n" for i in range(60)))
    words = ["pretrain", table, "--steps", "2", "--batch-size", "8", "--device", "cpu"]
    outcome = command(*words, "--probe-target", "y", "--dry-run")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(outcome.out)
    assert load_recipe(recipe).data.target == ("y",)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npy"])
def test_embed_writes_what_the_library_computes(
    suffix: str, command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"e{suffix}"
    outcome = command("embed", run, molecules, "--id", "name", "--out", out, "--device", "cpu")
    assert outcome.status == 0
    assert outcome.out.startswith(f"{out}: 60 rows")
    assert outcome.err.startswith("next: anymae probe")
    expected = anymae.embed(anymae.load(run), molecules)
    if suffix == ".npy":
        found = np.load(out)
    elif suffix == ".csv":
        table = pyarrow.csv.read_csv(out)
        assert table.column_names[:3] == ["row", "name", "status"]
        found = np.stack([table[f"e{i}"].to_numpy() for i in range(16)], 1)
    else:
        found = np.stack(pyarrow.parquet.read_table(out)["embedding"].to_numpy())
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_embed_and_probe_read_as_they_are_told(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    assert tuple(ReadingName) == get_args(Reading)
    out = tmp_path / "e.npy"
    assert command("embed", run, molecules, "--out", out, "--reading", "kernel").status == 0
    expected = anymae.embed(anymae.load(run), molecules, reading="kernel")
    np.testing.assert_allclose(np.load(out), expected, atol=1e-5)
    words = ("--column", "smiles", "--target", "y", "--reading", "kernel", "--reading", "mean")
    found = command("probe", run, molecules, *words, "--json").json["results"]
    linear = [(row["features"], row["reading"]) for row in found if row["model"] == "linear"]
    assert {("encoder", "kernel"), ("encoder", "mean"), ("random encoder", "kernel")} < set(linear)
    assert ("encoder", "layers") not in linear
    assert command("probe", run, molecules, *words, "--reading", "median").status == 2
    both = ("--per-input", "--reading", "layers", "--out", tmp_path / "e.parquet")
    expected_words = "reading layers makes one vector of a row"
    assert_refused(command, tmp_path, "embed", run, molecules, *both, expected=expected_words)


def test_json_of_embed_is_the_only_thing_on_stdout(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    outcome = command("embed", run, molecules, "--out", tmp_path / "e.csv", "--json")
    assert outcome.json["rows"] == 60
    assert outcome.json["status"] == {"ok": 60}


def test_score_takes_a_row_or_a_string_as_reference(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "row.csv", tmp_path / "string.csv"
    string = pyarrow.csv.read_csv(molecules)["smiles"][0].as_py()
    assert command("score", run, molecules, "--reference", 0, "--out", first).status == 0
    assert command("score", run, molecules, "--reference", string, "--out", second).status == 0
    by_row, by_string = (pyarrow.csv.read_csv(path)["difference"] for path in (first, second))
    assert by_row[0].as_py() == pytest.approx(0, abs=1e-6)
    assert by_row[1].as_py() != 0
    assert len(by_string) == 60


def test_finetune_predict_and_evaluate_go_together(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    data = (molecules, "--column", "smiles", "--device", "cpu")
    words = ("--target", "y", "--steps", 2, "--n-labels", 20, "--set", "learning_rates=[1e-3]")
    outcome = command("finetune", run, *data, *words, "--out", model)
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith(f"{model}: regression of y")
    answers = tmp_path / "answers.csv"
    assert command("predict", model, *data, "--out", answers).status == 0
    assert pyarrow.csv.read_csv(answers).num_rows == 60
    outcome = command("evaluate", model, *data, "--part", "all", "--json")
    assert outcome.json["rows"] == 60
    assert outcome.json["part"] == "all"
    shown = command("evaluate", model, *data, "--part", "all")
    assert "rmse" in shown.out
    as_json = command("finetune", run, *data, *words, "--out", model, "--overwrite", "--json")
    assert as_json.json["task"]["targets"] == ["y"]


def test_which_class_is_positive_is_said(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    first, *rows = molecules.read_text().splitlines()
    data, model = tmp_path / "classes.csv", tmp_path / "model"
    named = [f"{row},{('off', 'inactive')[n % 2]}" for n, row in enumerate(rows)]
    data.write_text("\n".join([f"{first},state", *named]) + "\n")
    read, target = (data, "--column", "smiles", "--device", "cpu"), ("--target", "state")
    assert "binary of state (positive: off); rows" in command("probe", run, *read, *target).out
    words = ("--steps", 1, "--set", "learning_rates=[1e-3]", "--out", model)
    outcome = command("finetune", run, *read, *target, *words)
    assert f"{model}: binary of state (positive: off)\n" in outcome.out
    assert "\n\nThe positive class is off.\n" in (model / "README.md").read_text()
    assert "\npositive: off\n" in command("evaluate", model, *read).out
    stored = json.loads((model / "evaluation-classes-all.json").read_text())
    assert stored["positive"] == "off" and stored["classes"] == ["inactive", "off"]
    page = tmp_path / "page.html"
    assert command("report", model, "--out", page).status == 0
    assert "positive class" in page.read_text() and "evaluation-classes" in page.read_text()


def test_finetune_takes_every_setting(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    words = ("--column", "smiles", "--target", "y", "--device", "cpu", "--steps", 2)
    settings = ("readout.kind=mean", "training.patience=3", "training.steps=1", "seeds=2")
    told = [word for each in settings for word in ("--set", each)]
    outcome = command("finetune", run, molecules, *words, *told, "--out", tmp_path / "m")
    assert outcome.status == 0, outcome.err
    asked = json.loads((tmp_path / "m" / "finetune.json").read_text())["identity"]
    assert asked["config"]["readout"]["kind"] == "mean" and asked["seeds"] == 2
    assert asked["training"]["patience"] == 3 and asked["training"]["steps"] == 1


def test_finetune_leaves_and_goes_on(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    words = ("finetune", run, molecules, "--column", "smiles", "--target", "y", "--device", "cpu")
    words = (*words, "--steps", 2, "--n-labels", 20, "--learning-rate", 1e-3)
    words = (*words, "--out", tmp_path / "model")
    outcome = command(*words, "--stop-after", 0)
    assert outcome.status == 130
    assert "everything is saved" in outcome.err.splitlines()[-1]
    assert_refused(command, tmp_path, *words, expected="go on with --resume, or replace it")
    first = command(*words, "--resume", "--json")
    assert first.status == 0, first.err
    again = command(*words, "--resume", "--json")
    assert again.status == 0
    assert "is finished; there is nothing left to do" in again.err
    assert again.json == first.json


def test_finetune_tells_how_far_it_is(
    command: Command, molecules: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anymae.cli.console.INTERVAL", 0.0)
    words = ("--column", "smiles", "--target", "y", "--device", "cpu", "--steps", 2)
    words = (*words, "--n-labels", 20, "--learning-rate", 1e-3, "--out", tmp_path / "model")
    outcome = command("finetune", run, molecules, *words)
    assert outcome.status == 0, outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("finetune: ")]
    assert [line.partition(",")[0] for line in lines] == [
        f"finetune: {step} of 4" for step in (1, 2, 3, 4)
    ]
    assert all(" rows/s, " in line and line.endswith(" left") for line in lines)


def test_evaluate_shows_targets_and_groups_and_stores_what_it_found(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    lines = molecules.read_text().splitlines()
    rows = [f"{line},{number / 7:.2f},g{number % 2}" for number, line in enumerate(lines[1:])]
    data = tmp_path / "two.1.csv"
    data.write_text("\n".join([f"{lines[0]},z,place", *rows]) + "\n")
    model, read = tmp_path / "model", ("--column", "smiles", "--device", "cpu")
    targets = ("--target", "y", "--target", "z")
    words = ("--steps", 1, "--n-labels", 20, "--set", "learning_rates=[1e-3]", "--out", model)
    outcome = command("finetune", run, data, *read, *targets, *words)
    assert outcome.status == 0, outcome.err
    units = "ver all targets, rmse and mae in standard deviations of the training rows"
    assert f"(o{units})" in outcome.out and f"\n\nO{units}.\n" in (model / "README.md").read_text()
    outcome = command("evaluate", model, data, *read, "--group", "place")
    assert outcome.status == 0, outcome.err
    heads = [line.replace("┃", " ").split() for line in outcome.out.splitlines() if "┃" in line]
    names = ["rmse", "mae", "r2", "spearman"]
    assert heads == [["target", *names], ["group", "rows", *names]]
    first = [line.split("│")[1].strip() for line in outcome.out.splitlines() if "│" in line]
    assert first == ["all", "y", "z", "g0", "g1"]
    assert "over all targets, rmse and mae in standard deviations" in outcome.out
    assert "all: 60 rows" in outcome.out
    assert "16 of them also occur among the training rows" in outcome.out
    stored = model / "evaluation-two.1-all.json"
    assert f"stored in {stored}" in outcome.out
    found = json.loads(stored.read_text())
    assert set(found["targets"]) == {"y", "z"} and set(found["groups"]) == {"g0", "g1"}
    assert found["seen_in_training"] == 16
    place = tmp_path / "new" / "found.json"
    as_json = command("evaluate", model, data, *read, "--group", "place", "--out", place, "--json")
    assert json.loads(place.read_text()) == {"format_version": 1, **as_json.json}
    again = ("evaluate", model, data, *read, "--out", place)
    assert_refused(command, tmp_path, *again, expected=f"{place} exists; remove it, name another")
    assert command(*again, "--overwrite").status == 0
    assert json.loads(place.read_text())["groups"] == {}
    # What is found of other rows, or in another way, takes no other's place.
    assert f"stored in {model / 'evaluation-two.1-all-2.json'}" in command(*again[:-2]).out
    assert f"stored in {model / 'evaluation-two.1-all-2.json'}" in command(*again[:-2]).out
    assert json.loads(stored.read_text()) == found
    replaced = command(*again[:-2], "--overwrite")
    assert f"stored in {stored}" in replaced.out
    assert json.loads(stored.read_text())["groups"] == {}


def test_evaluate_shows_what_it_cannot_store(
    command: Command, molecules: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, read = tmp_path / "model", (molecules, "--column", "smiles", "--device", "cpu")
    words = ("--target", "y", "--steps", 1, "--n-labels", 20, "--learning-rate", 1e-3)
    assert command("finetune", run, *read, *words, "--out", model).status == 0

    def fail(path: Path, *_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(files, "_write", fail)
    outcome = command("evaluate", model, *read)
    assert outcome.status == 0
    assert "rmse" in outcome.out and "stored" not in outcome.out
    assert "could not be written (Read-only file system)" in outcome.err
    asked = command("evaluate", model, *read, "--out", tmp_path / "found.json")
    assert asked.status == 2
    assert "rmse" in asked.out
    assert asked.err.startswith(f"anymae: {tmp_path / 'found.json'} could not be written")
    plotted = command("evaluate", model, *read, "--plot", tmp_path / "found.svg")
    assert plotted.status == 2 and "rmse" in plotted.out
    assert plotted.err.splitlines()[-1].startswith(f"anymae: {tmp_path / 'found.svg'} could not")
    monkeypatch.undo()
    (tmp_path / "found.svg").touch()
    drawn = ("evaluate", model, *read, "--plot", tmp_path / "found.svg")
    assert_refused(command, tmp_path, *drawn, expected="found.svg exists; remove it, name another")
    monkeypatch.setattr("anymae.evaluation.draw", fail)
    assert command(*drawn, "--overwrite").status == 2
    assert (model / "evaluation-molecules-all.json").exists()


@pytest.mark.skipif(os.name == "nt", reason="asks Linux and macOS of the pipe")
@pytest.mark.parametrize("verb", ["--help", "inspect", "evaluate"])
def test_a_verb_whose_reader_is_gone_ends_quietly(
    verb: str,
    command: Command,
    molecules: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "model"
    words = [verb, str(molecules)]
    if verb == "evaluate":
        task = TaskConfig(type="regression", targets=("y",), mean=(0.0,), std=(1.0,))
        dataset = open_data(molecules, DataConfig(column="smiles", target=("y",)))
        sizes = {"width": 16, "depth": 1, "num_heads": 2}
        config = parse(ModelConfig, {"input": dataset.input.model_dump(), "encoder": sizes})
        pretrained = MaskedAutoencoder(config)
        pretrained.data = dataset.preparation.to_json()
        anymae.save(Predictor.from_pretrained(pretrained, task), model)
        words = [verb, str(model), str(molecules), "--plot", str(tmp_path / "plot.png")]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as unread, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", unread)
        assert main(words) == 0
        assert sys.stdout is unread
    assert "unexpected" not in capsys.readouterr().err
    assert (tmp_path / "plot.png").exists() == (verb == "evaluate")
    assert (model / "evaluation-molecules-all.json").exists() == (verb == "evaluate")


def test_another_pipe_that_is_closed_is_an_error(
    command: Command, molecules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr("anymae.report.survey", fail)
    outcome = command("inspect", molecules)
    assert outcome.status == 1 and "unexpected BrokenPipeError" in outcome.err


def test_signs_that_a_terminal_lacks_are_no_error(
    molecules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = SimpleNamespace(lines=lambda: ["λ: a column"], found=SimpleNamespace(bad=()))
    monkeypatch.setattr("anymae.report.survey", lambda *_, **__: told)
    written = io.BytesIO()
    with io.TextIOWrapper(written, encoding="iso-8859-1") as latin:
        monkeypatch.setattr("sys.stdout", latin)
        assert main(["inspect", str(molecules)]) == 0
        assert written.getvalue() == b"?: a column\n"


def test_outputs_on_a_full_disk_are_told_and_taken_up(
    command: Command, molecules: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "e.csv"
    words = ("embed", run, molecules, "--device", "cpu", "--out", out)
    sync = files.sync

    def full(path: Path) -> None:
        if path.name == f"{files.STAGED}e.csv":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        sync(path)

    with monkeypatch.context() as patched:
        patched.setattr(files, "sync", full)
        outcome = command(*words)
        assert outcome.status == 2
        assert outcome.err.startswith(f"anymae: {out} could not be written (No space left")
        page = tmp_path / "page.html"
        patched.setattr(files, "sync", lambda path: full(path.with_name(f"{files.STAGED}e.csv")))
        shown = command("show", run, molecules, "--out", page)
        assert shown.status == 2
        assert shown.err.startswith(f"anymae: {page} could not be written (No space left")
        assert not page.exists()
    assert command(*words, "--json").json["taken_up"] == 60


def test_probe_judges_the_encoder_beside_raw_features(
    command: Command, molecules: Path, run: Path
) -> None:
    words = ("--column", "smiles", "--target", "y", "--device", "cpu", "--n-labels", 20)
    outcome = command("probe", run, molecules, *words)
    assert outcome.status == 0, outcome.err
    for features in ("encoder mean", "random encoder", "raw"):
        assert features in outcome.out
    found = command("probe", run, molecules, *words, "--json").json
    assert found["task"]["targets"] == ["y"]


def test_show_draws_rows_in_the_terminal(command: Command, molecules: Path, run: Path) -> None:
    outcome = command("show", run, molecules, "--text", "--rows", 2)
    string = pyarrow.csv.read_csv(molecules)["smiles"][0].as_py()
    assert outcome.out.startswith("row 0: ")
    assert f"  row      {string}¶\n" in outcome.out
    assert outcome.out.count("  hidden   ") == 2
    assert outcome.out == command("show", run, molecules, "--text", "--rows", 2).out
    assert outcome.out != command("show", run, molecules, "--text", "--rows", 2, "--seed", 1).out


def test_show_and_report_write_self_contained_pages(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    page = tmp_path / "masks.html"
    outcome = command("show", run, molecules, "--rows", 99, "--out", page)
    assert outcome.out == f"{page}: masks and reconstructions of 60 rows\n"
    both = tmp_path / "both.html"
    assert command("report", run, run, "--out", both).status == 0
    for path in (page, both):
        text = path.read_text()
        assert "What is hidden" in text
        assert "http" not in text
        assert "<script" not in text
    outcome = command("report", run)
    assert outcome.status == 0
    assert outcome.err.splitlines()[-1] == f"next: anymae probe {run} LABELLED --target COL"
    assert (run / "report.html").exists()


def test_show_and_report_print_one_json_object(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    page, both = tmp_path / "masks.html", tmp_path / "both.html"
    outcome = command("show", run, molecules, "--rows", 2, "--out", page, "--json")
    assert outcome.json == {"page": str(page), "rows": 2}
    outcome = command("show", run, molecules, "--rows", 1, "--text", "--json")
    assert "inputs hidden" in outcome.json["text"]
    assert command("report", run, run, "--out", both, "--json").json == {"page": str(both)}
    again = ("report", run, "--out", both)
    assert_refused(command, tmp_path, *again, expected=f"{both} exists; remove it, name another")
    assert command(*again, "--overwrite").status == 0
    assert [command("report", run).status for _ in range(2)] == [0, 0]


def test_inspect_tells_data_plan_and_masks(
    command: Command, molecules: Path, tmp_path: Path
) -> None:
    outcome = command("inspect", molecules, "--against", molecules, "--target", "y")
    assert outcome.status == 0
    for words in (
        "60 rows, 60 can be inputs",
        "kind: bytes (column 'smiles' is named like a string)",
        "target: y",
        "preset tiny: no GPU",
        "encoder transformer: rows of up to 16 inputs, no more than 1,024",
        "ratio 0.3: ",
        "nearly (80% of their 5-byte pieces)",
        "model: transformer, width ",
        " weights; about ",
        " MiB of memory with ",
        "shared with",
        "row 0: ",
    ):
        assert words in outcome.out
    assert outcome.out.count("  hidden   ") == 3
    assert outcome.err.splitlines()[-1].startswith("next: anymae pretrain")
    assert not any(tmp_path.iterdir())


def test_inspect_says_what_was_asked_for(command: Command, molecules: Path) -> None:
    outcome = command("inspect", molecules, "--target", "y", "--preset", "small")
    assert "preset small: as asked\n" in outcome.out
    assert "encoder transformer: rows of up to" in outcome.out
    outcome = command("inspect", molecules, "--target", "y", "--json")
    assert len(outcome.json["plan"]["rules"]) == 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_inspect_writes_groups_of_duplicates_to_split_by(
    suffix: str, command: Command, tmp_path: Path
) -> None:
    long = "CC(=O)Oc1ccccc1C(=O)O" * 4
    strings = ["CCO", long, "CCO", "CNC", long[:-1], *(chr(65 + i) * 7 for i in range(19))]
    path, out = tmp_path / "m.csv", tmp_path / "new" / f"groups{suffix}"
    path.write_text("smiles\n" + "\n".join(strings) + "\n")
    outcome = command("inspect", path, "--groups-out", out)
    assert outcome.status == 0, outcome.err
    assert f"{out}: 22 groups of duplicates in column duplicate_group\n" in outcome.out
    assert outcome.err.splitlines()[-1] == (
        f"next: anymae pretrain {out} --group duplicate_group --out runs/NAME"
    )
    read = pyarrow.parquet.read_table if suffix == ".parquet" else pyarrow.csv.read_csv
    groups = read(out)["duplicate_group"].to_pylist()
    assert groups[:5] == [0, 1, 0, 3, 1]
    words = ("inspect", out, "--group", "duplicate_group", "--json")
    assert command(*words).json["roles"]["group"] == "duplicate_group"
    assert command("inspect", path, "--groups-out", out).status == 2
    again = command("inspect", path, "--groups-out", out, "--overwrite", "--json")
    assert again.json["groups"] == 22
    assert command("inspect", path, "--groups-out", tmp_path / "g.txt").status == 2


def test_groups_of_what_is_no_table_are_read_by_its_inputs(
    command: Command, tmp_path: Path
) -> None:
    fasta, out = tmp_path / "p.fasta", tmp_path / "g.csv"
    fasta.write_text("".join(f">p{i} some words\n{'MVH' * i}\n" for i in range(1, 30)))
    said = command("inspect", fasta, "--groups-out", out).err.splitlines()[-1]
    assert said == (
        f"next: anymae pretrain {out} --column sequence --group duplicate_group --out runs/NAME"
    )
    words = shlex.split(said)[3:-2]
    assert command("inspect", *words, "--json").json["roles"]["inputs"] == ["sequence"]
    # Of arrays row numbers alone are written, and of several files nothing is split.
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 4)))
    words = ("inspect", tmp_path / "x.npy", "--groups-out", tmp_path / "h.csv")
    assert (
        command(*words).err.splitlines()[-1].startswith(f"next: anymae pretrain {tmp_path}/x.npy")
    )
    words = ("inspect", fasta, "--valid", fasta, "--groups-out", tmp_path / "i.csv")
    assert command(*words).err.splitlines()[-1].startswith(f"next: anymae pretrain {fasta} --valid")


def test_the_data_that_are_read_are_not_written_over(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    data = tmp_path / "mine.csv"
    data.write_bytes(molecules.read_bytes())
    page = tmp_path / "page.txt"
    page.write_text("notes")
    for words in (
        ["embed", run, data, "--out", data, "--overwrite"],
        ["score", run, data, "--out", data, "--overwrite"],
        ["show", run, data, "--out", data, "--overwrite"],
        ["inspect", data, "--groups-out", data, "--overwrite"],
        ["embed", run, molecules, "--valid", data, "--out", data, "--overwrite"],
        ["show", run, molecules, "--test", data, "--out", data, "--overwrite"],
        ["inspect", molecules, "--against", data, "--groups-out", data, "--overwrite"],
        ["report", run, "--out", page],
    ):
        assert command(*words).status == 2, words
    assert data.read_bytes() == molecules.read_bytes()
    assert page.read_text() == "notes"


def test_the_next_command_reads_the_data_alike(
    command: Command, molecules: Path, run: Path
) -> None:
    outcome = command("inspect", molecules, "--kind", "bytes", "--target", "y", "--drop", "smile")
    assert outcome.status == 2
    flags = ("--target", "y", "--kind", "bytes", "--on-bad-row", "skip")
    outcome = command("inspect", molecules, *flags, "--preset", "tiny")
    assert outcome.err.splitlines()[-1] == (
        f"next: anymae pretrain {molecules} {' '.join(flags)} --preset tiny --out runs/NAME"
    )
    outcome = command("probe", run, molecules, "--target", "y", "--task", "regression")
    assert outcome.out.startswith("regression of y")
    assert outcome.err.splitlines()[-1] == (
        f"next: anymae finetune {run} {molecules} --target y --task regression --out models/NAME"
    )


def test_score_names_a_command_that_reads_the_same_rows(
    command: Command, run: Path, tmp_path: Path
) -> None:
    data = tmp_path / "my rows.csv"
    data.write_text("name,text\nmethane,C\nlong," + "CCO" * 40 + "\n")
    words = ("--column", "text", "--too-long", "truncate")
    outcome = command("score", run, data, *words, "--out", tmp_path / "s.csv")
    assert outcome.status == 0
    said = outcome.err.splitlines()[-1].removeprefix("next: anymae ")
    assert command(*shlex.split(said)).status == 0


def test_report_names_what_a_model_can_do_next(command: Command, run: Path, tmp_path: Path) -> None:
    def said(folder: Path) -> str:
        words = ("report", folder, "--out", tmp_path / "r.html", "--overwrite")
        return command(*words).err.splitlines()[-1]

    assert said(run).startswith(f"next: anymae probe {run}")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    (unfinished / "model.safetensors").unlink()
    assert "next: " not in said(unfinished)
    config = json.loads((unfinished / "config.json").read_text())
    (unfinished / "config.json").write_text(json.dumps({**config, "task": {}}))
    assert said(unfinished).startswith(f"next: anymae predict {unfinished} DATA")


def test_what_is_an_input_can_be_copied_and_grouped_by(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "e.csv"
    assert command("embed", run, molecules, "--id", "smiles", "--out", out).status == 0
    strings = pyarrow.csv.read_csv(molecules)["smiles"].to_pylist()
    assert pyarrow.csv.read_csv(out)["smiles"].to_pylist() == strings
    renamed = tmp_path / "renamed.csv"
    renamed.write_text(molecules.read_text().replace("smiles", "string", 1))
    words = ("--id", "smiles", "--column", "string", "--out", tmp_path / "e2.csv")
    assert_refused(command, tmp_path, "embed", run, renamed, *words, expected="no column 'smiles'")
    # For a pretraining it would be the answer.
    words = ("--id", "smiles", "--out", tmp_path / "r", "--steps", 1)
    assert_refused(
        command, tmp_path, "pretrain", molecules, "--column", "smiles", *words, expected="only one"
    )


def test_a_row_longer_than_any_batch_is_inspected_alone(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("\n".join(["CCO", "C" * 20_000, *("N" * n for n in range(1, 20))]) + "\n")
    found = command("inspect", path, "--json").json
    assert found["plan"]["memory_bytes"] > 0


def test_inspect_prints_one_json_object_without_rows(command: Command, molecules: Path) -> None:
    found = command("inspect", molecules, "--json").json
    assert found["used_rows"] == 60
    assert found["plan"]["preset"] == "tiny"
    assert found["plan"]["parameters"] > 100_000
    assert found["against"] is None
    string = pyarrow.csv.read_csv(molecules)["smiles"][0].as_py()
    assert string not in json.dumps(found)


def test_inspect_of_a_table_names_columns_and_why_some_are_left_out(
    command: Command, tmp_path: Path
) -> None:
    rows = "".join(f"{i % 7},{i * 0.37 % 5:.2f},{i % 2}\n" for i in range(40))
    (tmp_path / "t.csv").write_text("a,b,label\n" + rows)
    outcome = command("inspect", tmp_path / "t.csv")
    assert "column a: " in outcome.out
    assert "left out, named like a target: label" in outcome.out


def test_bad_rows_are_told_by_inspect_and_stop_pretrain(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("smiles,y\nCCO,1\n,2\nCC,3\nCNC,4\n")
    outcome = command("inspect", path)
    assert outcome.status == 0
    assert "bad: 1 row is empty or missing (line 3)" in outcome.out
    said = f"next: anymae pretrain {path} --on-bad-row skip --out runs/NAME"
    assert outcome.err.splitlines()[-1] == said
    refused = command("pretrain", path, "--out", tmp_path / "r", *TINY[:6])
    assert refused.status == 2
    assert "line 3" in refused.err


def test_tune_ranks_its_trials_and_names_the_recipe(
    command: Command, molecules: Path, tmp_path: Path
) -> None:
    words = ("tune", molecules, "--column", "smiles", "--target", "y", "--preset", "tiny")
    words = (*words, "--steps", 2, "--trials", 2, "--device", "cpu", "--out", tmp_path / "t")
    words = (*words, *TINY[-6:], "--task", "regression")
    refused = command(*words[:-1], "regresion")
    assert refused.status == 2 and "task is 'regresion'" in refused.err
    assert not (tmp_path / "t").exists()
    outcome = command(*words)
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith("regression of y; rows: 48 pretrained, ")
    assert "settings as asked for" in outcome.out
    assert "chosen on " in outcome.out.splitlines()[-1]
    recipe = tmp_path / "t" / "best.yaml"
    columns = "--column smiles --target y"
    said = f"next: anymae pretrain {molecules} {columns} --recipe {recipe} --out runs/NAME"
    *_, doubt, last = outcome.err.splitlines()
    assert last == said
    assert doubt.startswith("12 rows were in no trial") and "--split or --test" in doubt
    found = command(*words, "--json").json
    assert [trial["number"] for trial in found["trials"]] == [0, 1]
    assert found["recipe"] == str(recipe)


def test_export_tells_shapes_and_how_near_the_numbers_are(
    command: Command, run: Path, tmp_path: Path
) -> None:
    outcome = command("export", run, "--out", tmp_path / "model.onnx")
    assert "inputs (rows x inputs), valid (rows x inputs) -> vector; at most " in outcome.out
    assert "largest difference to torch" in outcome.out
    again = command("export", run, "--out", tmp_path / "model.onnx", "--overwrite", "--json").json
    assert again["inputs"]["valid"] == ["rows", "inputs"]
    assert f"at most {again['length']} inputs a row" in outcome.out
    assert again["difference"] < 1e-4


def test_push_lists_what_it_would_upload(
    command: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("network"))
    outcome = command("push", run, "hf://owner/name", "--dry-run")
    names = [line.partition(":")[0] for line in outcome.out.splitlines()]
    assert names == ["config.json", "model.safetensors", "data.json", "README.md"]
    found = command("push", run, "hf://owner/name", "--dry-run", "--json").json
    assert (list(found["files"]), found["uploaded"]) == (names, None)


def test_the_next_command_takes_a_model_of_the_hub(
    command: Command, molecules: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anymae.hub._download", lambda name: run)
    shown = command("show", "hf://o/n", molecules, "--text").err.splitlines()[-1]
    assert shown == "next: anymae report hf://o/n --out report.html"
    exported = command("export", "hf://o/n", "--out", tmp_path / "m.onnx").err.splitlines()[-1]
    assert exported == "next: anymae embed hf://o/n DATA --out embeddings.parquet"


def test_push_names_what_a_model_can_do_next(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MaskedAutoencoder(tiny_config())
    task = TaskConfig(type="regression", targets=("y",), mean=(0.0,), std=(1.0,))
    members = [Predictor.from_pretrained(model, task) for _ in range(2)]
    anymae.save(model, tmp_path / "run")
    anymae.save(Ensemble(members), tmp_path / "several")
    monkeypatch.setattr("anymae.hub.push", lambda folder, *_, **__: ({}, "https://hub/o/n"))
    said = {
        name: command("push", tmp_path / name, "hf://o/n").err.splitlines()[-1]
        for name in ("run", "several")
    }
    assert said["run"] == "next: anymae embed hf://o/n DATA --out embeddings.parquet"
    assert said["several"] == "next: anymae predict hf://o/n DATA --out answers.csv"


def test_what_convert_names_next_works_without_data(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(checkpoint: Path, out: Path, config: Path | None) -> MaskedAutoencoder:
        model = MaskedAutoencoder(tiny_config("values"))
        anymae.save(model, out)
        return model

    monkeypatch.setattr("anymae.compat.checkpoint.convert_checkpoint", made)
    outcome = command("convert", "published", "--out", tmp_path / "run")
    program, *words = shlex.split(outcome.err.splitlines()[-1].removeprefix("next: "))
    assert program == "anymae"
    outcome = command(*words)
    assert outcome.status == 0, outcome.err


def test_convert_says_what_it_made(command: Command, golden_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(golden_folder / "self-discrete.safetensors")
    weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights")}
    save_file(weights, tmp_path / "model.safetensors")
    words = [tmp_path / "model.safetensors", "--config", golden_folder / "self-discrete.json"]
    outcome = command("convert", *words, "--out", tmp_path / "run")
    assert outcome.out.startswith(f"{tmp_path / 'run'}: bytes model with")
    assert command("convert", *words, "--out", tmp_path / "b", "--json").json["kind"] == "bytes"
    embedded = command("embed", tmp_path / "run", "strings.txt", "--out", tmp_path / "e.csv")
    assert embedded.status == 2
    (tmp_path / "strings.txt").write_text("CCO\nCN\n")
    embedded = command(
        "embed", tmp_path / "run", tmp_path / "strings.txt", "--out", tmp_path / "e.csv"
    )
    assert embedded.status == 0
