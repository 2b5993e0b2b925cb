"""Each layer imports only what stands below it; the import statements are read, not run."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "anymae"

LAYERS = [
    {
        "errors",
        "registry",
        "config",
        "presets",
        "recipes",
        "randomness",
        "files",
        "task",
        "wording",
    },
    {"nn", "masking"},
    {"model", "data", "predictor"},
    {"hub", "inference", "training", "evaluation", "metrics", "probing"},
    {
        "estimators",
        "benchmark",
        "comparison",
        "report",
        "compat",
        "export",
        "quickstart",
        "proposals",
        "reference",
        "tuning",
    },
    {"cli"},
]
NO_TORCH = {
    "errors",
    "registry",
    "config",
    "presets",
    "recipes",
    "files",
    "task",
    "wording",
    "reference",
    "cli",
}
FILES = sorted(SOURCE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The first name below the package: `nn` for nn/attention.py, `model` for model.py."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[tuple[str, bool]]:
    """Modules that a file imports, and whether it does so at import time."""
    found = set()
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for scope in ast.walk(tree)
        if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(scope, ast.If) and "TYPE_CHECKING" in ast.unparse(scope.test))
        for node in ast.walk(scope)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, id(node) not in inside) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # One import relative to the file would go past all that is checked here.
            assert not node.level and node.module, f"{path}:{node.lineno} is a relative import"
            names = [node.module]
            if node.module == "anymae":
                names = [f"anymae.{alias.name}" for alias in node.names]
            found |= {(name, id(node) not in inside) for name in names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path) -> None:
    here = part_of(path)
    if here in ("__init__", "__main__"):
        return
    level = next(i for i, layer in enumerate(LAYERS) if here in layer)
    allowed = set().union(*LAYERS[: level + 1])
    if here in ("data", "model", "predictor"):
        allowed -= {"data"} if here != "data" else {"model", "predictor", "nn", "masking"}
    for module, _ in imported(path):
        if module.startswith("anymae.") and module != "anymae.__version__":
            assert module.split(".")[1] in allowed, f"{here} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_config_and_command_line_import_no_torch(path: Path) -> None:
    if part_of(path) in NO_TORCH | {"__init__", "__main__"}:
        at_import = {module for module, now in imported(path) if now}
        assert not {m for m in at_import if m.split(".")[0] in ("torch", "accelerate")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno <= 60, node.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_is_pickled_and_torch_load_is_left_to_the_converter(path: Path) -> None:
    assert not {
        m for m, _ in imported(path) if m.split(".")[0] in ("pickle", "cloudpickle", "dill")
    }
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.save"):
            assert part_of(path) == "compat" and "weights_only=True" in ast.unparse(node)
