"""What a command on the command line leaves behind, and settings that make it quick."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


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

TINY = [
    *("--steps", "4", "--batch-size", "8", "--device", "cpu", "--target", "y", "--id", "name"),
    *("--set", "encoder.width=16", "--set", "encoder.depth=1", "--set", "encoder.num_heads=2"),
]
"""Settings of a run that takes a moment."""


def write(path: Path, content: str | bytes) -> Path:
    """Make a file."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def assert_refused(command: Command, folder: Path, *words: object, expected: str) -> None:
    """The command is refused in one sentence and leaves every file as it was."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    outcome = command(*words)
    assert outcome.status == 2, outcome
    assert outcome.out == ""
    sentence = outcome.err.splitlines()[-1]
    assert sentence.startswith("anymae: ")
    assert expected in sentence
    assert "Traceback" not in outcome.err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
