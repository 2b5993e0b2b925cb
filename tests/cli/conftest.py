"""Small files and a finished run for the command line."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from anymae.cli import main


class Outcome(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """The one object on stdout."""
        return json.loads(self.out)


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Outcome(status, out, err)

    return run


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANYMAE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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


TINY = [
    *("--steps", "4", "--batch-size", "8", "--device", "cpu", "--target", "y", "--id", "name"),
    *("--set", "encoder.width=16", "--set", "encoder.depth=1", "--set", "encoder.num_heads=2"),
]
"""Settings of a run that takes a moment."""
