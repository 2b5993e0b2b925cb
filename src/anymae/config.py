"""Everything that can be set, with its range. No torch in here: reading a config is instant.

A `ModelConfig` is all that is needed to build a model; it is stored as `config.json`. A `Recipe`
holds a whole run: data, model, masking and training. Both are strict: an unknown key is an error
that names the nearest known one.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from anymae.errors import ConfigError
from anymae.wording import explain

NUM_SPECIAL = 6
"""Tokens before the first byte: PAD 0, BOS 1, EOS 2, MASK 3, CLS 4, SEP 5; a byte b is b + 6."""

SEP = 5
"""Ends each sequence of bytes."""

VOCABULARY = 256 + NUM_SPECIAL
"""Number of tokens of the `bytes` kind."""

LARGEST_SEED = 2**32 - 1
"""That NumPy and scikit-learn take."""

InputKind = Literal["bytes", "values", "table", "image"]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A group of settings: frozen, strict about types and names."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class InputConfig(Section):
    """What the model sees: the one thing that data and model agree on."""

    kind: InputKind
    """`bytes` (any string), `values` (N x K floats), `table` (columns) or `image` (pixels)."""
    length: Positive
    """Number of inputs N of the longest row."""
    channels: Positive = 1
    """Numbers K that make up one input; 1 for `bytes` and `table`."""
    positions: Literal["learned", "none"] = "learned"
    """`none`: the order of the inputs carries no meaning (sets of `values`)."""
    patch: Positive = 1
    """Side of a square of pixels that makes one input (`image`)."""
    grid: Annotated[tuple[Positive, Positive], Field(strict=False)] | None = None
    """Rows and columns of the inputs in raster order (`image`)."""
    categories: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = ()
    """Categories of each column of a `table`; 0 for a numeric column."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.kind in ("bytes", "table") and self.channels != 1:
            raise ValueError(f"input.channels is {self.channels}; {self.kind} inputs have 1")
        if self.positions == "none" and self.kind != "values":
            raise ValueError(f"input.positions none needs values; {self.kind} inputs have places")
        if self.kind == "table" and len(self.categories) != self.length:
            raise ValueError(
                f"input.categories names {len(self.categories)} columns of {self.length}"
            )
        if self.grid is not None and self.grid[0] * self.grid[1] != self.length:
            raise ValueError(f"input.grid {self.grid} does not hold {self.length} inputs")
        return self


