"""Same bytes for the same command: deterministic algorithms, a fixed number of threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import deterministic


@contextmanager
def reproducible(device: torch.device, *, threads: int | None) -> Iterator[None]:
    """Compute the same bytes each time inside, and leave torch's global state as it was.

    On a CPU only deterministic algorithms run; a GPU's are fast rather than repeatable to the bit.

    Args:
        device: Where the model is.
        threads: CPU threads; `None` leaves the number as it is.
    """
    # The debug mode is the same switch as `use_deterministic_algorithms`, which would import the
    # compiler: two seconds.
    mode = torch.get_deterministic_debug_mode()
    fill = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    threads_before = torch.get_num_threads()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            if device.type == "cpu":
                torch.set_deterministic_debug_mode("error")
                # Filling fresh memory would only hide, at a price, that something reads it.
                deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)
            deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            torch.set_num_threads(threads_before)
