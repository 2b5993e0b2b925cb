"""Models on disk and on the Hugging Face hub: read one, write one.

A model folder holds `config.json`, `model.safetensors` and, when the model came from data,
`data.json`. A local folder is named by its path, a model on the hub by `hf://owner/name`: nothing
reaches the network unless it is asked for in these words.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch

from anymae.errors import ConfigError, FolderError, UserInputError, first_line
from anymae.files import (
    OTHER_FILE,
    read_json,
    read_tensors,
    replace_files,
    require_free,
    told,
    write_json,
    write_tensors,
    write_text,
)
from anymae.model import MaskedAutoencoder
from anymae.predictor import Ensemble, Predictor, build, describe

logger = logging.getLogger(__name__)

Model = MaskedAutoencoder | Predictor | Ensemble
"""What a folder can hold: a pretrained model, a fine-tuned one, or several fine-tuned ones."""

FORMAT_VERSION = 1
"""Of `config.json`; rises when an older version of this package could not read the folder."""

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
DATA = "data.json"
CARD = "README.md"

PUBLISHED = (CONFIG, WEIGHTS, DATA, CARD)
"""Files of a folder that are on the hub."""

_HUB = "hf://"


def load(source: str | Path) -> Model:
    """Read a model.

    Args:
        source: A run folder, or `hf://owner/name` (`hf://owner/name@revision`) on the Hugging
            Face hub.

    Returns:
        The model in evaluation mode, on the CPU. Its `data` is the run's `data.json`, or `None`
        when it has none (a converted checkpoint). torch's random state is left as it was.

    Raises:
        FolderError: There is no such folder, it holds no finished run, it is damaged, or it was
            written by a newer version.
    """
    folder = resolve(source)
    config = read_config(folder)
    try:
        model = build(config)
    except ConfigError as error:
        raise FolderError(f"{folder} is damaged or from another version: {error}") from None
    _load_weights(model, folder)
    data = read_json(folder / DATA) if (folder / DATA).exists() else None
    for part in model.predictors() if isinstance(model, Ensemble) else ():
        part.data = data
    model.data = data
    return model.eval()


def save(model: Model, folder: str | Path) -> Path:
    """Write a model that `load` reads, with a model card.

    Returns:
        The folder.

    Raises:
        FolderError: The folder holds something already, or cannot be written.
    """
    folder = Path(folder)
    require_free(folder)

    def fill(staged: Path) -> None:
        write_text(staged / CARD, model_card(model))
        write_model(model, staged)

    with told(folder, OTHER_FILE):
        replace_files(folder, fill, last=WEIGHTS)
    return folder


def write_model(model: Model, folder: Path) -> None:
    """Write configuration, data description and weights into a folder, the weights last."""
    write_json(folder / CONFIG, {"format_version": FORMAT_VERSION, **describe(model)})
    if model.data is not None:
        write_json(folder / DATA, model.data)
    write_tensors(folder / WEIGHTS, model.state_dict())


def pack(model: Model) -> dict[str, Any]:
    """Turn a model into plain data: strings, and the bytes of a safetensors file."""
    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    return {
        "config": json.dumps(describe(model)),
        "data": json.dumps(model.data),
        "weights": safetensors.torch.save(state),
    }


def unpack(packed: Mapping[str, Any]) -> Model:
    """Build a model, in evaluation mode, from what `pack` made of it.

    torch's random state is left as it was.
    """
    model = build(json.loads(packed["config"]))
    model.load_state_dict(safetensors.torch.load(packed["weights"]))
    model.data = json.loads(packed["data"])
    return model.eval()


def resolve(source: str | Path) -> Path:
    """Find the folder that a path or a hub name means; what is on the hub is downloaded.

    Raises:
        FolderError: Nothing is there.
    """
    text = str(source)
    if text.startswith(_HUB):
        return _download(text.removeprefix(_HUB))
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise FolderError(f"{folder} is a file; expected a run folder, as `pretrain` makes one")
    raise FolderError(
        f"there is no folder {folder}; name a run folder, or {_HUB}owner/name for a model on "
        "the Hugging Face hub"
    )


class Pushed(NamedTuple):
    """What was uploaded."""

    files: dict[str, int]
    """Names, and sizes in bytes."""
    address: str


def published_files(folder: str | Path) -> dict[str, int]:
    """Return the files that `push` uploads, with their sizes in bytes.

    Raises:
        FolderError: The folder does not hold a finished run that can be read.
    """
    folder = resolve(Path(folder))
    load(folder)
    found = (folder / name for name in PUBLISHED)
    return {path.name: path.stat().st_size for path in found if path.exists()}


def push(folder: str | Path, name: str, *, private: bool = False) -> Pushed:
    """Upload a model to the Hugging Face hub: its configuration, weights, data description, card.

    Nothing else in the folder leaves it. The data description names columns and categories; no
    file holds a row of the data.

    Args:
        folder: A run folder.
        name: `hf://owner/name`; made if it is not there.
        private: Make it so that only its owner sees it.

    Returns:
        The files with their sizes, and the address of the upload.

    Raises:
        FolderError: The folder holds no finished run, the hub refuses, or the place is there,
            public, and is to be private.
        UserInputError: The name is none of the hub.
    """
    repository = repository_of(name)
    files = published_files(folder)
    for file, size in files.items():
        logger.info("%s: %s bytes to %s", file, f"{size:,}", name)
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        # Of a place that is there already this changes nothing.
        api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.repo_info(repository).private:
            raise FolderError(
                f"{name} is there already, and public; name another, or make it private on the hub"
            )
        done = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(files),
            # A description that an earlier model left would be read as this one's.
            delete_patterns=list(PUBLISHED),
            commit_message="Upload a model",
        )
    except FolderError:
        raise
    except Exception as error:  # whatever the client and the network raise
        raise FolderError(
            f"{name} could not be written on the Hugging Face hub ({first_line(error)}); check the "
            "name and the connection, and log in with `hf auth login`"
        ) from None
    return Pushed(files, str(done.commit_url))


def repository_of(name: str) -> str:
    """Return `owner/name` of a place that `push` can write to.

    Raises:
        UserInputError: It is none.

    >>> repository_of("hf://owner/name")
    'owner/name'
    """
    repository = name.removeprefix(_HUB)
    if not name.startswith(_HUB) or not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserInputError(f"{name!r} is no place on the hub; write {_HUB}owner/name")
    return repository


def read_config(folder: Path) -> dict[str, Any]:
    """Read the `config.json` of a model folder, without its format version.

    Raises:
        FolderError: The folder holds no run, an unreadable one, or one of a newer format.
    """
    if not (folder / CONFIG).exists():
        raise FolderError(
            f"{folder} holds no {CONFIG}, so it is no run; expected a folder made by `pretrain`, "
            "`finetune` or `convert`"
        )
    values = read_json(folder / CONFIG)
    version = values.pop("format_version", None)
    if not isinstance(version, int):
        raise FolderError(
            f"{folder / CONFIG} has no format_version, so anymae did not write it; read a "
            "published checkpoint with `anymae convert`"
        )
    if version > FORMAT_VERSION:
        raise FolderError(
            f"{folder} has format {version} and this version reads up to {FORMAT_VERSION}; "
            "upgrade anymae"
        )
    return values


def model_card(model: Model) -> str:
    """Describe a model in Markdown: what it is, how to use it, how to cite the method."""
    config = model.config
    if isinstance(model, MaskedAutoencoder):
        title, about = f"Masked autoencoder for {config.input.kind} inputs", _PRETRAINED
        row, usage = f"masking | {config.masking.kind}, ratio {config.masking.ratio:g}", ""
    else:
        task = model.task
        title, about = f"{', '.join(task.targets)} from {config.input.kind} inputs", _TRAINED
        classes = f": {', '.join(task.classes)}" if task.classes else ""
        together = f"; {task.members} models answer together" if task.members > 1 else ""
        row, usage = (
            f"task | {task.type}{classes}{together}",
            "\nanswers = anymae.predict(model, rows)",
        )
    return _CARD.format(
        use="feature-extraction" if isinstance(model, MaskedAutoencoder) else model.task.type,
        title=title,
        about=about,
        input=config.input,
        encoder=config.encoder,
        weights=sum(parameter.numel() for parameter in model.parameters()),
        row=row,
        usage=usage,
    )


_PRETRAINED = (
    "Pretrained to reconstruct hidden inputs from visible ones, as a self-guided masked "
    "autoencoder is"
)
_TRAINED = "Trained on labelled rows, on the encoder of a masked autoencoder"

_CARD = """\
---
library_name: anymae
tags: [masked-autoencoder, self-supervised-learning, {use}]
---

