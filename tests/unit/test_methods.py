"""The paragraph of a card says what was done, whatever was."""

from typing import Any

import numpy as np
import pytest

from anymae.config import InputConfig, MaskingConfig, TrainingConfig, parse
from anymae.data.splits import Parts
from anymae.masking import MASKINGS
from anymae.task import FinetuneConfig, ReadoutConfig, TaskConfig
from anymae.training.methods import finetuning_methods, pretraining_methods
from tiny import tiny_config

FACTS = {"steps": 1000, "seconds": 75.0, "best_step": 900, "valid_loss": 1.5, "trivial_loss": 2.25}


SET = {"kind": "values", "length": 24, "channels": 3, "positions": "none"}


def told(
    facts: dict[str, Any] = FACTS, *, valid: int = 20, init: str | None = None, **settings: Any
) -> str:
    """The paragraph of a run on 1,000 rows."""
    parts = Parts(np.arange(1000), np.arange(valid), np.arange(0))
    masking = settings.pop("masking", {})
    config = tiny_config(settings.pop("content", "bytes"), settings.pop("encoder", "transformer"))
    config = config.model_copy(update={"masking": parse(MaskingConfig, masking)})
    if settings.pop("set", False):
        config = config.model_copy(update={"input": InputConfig.model_validate(SET)})
    training = parse(TrainingConfig, {"steps": 1000, "batch_size": 64, **settings})
    return pretraining_methods(
        config, training, facts, parts=parts, batch=64, weights=12_345, device="cpu", init=init
    )


def test_a_run_is_told_with_its_numbers() -> None:
    assert told(masking={"ratio": 0.3, "random_floor": 0.5}) == (
        "A self-guided masked autoencoder (Xie et al. 2024) was pretrained on 1,000 rows, without "
        "labels; 20 rows more were held out. Inputs were the bytes of strings, up to 24 of them. "
        "In the transformer encoder each visible input attended to all visible ones; 2 "
        "self-attention blocks of width 16 with 2 heads followed, and one attention layer decoded "
        "(12,345 parameters in all). 30% of each row's inputs were hidden: those to which sampled "
        "queries paid most attention in the model's own first attention layer, averaged over "
        "heads, one query for 3 hidden inputs; 50% of each mask was left to chance. Hidden inputs "
        "were reconstructed from the visible ones, by the cross-entropy of each byte. Training "
        "took 1,000 steps of 64 rows (62.5 passes), with AdamW (peak learning rate 0.001, weight "
        "decay 0.01, beta2 0.999), a linear warm-up over 100 steps and a cosine decay to 0, "
        "gradient norm clipped at 1, in fp32 on CPUs, 1 min 15 s in all, with seed 0. The weights "
        "are those of step 900, the best on the held-out rows with a loss of 1.5 for each input "
        "under fixed, uniformly random masks; predicting what is usual loses 2.25."
    )


@pytest.mark.parametrize("content", ["bytes", "values", "table", "image"])
@pytest.mark.parametrize("encoder", ["transformer", "perceiver"])
@pytest.mark.parametrize("kind", sorted(MASKINGS))
def test_every_kind_of_input_encoder_and_masking_has_its_words(
    kind: str, encoder: str, content: str
) -> None:
    words = told(content=content, encoder=encoder, masking={"kind": kind})
    assert ("self-guided" in words) == (kind == "guided")
    assert ("latents read" in words) == (encoder == "perceiver")
    assert not {"None", "nan"} & set(words.split())
    assert "chosen by the masking" not in words


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"masking": {"ratio": 0.5, "ratio_low": 0.2}}, "Between 20% and 50% of each row's inputs"),
        ({"masking": {"draw": "sample"}}, "drawn in proportion to the attention"),
        ({"masking": {"head_choice": "sample"}}, "of a head drawn for each"),
        ({"masking": {"hide_queries": True}}, "the queries' own inputs first"),
        ({"masking": {"random_start": 0.25}}, "over the first 25% of training masks went from"),
        ({"masking": {"kind": "own"}}, "hidden, chosen by the masking own."),
        ({"schedule": "constant", "clip": None}, "100 steps and a constant rate after it, in fp32"),
        ({"keep": "last"}, "The weights are those of step 900, with a loss of 1.5"),
        ({"init": "0123456789abcdef"}, "the weights of another run (sha256 0123456789ab)."),
        ({"set": True}, "each compared with the nearest prediction"),
        ({"valid": 1}, "; 1 row more was held out."),
    ],
)
def test_settings_are_told(settings: dict[str, Any], words: str) -> None:
    assert words in told(**settings)


