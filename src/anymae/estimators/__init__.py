"""scikit-learn estimators: embed, classify, regress; frozen by default, fine-tuned on request.

They take strings, arrays and tables, and a run folder, a hub id, a model, or nothing: then a
small model is pretrained on X first. They pickle (joblib, copy, GridSearchCV with processes)
through plain data: JSON and the bytes of a safetensors file.
"""

from anymae.estimators.embedder import Embedder
from anymae.estimators.supervised import Classifier, Regressor

__all__ = ["Classifier", "Embedder", "Regressor"]
