"""What a launcher says about precision and sharding does not pass by the recipe."""

import signal
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest
import torch

from anymae.errors import ConfigError, OutOfMemoryError
from anymae.training import memory
from anymae.training.memory import peak_memory
from anymae.training.processes import _LOST, Processes
from anymae.training.requests import Requests


def test_a_launchers_precision_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with Processes("cpu") as processes:
        model = processes.prepare(torch.nn.Linear(3, 2))
        assert model(torch.ones(1, 3)).dtype == torch.float32
        assert torch.equal(
            model(torch.ones(1, 3)), torch.nn.Linear.forward(model, torch.ones(1, 3))
        )


def test_processes_on_one_machine_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with Processes("cpu") as alone:
        assert alone.neighbours == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with Processes("cpu") as processes:
        assert processes.neighbours == 4


def test_a_taken_port_is_no_lost_process() -> None:
    taken = "The server socket has failed to listen on any local network address: EADDRINUSE: "
    assert _LOST.search("Connection reset by peer\n[rank 1]") and _LOST.search("gloo: timed out")
    assert not _LOST.search(f"{taken} address already in use")


def test_a_prepared_model_lives_no_longer_than_it_is_used() -> None:
    with Processes("cpu") as processes:
        model = weakref.ref(processes.prepare(torch.nn.Linear(3, 2)))
        assert model() is None


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_sharding_by_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ConfigError, match=rf"ACCELERATE_USE_{name}.*torchrun"):
        Processes("cpu")


def test_memory_is_told_where_the_system_has_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert peak_memory(cpu) > 2**20
    windows = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))
    monkeypatch.setattr("psutil.Process", lambda: windows)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(cpu) == 123


@pytest.mark.parametrize(
    ("most", "used", "files", "room"),
    [("1000", 700, 200, 500), ("1000", 1100, 0, 0), ("max", 700, 200, 5000), ("9000", 0, 0, 5000)],
)
def test_free_memory_is_what_files_give_way_to_within_a_containers_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, most: str, used: int, files: int, room: int
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(free=100, available=5000))
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    assert memory.free_memory(torch.device("cpu")) == 5000
    (tmp_path / "memory.max").write_text(f"{most}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file 0\nactive_file {files}\n")
    assert memory.free_memory(torch.device("cpu")) == room


@pytest.mark.parametrize(
    ("most", "asked"),
    [
        (1 << 30, [(-3, 1 << 30), (-1, (1 << 31) - 1)]),
        (1 << 25, [(-3, 1 << 30), (-3, 1 << 25), (-1, (1 << 31) - 1)]),
        (0, [(-3, 1 << 30), (-3, 1 << 25)]),
    ],
    ids=["newer", "older", "neither"],
)
def test_an_older_c_library_keeps_what_it_can(
    monkeypatch: pytest.MonkeyPatch, most: int, asked: list[tuple[int, int]]
) -> None:
    seen: list[tuple[int, int]] = []

    def mallopt(name: int, value: int) -> int:
        seen.append((name, value))
        return int(name != -3 or value <= most)

    library = SimpleNamespace(mallopt=mallopt, malloc_trim=lambda _: None)
    monkeypatch.setattr(memory, "ctypes", SimpleNamespace(CDLL=lambda _: library))
    monkeypatch.setattr("sys.platform", "linux")
    with memory.freed_memory_kept():
        assert seen == asked


def test_a_model_that_there_is_no_room_for_is_one_sentence() -> None:
    class Full(torch.nn.Linear):
        def to(self, *_: object) -> Self:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with Processes("cpu") as processes, pytest.raises(OutOfMemoryError, match="for the weights of"):
        processes.prepare(Full(3, 2))


def test_a_handler_of_a_host_program_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    put_back = []

    def install(number: int, handler: object) -> None:
        put_back.append(handler)

    monkeypatch.setattr("signal.signal", install)
    with Requests():
        pass
    assert put_back[-1] is signal.SIG_DFL
