"""`metrics.jsonl`: one JSON object a line, appended while training, cut back at resume."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anymae.files import sync, told, write_text

GO_ON = "the last good checkpoint is intact: make room there, then go on with --resume"
"""What to do when something cannot be written in the course of a run."""

Entry = dict[str, Any]


class MetricsLog:
    """Appends lines that carry the step they belong to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Write a line; numbers that are not finite become null.

        Args:
            kind: `train`, `valid` or `end`.
            step: Optimizer steps done.
            values: Numbers and words, by name.
        """
        entry: Entry = {"kind": kind, "step": step, **values}
        entry = {name: _plain(value) for name, value in entry.items()}
        with told(self.path, GO_ON), self.path.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(entry) + "\n")

    def flush(self) -> None:
        """Wait until all lines are on disk."""
        if not self.path.exists():
            return
        with told(self.path, GO_ON):
            sync(self.path)

    def rewind(self, step: int) -> None:
        """Drop the lines of later steps, and a line that a kill cut short."""
        kept = [entry for entry in read_metrics(self.path) if entry["step"] <= step]
        kept = [entry for entry in kept if entry["kind"] != "end"]
        with told(self.path, GO_ON):
            write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))


def read_metrics(path: Path) -> list[Entry]:
    """Read the lines of a `metrics.jsonl`, as far as they are whole."""
    entries: list[Entry] = []
    if not path.exists():
        return entries
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not isinstance(entry, dict) or not {"kind", "step"} <= entry.keys():
            break
        entries.append(entry)
    return entries


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    return None if isinstance(value, float) and not math.isfinite(value) else value