# {title}

{about}
([arXiv 2402.14789](https://arxiv.org/abs/2402.14789)). To be loaded with anymae.

| | |
| --- | --- |
| inputs | {input.kind}, at most {input.length} |
| encoder | {encoder.kind}, width {encoder.width}, {encoder.depth} blocks, {weights:,} \
parameters in all |
| {row} |

```python
import anymae

model = anymae.load("path/to/this/folder"){usage}
```

## How to cite

```bibtex
@inproceedings{{xie2024selfguided,
  title = {{Self-guided Masked Autoencoders for Domain-agnostic Self-supervised Learning}},
  author = {{Xie, Johnathan and Lee, Yoonho and Chen, Annie S. and Finn, Chelsea}},
  booktitle = {{International Conference on Learning Representations}},
  year = {{2024}},
  url = {{https://arxiv.org/abs/2402.14789}},
}}
```
"""


def _load_weights(model: torch.nn.Module, folder: Path) -> None:
    """Fill a model with the weights of a folder, all of them and no others."""
    path = folder / WEIGHTS
    if not path.exists():
        raise FolderError(
            f"{folder} holds no {WEIGHTS}: its training has not finished; continue it by the same "
            "command with --resume"
        )
    try:
        model.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        problem = str(error).splitlines()[-1].strip().rstrip(".")
        raise FolderError(
            f"{path} does not fit {CONFIG} ({problem}); both must come from the same run"
        ) from None


def _download(name: str) -> Path:
    """Fetch a model from the Hugging Face hub into its cache."""
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        folder = snapshot_download(
            repository, revision=revision or None, allow_patterns=list(PUBLISHED)
        )
    except Exception as error:  # whatever the client and the network raise
        raise FolderError(
            f"{_HUB}{name} could not be fetched from the Hugging Face hub ({first_line(error)}); "
            "check the name and the connection, or give a local folder"
        ) from None
    return Path(folder)
