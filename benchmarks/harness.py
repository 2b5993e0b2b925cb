"""Measure variants of the same work against each other, in one process and by turns.

Seconds differ between machines and hours; ratios of neighbours do not. So variants take turns
(`a b c a b c ...`), the first turns are thrown away, and a ratio is taken within each round: its
median, smallest and largest tell what the machine's noise leaves of it.
"""

import gc
import math
import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Step = Callable[[], object]
aten = torch.ops.aten


class Spread(NamedTuple):
    """Several measurements of one number."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def take_turns(
    steps: Mapping[str, Step],
    *,
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time each step once a round; returns seconds by name, one for each round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(warmup + rounds):
        for name, step in steps.items():
            begin = clock()
            step()
            elapsed = clock() - begin
            if number >= warmup:
                seconds[name].append(elapsed)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> Spread:
    """How many times faster `fast` is, round by round."""
    return Spread.of([a / b for a, b in zip(slow, fast, strict=True)])


class Product(NamedTuple):
    """One matrix product: its operands as sizes and strides."""

    operands: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    dtype: torch.dtype

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        (left, _), (right, _) = self.operands
        return 2 * math.prod(left) * right[-1]

    def prepare(self) -> Step:
        """Make operands and return what multiplies them."""
        left, right = (_filled(size, stride, self.dtype) for size, stride in self.operands)
        return lambda: torch.matmul(left, right)


def _filled(size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Make a tensor of ones with this layout, expanded ones included."""
    reach = 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    return torch.ones(reach, dtype=dtype).as_strided(size, stride)


class MatmulRecorder(TorchDispatchMode):
    """Notes every matrix product that runs below it, backward passes included.

    A fused attention counts as the products it stands for: two forward, four backward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        match func:
            case aten.mm.default | aten.bmm.default:
                self._note(args[0], args[1])
            case aten.addmm.default | aten.baddbmm.default:
                self._note(args[1], args[2])
            # In inference mode composite operations arrive whole.
            case aten.linear.default:
                self._note(args[0].flatten(0, -2), args[1].t())
            case aten.matmul.default:
                self._note(args[0], args[1])
            case aten.scaled_dot_product_attention.default:
                q, k, v = args[:3]
                self._note_heads(q, k.transpose(2, 3))
                self._note_heads(q.new_empty(q.shape[:3] + k.shape[2:3]), v)
            case aten._scaled_dot_product_flash_attention_for_cpu.default:
                q, k, v = args[:3]
                self._note_heads(q, k.transpose(2, 3))
                self._note_heads(q.new_empty(q.shape[:3] + k.shape[2:3]), v)
            case aten._scaled_dot_product_flash_attention_for_cpu_backward.default:
                self._note_attention_backward(*args[:4])
            case _:
                pass
        return func(*args, **(kwargs or {}))

    def _note(self, left: Tensor, right: Tensor) -> None:
        operands = tuple((tuple(x.shape), x.stride()) for x in (left, right))
        self.products[Product(operands, left.dtype)] += 1

    def _note_heads(self, left: Tensor, right: Tensor) -> None:
        self._note(left.flatten(0, 1).contiguous(), right.flatten(0, 1).contiguous())

    def _note_attention_backward(self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
        scores = q.new_empty(q.shape[:3] + k.shape[2:3])
        self._note_heads(grad, v.transpose(2, 3))
        self._note_heads(scores.transpose(2, 3), grad)
        self._note_heads(scores, k)
        self._note_heads(scores.transpose(2, 3), q)


def matmuls_alone(step: Step) -> Step:
    """Return what runs the matrix products of `step` and nothing else: the floor of its time."""
    with MatmulRecorder() as recorder:
        step()
    prepared = [(product.prepare(), count) for product, count in recorder.products.items()]

    def run() -> None:
        for multiply, count in prepared:
            for _ in range(count):
                multiply()

    return run


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Measure the largest growth of the resident size; the list holds it, in bytes, at the end.

    Linux only: the kernel's own high-water mark is reset at the start.
    """
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before, growth = _status("VmRSS"), [0]
    yield growth
    growth[0] = _status("VmHWM") - before


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def machine() -> dict[str, Any]:
    """Describe what the numbers were measured on."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(
        (part.strip() for part in line.split(":", 1)) for line in info.splitlines() if ":" in line
    )
    flags = set(fields.get("flags", "").split())
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16": sorted(flags & {"avx512_bf16", "amx_bf16"}),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