def test_a_run_that_never_left_its_warm_up_says_so() -> None:
    words = told(warmup=10_000.0, learning_rate=1e-4)
    assert (
        "with AdamW (peak learning rate 1e-05 at the end, weight decay 0.01, beta2 0.999), a "
        "linear warm-up over all 1,000 steps, which would have reached 0.0001 after 10,000, "
        "gradient norm clipped at 1, in fp32"
    ) in words
    assert "cosine" not in words


def test_without_held_out_rows_no_loss_is_told() -> None:
    words = told({"steps": 10, "seconds": 1.0, "best_step": None}, valid=0)
    assert "held" not in words
    assert words.endswith("with seed 0.")


@pytest.mark.parametrize(
    ("training", "rates", "words"),
    [
        ({}, (1e-3,), "10 more chose the step."),
        ({"keep": "last"}, (1e-3,), "10 more were only looked at."),
        ({"keep": "last", "patience": 8}, (1e-3,), "10 more chose when to stop."),
        ({"keep": "last"}, (1e-3, 1e-4), "10 more chose the rate."),
        ({"keep": "last", "patience": 8}, (1e-3, 1e-4), "10 more chose when to stop and the rate."),
    ],
)
def test_what_validation_rows_were_for_is_told(
    training: dict[str, Any], rates: tuple[float, ...], words: str
) -> None:
    task = TaskConfig(type="binary", targets=("y",), classes=("0", "1"))
    assert words in finetuning_methods(
        task, FinetuneConfig(learning_rates=rates), TrainingConfig(epochs=5, **training), batch=32,
        rate=1e-3, rows={"train": 90, "valid": 10, "test": 0}, kept=(9,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "weight", "words"),
    [
        ({"loss": "squared_error"}, None, "(two classes, squared error of logits)"),
        ({"imbalance": "balanced"}, None, ". In the loss each class counted alike, however rare. "),
        ({}, "w", ". In the loss rows counted by their weights (w). "),
        (
            {"imbalance": "balanced", "negative_weights": "zero"},
            "w",
            "rows counted by their weights (w, negative ones as 0) and each class counted alike",
        ),
    ],
)
def test_what_a_fine_tuning_minimised_is_told(
    settings: dict[str, Any], weight: str | None, words: str
) -> None:
    task = TaskConfig(type="binary", targets=("y",), classes=("0", "1"))
    assert words in finetuning_methods(
        task, FinetuneConfig(**settings), TrainingConfig(epochs=5), batch=32, rate=1e-3,
        rows={"train": 90, "valid": 10, "test": 0}, kept=(9,), weight=weight,
    )  # fmt: skip


def test_a_fine_tuning_is_told_with_its_numbers() -> None:
    task = TaskConfig(
        type="binary", targets=("toxic",), classes=("0", "1"), readout=ReadoutConfig(kind="mean")
    )
    words = finetuning_methods(
        task, FinetuneConfig(), TrainingConfig(epochs=5, warmup=0.1), batch=32, rate=3e-4,
        rows={"train": 160, "valid": 40, "test": 0}, kept=(20, 0),
    )  # fmt: skip
    assert words == (
        "A pretrained encoder was trained, with a linear head on the mean of its output, to "
        "predict toxic (two classes, cross-entropy) from 160 labelled rows; 40 more chose the step "
        "and the rate. The head was first fitted to frozen features. Then all weights learned for "
        "up to 25 steps of 32 rows, with AdamW (peak learning rate 0.0003, weight decay 0.01, "
        "beta2 0.999), a linear warm-up over 2 steps and a cosine decay to 0, gradient norm "
        "clipped at 1; each layer learned at 0.75 times the rate of the one above. Of the rates "
        "0.0001, 0.0003 and 0.001, 0.0003 was kept. The weights are those after step 20 and 0 (the "
        "head alone). 2 models, of seeds 0 and 1, answer together."
    )
