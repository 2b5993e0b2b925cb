"""What is compared: masks that differ in nothing else, no pretraining, and the field's baseline.

An arm is a name, or a name with settings: `guided:ratio=0.5:draw=sample` changes keys of
`masking`, `random:training.steps=3000` any key of the recipe. `random-again` is `random` with
other seeds for weights, order and masks: the difference between the two is noise.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from anymae.benchmark.suite import BASELINE, JOINED, Budget
from anymae.errors import ConfigError, nearest
from anymae.recipes import parse_settings

MASKS = ("guided", "random", "random-again", "span", "block")
"""Arms that pretrain; the name is that of the masking."""

NONE = "none"
JOINS = {JOINED: "guided", "baseline+random": "random", "baseline+none": NONE}
"""Joined arms, each with the arm whose encoder it uses: what any encoder adds to the baseline is
no merit of guided masks."""

JOINED_WITH = {encoder: arm for arm, encoder in JOINS.items()}
"""The joined arm of each encoder."""

ARMS = (*MASKS, NONE, BASELINE, *JOINS)
OTHER_SEEDS = 1000
"""Added to the seed of `random-again`."""


def references(arm: str) -> tuple[str, str]:
    """Name the arms with random masks and without pretraining that an arm is compared with.

    A baseline that is joined to an encoder is compared with one that is joined to another, an arm
    with settings of its own beside those of its masks with random masks under the same settings.

    >>> references("guided"), references("baseline+embedding")
    (('random', 'none'), ('baseline+random', 'baseline+none'))
    >>> references("guided:ratio=0.5:training.steps=500")
    ('random:training.steps=500', 'none')
    """
    if arm in JOINS:
        return JOINED_WITH["random"], JOINED_WITH[NONE]
    others = [
        part
        for part in arm.split(":")[1:]
        if "." in part.split("=")[0] and not part.startswith("masking.")
    ]
    return ":".join(["random", *others]), NONE


_DECIDED = {
    "data": "the suite says how rows are read",
    "encoder": "the budget sets the encoder, the same for every arm",
    "masking.kind": "the name of an arm says its masking",
    "training.seed": "seeds are counted by --seeds",
    "training.threads": "every job takes one thread",
    "training.device": "--device names it",
    "training.keep": "every arm ends with its last weights",
}
"""Settings and sections of them that an arm does not decide, and what does."""


class Arm(NamedTuple):
    """One of the things that are compared."""

    text: str
    """As written: `guided:ratio=0.5`."""
    name: str
    settings: Mapping[str, Any]
    """Keys of the recipe, such as `masking.ratio`."""

    @property
    def encoder(self) -> "Arm | None":
        """The arm whose encoder is used; `None` for the plain baseline."""
        if self.name == BASELINE:
            return None
        return parse_arm(JOINS[self.name]) if self.joins else self

    @property
    def joins(self) -> bool:
        """True where the baseline is joined to an encoder."""
        return self.name in JOINS

    @property
    def pretrains(self) -> bool:
        """True where an encoder is trained first."""
        return self.name in MASKS

    def pretraining_seed(self, seed: int) -> int:
        """Return the seed of weights, order and masks for seed `seed` of a job."""
        return seed + OTHER_SEEDS if self.name == "random-again" else seed

    def recipe_settings(self, budget: Budget) -> dict[str, Any]:
        """Return the keys of the recipe in which this arm differs from the others."""
        if self.name not in MASKS:
            return {}
        kind = self.name.removesuffix("-again")
        validated = {f"masking.{key}": value for key, value in budget.masking.get(kind, {}).items()}
        # The last weights: the best ones would be chosen by the loss under random masks, which
        # is one arm's own exam.
        return {"training.keep": "last", "masking.kind": kind, **validated, **self.settings}


def parse_arm(text: str) -> Arm:
    """Read an arm.

    Raises:
        ConfigError: An unknown name, or settings where nothing can be set.

    >>> parse_arm("guided:ratio=0.5").settings
    {'masking.ratio': 0.5}
    """
    name, *assignments = text.strip().split(":")
    if name not in ARMS:
        raise ConfigError(f"unknown arm {name!r}{nearest(name, ARMS)}")
    if assignments and name not in MASKS:
        raise ConfigError(f"arm {name} trains with no masks, so {assignments[0]} says nothing")
    settings = {
        key if "." in key else f"masking.{key}": value
        for key, value in parse_settings(assignments).items()
    }
    for key in settings:
        decided = _DECIDED.get(key) or _DECIDED.get(key.partition(".")[0])
        if decided:
            raise ConfigError(f"arm {text.strip()}: {decided}; leave {key} out")
    return Arm(text.strip(), name, settings)
