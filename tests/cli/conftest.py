"""Small files and a finished run for the command line."""

import random
from pathlib import Path

import pytest

from anymae.cli import main
from commands import TINY, Command, Outcome


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Runs a command in this process, in the test's own folder: what it writes by default shows."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Outcome(status, out, err)

    return run


@pytest.fixture(scope="session")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file with a string column, a number and an id."""
    draw = random.Random(0)
    rows = (
        f"{''.join(draw.choices('CNO=c1()', k=draw.randint(3, 14)))},{draw.random():.3f},m{i}\n"
        for i in range(60)
    )
    path = tmp_path_factory.mktemp("data") / "molecules.csv"
    path.write_text("smiles,y,name\n" + "".join(rows))
    return path


@pytest.fixture(scope="session")
def run(molecules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on `molecules`."""
    folder = tmp_path_factory.mktemp("runs") / "mol"
    assert main(["pretrain", str(molecules), "--out", str(folder), *TINY]) == 0
    return folder
