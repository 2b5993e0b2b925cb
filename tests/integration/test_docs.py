"""What the documentation tells users to type runs as it stands there."""

import random
import re
import shlex
import warnings
from pathlib import Path

import pytest
import yaml

from anymae.cli import main
from anymae.config import DataConfig
from anymae.data.dataset import open_data
from anymae.data.sources import SOURCES
from anymae.errors import AnymaeWarning
from commands import TINY

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"
SMALL = ("--steps", *TINY[1:6], *TINY[-6:])
QUICK = {
    "pretrain": SMALL,
    "tune": (*SMALL[:2], *TINY[-6:]),
    "compare": (*SMALL[:2], *TINY[-6:], "--seeds", "1"),
    "finetune": ("--steps", "20"),
}


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def run_commands(page: Path, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Run each command of a page but `make`, training kept short; returns the verbs."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    typed = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    assert {words[0] for words in typed} <= {"anymae", "make"}
    commands = [words[1:] for words in typed if words[0] == "anymae"]
    for words in commands:
        quick = QUICK.get(words[0], ())
        status = main([*words, *quick])
        assert status == 0, (words, capsys.readouterr().err)
    return {words[0] for words in commands}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands are typed, with the files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    rows = ["".join(draw.choices(["C", "O", "N", "c1ccccc1"], k=4)) for _ in range(60)]
    parts = ["train"] * 40 + ["valid"] * 10 + ["test"] * 10
    tables = {
        "molecules": ["smiles", *rows],
        "new": ["smiles,name", *(f"{row},m{n}" for n, row in enumerate(rows[:20]))],
        "labelled": [
            "smiles,solubility,part",
            *(f"{row},{row.count('O') + n / 99},{parts[n]}" for n, row in enumerate(rows)),
        ],
    }
    for name, lines in tables.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.timeout(300)
def test_the_page_about_use_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verbs = run_commands(DOCS / "use.md", capsys)
    assert verbs >= {
        "embed",
        "score",
        "probe",
        "finetune",
        "predict",
        "export",
        "tune",
        "compare",
        "show",
    }
    for name in (
        "embeddings.parquet",
        "states.parquet",
        "odd.csv",
        "variants.csv",
        "answers.csv",
        "mol.onnx",
    ):
        assert (folder / name).exists()
    assert (folder / "models/solubility/evaluation-labelled-test.json").exists()
    with warnings.catch_warnings():
        # The molecules of the page are no longer than those of the test.
        warnings.simplefilter("ignore", AnymaeWarning)
        names: dict[str, object] = {}
        for block in blocks(DOCS / "use.md", "python"):
            exec(block, names)
    assert "predicted_solubility" in capsys.readouterr().out


def test_the_page_about_data_groups_points_into_series(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = [f"s{number:02}" for number in range(40)]
    lines = [f"{name},{time},{n / 7}" for n, name in enumerate(objects) for time in range(n % 3, 9)]
    (folder / "points.csv").write_text("\n".join(["object_id,time,mag", *reversed(lines)]))
    types = [f"{name},{'RR' if n % 2 else 'EB'}" for n, name in enumerate(objects)]
    (folder / "types.csv").write_text("\n".join(["object_id,type", *types]))
    for block in blocks(DOCS / "data.md", "python"):
        exec(block, {})
    assert run_commands(DOCS / "data.md", capsys) == {"inspect"}
    assert "inputs of a row: 7 to 9, median 8" in capsys.readouterr().out
    curves = open_data("curves.npz", DataConfig(target=("type",)))
    assert curves.input.length == 30 and curves.column("type").to_pylist()[:2] == ["RR", "EB"]
    run = open_data(["ACDEF", "ACDKK", "AC"]).preparation
    (folder / "labelled.csv").write_text("sequence,stable\nACD,1\nACK,0\n")
    found = open_data("labelled.csv", DataConfig(target=("stable",)), preparation=run)
    assert (found.roles.inputs, found.roles.target) == (("sequence",), ("stable",))


@pytest.mark.timeout(300)
def test_the_commands_of_the_readme_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verbs = run_commands(README, capsys)
    assert verbs == {"inspect", "pretrain", "compare", "finetune", "predict"}
    assert (folder / "answers.csv").exists()


def test_the_site_has_every_page_and_the_commands_of_the_readme() -> None:
    nav = yaml.safe_load((DOCS.parent / "mkdocs.yml").read_text())["nav"]
    named = re.findall(r"[\w/]+\.md", str(nav))
    assert sorted(named) == sorted(path.name for path in DOCS.glob("*.md"))
    typed = [
        [shlex.split(line, comments=True) for line in blocks(page, "console")[-1].splitlines()]
        for page in (DOCS / "index.md", README)
    ]
    assert typed[0][1:] == typed[1]


def test_the_page_about_data_names_every_format() -> None:
    page = (DOCS / "data.md").read_text()
    for name in SOURCES:
        for extension in SOURCES[name].extensions:
            assert f"`{extension}`" in page, (name, extension)


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]*)(?:#[^)]*)?\)", page.read_text()):
        assert not target or (page.parent / target).exists(), target
    for name, anchor in re.findall(r"\]\(([\w./-]*\.md)?#([^)]*)\)", page.read_text()):
        text = (page.parent / name).read_text() if name else page.read_text()
        titles = re.findall(r"^#+ (.*)$", text, re.M)
        assert anchor in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}
