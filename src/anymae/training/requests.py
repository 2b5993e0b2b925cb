"""What the outside asks of a running training: signals and a limit on wall-clock time."""

import logging
import signal
import threading
import time
from types import FrameType
from typing import Self

from anymae.errors import ConfigError

logger = logging.getLogger(__name__)


class Requests:
    """Notes signals while training; the loop looks between steps.

    SIGTERM and Ctrl-C: save and leave; a second Ctrl-C leaves at once. SIGUSR1: save and go on.
    Outside the main thread signals stay as they are.

    Args:
        stop_after: Minutes after which to save and leave; `None` has no limit.

    Raises:
        ConfigError: They are negative or no number.
    """

    def __init__(self, stop_after: float | None = None) -> None:
        if stop_after is not None and not stop_after >= 0:
            raise ConfigError(f"--stop-after is {stop_after:g}; give it in minutes, at least 0")
        self._deadline = None if stop_after is None else time.monotonic() + 60 * stop_after
        self._signal: signal.Signals | None = None
        self._save = False
        self._before: dict[signal.Signals, object] = {}

    @property
    def stop(self) -> str | None:
        """Why to save and leave, or `None`."""
        if self._signal is not None:
            return f"received {self._signal.name}"
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the time of --stop-after is over"
        return None

    def take_save(self) -> bool:
        """Return whether a save was asked for since the last call."""
        asked, self._save = self._save, False
        return asked

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._on_stop)
            if hasattr(signal, "SIGUSR1"):
                self._before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._on_save)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            # None stands for a handler of a host program, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number)
        logger.warning("received %s: saving after this step", self._signal.name)

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self._save = True
