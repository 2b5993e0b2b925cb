"""What was done, as a paper's methods section would say it, with the numbers of the run itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from anymae.config import InputConfig, MaskingConfig, ModelConfig, TrainingConfig
from anymae.data.splits import Parts
from anymae.task import FinetuneConfig, TaskConfig
from anymae.training.lengths import fit_steps
from anymae.training.optim import learning_rate, warmup_steps
from anymae.training.progress import duration
from anymae.wording import counted, listed

PAPER = "Xie et al. 2024"


def pretraining_methods(
    config: ModelConfig,
    training: TrainingConfig,
    facts: Mapping[str, Any],
    *,
    parts: Parts,
    batch: int,
    weights: int,
    device: str,
    init: str | None = None,
) -> str:
    """Describe a pretraining run.

    Args:
        config: Of the model.
        training: With steps and precision as they were settled.
        facts: `steps`, `seconds` and, where rows were held out, `best_step`, `valid_loss` and
            `trivial_loss`.
        parts: Rows for training, validation and test.
        batch: Rows of a step.
        weights: Parameters in all.
        device: Its type: `cpu`, `cuda` ...
        init: sha256 of the weights it began with, if they were those of another run.

    Returns:
        A paragraph.
    """
    guided = config.masking.kind == "guided"
    what = "A self-guided masked autoencoder" if guided else "A masked autoencoder"
    valid = len(parts.valid)
    held = f"; {counted(valid, 'row')} more {_were(valid)} held out" if valid else ""
    # A pass ends with what rows are left.
    passes = facts["steps"] / -(-len(parts.train) // batch)
    kind = "set" if config.input.positions == "none" else config.input.kind
    sentences = [
        f"{what} ({PAPER}) was pretrained on {counted(len(parts.train), 'row')}, without "
        f"labels{held}.",
        f"It began with the weights of another run (sha256 {init[:12]})." if init else "",
        f"Inputs were {_inputs(config.input)}.",
        _network(config, weights),
        _masks(config.masking),
        f"Hidden inputs were reconstructed from the visible ones, {_LOSSES[kind]}.",
        f"Training took {counted(facts['steps'], 'step')} of "
        f"{counted(min(batch, len(parts.train)), 'row')} ({passes:.3g} passes), "
        f"{_optimizer(training, training.steps or facts['steps'])}, in {training.precision} on "
        f"{_DEVICES.get(device, device)}, {duration(facts['seconds'])} in all, with seed "
        f"{training.seed}.",
        _kept(training, facts),
    ]
    return " ".join(filter(None, sentences))


def finetuning_methods(
    task: TaskConfig,
    config: FinetuneConfig,
    training: TrainingConfig,
    *,
    rows: Mapping[str, int],
    batch: int,
    rate: float,
    kept: Sequence[int],
    weight: str | None = None,
) -> str:
    """Describe a fine-tuning.

    Args:
        task: What is predicted.
        config: How it was learned.
        training: Batch, decay and so on.
        rows: Labelled rows by part: train, valid, test.
        batch: Rows of a step.
        rate: The learning rate that was kept.
        kept: Step whose weights were kept, by seed.
        weight: Column of row weights, if there was one.

    Returns:
        A paragraph.
    """
    pretrained, total = config.start == "pretrained", fit_steps(training, rows["train"], batch)
    several = len(config.learning_rates) > 1
    chosen = f"; {rows['valid']:,} more {_chosen_by(rows['valid'], training, several)}"
    seeds = [str(training.seed + number) for number in range(len(kept))]
    head = config.head_first
    if head == "probe" and task.readout.kind == "query":
        head = "train"
    sentences = [
        f"{'A pretrained encoder' if pretrained else 'An encoder of random weights'} was trained, "
        f"with {_READOUTS[task.readout.kind]}, to predict {listed(task.targets)} "
        f"({_TASKS[task.type]}, {_loss(task, config)}) from "
        f"{counted(rows['train'], 'labelled row')}"
        f"{chosen if rows['valid'] else ''}.",
        _counting(task, config, weight),
        _HEADS[head],
        f"Then all weights learned for up to {counted(total, 'step')} of "
        f"{counted(min(batch, rows['train']), 'row')}, "
        f"{_optimizer(training.model_copy(update={'learning_rate': rate}), total)}; each layer "
        f"learned at {config.layer_decay:g} times the rate of the one above.",
        f"Of the rates {listed(f'{one:g}' for one in config.learning_rates)}, {rate:g} was kept."
        if several
        else "",
        f"The weights are those after step "
        f"{listed(f'{step:,}' if step else '0 (the head alone)' for step in kept)}.",
        f"{len(kept)} models, of seeds {listed(seeds)}, answer together."
        if len(kept) > 1
        else f"The seed was {training.seed}.",
    ]
    return " ".join(filter(None, sentences))


def _loss(task: TaskConfig, config: FinetuneConfig) -> str:
    if not task.is_classification:
        return "squared error"
    return "squared error of logits" if config.loss == "squared_error" else "cross-entropy"


def _counting(task: TaskConfig, config: FinetuneConfig, weight: str | None) -> str:
    """Say what counted how much in the loss, if not all alike."""
    negative = {"absolute": ", negative ones without their sign", "zero": ", negative ones as 0"}
    told = []
    if weight is not None:
        signs = negative.get(config.negative_weights, "")
        told.append(f"rows counted by their weights ({weight}{signs})")
    if config.imbalance == "balanced" and task.is_classification:
        told.append("each class counted alike, however rare")
    return f"In the loss {' and '.join(told)}." if told else ""


def _were(rows: int) -> str:
    return "was" if rows == 1 else "were"


def _chosen_by(valid: int, training: TrainingConfig, several: bool) -> str:
    """Say what validation rows were for."""
    chosen = {"best": ["the step"], "last": ["when to stop"] if training.patience else []}
    what = [*chosen[training.keep], *(["the rate"] if several else [])]
    return f"chose {listed(what)}" if what else f"{_were(valid)} only looked at"


def _inputs(config: InputConfig) -> str:
    length, numbers = config.length, f"{config.channels} numbers"
    order = ", without an order" if config.positions == "none" else ""
    categories = sum(count > 0 for count in config.categories)
    match config.kind:
        case "bytes":
            return f"the bytes of strings, up to {length:,} of them"
        case "table":
            named = f", {categories} of them categorical" if categories else ""
            return f"the {length:,} columns of a table{named}; numbers were standardised"
        case "image" if config.grid is not None:
            unit = f"squares of {config.patch} by {config.patch} pixels" if config.patch > 1 else ""
            return f"{config.grid[0]} by {config.grid[1]} {unit or 'pixels'}, standardised"
    return f"up to {length:,} vectors of {numbers}{order}, standardised"


def _network(config: ModelConfig, weights: int) -> str:
    encoder = config.encoder
    read = "each visible input attended to all visible ones"
    if encoder.kind == "perceiver":
        read = f"{encoder.num_latents:,} learned latents read the visible inputs"
    return (
        f"In the {encoder.kind} encoder {read}; "
        f"{counted(encoder.depth, 'self-attention block')} of width {encoder.width} with "
        f"{counted(encoder.num_heads, 'head')} followed, and one attention layer decoded "
        f"({weights:,} parameters in all)."
    )


def _masks(config: MaskingConfig) -> str:
    share = f"{config.ratio:.0%} of each row's inputs were"
    if config.ratio_low is not None:
        share = f"Between {config.ratio_low:.0%} and {config.ratio:.0%} of each row's inputs were"
    if config.kind != "guided":
        how = _MASKINGS.get(config.kind, f"chosen by the masking {config.kind}")
        return f"{share} hidden, {how.format(**config.model_dump())}."
    heads = "averaged over heads" if config.head_choice == "mean" else "of a head drawn for each"
    drawn = {
        "top": "those to which sampled queries paid most attention",
        "sample": "drawn in proportion to the attention that sampled queries paid",
    }
    more = ""
    if config.hide_queries:
        more += ", the queries' own inputs first"
    if config.random_floor:
        more += f"; {config.random_floor:.0%} of each mask was left to chance"
    if config.random_start:
        more += f"; over the first {config.random_start:.0%} of training masks went from random to "
        more += "guided"
    return (
        f"{share} hidden: {drawn[config.draw]} in the model's own first attention layer, {heads}, "
        f"one query for {config.inputs_per_query:g} hidden inputs{more}."
    )


def _optimizer(training: TrainingConfig, steps: int) -> str:
    fall = "a cosine decay to 0" if training.schedule == "cosine" else "a constant rate after it"
    clip = f", gradient norm clipped at {training.clip:g}" if training.clip is not None else ""
    warm, peak = warmup_steps(training, steps), f"{training.learning_rate:g}"
    how = f"a linear warm-up over {counted(warm, 'step')} and {fall}"
    if warm >= steps:
        peak = f"{learning_rate(training, steps - 1, steps):.3g} at the end"
        how = f"a linear warm-up over all {counted(steps, 'step')}"
        if warm > steps:
            how += f", which would have reached {training.learning_rate:g} after {warm:,}"
    return (
        f"with AdamW (peak learning rate {peak}, weight decay "
        f"{training.weight_decay:g}, beta2 {training.beta2:g}), {how}{clip}"
    )


def _kept(training: TrainingConfig, facts: Mapping[str, Any]) -> str:
    """Say whose weights they are, and what they were worth on rows that were held out."""
    loss, trivial, step = (facts.get(name) for name in ("valid_loss", "trivial_loss", "best_step"))
    if loss is None or trivial is None:
        return ""
    which = f"of step {step:,}" if step is not None else "of the last step"
    chosen = " the best on the held-out rows" if training.keep == "best" and step else ""
    return (
        f"The weights are those {which},{chosen} with a loss of {loss:.4g} for each input under "
        f"fixed, uniformly random masks; predicting what is usual loses {trivial:.4g}."
    )


_LOSSES = {
    "bytes": "by the cross-entropy of each byte",
    "values": "by the squared error of each number",
    "set": "each compared with the nearest prediction, and each prediction with the nearest of "
    "them, by squared error",
    "image": "by the squared error of each value",
    "table": "by the squared error of numbers and the cross-entropy of categories",
}
_MASKINGS = {
    "random": "uniformly at random",
    "span": "in runs of {span_length:g} on average",
    "block": "in squares of {block_side} by {block_side}",
}
_DEVICES = {"cpu": "CPUs", "cuda": "GPUs", "mps": "a GPU"}
_READOUTS = {
    "query": "a head whose learned query reads its output",
    "mean": "a linear head on the mean of its output",
    "layers": "a linear head on mean and deviation of the states after each layer",
    "kernel": "a linear head on averaged random cosines of the states after each layer",
}
_TASKS = {
    "regression": "regression",
    "binary": "two classes",
    "multiclass": "classes",
    "multilabel": "several yes or no questions",
}
_HEADS = {
    "probe": "The head was first fitted to frozen features.",
    "train": "The head was first trained alone.",
    "none": "The head began with random weights.",
}
