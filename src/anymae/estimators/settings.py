"""What the arguments of an estimator may say."""

from collections.abc import Mapping
from typing import NamedTuple, get_args

from anymae.config import DataConfig, TrainingConfig, parse
from anymae.errors import ConfigError
from anymae.inference.computations import Reading
from anymae.recipes import DataSettings
from anymae.task import FinetuneConfig, ReadoutKind
from anymae.training.fit import finetune_training

_NO_PLACE = (
    "path", "target", "id", "split", "group", "weight", "where", "valid", "test", "split_by",
)  # fmt: skip
"""Keys of what X, y and `sample_weight` are, or what scikit-learn's own tools do."""


def data_keys(given: DataSettings | None) -> dict[str, object]:
    """Return what is said of how X is read, key by key."""
    plain = given.model_dump(exclude_unset=True) if isinstance(given, DataConfig) else given
    return dict(plain or {})


def check_data(given: DataSettings | None) -> DataConfig:
    """Return how X is read.

    Raises:
        ConfigError: An unknown key, a wrong value, or one that has no place in an estimator.
    """
    keys = data_keys(given)
    for key in _NO_PLACE:
        if key in keys:
            raise ConfigError(
                f"data_config.{key} has no place in an estimator; rows are those of X, answers "
                "and weights arguments of fit"
            )
    config = parse(DataConfig, keys, where="data_config")
    if config.on_bad_row == "skip":
        raise ConfigError(
            "data_config.on_bad_row is 'skip', and an estimator answers for each row; leave bad "
            "rows out of X and y"
        )
    return config


class Learning(NamedTuple):
    """How all weights are trained."""

    config: FinetuneConfig
    training: TrainingConfig
    rates: tuple[float, ...]
    """Peak learning rates that compete."""


_ELSEWHERE = {
    "finetuning": {"task", "num_labels", "test_share", "seeds", "negative_weights"},
    "training": {"seed", "device", "precision"},
}
"""Keys of what the arguments of an estimator and of `fit` say, or scikit-learn's own tools do."""


def check_reading(reading: str, *, freeze: bool = True) -> None:
    """Refuse a word for no way to read an encoder.

    Raises:
        ConfigError: It is none, or one that has to be trained and everything is frozen.
    """
    known = get_args(Reading) if freeze else get_args(ReadoutKind)
    if reading not in known:
        raise ConfigError(f"reading is {reading!r}; expected {' or '.join(known)}")


def read_learning(
    finetuning: Mapping[str, object],
    training: Mapping[str, object],
    *,
    reading: str,
    seed: int,
    device: str,
    precision: str,
) -> Learning:
    """Return how a network is fine-tuned.

    Args:
        finetuning: Keys of `FinetuneConfig`.
        training: Keys of `TrainingConfig`.
        reading: Kind of the readout, where `finetuning` has none.
        seed: Of everything random.
        device: Where to train.
        precision: Number format.

    Raises:
        ConfigError: An unknown key, a wrong value, or one that has no place in an estimator.
    """
    given = {"finetuning": finetuning, "training": training}
    for name, keys in _ELSEWHERE.items():
        for key in sorted(keys & given[name].keys()):
            raise ConfigError(f"{name}.{key} has no place in an estimator; see its own arguments")
    readout = {"readout": {"kind": reading}}
    config = parse(FinetuneConfig, {**readout, **finetuning}, where="finetuning")
    about = {"seed": seed, "device": device, "precision": precision}
    chosen = finetune_training({**training, **about})
    named = "learning_rate" in training
    return Learning(config, chosen, (chosen.learning_rate,) if named else config.learning_rates)