class EncoderConfig(Section):
    """The network that turns visible inputs into latents (`docs/method.md`, "Encoders")."""

    kind: Literal["transformer", "perceiver"] = "transformer"
    """`transformer`: visible inputs attend to each other; `perceiver`: latents read them."""
    width: Positive
    """Size of each latent vector."""
    depth: Annotated[int, Field(ge=0)]
    """Self-attention blocks after the first attention."""
    num_heads: Positive
    """Heads of each block."""
    mlp_ratio: Annotated[float, Field(gt=0, le=1024)] = 1.0
    """Hidden size of a block's MLP as a multiple of `width`."""
    input_width: Positive = Field(default_factory=lambda made: made.get("width", 1))
    """Size of an embedded input; `width` unless the encoder is a perceiver."""
    qk_width: Positive = Field(default_factory=lambda made: made.get("width", 1))
    """Size of all heads' queries together, likewise of the keys, in a block."""
    value_width: Positive = Field(default_factory=lambda made: made.get("width", 1))
    """Size of all heads' values together, in the first attention and in a block."""
    num_latents: Positive = 256
    """Learned latents of a perceiver; a transformer has none."""
    read_heads: Positive = Field(default_factory=lambda made: made.get("num_heads", 1))
    """Heads of the first attention, whose map guides the masks."""
    read_qk_width: Positive = Field(default_factory=lambda made: made.get("qk_width", 1))
    """Size of all heads' queries together in the first attention."""
    read_mlp_ratio: Annotated[float, Field(gt=0, le=1024)] = 1.0
    """Hidden size of the first layer's MLP as a multiple of `width`."""
    dropout: Fraction = 0.0
    """Dropped share of embedded inputs, attention outputs and MLP outputs while training."""
    attention_dropout: Fraction = 0.0
    """Dropped share of attention weights while training."""
    drop_path: Fraction = 0.0
    """Chance that the last block is skipped for a row while training; grows linearly with depth."""
    initial: Literal["published", "scaled"] = "published"
    """Weights before training: N(0, 0.02) throughout, or by width, with positions as waves."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.kind == "transformer" and self.input_width != self.width:
            raise ValueError(
                f"encoder.input_width is {self.input_width}; "
                f"a transformer needs it equal to encoder.width, {self.width}"
            )
        _divides("encoder.qk_width", self.qk_width, "encoder.num_heads", self.num_heads)
        _divides("encoder.value_width", self.value_width, "encoder.num_heads", self.num_heads)
        _divides("encoder.read_qk_width", self.read_qk_width, "encoder.read_heads", self.read_heads)
        _divides("encoder.value_width", self.value_width, "encoder.read_heads", self.read_heads)
        _leaves_units("encoder.mlp_ratio", self.mlp_ratio, self.width)
        _leaves_units("encoder.read_mlp_ratio", self.read_mlp_ratio, self.width)
        return self


class DecoderConfig(Section):
    """The single attention layer that reconstructs hidden inputs (`docs/method.md`, "Decoder")."""

    width: Positive
    """Size of a decoder query."""
    qk_width: Positive = Field(default_factory=lambda made: made.get("width", 1))
    """Size of all heads' queries together."""
    num_heads: Positive = 1
    """Heads of the decoder's attention."""
    mlp_ratio: Annotated[float, Field(gt=0, le=1024)] = 1.0
    """Hidden size of the decoder's MLP as a multiple of `width`."""
    share_positions: bool = True
    """Query with the encoder's position vectors instead of own ones."""
    tie_output: bool = False
    """Use the token embedding as output matrix (`bytes`)."""
    mask_token: bool = False
    """Add a learned vector to the query of each hidden input."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _divides("decoder.qk_width", self.qk_width, "decoder.num_heads", self.num_heads)
        _divides("decoder.width", self.width, "decoder.num_heads", self.num_heads)
        _leaves_units("decoder.mlp_ratio", self.mlp_ratio, self.width)
        return self


class MaskingConfig(Section):
    """Which inputs are hidden, and how many (`docs/method.md`, "Masking")."""

    kind: str = "guided"
    """`guided` (the paper's), `random`, `span` (runs) or `block` (squares), or a registered one."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the valid inputs to hide."""
    ratio_low: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Draw each row's ratio evenly from here up to `ratio`; null hides `ratio` of every row."""
    inputs_per_query: Annotated[float, Field(ge=1, le=1_000_000_000)] = 3
    """Hidden inputs for which one sampled query stands; divides the number of queries that vote."""
    hide_queries: bool = False
    """Hide the sampled queries' own inputs first (transformer only)."""
    head_choice: Literal["mean", "sample"] = "mean"
    """Average the heads' attention, or draw one head for each query."""
    random_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of training over which masks go from random to guided; 0 is guided at once."""
    random_floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the hidden inputs that stays random to the end (`guided`)."""
    draw: Literal["top", "sample"] = "top"
    """Hide the inputs attended to most, or draw inputs without replacement with probability
    proportional to the attention (`guided`)."""
    span_length: Annotated[float, Field(ge=1)] = 4
    """Mean length of a run of hidden inputs (`span`)."""
    block_side: Annotated[int, Field(gt=0, le=2**31)] = 4
    """Side of a hidden square in inputs (`block`)."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.ratio_low is not None and self.ratio_low > self.ratio:
            raise ValueError(
                f"masking.ratio_low is {self.ratio_low}, above masking.ratio {self.ratio}"
            )
        return self


class ModelConfig(Section):
    """All that is needed to build a model."""

    format_version: Literal[1] = 1
    input: InputConfig
    encoder: EncoderConfig
    decoder: DecoderConfig
    masking: MaskingConfig = MaskingConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_decoder_width(cls, made: object) -> object:
        if not isinstance(made, Mapping) or not isinstance(made.get("encoder"), Mapping):
            return made
        encoder, keys = made["encoder"], made.get("decoder") or {}
        width = encoder.get("input_width", encoder.get("width"))
        return {**made, "decoder": {"width": width, **keys} if isinstance(keys, Mapping) else keys}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        decoder, encoder = self.decoder, self.encoder
        if decoder.tie_output and self.input.kind != "bytes":
            raise ValueError(f"decoder.tie_output needs bytes, not {self.input.kind} inputs")
        shares = decoder.share_positions and self.input.positions == "learned"  # sets have none
        for name, is_shared in (("share_positions", shares), ("tie_output", decoder.tie_output)):
            if is_shared and decoder.width != encoder.input_width:
                raise ValueError(
                    f"decoder.{name} needs decoder.width {decoder.width} "
                    f"equal to encoder.input_width {encoder.input_width}"
                )
        if self.masking.hide_queries and encoder.kind == "perceiver":
            raise ValueError("masking.hide_queries needs the transformer, whose queries are inputs")
        if self.masking.kind == "block" and self.input.grid is None:
            raise ValueError("masking.kind block needs image inputs, whose grid is known")
        return self


class TrainingConfig(Section):
    """How long, how fast, on what, and how often to look and save."""

    steps: Positive | None = None
    """Optimizer steps; give one of `steps`, `epochs`, `minutes`."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the training rows."""
    minutes: Annotated[float, Field(gt=0, le=5_000_000)] | None = None
    """Wall-clock budget; turned into steps from the measured speed of the first ones."""
    batch_size: Positive | Literal["auto"] = 64
    """Rows of one forward pass on each process; `auto` finds the largest that fits."""
    accumulate: Positive = 1
    """Forward passes that make one optimizer step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Peak of the schedule."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After a linear warm-up: along half a cosine to 0, or `constant`, which can be extended."""
    warmup: Annotated[float, Field(ge=0)] = 0.1
    """Steps of warm-up; below 1 a share of all steps."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's decay, on weight matrices only."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """AdamW's second-moment decay."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest gradient norm; null leaves gradients alone."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Number format of the matrix products while training; the weights stay fp32. `auto` takes
    bf16 where the processor multiplies it itself; what it came to is stored with the run."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    """Fixes initial weights, the order of rows, crops and masks."""
    threads: Positive | None = None
    """CPU threads; null takes all cores, and the number is stored with the run."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Loader processes; 0 reads in the main process."""
    validate_every: Positive | None = None
    """Steps between looks at the validation rows; null looks ten times (finetune: 30)."""
    checkpoint_every: Positive | None = None
    """Steps between checkpoints; null saves at each look."""
    patience: Positive | None = None
    """Looks without a better validation loss after which training stops; null never stops early."""
    keep: Literal["best", "last"] = "best"
    """Weights that the run ends with: of the best look at the validation rows, or the last."""
    keep_checkpoints: Positive = 2
    """Newest checkpoints that stay on disk, beside the best."""
    recompute: bool = False
    """Recompute activations in the backward pass: less memory, about a fifth more time."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        named = [name for name in ("steps", "epochs", "minutes") if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"training.{named[0]} and training.{named[1]} exclude each other")
        return self


_alone = BeforeValidator(lambda names: (names,) if isinstance(names, str) else names)
Names = Annotated[tuple[str, ...], Field(strict=False), _alone]
Floats = Annotated[tuple[float, ...], Field(strict=False)]


class DataConfig(Section):
    """Which rows and columns of which file, and what to do with the odd ones."""

    path: str | None = None
    """File, folder, glob or URL; null for data handed over in Python."""
    kind: InputKind | None = None
    """Force the kind of input; null infers it."""
    column: Names = ()
    """Input columns; empty infers them."""
    target: Names = ()
    """Columns to predict: never inputs."""
    id: str | None = None
    """Column copied to outputs: no input of a pretraining."""
    split: str | None = None
    """Column with the values train, valid, test, beside files of parts too: never an input."""
    group: str | None = None
    """Column whose equal values stay in one split: no input of a pretraining."""
    weight: str | None = None
    """Column of row weights: never an input."""
    drop: Names = ()
    """Columns to leave out."""
    where: str | None = None
    """Keep rows for which this holds, such as `split == 'train' and not in_tape_eval`."""
    missing: Names = ()
    """Values that mean a missing cell: `-999`, or `COLUMN=-999` for one column."""
    words: Names = ()
    """Columns of a CSV file that hold words, though all of their cells look like numbers, times,
    or true and false: postcodes, say."""
    too_long: Literal["crop", "error", "truncate", "window"] | None = None
    """Rows beyond `input.length`; null crops while pretraining and is an error elsewhere."""
    on_bad_row: Literal["error", "skip"] = "error"
    """Rows that cannot be inputs: stop, or count and leave out."""
    length: Positive | None = None
    """Longest row in inputs; null takes it from the data."""
    positions: Literal["learned", "none"] = "learned"
    """`none`: the order of the inputs carries no meaning (sets)."""
    patch: Positive = 1
    """Side of a square of pixels that makes one input (`image`)."""
    valid: str | None = None
    """File with validation rows."""
    test: str | None = None
    """File with test rows."""
    split_by: Literal["random", "stratified", "group", "scaffold"] = "random"
    """How validation and test rows are chosen when the file does not say."""
    pack: bool = False
    """Join short strings, with SEP between them, up to `input.length`."""

    @property
    def unpacked(self) -> Self:
        """The same, but with a row for each string."""
        return self.model_copy(update={"pack": False})

    def aimed_at(self, target: str | Iterable[str]) -> Self:
        """The same, but with these targets, if there are any."""
        names = (target,) if isinstance(target, str) else tuple(target)
        return self.model_copy(update={"target": names}) if names else self

    @property
    def files(self) -> tuple[str, ...]:
        """Files that are read beside the data."""
        return tuple(name for name in (self.valid, self.test) if name is not None)


class Recipe(Section):
    """A whole run: what `--recipe` reads, `--dry-run` prints and `run.yaml` stores."""

    preset: str | None = None
    """Name of a model size or published configuration that the sections below refine."""
    init: str | None = None
    """Run whose weights to begin with; its sizes and its preparation of the data are kept."""
    init_sha256: str | None = None
    """Of those weights, as a run that began with them stores it: other ones are refused."""
    data: DataConfig = DataConfig()
    encoder: dict[str, Any] = {}
    """Keys of `EncoderConfig` that differ from the preset's."""
    decoder: dict[str, Any] = {}
    """Keys of `DecoderConfig` that differ from the preset's."""
    masking: dict[str, Any] = {}
    """Keys of `MaskingConfig` that differ from the preset's."""
    training: dict[str, Any] = {}
    """Keys of `TrainingConfig` that differ from the preset's."""


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], values: Mapping[str, Any], *, where: str = "") -> Model:
    """Build a config from plain values.

    Args:
        model: The config class.
        values: Plain mappings, lists, numbers and strings, as from YAML or JSON.
        where: What is being read, for the message: a file or a flag.

    Raises:
        ConfigError: An unknown key, a wrong type or range, or a contradiction; the key is named.

    >>> parse(MaskingConfig, {"ratio": 0.5}).ratio
    0.5
    """
    try:
        return model.model_validate(dict(values) if isinstance(values, Mapping) else values)
    except ValidationError as error:
        raise ConfigError(explain(model, error, where)) from None


def _divides(name: str, value: int, by_name: str, by: int) -> None:
    if value % by:
        raise ValueError(f"{name} {value} is no multiple of {by_name} {by}")


def _leaves_units(name: str, ratio: float, width: int) -> None:
    if round(width * ratio) < 1:
        raise ValueError(f"{name} {ratio:g} leaves no hidden unit of width {width}; raise it")
