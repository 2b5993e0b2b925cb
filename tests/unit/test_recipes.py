"""Recipes are read strictly, and come back as they were written."""

from pathlib import Path

import pytest

from anymae.config import Recipe
from anymae.errors import ConfigError
from anymae.presets import PRESETS, build_config, get_preset, training_config
from anymae.recipes import (
    apply_settings,
    dump_recipe,
    load_recipe,
    make_recipe,
    parse_settings,
)

SHIPPED = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def test_a_recipe_comes_back_as_written(tmp_path: Path) -> None:
    recipe = make_recipe(
        {
            "preset": "tiny",
            "data": {"path": "a.csv", "column": ["x", "y"], "missing": ["-999"]},
            "masking": {"ratio": 0.5},
            "training": {"steps": 300, "learning_rate": 1e-3},
        }
    )
    text = dump_recipe(recipe, comment="one\ntwo")
    assert text.startswith("# one\n# two\npreset: tiny\n")
    (tmp_path / "run.yaml").write_text(text)
    assert load_recipe(tmp_path / "run.yaml") == recipe


WORDS = ["1e5", "-1e20", "4e7fa9c1", "12E3run", "1e-3", "2024-01-01", "on", "0x10", "1.5", "1:30"]


@pytest.mark.parametrize("word", WORDS)
def test_words_that_look_like_numbers_come_back_as_words(tmp_path: Path, word: str) -> None:
    recipe = make_recipe({"init": word, "init_sha256": word, "data": {"missing": [word]}})
    (tmp_path / "run.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "run.yaml") == recipe


def test_words_that_begin_like_numbers_are_words() -> None:
    assert parse_settings(["data.column=3e2run", "a=1e-3"]) == {"data.column": "3e2run", "a": 1e-3}
    with pytest.raises(ConfigError, match=r"--set 'data\.where=2024-13-45'"):
        parse_settings(["data.where=2024-13-45"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("training:\n  learnign_rate: 1", "did you mean 'learning_rate'"),
        ("encoder:\n  widht: 3", "did you mean 'width'"),
        ("maskin:\n  ratio: 0.1", "did you mean 'masking'"),
        ("data:\n  colum: x", "did you mean 'column'"),
        ("training:\n  steps: -1", "greater than 0"),
        ("training:\n  steps: '300'", "integer"),
        ("training:\n  steps: 3\n  epochs: 1", "exclude each other"),
        ("training:\n  steps: 3\n  steps: 4", "line 2: steps is given twice"),
        ("masking:\n  ratio: 1.5", "less than 1"),
        ("masking: 0.2", "masking is 0.2; it should be a section of keys and values"),
        ("data: 3", "data is 3; it should be a section of keys and values, a DataConfig"),
        ("data:\n  column: 3", "data.column is 3; it should be a list"),
        ("training: [", "line 1"),
        ("- 1", "no sections"),
        ("preset: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"recipe\.yaml") as caught:
        load_recipe(path)
    assert problem in str(caught.value)


def test_a_single_name_needs_no_list(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("data:\n  column: smiles\n  drop: [a, b]\n")
    data = load_recipe(path).data
    assert (data.column, data.drop) == (("smiles",), ("a", "b"))


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no recipe"):
        load_recipe(tmp_path / "none.yaml")


def test_settings_have_the_types_of_yaml() -> None:
    assert parse_settings(
        ["training.steps=300", "training.learning_rate=1e-3", "training.clip=null", "a.b=x=y"]
    ) == {
        "training.steps": 300,
        "training.learning_rate": 1e-3,
        "training.clip": None,
        "a.b": "x=y",
    }
    for wrong in ("training.steps", "=3", "a.b=["):
        with pytest.raises(ConfigError, match="--set"):
            parse_settings([wrong])


def test_settings_win_over_the_recipe_and_lengths_replace_each_other() -> None:
    recipe = make_recipe({"training": {"steps": 300, "seed": 3}})
    changed = apply_settings(recipe, {"training.epochs": 2.0, "data.column": ["x"]})
    assert changed.training == {"seed": 3, "epochs": 2.0}
    assert changed.data.column == ("x",)
    assert recipe.training == {"steps": 300, "seed": 3}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("trainin.steps", "did you mean 'training'"),
        ("training.step", "did you mean 'steps'"),
        ("data.colunm", "did you mean 'column'"),
        ("preset.x", "write preset=NAME"),
    ],
)
def test_an_unknown_setting_names_the_nearest(name: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        apply_settings(Recipe(), {name: 1})


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_builds(path: Path) -> None:
    from anymae.config import InputConfig, parse

    recipe = load_recipe(path)
    assert recipe.preset is not None
    published = get_preset(recipe.preset).input
    inputs = published or {"kind": recipe.data.kind or "bytes", "length": 64}
    config = build_config(
        recipe.preset,
        parse(InputConfig, inputs),
        encoder=recipe.encoder,
        decoder=recipe.decoder,
        masking=recipe.masking,
    )
    assert config.encoder.width == get_preset(recipe.preset).encoder["width"]
    assert training_config(recipe.preset, recipe.training).learning_rate > 0
    assert load_recipe_text(dump_recipe(recipe), path) == recipe


def load_recipe_text(text: str, near: Path) -> Recipe:
    import yaml

    return make_recipe(yaml.safe_load(text), where=near.name)


def test_there_is_a_recipe_for_every_preset() -> None:
    assert {load_recipe(path).preset for path in SHIPPED} == set(PRESETS)
