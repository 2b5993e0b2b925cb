"""What is predicted, how it is read from the encoder and how it is learned. No torch in here.

A `TaskConfig` is the `task` section in the `config.json` of a fine-tuned model: with the model's
config it is all that is needed to build one and to name what comes out.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from anymae.config import Floats, Fraction, Names, Positive, Section

TaskType = Literal["regression", "binary", "multiclass", "multilabel"]
ReadoutKind = Literal["query", "mean", "layers", "kernel"]
Rate = Annotated[float, Field(gt=0)]


class ReadoutConfig(Section):
    """How a row's latents become one vector (`docs/method.md`, "Fine-tuning")."""

    kind: ReadoutKind = "query"
    """`query`: one learned query reads them (the paper's); `mean`: their mean; `layers`: their
    mean and standard deviation after each layer, side by side; `kernel`: random cosines of them
    after each layer, averaged."""
    width: Positive | None = None
    """Size of the learned query; null is the encoder's."""
    qk_width: Positive | None = None
    """Size of all heads' queries together; null is `width`."""
    num_heads: Positive = 1
    """Heads of the learned query's attention."""


class TaskConfig(Section):
    """What a fine-tuned model predicts."""

    type: TaskType
    """`regression` (one number or several), `binary`, `multiclass`, or `multilabel` (several yes
    or no questions, of which some may be unanswered)."""
    targets: Names
    """Names of the target columns."""
    classes: Names = ()
    """Names of the classes in the order of the outputs (`binary`: no, yes; `multiclass`)."""
    mean: Floats = ()
    """Mean of each target over the training rows, in the user's units (`regression`)."""
    std: Floats = ()
    """Standard deviation of each target, likewise."""
    readout: ReadoutConfig = ReadoutConfig()
    members: Positive = 1
    """Models that answer together; their spread is the uncertainty."""

    @property
    def num_outputs(self) -> int:
        """Numbers that the network gives for a row.

        >>> TaskConfig(type="binary", targets=("toxic",), classes=("0", "1")).num_outputs
        1
        """
        return len(self.classes) if self.type == "multiclass" else len(self.targets)

    @property
    def positive(self) -> str | None:
        """The class whose probability binary metrics judge; `None` where there is none.

        >>> TaskConfig(type="binary", targets=("toxic",), classes=("no", "yes")).positive
        'yes'
        """
        return self.classes[1] if self.type == "binary" else None

    @property
    def is_classification(self) -> bool:
        """True where answers are probabilities."""
        return self.type != "regression"

    @property
    def answers(self) -> tuple[str, ...]:
        """Name each number of an answer: targets, or the classes or labels of probabilities."""
        return self.classes if self.type in ("binary", "multiclass") else self.targets

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not self.targets:
            raise ValueError("task.targets is empty; name at least one")
        if self.type in ("binary", "multiclass") and len(self.targets) != 1:
            raise ValueError(f"task.type {self.type} takes one target, not {len(self.targets)}")
        least = {"binary": 2, "multiclass": 2}.get(self.type, 0)
        if len(self.classes) < least or (self.type != "multiclass" and len(self.classes) > least):
            raise ValueError(f"task.classes has {len(self.classes)} names for a {self.type} task")
        scales = len(self.targets) if self.type == "regression" else 0
        if len(self.mean) != scales or len(self.std) != scales:
            raise ValueError(f"task.mean and task.std must have {scales} numbers")
        return self


class FinetuneConfig(Section):
    """How a task is learned from labels (`docs/method.md`, "Fine-tuning")."""

    task: TaskType | None = None
    """Null infers it from the targets."""
    readout: ReadoutConfig = ReadoutConfig()
    start: Literal["pretrained", "random"] = "pretrained"
    """`random` forgets the pretrained weights: what pretraining is worth."""
    loss: Literal["default", "squared_error"] = "default"
    """`squared_error` between logits and 0 or 1 is for reproducing published results only: rows
    are ranked by it, but probabilities are made of logits as ever, so that they and the classes
    of yes-or-no targets are wrong."""
    imbalance: Literal["none", "balanced"] = "none"
    """`balanced`: each class counts alike, however rare it is."""
    negative_weights: Literal["error", "absolute", "zero"] = "error"
    """What to train with where a row's weight is negative; metrics take it as it is."""
    dropout: Fraction = 0.0
    """Dropped share of embedded inputs, attention outputs and MLP outputs."""
    attention_dropout: Fraction = 0.0
    """Dropped share of attention weights."""
    drop_path: Fraction = 0.1
    """Chance that the last block is skipped for a row; grows linearly with depth."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Each layer learns at this multiple of the rate of the layer above it."""
    head_first: Literal["probe", "train", "none"] = "probe"
    """What the head starts from, the encoder frozen: `probe` is a linear model fitted to frozen
    features (readouts `mean`, `layers` and `kernel`; `query` is trained instead), `train` takes
    steps."""
    head_epochs: Annotated[float, Field(gt=0)] = 5
    """Passes over the training rows that train the head alone."""
    learning_rates: Annotated[tuple[Rate, ...], Field(strict=False, min_length=1)] = (
        1e-4,
        3e-4,
        1e-3,
    )
    """Peak rates; of several, the best on the validation rows is kept, and one that diverges is
    passed over."""
    num_labels: Annotated[int, Field(ge=4)] | None = None
    """Labels to learn from, validation included; null takes all."""
    valid_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the rows that choose epoch and rate where the data name none (0.2 with
    `num_labels`)."""
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the rows set aside for the test where the data name none."""
    seeds: Positive = 1
    """Models to train; several answer together, and their spread is the uncertainty."""
