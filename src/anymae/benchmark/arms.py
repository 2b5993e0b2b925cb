"""What is compared: masks that differ in nothing else, no pretraining, and the field's baseline.

An arm is a name, or a name with settings: `guided:ratio=0.5:draw=sample` changes keys of
`masking`, `random:training.steps=3000` any key of the recipe. `random-again` is `random` with
other seeds for weights, order and masks: the difference between the two is noise.
`guided:probe.reading=kernel` has the encoder of `guided`, frozen and read in this way alone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from anymae.benchmark.suite import BASELINE, EVERY_READING, JOINED, Budget
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
READING = "probe.reading"
"""The setting of an arm that is frozen and read in one way only."""
OTHER_SEEDS = 1000
"""Added to the seed of `random-again`."""


def references(arm: str) -> tuple[str, str]:
    """Name the arms with random masks and without pretraining that an arm is compared with.

    A baseline that is joined to an encoder is compared with one that is joined to another, an arm
    with settings of its own beside those of its masks with random masks under the same settings,
    and an arm that is read in one way with arms that are read alike.

    >>> references("guided"), references("baseline+embedding")
    (('random', 'none'), ('baseline+random', 'baseline+none'))
    >>> references("guided:ratio=0.5:training.steps=500")
    ('random:training.steps=500', 'none')
    >>> references("guided:probe.reading=kernel")
    ('random:probe.reading=kernel', 'none:probe.reading=kernel')
    """
    if arm in JOINS:
        return JOINED_WITH["random"], JOINED_WITH[NONE]
    others = [
        part
        for part in arm.split(":")[1:]
        if "." in part.split("=")[0] and not part.startswith("masking.")
    ]
    reading = [part for part in others if _names_reading(part)]
    return ":".join(["random", *others]), ":".join([NONE, *reading])


def read_by(reading: str, arm: str) -> str:
    """Name the arm whose encoder is that of another, frozen and read in one way.

    >>> read_by("kernel", "none")
    'none:probe.reading=kernel'
    """
    return f"{arm}:{READING}={reading}"


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
    reading: str | None = None
    """How its encoder is read, frozen, and not fine-tuned; `None` leaves both to the budget."""

    @property
    def encoder(self) -> "Arm | None":
        """The arm whose encoder is used; `None` for the plain baseline."""
        if self.name == BASELINE:
            return None
        if self.joins:
            return parse_arm(JOINS[self.name])
        parts = self.text.split(":")
        return parse_arm(":".join(part for part in parts if not _names_reading(part)))

    def readings(self, budget: Budget) -> tuple[str, ...]:
        """Return how its frozen encoder is read."""
        return budget.readings if self.reading is None else (self.reading,)

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
    >>> parse_arm("none:probe.reading=kernel").reading
    'kernel'
    """
    name, *assignments = text.strip().split(":")
    if name not in ARMS:
        raise ConfigError(f"unknown arm {name!r}{nearest(name, ARMS)}")
    settings = {
        key if "." in key else f"masking.{key}": value
        for key, value in parse_settings(assignments).items()
    }
    reading = settings.pop(READING, None) if name in (*MASKS, NONE) else None
    if reading is not None and reading not in EVERY_READING:
        found = nearest(str(reading), EVERY_READING)
        raise ConfigError(f"arm {text.strip()}: unknown {READING} {reading!r}{found}")
    if settings and name not in MASKS:
        raise ConfigError(
            f"arm {name} trains with no masks, so {next(iter(settings))} says nothing"
        )
    for key in settings:
        decided = _DECIDED.get(key) or _DECIDED.get(key.partition(".")[0])
        if decided:
            raise ConfigError(f"arm {text.strip()}: {decided}; leave {key} out")
    return Arm(text.strip(), name, settings, reading)


def _names_reading(part: str) -> bool:
    return part.partition("=")[0].strip() == READING
