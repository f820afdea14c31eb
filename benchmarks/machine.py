"""What the machine can do: single-precision matrix multiplication and memory copy rates, and how near a decoding step comes to them."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass

import torch

from steering.model.packed import blocked, can_pack


@dataclass(frozen=True)
class Machine:
    """Measured limits."""

    processor: str
    threads: int
    gflops: float
    """10^9 floating-point operations a second in a 1024 x 1024 x 1024 product."""
    blocked: float
    """The same of the library's blocked product (oneDNN), where there is one."""
    gigabytes_per_second: float
    """Bytes read and written a second while copying 256 MiB."""


def _best(action: object, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    return min(times)


def measure(threads: int) -> Machine:
    torch.set_num_threads(threads)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    source, target = torch.zeros(64 * 2**20), torch.zeros(64 * 2**20)
    matmul = _best(lambda: a @ b, 20)
    laid = _best(lambda: blocked(b, None, a), 20) if can_pack() else matmul
    copy = _best(lambda: target.copy_(source), 10)
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as info:
            name = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), name)
    rates = (2 * 1024**3 / taken / 1e9 for taken in (matmul, laid))
    return Machine(name, threads, *rates, 2 * 256 * 2**20 / copy / 1e9)


def step_bound(parameters: int, batch: int, machine: Machine) -> float:
    """Least seconds of one decoding step: every weight read once from memory, and two operations per weight and row."""
    return max(
        4 * parameters / (machine.gigabytes_per_second * 1e9 / 2), 2 * parameters * batch / (machine.gflops * 1e9)
    )
