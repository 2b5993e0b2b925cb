"""Where numbers are computed, and in which format that pays."""

import logging
import re
from typing import Literal

import torch

from anymae.errors import ConfigError

logger = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16"]


def choose_device(name: str) -> torch.device:
    """Return the device that a setting means.

    Raises:
        ConfigError: No such device, or not here.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise ConfigError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:0 ..., mps")
    device = torch.device(name)
    here = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= here[device.type]:
        raise ConfigError(f"device {name!r} is not on this machine; use --device auto")
    return device


def settle_precision(asked: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """Return the format that was asked for; of `auto`, what it comes to on the device."""
    if asked != "auto":
        return asked
    found = fastest_precision(device)
    logger.info("precision %s: the faster one on this %s", found, device.type)
    return found


def fastest_precision(device: torch.device) -> Precision:
    """Return `bf16` where the processor multiplies such numbers itself, else `fp32`.

    Where it does not, bf16 is emulated and several times slower than fp32 (`docs/performance.md`).

    >>> fastest_precision(torch.device("mps"))
    'fp32'
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        # Older versions of torch cannot tell.
        tell = getattr(torch.cpu, "get_capabilities", dict)
        capabilities: dict[str, object] = tell()
        if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
            return "bf16"
    return "fp32"
