"""Masked autoencoders that choose their own masks, for any data.

>>> import anymae
>>> anymae.__version__
'0.1.0'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anymae.comparison import compare as compare
    from anymae.errors import AnymaeError as AnymaeError
    from anymae.errors import AnymaeWarning as AnymaeWarning
    from anymae.estimators import Classifier as Classifier
    from anymae.estimators import Embedder as Embedder
    from anymae.estimators import Regressor as Regressor
    from anymae.evaluation import evaluate as evaluate
    from anymae.hub import load as load
    from anymae.hub import save as save
    from anymae.inference import embed as embed
    from anymae.inference import predict as predict
    from anymae.inference import score as score
    from anymae.probing import probe as probe
    from anymae.training.finetune import finetune as finetune
    from anymae.training.pretrain import pretrain as pretrain
    from anymae.tuning import tune as tune

__version__ = "0.1.0"

_HOMES = {
    "AnymaeError": "anymae.errors",
    "AnymaeWarning": "anymae.errors",
    "pretrain": "anymae.training.pretrain",
    "load": "anymae.hub",
    "finetune": "anymae.training.finetune",
    "probe": "anymae.probing",
    "evaluate": "anymae.evaluation",
    "compare": "anymae.comparison",
    "tune": "anymae.tuning",
    "Classifier": "anymae.estimators",
    "Embedder": "anymae.estimators",
    "Regressor": "anymae.estimators",
    "save": "anymae.hub",
    "embed": "anymae.inference",
    "predict": "anymae.inference",
    "score": "anymae.inference",
}
"""Public names and the modules that hold them; these import torch, so they are imported on use."""

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the keys are strings


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module 'anymae' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
