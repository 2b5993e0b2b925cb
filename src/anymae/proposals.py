"""Which settings a search tries: what can vary, and what is proposed after what was tried."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from anymae.config import Recipe
from anymae.errors import ConfigError
from anymae.recipes import apply_settings

if TYPE_CHECKING:
    import optuna

DRAWS = 20
"""Proposals to ask for until one is new."""


class Range(NamedTuple):
    """Numbers to choose from, evenly or (`log`) by their orders of magnitude."""

    low: float
    high: float
    log: bool = False


SPACE: Mapping[str, Range | tuple[str | int | float, ...]] = {
    "masking.kind": ("guided", "random"),
    "masking.ratio": Range(0.1, 0.7),
    "masking.draw": ("top", "sample"),
    "masking.random_floor": (0.0, 0.25, 0.5, 0.75),
    "encoder.depth": (2, 4, 6),
    "training.learning_rate": Range(3e-4, 3e-3, log=True),
}
"""What is searched, but for what the user sets."""

OF_GUIDED = ("masking.draw", "masking.random_floor")
"""Settings that other maskings do not have."""

Settings = dict[str, Any]


def open_space(given: Mapping[str, object]) -> list[str]:
    """Return the settings that vary: those that are not given.

    Raises:
        ConfigError: All are given.
    """
    space = [name for name in SPACE if name not in given]
    if given.get("masking.kind", "guided") != "guided":
        space = [name for name in space if name not in OF_GUIDED]
    if given.get("init") is not None:  # which brings its own sizes
        space = [name for name in space if not name.startswith("encoder.")]
    if not space:
        raise ConfigError("every setting of the search is set; there must be something to try")
    return space


def require_allowed(recipe: Recipe, space: Sequence[str]) -> None:
    """Check that whatever may be proposed is allowed beside the settings of a recipe.

    Raises:
        ConfigError: Something is not.
    """
    for name in space:
        values = SPACE[name]
        for value in (values.low, values.high) if isinstance(values, Range) else values:
            try:
                apply_settings(recipe, {name: value})
            except ConfigError as error:
                reason = str(error).removeprefix(f"{name.partition('.')[0]}: ")
                raise ConfigError(
                    f"the search may try {name}={value}, and {reason}; set {name} too"
                ) from None


def settings_of(recipe: Recipe, space: Sequence[str]) -> Settings:
    """Return the settings that a recipe has of those that vary."""
    found = {}
    for name in space:
        section, _, key = name.partition(".")
        found[name] = getattr(recipe, section)[key]
    return _usable(found)


def propose(
    space: Sequence[str],
    tried: Sequence[tuple[Settings, float | None]],
    *,
    direction: Literal["minimize", "maximize"],
    seed: int,
) -> Settings | None:
    """Choose settings in the light of what was tried, and of nothing else.

    They come from Optuna's tree-structured Parzen estimator.

    Args:
        space: Settings that vary.
        tried: Settings with their scores, `None` where these are not finite.
        direction: What is better.
        seed: Of the draws.

    Returns:
        Settings that were not tried; `None` once there are none left.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    known = [settings for settings, _ in tried]
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction=direction)
        distributions = {name: _distribution(name) for name in space}
        for settings, score in tried:
            # What was asked for need not lie in the space.
            params = {name: value for name, value in settings.items() if _lies_in(name, value)}
            trial = create_trial(
                params=params,
                distributions={name: distributions[name] for name in params},
                value=score,
                state=TrialState.FAIL if score is None else TrialState.COMPLETE,
            )
            study.add_trial(trial)
        for draw in range(DRAWS):
            drawn = np.random.SeedSequence([seed, len(tried), draw]).generate_state(1)[0]
            study.sampler = optuna.samplers.TPESampler(seed=int(drawn))
            found = _usable(study.ask(fixed_distributions=distributions).params)
            if found not in known:
                return found
    finally:
        optuna.logging.set_verbosity(before)
    # The sampler sticks to what was good, though a few settings may be left.
    every = (
        _usable(dict(zip(space, values, strict=True))) for values in product(*map(_values, space))
    )
    return next((settings for settings in every if settings not in known), None)


def _usable(settings: Mapping[str, Any]) -> Settings:
    """Leave out what the masking does not have, and digits that say nothing."""
    guided = settings.get("masking.kind", "guided") == "guided"
    return {
        name: _rounded(value) if isinstance(SPACE[name], Range) else value
        for name, value in settings.items()
        if guided or name not in OF_GUIDED
    }


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _values(name: str) -> Sequence[Any]:
    """Return all that a setting can be, numbers to two digits."""
    values = SPACE[name]
    if not isinstance(values, Range):
        return values
    # Finer than two digits, so that none is passed over.
    numbers = np.geomspace(values.low, values.high, 1_000)
    return sorted({_rounded(number) for number in numbers.tolist()})


def _lies_in(name: str, value: object) -> bool:
    values = SPACE[name]
    if isinstance(values, Range):
        return isinstance(value, (int, float)) and values.low <= value <= values.high
    return value in values


def _distribution(name: str) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    values = SPACE[name]
    if isinstance(values, Range):
        return FloatDistribution(values.low, values.high, log=values.log)
    return CategoricalDistribution(values)
