"""What the arguments of an estimator may say."""

from collections.abc import Mapping

from anymae.config import DataConfig, parse
from anymae.errors import ConfigError

_NO_PLACE = (
    "path", "target", "id", "split", "group", "weight", "where", "valid", "test", "split_by",
)  # fmt: skip
"""Keys of what X, y and `sample_weight` are, or what scikit-learn's own tools do."""


def check_data(given: Mapping[str, object]) -> DataConfig:
    """Return how X is read.

    Raises:
        ConfigError: An unknown key, a wrong value, or one that has no place in an estimator.
    """
    for key in _NO_PLACE:
        if key in given:
            raise ConfigError(
                f"data_config.{key} has no place in an estimator; rows are those of X, answers "
                "and weights arguments of fit"
            )
    config = parse(DataConfig, given, where="data_config")
    if config.on_bad_row == "skip":
        raise ConfigError(
            "data_config.on_bad_row is 'skip', and an estimator answers for each row; leave bad "
            "rows out of X and y"
        )
    return config
