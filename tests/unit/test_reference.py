"""The page of settings says what the code says."""

from pathlib import Path

from anymae.config import EncoderConfig, TrainingConfig
from anymae.reference import settings_of, write_page
from anymae.task import FinetuneConfig
from anymae.training.fit import DEFAULTS
from anymae.training.lengths import EPOCHS, FEWEST_STEPS

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_that_of_the_code(tmp_path: Path) -> None:
    write_page(tmp_path / "settings.md")
    assert (tmp_path / "settings.md").read_text() == PAGE.read_text(), "run `make settings`"


def test_every_key_is_explained() -> None:
    for section in (EncoderConfig, TrainingConfig, FinetuneConfig):
        found = {each.key: each for each in settings_of(section)}
        assert found.keys() == section.model_fields.keys()
        assert all(each.meaning.endswith(".") for key, each in found.items() if key != "readout")


def test_the_defaults_of_fine_tuning_are_those_of_the_code() -> None:
    own = {
        key: value
        for key, value in DEFAULTS.items()
        if value != TrainingConfig.model_fields[key].default
    }
    assert own == {"batch_size": 32, "patience": 8, "keep_checkpoints": 1}
    told = "`patience` 8,\n`keep_checkpoints` 1, and a length of 30 epochs, but at least 300 steps."
    assert told in PAGE.read_text() and (EPOCHS, FEWEST_STEPS) == (30, 300)


def test_values_and_defaults_are_in_words() -> None:
    found = {each.key: each for each in settings_of(TrainingConfig)}
    assert found["clip"][1:3] == ("number above 0, or `null`", "1")
    assert found["keep"][1:3] == ("`best`, `last`", "best")
    assert found["recompute"][1:3] == ("true, false", "false")
    assert found["batch_size"][1:3] == ("whole number above 0, or `auto`", "64")
    encoder = {each.key: each for each in settings_of(EncoderConfig)}
    assert encoder["read_qk_width"].default == "as qk_width"
    assert encoder["width"].default == ""
