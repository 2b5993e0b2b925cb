"""Flags that say which rows are for what reach the data on every verb."""

from pathlib import Path

import pytest
import yaml

from commands import TINY, Command


@pytest.fixture
def parts(molecules: Path, tmp_path: Path) -> dict[str, Path]:
    """The rows of `molecules` in three files."""
    header, *rows = molecules.read_text().splitlines()
    pieces = {"train": rows[:40], "valid": rows[40:48], "test": rows[48:]}
    paths = {name: tmp_path / f"{name}.csv" for name in pieces}
    for name, piece in pieces.items():
        paths[name].write_text("\n".join([header, *piece]) + "\n")
    return paths


def test_probe_takes_the_test_rows_from_a_file(
    command: Command, parts: dict[str, Path], run: Path
) -> None:
    files = ("--valid", parts["valid"], "--test", parts["test"])
    words = ("--column", "smiles", "--target", "y", "--device", "cpu", "--json")
    outcome = command("probe", run, parts["train"], *files, *words)
    assert outcome.status == 0, outcome.err
    assert outcome.json["rows"] == {"fitted": 48, "test": 12}


def test_inspect_counts_the_rows_of_each_file(command: Command, parts: dict[str, Path]) -> None:
    outcome = command("inspect", parts["train"], "--valid", parts["valid"], "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["parts"] == {"train": 40, "valid": 8, "test": 0}


def test_pretrain_keeps_the_files_and_the_rule_in_its_recipe(
    command: Command, parts: dict[str, Path], tmp_path: Path
) -> None:
    files = ("--valid", parts["valid"], "--test", parts["test"], "--split-by", "stratified")
    outcome = command("pretrain", parts["train"], *files, "--out", tmp_path / "r", *TINY)
    assert outcome.status == 0, outcome.err
    data = yaml.safe_load((tmp_path / "r" / "run.yaml").read_text())["data"]
    assert data["valid"] == str(parts["valid"])
    assert data["test"] == str(parts["test"])
    assert data["split_by"] == "stratified"


def test_probe_splits_by_the_rule_that_is_named(
    command: Command, molecules: Path, run: Path
) -> None:
    words = ("--column", "smiles", "--target", "y", "--device", "cpu")
    outcome = command("probe", run, molecules, *words, "--split-by", "group")
    assert outcome.status == 2
    assert "--group" in outcome.err
    outcome = command("probe", run, molecules, *words, "--split-by", "scaffolds")
    assert outcome.status == 2
    assert "split_by" in outcome.err
    for name in ("random", "stratified", "scaffold"):
        assert f"'{name}'" in outcome.err
