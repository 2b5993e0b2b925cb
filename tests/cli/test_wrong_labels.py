"""Labels and rows that a model cannot use are one sentence and exit code 2, and change no file."""

import random
from pathlib import Path

import pytest

from anymae.cli import main
from commands import TINY, Command, assert_refused, write

QUICK = ("--device", "cpu", "--steps", "1", "--learning-rate", "1e-3")


def rows(count: int = 24) -> list[str]:
    draw = random.Random(1)
    return ["".join(draw.choices("CNO", k=draw.randint(3, 9))) for _ in range(count)]


def labelled(path: Path, labels: list[object]) -> Path:
    lines = [f"{text},{label}" for text, label in zip(rows(len(labels)), labels, strict=True)]
    return write(path, "\n".join(["smiles,y", *lines]) + "\n")


@pytest.fixture(scope="module")
def models(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models that were fine-tuned to numbers and to two classes."""
    folder = tmp_path_factory.mktemp("models")
    labels = {"numbers": [n / 8 for n in range(24)], "classes": ["no", "yes"] * 12}
    for name, values in labels.items():
        data = labelled(folder / f"{name}.csv", list(values))
        words = ("--target", "y", "--out", str(folder / name), *QUICK)
        assert main(["finetune", str(run), str(data), *words]) == 0
    return {name: folder / name for name in labels}


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table of numbers."""
    folder = tmp_path_factory.mktemp("columns")
    lines = [f"{n / 2 + 0.25},{n % 5},{n % 7}" for n in range(40)]
    data = write(folder / "abc.csv", "\n".join(["a,b,c", *lines]) + "\n")
    words = [word for word in TINY if word not in ("--target", "y", "--id", "name")]
    assert main(["pretrain", str(data), "--out", str(folder / "run"), *words]) == 0
    return folder / "run"


LABELS: dict[str, tuple[list[object], str]] = {
    "one class": (["toxic"] * 24, "has one value, 'toxic', in all"),
    "missing labels": ([""] * 24, "(0 of all 24 rows have one); fill it in"),
    "a word among numbers": (["1.5", "high", *range(22)], "'high' where most values are numbers"),
    "few numbers too large to be classes": ([1e300, -1e300] * 12, "holds 1e+300, and numbers of"),
    "numbers too large": ([(n + 1) * 1e100 for n in range(24)], "give it in other units"),
    "infinity among classes": (["inf", 1, 2] * 8, "holds infinity"),
    "decimal commas": ([f'"{n},5"' for n in range(24)], "decimal comma ('0,5'), read as words; w"),
    "a name for each row": ([f"name {n}" for n in range(24)], "24 different values in 24 rows"),
    "a letter for each input": ([text.lower() for text in rows()], "as long as their rows"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_cannot_be_learned(
    name: str, command: Command, run: Path, tmp_path: Path
) -> None:
    labels, expected = LABELS[name]
    data = labelled(tmp_path / "data.csv", labels)
    words = ["finetune", run, data, "--target", "y", "--out", tmp_path / "m", *QUICK]
    assert_refused(command, tmp_path, *words, expected=expected)
    if name != "a word among numbers":
        words = ["probe", run, data, "--target", "y", "--device", "cpu"]
        assert_refused(command, tmp_path, *words, expected=expected)


@pytest.mark.parametrize("verb", ["finetune", "probe", "compare"])
def test_a_number_of_labels_that_is_too_small(
    verb: str, command: Command, run: Path, tmp_path: Path
) -> None:
    data = labelled(tmp_path / "data.csv", list(range(24)))
    words = [verb, *([] if verb == "compare" else [run]), data, "--target", "y", "--n-labels", 0]
    words += [] if verb == "probe" else ["--out", tmp_path / "m"]
    assert_refused(command, tmp_path, *words, expected="--n-labels")


@pytest.mark.filterwarnings("error")
def test_names_can_be_told_to_be_classes(command: Command, run: Path, tmp_path: Path) -> None:
    data = labelled(tmp_path / "data.csv", [f"name {n // 2}" for n in range(48)])
    words = ["probe", run, data, "--target", "y", "--task", "multiclass", "--device", "cpu"]
    outcome = command(*words, "--n-labels", 30)
    assert outcome.status == 0, outcome.err


def test_classes_that_no_training_row_has_are_told(
    command: Command, run: Path, tmp_path: Path
) -> None:
    lines = [f"{text},{'abc'[n // 10]},{'test' if n >= 20 else 'train'}"
             for n, text in enumerate(rows(30))]  # fmt: skip
    data = write(tmp_path / "data.csv", "\n".join(["smiles,kind,part", *lines]) + "\n")
    words = ["probe", run, data, "--target", "kind", "--split", "part", "--device", "cpu"]
    outcome = command(*words)
    said = "1 of the 3 classes of target 'kind' occur in no training row and are not learned: 'c'"
    assert f"warning: {said}" in outcome.err.splitlines()


def test_few_rows_that_judge_and_classes_that_these_lack_are_told(
    command: Command, run: Path, tmp_path: Path
) -> None:
    words = ("--target", "y", "--device", "cpu")
    data = labelled(tmp_path / "data.csv", ["a", "b", "a"])
    outcome = command("probe", run, data, *words)
    assert "warning: judged on 1 row (valid): so few tell little" in outcome.err
    # Beside one row stands no interval, and one row holds no two classes however it is drawn.
    said = "little; 1 of the 2 classes of target 'y' occur in none of them, so that nothing is told"
    assert said in outcome.err and outcome.err.count("warning:") == 1
    assert "intervals" not in outcome.err and "stratified" not in outcome.err
    # What is proposed is what can be done.
    proposed = outcome.err.splitlines()[-1].removeprefix("next: anymae ").split()
    proposed = [*proposed[:-1], str(tmp_path / "model"), "--steps", "1"]
    assert proposed[-5:-3] == ["0.0003", "--out"] and command(*proposed).status == 0
    data = labelled(tmp_path / "more.csv", ["a", "b"] * 60)
    assert "warning:" not in command("probe", run, data, *words, "--split-by", "stratified").err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--minutes", "1"], "minutes"),
        (["--batch-size", "auto"], "--batch-size"),
        (["--set", "training.minutes=1"], "training.minutes is for pretraining"),
        (["--set", "training=5"], "write training.KEY=VALUE"),
        (["--set", "readout.knd=mean"], "did you mean"),
    ],
)
def test_fine_tuning_has_no_flags_of_pretraining(
    flags: list[str], expected: str, command: Command, run: Path, tmp_path: Path
) -> None:
    data = labelled(tmp_path / "data.csv", list(range(24)))
    words = ["finetune", run, data, "--target", "y", "--out", tmp_path / "m", *flags]
    assert_refused(command, tmp_path, *words, expected=expected)


@pytest.mark.parametrize(
    ("model", "labels", "expected"),
    [
        ("numbers", ["1.5", "high"] * 12, "'high', which is no number"),
        ("classes", ["no", "maybe"] * 12, "'maybe', which is no class of the model"),
        ("classes", [""] * 24, "none of the 24 rows has a value of y"),
    ],
)
def test_labels_that_a_model_has_no_answer_for(
    model: str,
    labels: list[object],
    expected: str,
    command: Command,
    models: dict[str, Path],
    tmp_path: Path,
) -> None:
    data = labelled(tmp_path / "data.csv", labels)
    words = ["evaluate", models[model], data, "--device", "cpu"]
    words += ["--out", tmp_path / "found.json"]
    assert_refused(command, tmp_path, *words, expected=expected)


def test_a_table_that_lacks_a_column(
    command: Command, models: dict[str, Path], columns: Path, tmp_path: Path
) -> None:
    data = write(tmp_path / "rows.csv", "smiles\nCCO\nCCN\n")
    evaluated = ["evaluate", models["numbers"], data, "--out", tmp_path / "found.json"]
    assert_refused(command, tmp_path, *evaluated, expected="there is no column 'y'")
    table = write(tmp_path / "table.csv", "a,c\n1,2\n3,4\n")
    words = ["embed", columns, table, "--out", tmp_path / "e.csv"]
    assert_refused(command, tmp_path, *words, expected="lacks 1 of the 3 columns")


def test_words_where_a_run_reads_numbers(command: Command, columns: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "table.csv", "a,b,c\n1,2,3\n3,low,4\n5,6,7\n")
    words = ["embed", columns, table, "--out", tmp_path / "e.csv"]
    assert_refused(command, tmp_path, *words, expected="'b'")


@pytest.mark.parametrize("verb", ["predict", "embed"])
def test_rows_that_are_too_long(
    verb: str, command: Command, models: dict[str, Path], tmp_path: Path
) -> None:
    data = write(tmp_path / "long.csv", f"smiles\nCCO\n{'CN' * 90}\n")
    words = [verb, models["classes"], data, "--out", tmp_path / "out.csv"]
    assert_refused(command, tmp_path, *words, expected="choose --too-long truncate, window or crop")


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_a_pretraining_run_has_no_answers(
    verb: str, command: Command, run: Path, tmp_path: Path
) -> None:
    data = labelled(tmp_path / "data.csv", list(range(24)))
    out = tmp_path / ("p.csv" if verb == "predict" else "p.json")
    words = [verb, run, data, "--out", out]
    assert_refused(command, tmp_path, *words, expected="make one with `anymae finetune")
