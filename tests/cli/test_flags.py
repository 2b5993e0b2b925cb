"""Flags that reach what they are for."""

import json
import shlex
import shutil
from pathlib import Path

import pyarrow
import pyarrow.csv
import pytest

from anymae.config import DataConfig
from anymae.probing import probe
from commands import TINY, Command

DATA = ("--column", "smiles", "--target", "y", "--device", "cpu")


def test_score_deals_inputs_as_it_is_told(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    tables = []
    for number, words in enumerate(((), ("--masks", 2), ("--seed", 1))):
        out = tmp_path / f"{number}.csv"
        assert command("score", run, molecules, *words, "--out", out).status == 0
        tables.append(pyarrow.csv.read_csv(out))
    assert not tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_finetune_trains_as_many_models_as_there_are_seeds(
    command: Command, molecules: Path, run: Path, tmp_path: Path
) -> None:
    words = (*DATA, "--steps", 1, "--learning-rate", 1e-3, "--n-labels", 20, "--seeds", 2)
    assert command("finetune", run, molecules, *words, "--out", tmp_path / "m").status == 0
    assert json.loads((tmp_path / "m/finetune.json").read_text())["identity"]["seeds"] == 2


def test_probe_draws_by_its_seed(command: Command, molecules: Path, run: Path) -> None:
    words = ("probe", run, molecules, *DATA, "--reading", "mean", "--json", "--seed")
    assert command(*words, 0).json["results"] != command(*words, 1).json["results"]


def test_tune_uses_as_many_labels_as_are_asked_for(
    command: Command, molecules: Path, tmp_path: Path
) -> None:
    words = ("tune", molecules, *DATA, "--preset", "tiny", "--steps", 1, "--trials", 1, *TINY[-6:])
    found = command(*words, "--n-labels", 20, "--out", tmp_path / "t", "--json").json
    assert found["rows"]["fitted"] + found["rows"]["judged"] == 20


def test_tune_draws_by_its_seed(command: Command, molecules: Path, tmp_path: Path) -> None:
    words = ("tune", molecules, *DATA, "--preset", "tiny", "--steps", 1, "--trials", 1, *TINY[-6:])
    assert command(*words, "--seed", 7, "--out", tmp_path / "t").status == 0
    asked = json.loads((tmp_path / "t/tune.json").read_text())["asked"]
    assert asked["recipe"]["training"]["seed"] == 7


def test_the_next_command_takes_a_name_that_looks_like_an_option(
    command: Command, molecules: Path
) -> None:
    shutil.copy(molecules, "-odd.csv")  # in the test's own folder
    outcome = command("inspect", "--", "-odd.csv")
    said = outcome.err.splitlines()[-1].removeprefix("next: anymae ")
    assert said == "pretrain ./-odd.csv --out runs/NAME"
    assert command(*shlex.split(said), *TINY, "--dry-run").status == 0


def test_a_fine_tuned_model_is_not_judged_by_its_own_rows_in_silence(
    command: Command,
    molecules: Path,
    run: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = tmp_path / "m"
    words = (*DATA, "--steps", 1, "--learning-rate", 1e-3, "--set", "valid_share=0.01")
    assert command("finetune", run, molecules, *words, "--out", model).status == 0
    embedded = command("embed", model, molecules, "--device", "cpu", "--out", tmp_path / "e.csv")
    assert embedded.err.splitlines()[-1].startswith(f"next: anymae predict {model} DATA")

    def told(judged: Path, data: object, target: str) -> bool:
        caplog.clear()
        config = DataConfig(column=("smiles",), target=(target,))
        probe(judged, data, data_config=config, readings=("mean",), resamples=0, seed=3)
        return "fine-tuned on 12 of the 12 rows that judge it" in caplog.text

    own = pyarrow.csv.read_csv(molecules)
    texts = ["N" * (row % 10 + 1) + "OSP"[row // 10] for row in range(30)]
    others = pyarrow.table({"smiles": texts, "y": range(30)})
    assert told(model, own, "y")
    assert not told(model, others, "y")
    assert not told(run, own, "y")
    # Labels of another target were not learned.
    assert not told(model, own.append_column("z", pyarrow.array(range(60))), "z")
