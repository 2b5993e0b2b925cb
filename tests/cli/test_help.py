"""The command line explains itself, at once and without torch."""

import resource
import subprocess
import sys

import pytest

from anymae import config
from anymae.cli import main, options
from anymae.cli.console import show_table

VERBS = {
    "Start": ["quickstart", "inspect"],
    "Train": ["pretrain", "finetune", "tune"],
    "Use": ["embed", "predict", "score", "show"],
    "Judge": ["probe", "evaluate", "compare", "benchmark", "report"],
    "Exchange": ["export", "push", "convert"],
}


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_help_answers_within_half_a_second() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "anymae", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Time of the processor, which is all that it takes, and does not depend on other processes.
    assert min(seconds() for _ in range(3)) < 0.5


def test_flags_bound_seeds_as_recipes_do() -> None:
    assert options.LARGEST_SEED == config.LARGEST_SEED


@pytest.mark.parametrize(
    "code",
    [
        "import anymae; dir(anymae); anymae.AnymaeError",
        "from anymae.cli import main; main(['--help'])",
        "from anymae.cli import main; main(['embed', '--help'])",
    ],
)
def test_torch_is_not_imported_before_it_is_needed(code: str) -> None:
    heavy = "{'torch', 'numpy', 'pyarrow', 'sklearn', 'matplotlib', 'accelerate', 'pandas'}"
    out = run_python(f"{code}\nimport sys; print('heavy:', sorted({heavy} & sys.modules.keys()))")
    assert out.splitlines()[-1] == "heavy: []"


def test_an_interrupt_while_the_commands_are_imported_is_exit_code_130() -> None:
    code = """
import builtins
take = builtins.__import__
def interrupted(name, *more):
    if name == "typer":
        raise KeyboardInterrupt
    return take(name, *more)
builtins.__import__ = interrupted
from anymae.cli import main
print(main(["--help"]))
"""
    assert run_python(code).splitlines() == ["130"]


def test_tables_show_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(["target", "conc [mg/L]"], [["dose [/kg]", "1.0"], ["a:car:b", "[red]2[/red]"]])
    text = capsys.readouterr().out
    for name in ("conc [mg/L]", "dose [/kg]", "a:car:b", "[red]2[/red]"):
        assert name in text


def test_help_lists_each_verb_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(f" {group} ─") for group in VERBS]
    assert places == sorted(places)
    for group, verbs in VERBS.items():
        for verb in verbs:
            assert text.index(f"\n│ {verb} ") > text.index(f" {group} ─")


@pytest.mark.parametrize("verb", [verb for verbs in VERBS.values() for verb in verbs])
def test_each_verb_is_explained_with_an_example(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--help"]) == 0
    words = capsys.readouterr().out.split()
    assert f"Example: anymae {verb} " in " ".join(words)
    assert "--json" in words


def test_without_words_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Usage: anymae" in capsys.readouterr().out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    import anymae

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == anymae.__version__
