"""What all tests share: a seed, a cache of their own, and real data where they are at hand."""

import os
from pathlib import Path

import pytest
import torch


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """No content in the name of a test: processes must agree on names, whatever they generated."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data, or a skip that says what is missing."""
    folder = os.environ.get("ANYMAE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ANYMAE_DATA names no folder with the real data")
    return Path(folder)


@pytest.fixture(scope="session")
def golden_folder(data_folder: Path) -> Path:
    """Reference tensors beside the real data, or a skip that says what is missing."""
    folder = data_folder.parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"{folder} with the reference tensors is not there")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["ANYMAE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _seed_torch() -> None:
    torch.manual_seed(0)
