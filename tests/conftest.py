"""What all tests share: a seed, a cache of their own, and real data where they are at hand.

Nothing that the machine happens to have shows in them: no terminal, no GPU, no network.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

# What prints in a width and in colours reads these once, some of it while it is imported.
for _name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH"):
    os.environ.pop(_name, None)
os.environ |= {"_TYPER_FORCE_DISABLE_TERMINAL": "1", "COLUMNS": "100"}

# What every change must pass fails for a reason, and not by the draw; long fuzzing draws anew.
settings.register_profile("make", derandomize=True)
settings.load_profile("make")

_connect = socket.socket.connect


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """No content in the name of a test: processes must agree on names, whatever they generated."""
    return argname if isinstance(val, bytes) else None


def _connect_nearby(self: socket.socket, address: Any) -> None:
    """Connect to this machine; a test that goes further fails, whatever catches what it raises."""
    host = address[0] if isinstance(address, tuple) else ""
    if self.family != socket.AF_UNIX and not host.startswith(("127.", "::1", "localhost")):
        self.close()
        pytest.fail(f"a test connects to {address}")
    _connect(self, address)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Hide what not every machine has: also from the fixtures of a module, made before others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _connect_nearby)
        if item.get_closest_marker("gpu") is None:
            patch.setattr(torch.cuda, "is_available", lambda: False)
            patch.setattr(torch.backends.mps, "is_available", lambda: False)
            patch.setenv("CUDA_VISIBLE_DEVICES", "")  # for the processes that tests start
        return (yield)


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
