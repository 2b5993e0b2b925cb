"""How much memory training takes, and what to do when there is not enough.

Shapes: B rows, N inputs.
"""

import ctypes
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from anymae.config import TrainingConfig
from anymae.errors import OutOfMemoryError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of glibc's settings in `mallopt`."""

GROUP = Path("/sys/fs/cgroup")
"""Where Linux tells a container what it may take, in all."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let the C library keep what one step frees, for the next step to take.

    Large tensors would go back to the system and come again, page by page, in every step: up to a
    tenth of its time, and holes that raise the peak by as much (`docs/performance.md`). What is
    free goes back at the end. Only glibc has this setting; elsewhere nothing happens.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt"):
        yield
        return
    # Older ones take 32 MiB at most. The other setting alone would only hold this one at 128 KiB.
    if library.mallopt(_MMAP_THRESHOLD, 1 << 30) or library.mallopt(_MMAP_THRESHOLD, 1 << 25):
        library.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield
    finally:
        library.malloc_trim(0)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes used so far: of the device's memory, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows, which keeps the peak elsewhere
        return int(psutil.Process().memory_info().peak_wset)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def free_memory(device: torch.device) -> int:
    """Return the bytes that training could still take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    # What the system holds of files gives way: on a machine that has read much, little is free.
    return int(min(psutil.virtual_memory().available, _room_in_group()))


def _room_in_group() -> float:
    """Return the bytes that a limit of the container leaves (cgroup v2); infinite without one."""
    try:
        most, used = (int((GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        told = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or one whose limit is the word `max`
        return math.inf
    files = sum(int(told.get(name, 0)) for name in ("inactive_file", "active_file"))
    return max(0, most - used + files)


def weights_memory(model: nn.Module) -> int:
    """Return the bytes of weights, gradients and AdamW's two moments."""
    return 4 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


class SavedBytes(saved_tensors_hooks):
    """Counts the bytes that a forward pass keeps for its backward pass.

    Attributes:
        total: Bytes of the storages kept, each once; weights are not counted.
    """

    def __init__(self, model: nn.Module) -> None:
        self.total = 0
        self._seen = {p.untyped_storage().data_ptr() for p in model.parameters()}
        # Keeping the tensors alive keeps their addresses from being used again.
        self._kept: list[torch.Tensor] = []
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self._kept.append(tensor)
            self.total += storage.nbytes()
        return tensor


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that an allocation failed, on a GPU or a CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


@contextmanager
def within_device(device: torch.device, what: str = "the weights of the model") -> Iterator[None]:
    """Turn a failed allocation into one sentence, where no setting would make it smaller.

    Args:
        device: Where it is made.
        what: For what.

    Raises:
        OutOfMemoryError: It failed.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"out of memory on {device.type} for {what}; choose another device, or free what "
            "other programs hold of this one's memory"
        ) from error


@contextmanager
def within_memory(config: TrainingConfig, *, length: int, device: torch.device) -> Iterator[None]:
    """Turn a failed allocation into one sentence; the arguments are those of `out_of_memory`.

    Raises:
        OutOfMemoryError: An allocation failed.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(config, length=length, device=device) from error


def out_of_memory(config: TrainingConfig, *, length: int, device: torch.device) -> OutOfMemoryError:
    """Word running out of memory, with a smaller command that has as many rows to a step.

    Args:
        config: The run's settings, with the rows of a forward pass as a number.
        length: Inputs of the longest row.
        device: Where it happened.
    """
    batch = config.batch_size
    assert isinstance(batch, int)
    peak = peak_memory(device) / 2**30
    found = f"out of memory on {device.type}: {batch} rows of {length} inputs, peak {peak:.1f} GiB"
    if batch > 1:
        parts = next(count for count in range(2, batch + 1) if batch % count == 0)
        advice = (
            f"as many rows a step in {'half the' if parts == 2 else 'less'} memory: "
            f"--set training.batch_size={batch // parts} "
            f"--set training.accumulate={config.accumulate * parts}"
        )
        if not config.recompute:
            advice += ", or --set training.recompute=true"
    elif not config.recompute:
        advice = "take less memory for each row: --set training.recompute=true"
    else:
        advice = "cut rows shorter (--set data.length=N) or take a smaller preset"
    return OutOfMemoryError(f"{found}; {advice}")
