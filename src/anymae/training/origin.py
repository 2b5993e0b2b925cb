"""The run whose weights another begins with: remembered in `run.yaml`, known by its sha256."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from anymae.config import ModelConfig, Recipe, parse
from anymae.errors import ConfigError, FolderError
from anymae.files import read_json, sha256
from anymae.hub import CONFIG, DATA, WEIGHTS, load, read_config, resolve
from anymae.model import MaskedAutoencoder
from anymae.recipes import load_recipe
from anymae.training.folder import RECIPE


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a run begins."""

    path: str
    """As it was named: a run folder, or `hf://owner/name`."""
    sha256: str
    """Of its weights."""
    config: ModelConfig
    """Its sizes, which are kept."""
    data: dict[str, Any] | None
    """Its preparation of the data, which is kept; `None` where it has none."""
    state: Mapping[str, Tensor] | None
    """Its weights; `None` where a run is gone on with, which has its own."""

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights to begin with.

        Raises:
            ConfigError: They are gone or changed since the run was begun.
        """
        if self.state is not None:
            return self.state
        try:
            return load_origin(self.path, self.sha256 or None).weights()
        except (ConfigError, FolderError) as error:
            raise ConfigError(f"the run has no checkpoint to go on from, and {error}") from None


def absolute(name: str | None) -> str | None:
    """Name a local file or folder from everywhere; URLs and hub ids stay as they are."""
    return name if name is None or "://" in name else str(Path(name).absolute())


def recall_origin(recipe: Recipe, folder: Path) -> Recipe:
    """Let a recipe begin with what the run in `folder`, which is gone on with, began with.

    Raises:
        ConfigError: It asks for other weights.
    """
    if not (folder / RECIPE).exists():
        return recipe
    before = load_recipe(folder / RECIPE)
    if recipe.init is not None and before.init is None:
        raise ConfigError(
            f"init is {recipe.init}, and the run in {folder} did not begin with another's weights; "
            "leave init out, or name a new folder"
        )
    if recipe.init is not None and absolute(recipe.init) != absolute(before.init):
        # The same weights may have moved.
        found = load_origin(recipe.init, None).sha256
        if found != before.init_sha256:
            raise ConfigError(
                f"the weights of {recipe.init} are not those of {before.init}, with which the run "
                f"in {folder} began; leave init out, or name a new folder"
            )
    init = recipe.init or before.init
    return recipe.model_copy(update={"init": init, "init_sha256": before.init_sha256})


def find_origin(recipe: Recipe, folder: Path | None) -> Origin | None:
    """Find what a recipe begins with.

    Args:
        recipe: What was asked for.
        folder: Of a run to go on with, whose own sizes and preparation of the data are taken;
            the weights may be missing then, and are not looked for.

    Raises:
        UserInputError: There is no such model, or it is not the one that the recipe means.
    """
    if recipe.init is None:
        return None
    if folder is None or not ((folder / CONFIG).exists() and (folder / DATA).exists()):
        return load_origin(recipe.init, recipe.init_sha256)
    config, data = parse(ModelConfig, read_config(folder)), read_json(folder / DATA)
    return Origin(
        path=recipe.init,
        sha256=recipe.init_sha256 or "",
        config=config,
        # A split is stored where the run fitted its own preparation, as it does again.
        data=None if data.get("split") else data,
        state=None,
    )


def load_origin(path: str, digest: str | None) -> Origin:
    """Read a model to begin with.

    Args:
        path: A run folder, or `hf://owner/name`.
        digest: What the sha256 of its weights has to be; `None` takes any.

    Raises:
        FolderError: There is no such model.
        ConfigError: It has no decoder, or is not the one that a run began with.
    """
    try:
        model = load(path)
        found = sha256(resolve(path) / WEIGHTS)
    except FolderError as error:
        if digest is None:
            raise
        raise ConfigError(
            f"the weights of {path}, with which the run began, cannot be had: {error}"
        ) from None
    if not isinstance(model, MaskedAutoencoder):
        raise ConfigError(f"{path} was fine-tuned and has no decoder; name the pretraining run")
    if digest is not None and digest != found:
        raise ConfigError(
            f"the weights of {path}, with which the run began, have changed (sha256 "
            f"{found[:12]}, not {digest[:12]}); restore them, or start a new run with --init "
            f"{shlex.quote(str(path))}"
        )
    return Origin(
        path=path, sha256=found, config=model.config, data=model.data, state=model.state_dict()
    )
