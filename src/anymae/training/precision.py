"""Which number format pays on a device."""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


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
