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
    strict, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fill = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    threads_before = torch.get_num_threads()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            if device.type == "cpu":
                torch.use_deterministic_algorithms(True)
                # Filling fresh memory would only hide, at a price, that something reads it.
                deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warn)
            deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            torch.set_num_threads(threads_before)
