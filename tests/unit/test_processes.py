"""What a launcher says about precision and sharding does not pass by the recipe."""

import weakref

import pytest
import torch

from anymae.errors import ConfigError
from anymae.training.processes import _LOST, Processes


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
