"""The processes of a run: one alone, or several started by torchrun or `accelerate launch`.

The only user of accelerate. It finds the device, joins the processes, wraps the model and feeds
trackers; the order of rows, the scale of the loss and what is saved are ours.
"""

import ctypes
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import InitProcessGroupKwargs, send_to_device
from torch import nn

from anymae.errors import AnymaeError, ConfigError, MissingExtraError, nearest
from anymae.training.device import choose_device
from anymae.training.memory import within_device

logger = logging.getLogger(__name__)
Moved = TypeVar("Moved")

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
"""Names that `--track` takes; each is an extra."""

SHARDING = ("FSDP", "DEEPSPEED", "MEGATRON_LM")
"""What `accelerate launch` can ask for by environment and nothing here is written for."""

_LOST = re.compile(
    r"^(?!.*address already in use).*(connection|timed? ?out|peer|nccl|gloo|socket)",
    re.IGNORECASE | re.DOTALL,
)
"""What torch says, in one way or another, when a process has gone."""

PATIENCE = timedelta(minutes=10)
"""How long a process waits for another that is alive but does not answer."""


class PeerLostError(AnymaeError):
    """Another process of the run has stopped."""


class Processes:
    """This process among those of the run.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        ConfigError: The device does not exist here, or a launcher asks to shard the model.
        PeerLostError: Another process stopped before all had joined.
    """

    def __init__(
        self, device: str = "auto", *, track: Sequence[str] = (), folder: Path | None = None
    ) -> None:
        chosen = choose_device(device)
        _check_trackers(track)
        _refuse_sharding()
        self._owner = not is_initialized()
        self._lost = False
        if chosen.type == "cuda" and chosen.index is not None:
            torch.cuda.set_device(chosen)
        self.world: int = int(os.environ.get("WORLD_SIZE", "1"))
        with self.peers():
            self._accelerator = Accelerator(
                cpu=chosen.type == "cpu",
                # The recipe decides; else a launcher's flag would cast every forward pass unasked.
                mixed_precision="no",
                log_with=list(track) or None,
                project_dir=folder,
                kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
            )
        self.device: torch.device = self._accelerator.device
        self.rank: int = self._accelerator.process_index
        self.world = self._accelerator.num_processes
        self.neighbours: int = int(os.environ.get("LOCAL_WORLD_SIZE", self.world))
        """Processes of the run on this machine, this one among them."""
        try:
            # Where the main process fails at once, their meeting place goes with it.
            self.wait()
        except PeerLostError:
            self.close()
            raise

    @property
    def is_main(self) -> bool:
        """True in the one process that writes."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add up numbers over all processes, in float64; each process gets the sums."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        with self.peers():
            total = self._accelerator.reduce(tensor, "sum")
        return [float(value) for value in total.tolist()]

    def agree(self, number: float) -> float:
        """Return the main process's number in every process."""
        return self.sum([number if self.is_main else 0.0])[0]

    def wait(self) -> None:
        """Wait until every process is here."""
        with self.peers():
            self._accelerator.wait_for_everyone()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do something before the others do it.

        Raises:
            PeerLostError: It failed, and says itself at what.
        """
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

    def prepare(self, model: nn.Module) -> nn.Module:
        """Move a model to the device and, with several processes, join its gradients.

        Raises:
            OutOfMemoryError: There is no room for it.
        """
        with within_device(self.device):
            if self.world == 1:
                # Accelerate would do no more, and forgets a model only with a whole garbage
                # collection.
                return model.to(self.device)
            prepared: nn.Module = self._accelerator.prepare_model(model)
        # Accelerate lists every model, for checkpoints of its own, and so keeps trials alive too.
        self._accelerator.free_memory()
        return prepared

    def send(self, batch: Moved) -> Moved:
        """Move a batch's tensors to the device."""
        moved: Moved = send_to_device(batch, self.device, non_blocking=True)
        return moved

    def alone(self, model: nn.Module) -> AbstractContextManager[None]:
        """Keep gradients to this process: all but the last forward pass of a step."""
        return nullcontext() if self.world == 1 else self._accelerator.no_sync(model)

    @contextmanager
    def peers(self) -> Iterator[None]:
        """Turn the many ways in which a lost process shows into one sentence.

        Raises:
            PeerLostError: Another process has stopped.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not _LOST.search(str(error)):
                raise
            self._lost = True
            raise PeerLostError(
                "another process of this run has stopped, so this one stops too; look at its last "
                "message, then start all of them again with --resume"
            ) from error

    def start_tracking(self, config: Mapping[str, Any]) -> None:
        """Open the trackers of `--track`; `config` is shown with the run."""
        if self._accelerator.log_with:
            self._accelerator.init_trackers("anymae", config=dict(config))

    def track(self, step: int, values: Mapping[str, Any]) -> None:
        """Send numbers to the trackers."""
        numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
        if self._accelerator.log_with:
            self._accelerator.log(numbers, step=step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close trackers and leave no state behind for a later run in this process."""
        if self._accelerator.log_with:
            self._accelerator.end_training()
        if self._owner:
            if self.world > 1:
                # Whoever drops the last reference to a group waits for its threads: for ever if
                # they wait for a lost process, or for the interpreter's lock, which DDP holds while
                # it goes. One reference too many keeps the destructor from being called at all.
                group = torch.distributed.group.WORLD
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(group))
                if not self._lost:
                    self._accelerator.state.destroy_process_group()
            AcceleratorState._reset_state(reset_partial_state=True)


def _refuse_sharding() -> None:
    for name in SHARDING:
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() in ("1", "true", "yes", "on"):
            raise ConfigError(
                f"the launcher asks for {name} (ACCELERATE_USE_{name}), and each process has to "
                "hold the whole model; start with torchrun, or with `accelerate launch --multi_gpu`"
            )


def _check_trackers(names: Sequence[str]) -> None:
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f"unknown tracker {name!r}{nearest(name, TRACKERS)}")
        if find_spec(name) is None:
            package = "'anymae[track]'" if name == "tensorboard" else name
            raise MissingExtraError(
                f"--track {name} needs the package {name}; install it with: pip install {package}"
            )
