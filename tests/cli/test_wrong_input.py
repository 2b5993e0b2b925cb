"""Wrong input is one sentence and exit code 2; nothing is written, the out folder not even made."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from anymae.cli import main
from commands import Command, assert_refused, write

GOOD = "smiles,y\nCCO,1.0\nCCC,2.0\nc1ccccc1,3.0\nCN,4.0\n"


def save_array(path: Path, array: np.ndarray) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


def truncated_parquet(folder: Path) -> Path:
    path = folder / "cut.parquet"
    pa.parquet.write_table(pa.table({"smiles": ["CCO", "CN"] * 500}), path)
    return write(path, path.read_bytes()[:-200])


def numbers(bad: float) -> np.ndarray:
    array = np.ones((6, 4, 2), np.float32)
    array[2, 1, 0] = bad
    return array


DATA: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing file": (lambda f: f / "absent.csv", "absent.csv"),
    "empty file": (lambda f: write(f / "a.csv", ""), "a.csv"),
    "header only": (lambda f: write(f / "a.csv", "smiles,y\n"), "a.csv"),
    "binary junk as CSV": (lambda f: write(f / "a.csv", bytes(range(256)) * 20), "a.csv"),
    "truncated Parquet": (truncated_parquet, "cut.parquet"),
    "junk as Parquet": (lambda f: write(f / "a.parquet", b"junk"), "a.parquet"),
    "unknown extension": (lambda f: write(f / "a.xyz", GOOD), "xyz"),
    "broken JSON lines": (lambda f: write(f / "a.jsonl", '{"a": 1}\n{"a":'), "a.jsonl"),
    "junk as npy": (lambda f: write(f / "a.npy", b"junk"), "a.npy"),
    "object array": (lambda f: save_array(f / "a.npy", np.array([{}, []], object)), "a.npy"),
    "0-D array": (lambda f: save_array(f / "a.npy", np.array(1.0)), "a.npy"),
    "5-D array": (lambda f: save_array(f / "a.npy", np.ones((2,) * 5)), "a.npy"),
    "NaN": (lambda f: save_array(f / "a.npy", numbers(np.nan)), "NaN"),
    "infinity": (lambda f: save_array(f / "a.npy", numbers(np.inf)), "infinit"),
}

FLAGS: dict[str, tuple[list[str], str]] = {
    "one column": (
        ["--drop", "smiles", "--column", "y"],
        "single input, of which nothing can be hidden",
    ),
    "ages": (["--minutes", "1e300"], "minutes"),
    "missing column": (["--column", "smile"], "did you mean 'smiles'"),
    "ratio 0": (["--set", "masking.ratio=0"], "ratio"),
    "ratio 1": (["--set", "masking.ratio=1.0"], "ratio"),
    "ratio above 1": (["--set", "masking.ratio=1.5"], "ratio"),
    "negative ratio": (["--set", "masking.ratio=-0.2"], "ratio"),
    "negative steps": (["--steps", "-5"], "steps"),
    "no steps": (["--steps", "0"], "steps"),
    "steps that are no number": (["--steps", "many"], "--steps"),
    "endless epochs": (["--epochs", "inf"], "epochs is inf; it should be a finite number"),
    "endless minutes": (["--minutes", "inf"], "minutes is inf; it should be a finite number"),
    "infinite rate": (["--learning-rate", "inf"], "rate is inf; it should be a finite number"),
    "seed of too many bits": (["--seed", str(2**32)], "less than or equal to 4294967295"),
    "negative time": (["--stop-after", "-1", "--steps", "1"], "--stop-after is -1; give it in"),
    "time that is no number": (["--stop-after", "nan", "--steps", "1"], "--stop-after is nan"),
    "two lengths": (["--steps", "5", "--epochs", "1"], "epochs"),
    "unknown preset": (["--preset", "tinny"], "did you mean 'tiny'"),
    "unknown kind": (["--kind", "byte"], "bytes"),
    "unknown device": (["--device", "gpu7"], "gpu7"),
    "absent device": (["--device", "cuda:99"], "cuda"),
    "unknown precision": (["--precision", "fp12"], "precision"),
    "unknown section": (["--set", "maskin.ratio=0.5"], "did you mean 'masking'"),
    "unknown key": (["--set", "masking.ration=0.5"], "did you mean 'ratio'"),
    "setting without value": (["--set", "masking.ratio"], "no value"),
    "number as section": (["--set", "training=5", "--set", "training.seed=3"], "training=5"),
    "word as section": (["--set", "masking=x", "--set", "masking.ratio=0.5"], "masking=x"),
    "zero as section": (["--set", "training=0", "--set", "training.seed=3"], "training=0"),
    "unknown masking": (["--set", "masking.kind=guide"], "guided"),
    "masking of another kind": (["--set", "masking.kind=block"], "block"),
    "widths that do not fit": (["--set", "encoder.num_heads=7"], "num_heads"),
    "missing recipe": (["--recipe", "absent.yaml"], "absent.yaml"),
    "unknown flag": (["--stpes", "5"], "--stpes"),
    "setting as flag": (
        ["--ratio", "0.5"],
        "No such option: --ratio; write --set masking.ratio=VALUE; see `anymae pretrain --help`",
    ),
    "short flag": (["--lr", "0.1"], "No such option: --lr; write --learning-rate; see"),
    "setting without section": (["--set", "ratio=0.5"], "did you mean 'masking.ratio'?"),
    "wrong filter": (["--where", "y >"], "y >"),
    "filter that keeps nothing": (["--where", "y > 99"], "keeps none"),
    "init that is no run": (["--init", "absent"], "absent"),
    "two roles": (["--column", "smiles", "--target", "smiles"], "smiles"),
}

RECIPES = {
    "broken YAML": ("training: [1, 2", "YAML"),
    "list": ("- 1\n- 2\n", "sections"),
    "unknown section": ("trainin: {}\n", "did you mean 'training'"),
    "unknown key": ("training:\n  step: 5\n", "did you mean 'steps'"),
    "key given twice": ("preset: tiny\npreset: small\n", "twice"),
    "wrong type": ("training:\n  steps: soon\n", "steps"),
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "good.csv", GOOD)


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_read(name: str, command: Command, tmp_path: Path) -> None:
    make, expected = DATA[name]
    data, out = make(tmp_path), tmp_path / "run"
    assert_refused(command, tmp_path, "pretrain", data, "--out", out, expected=expected)


@pytest.mark.parametrize("name", FLAGS)
def test_flags_that_cannot_be_followed(
    name: str, command: Command, tmp_path: Path, good: Path
) -> None:
    flags, expected = FLAGS[name]
    words = ["pretrain", good, "--out", tmp_path / "run", *flags]
    assert_refused(command, tmp_path, *words, expected=expected)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_that_cannot_be_read(
    name: str, command: Command, tmp_path: Path, good: Path
) -> None:
    content, expected = RECIPES[name]
    recipe = write(tmp_path / "recipe.yaml", content)
    words = ["pretrain", good, "--out", tmp_path / "run", "--recipe", recipe]
    assert_refused(command, tmp_path, *words, expected=expected)


def test_an_out_folder_that_is_used(command: Command, tmp_path: Path, good: Path) -> None:
    (tmp_path / "run").mkdir()
    write(tmp_path / "run" / "mine", "keep me")
    words = ["pretrain", good, "--out", tmp_path / "run"]
    assert_refused(command, tmp_path, *words, expected="holds something already")
    assert_refused(command, tmp_path, "quickstart", "--out", tmp_path / "run", expected="holds")


def test_an_out_that_is_a_file(command: Command, tmp_path: Path, good: Path) -> None:
    assert_refused(command, tmp_path, "pretrain", good, "--out", good, expected="is a file")


@pytest.mark.parametrize("verb", ["embed", "score", "predict", "show"])
def test_a_folder_that_is_no_run(verb: str, command: Command, tmp_path: Path, good: Path) -> None:
    out = tmp_path / ("page.html" if verb == "show" else "out.csv")
    (tmp_path / "empty").mkdir()
    for folder, expected in ((tmp_path / "empty", "is no run"), (tmp_path / "no", "no folder")):
        assert_refused(command, tmp_path, verb, folder, good, "--out", out, expected=expected)
    assert_refused(command, tmp_path, verb, good, good, "--out", out, expected="is a file")


def test_a_damaged_run(command: Command, tmp_path: Path, run: Path, good: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    weights = broken / "model.safetensors"
    write(weights, weights.read_bytes()[:500])
    words = ["embed", broken, good, "--out", tmp_path / "e.csv"]
    assert_refused(command, tmp_path, *words, expected="model.safetensors")


def test_an_output_that_exists_or_has_no_format(
    command: Command, tmp_path: Path, run: Path, good: Path
) -> None:
    there = write(tmp_path / "e.csv", "mine")
    assert_refused(command, tmp_path, "embed", run, good, "--out", there, expected="exists")
    other = tmp_path / "e.xlsx"
    assert_refused(command, tmp_path, "embed", run, good, "--out", other, expected=".parquet")
    page = write(tmp_path / "page.html", "mine")
    assert_refused(command, tmp_path, "show", run, good, "--out", page, expected="exists")
    words = ["show", run, good, "--out", tmp_path / "page.txt"]
    assert_refused(command, tmp_path, *words, expected="expected .html")
    words = ["show", run, good, "--text", "--out", tmp_path / "other.html"]
    assert_refused(command, tmp_path, *words, expected="--text prints and writes no page")


def test_a_pretrained_model_cannot_predict(
    command: Command, tmp_path: Path, run: Path, good: Path
) -> None:
    words = ["predict", run, good, "--out", tmp_path / "p.csv"]
    assert_refused(command, tmp_path, *words, expected="finetune")


def test_an_evaluation_that_has_no_place(
    command: Command, tmp_path: Path, run: Path, good: Path
) -> None:
    (tmp_path / "taken.json").mkdir()
    for out, expected in (
        ("found.csv", "ends in '.csv'"),
        ("taken.json", "is a folder"),
    ):
        words = ["evaluate", run, good, "--out", tmp_path / out]
        assert_refused(command, tmp_path, *words, expected=expected)


@pytest.mark.parametrize(
    ("verb", "flag", "name"),
    [
        ("embed", "--out", "e.npy"),
        ("predict", "--out", "p.csv"),
        ("score", "--out", "s.parquet"),
        ("show", "--out", "m.html"),
        ("report", "--out", "r.html"),
        ("evaluate", "--out", "e.json"),
        ("evaluate", "--plot", "e.png"),
        ("inspect", "--groups-out", "g.csv"),
        ("export", "--out", "m.onnx"),
    ],
)
def test_an_output_below_a_file(
    verb: str, flag: str, name: str, command: Command, tmp_path: Path, run: Path, good: Path
) -> None:
    place = write(tmp_path / "file", "mine") / name
    read = {"report": [run], "export": [run], "inspect": [good]}.get(verb, [run, good])
    assert_refused(command, tmp_path, verb, *read, flag, place, expected="file is a file")


def test_several_reports_need_a_place(command: Command, tmp_path: Path, run: Path) -> None:
    assert_refused(command, tmp_path, "report", run, run, expected="--out")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["embd"], "embd"),
        (["embed"], "RUN"),
        (["convert", "absent"], "--out"),
        (["convert", "absent", "--out", "run"], "there is no absent"),
        (["export", "absent", "--out", "model.onnx"], "there is no folder absent"),
        (["export", "absent", "--out", "model.pt"], "expected .onnx"),
        (["export", "absent", "--to", "tflite", "--out", "model.onnx"], "tflite"),
        (["push", "absent", "hf://owner/name"], "there is no folder absent"),
        (["push", "absent", "owner/name", "--dry-run"], "hf://owner/name"),
        (["--wrong"], "--wrong"),
    ],
)
def test_commands_that_make_no_sense(
    words: list[str], expected: str, command: Command, tmp_path: Path
) -> None:
    assert_refused(command, tmp_path, *words, expected=expected)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_no_generator_takes(
    seed: int, command: Command, tmp_path: Path, run: Path, good: Path
) -> None:
    for words in (["probe", run, good, "--target", "y"], ["quickstart", "--out", tmp_path / "q"]):
        assert_refused(command, tmp_path, *words, "--seed", seed, expected="--seed")


def test_inspect_refuses_what_pretrain_does(command: Command, tmp_path: Path, good: Path) -> None:
    words = ["inspect", good, "--on-bad-row", "skp"]
    assert_refused(command, tmp_path, *words, expected="it should be 'error' or 'skip'")


def test_debug_shows_where_an_error_was_raised(tmp_path: Path) -> None:
    from anymae.errors import DataError

    with pytest.raises(DataError):
        main(["pretrain", str(tmp_path / "absent.csv"), "--out", str(tmp_path / "r"), "--debug"])


def test_what_nobody_expected_is_one_sentence_and_exit_code_1(
    command: Command, run: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("anymae.inference.embed_to_file", broken)
    outcome = command("embed", run, good, "--out", tmp_path / "e.csv")
    assert outcome.status == 1
    assert "ZeroDivisionError: oops" in outcome.err
    assert "--debug" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_a_place_without_room_is_one_sentence_and_exit_code_2(
    command: Command, run: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "there/study.json")

    monkeypatch.setattr("anymae.inference.embed_to_file", full)
    outcome = command("embed", run, good, "--out", tmp_path / "e.csv")
    assert outcome.status == 2
    assert outcome.err == (
        "anymae: there/study.json could not be written (No space left on device); make room "
        "there, then repeat the command\n"
    )


def test_an_interrupt_is_exit_code_130(
    command: Command, run: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anymae.inference.embed_to_file", interrupted)
    assert command("embed", run, good, "--out", tmp_path / "e.csv").status == 130


@pytest.mark.parametrize(
    ("verb", "flag", "expected"),
    [
        ("finetune", "--dropout", "write --set dropout=VALUE; see"),
        ("finetune", "--weight-decay", "write --set training.weight_decay=VALUE; see"),
        ("finetune", "--ratio", "No such option: --ratio"),
        ("compare", "--width", "write --set encoder.width=VALUE or --set decoder.width=VALUE; see"),
        ("embed", "--ratio", "No such option: --ratio"),
    ],
)
def test_a_flag_named_like_a_setting_says_how_to_set_it(
    verb: str, flag: str, expected: str, command: Command, tmp_path: Path
) -> None:
    assert_refused(command, tmp_path, verb, "a", "b", flag, "1", expected=expected)
    outcome = command(verb, "a", "b", flag, "1")
    assert ("--set" in outcome.err) == ("--set" in expected)
