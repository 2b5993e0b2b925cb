"""What a command on the command line leaves behind, and settings that make it quick."""

import json
from collections.abc import Callable
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
