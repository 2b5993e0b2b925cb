"""What a trained model says about rows: embeddings, answers, scores."""

from anymae.inference.api import (
    Predictions,
    embed,
    embed_to_file,
    predict,
    predict_to_file,
    score,
    score_to_file,
)
from anymae.inference.compute import ComputeConfig
from anymae.inference.stream import Written

__all__ = [
    "ComputeConfig",
    "Predictions",
    "Written",
    "embed",
    "embed_to_file",
    "predict",
    "predict_to_file",
    "score",
    "score_to_file",
]
