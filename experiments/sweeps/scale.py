"""A sweep on many devices, before there are any: chunks handed out one after the other, as the executors do it.

1. A chunk takes as long as its tokens at the device's rate; its rows' lengths are drawn from those of the trial's texts, so that the uneven
   end, when some devices have no chunk left, is in the figure. A queue keeps batches full, so the longest row of a batch does not count.
2. A worker loads the models once, then takes the next chunk whenever it is free. Nothing else is shared: a chunk is a file of its own.
3. What a device does in a second is measured by the trial on this machine, or given; it is the same for every device.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steering.errors import BadInput

MOST_CHUNKS = 200_000
"""Chunks simulated one by one; more are simulated as that many and scaled."""


@dataclass(frozen=True)
class Scaled:
    """A sweep on a number of equal devices."""

    devices: int
    seconds: float
    """From the start to the last chunk."""
    busy: float
    """Share of the devices' time spent on chunks: the rest is loading models, and waiting at the end."""
    chunks: int
    """Files of rows that the store gets."""


def scaled(
    rows: int,
    lengths: Sequence[int],
    *,
    rows_per_chunk: int,
    tokens_per_second: float,
    devices: Sequence[int],
    load_seconds: float = 0.0,
    seed: int = 0,
) -> list[Scaled]:
    """How long `rows` rows take on each number of devices. `lengths`: tokens of the trial's rows; `tokens_per_second`: of one device with
    full batches; `load_seconds`: until a worker's models are loaded. Raises BadInput for numbers that are not positive."""
    if not lengths or min(lengths) < 1:
        raise BadInput("The trial wrote no text, so no length is known.")
    for name, value in (("rows", rows), ("rows_per_chunk", rows_per_chunk), ("tokens per second", tokens_per_second)):
        if not 0 < value < float("inf"):
            raise BadInput(f"{name} is {value}; a positive number is needed.")
    if wrong := [count for count in devices if count < 1]:
        raise BadInput(f"{wrong[0]} devices: give numbers from 1 on.")
    chunks = -(-rows // rows_per_chunk)
    simulated = min(chunks, MOST_CHUNKS)
    rng = np.random.default_rng(seed)
    drawn = np.asarray(lengths, dtype=np.float64)
    # A sum of many draws is all that a chunk needs: its mean and its spread are those of the rows.
    sizes = np.full(simulated, rows_per_chunk)
    sizes[-1] = rows - rows_per_chunk * (chunks - 1)
    spread = drawn.std() * np.sqrt(sizes)
    took = np.maximum(sizes, rng.normal(drawn.mean() * sizes, spread)) / tokens_per_second
    factor = chunks / simulated
    return [_on(count, took, factor, load_seconds, chunks) for count in devices]


def _on(devices: int, took: np.ndarray, factor: float, load: float, chunks: int) -> Scaled:
    free = [load] * min(devices, len(took))
    heapq.heapify(free)
    for seconds in took:
        heapq.heappush(free, heapq.heappop(free) + float(seconds))
    end = load + (max(free) - load) * factor
    return Scaled(devices, end, float(took.sum()) * factor / (devices * end), chunks)
