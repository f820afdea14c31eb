"""What reading activations costs: time against the bare forward pass up to the same layer, and memory while tokens stream to disk."""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import torch

from steering.model.capture import capture
from steering.model.models import LoadedModel
from steering.model.sites import Site

from .workloads import prompts


class _Reached(Exception):
    pass


@dataclass(frozen=True)
class CaptureCost:
    """Times are medians over rounds of ratios within a round."""

    ratio: float
    """Capture of one site over a forward pass that stops after the same layer."""
    ratio_range: tuple[float, float]
    tokens: int
    growth_mib: float
    """Growth of the process between the first tenth and the end of the stream."""
    tokens_per_second: float


def _forward_to(model: LoadedModel, layer: int, ids: torch.Tensor, mask: torch.Tensor) -> None:
    def stop(*_: object) -> None:
        raise _Reached

    handle = model.layout.blocks[layer].layer.register_forward_hook(stop)
    try:
        with torch.inference_mode():
            model.model(input_ids=ids, attention_mask=mask, use_cache=False)
    except _Reached:
        pass
    finally:
        handle.remove()


def capture_cost(model: LoadedModel, rounds: int = 7, total_tokens: int = 100_000) -> CaptureCost:
    """Time capture of the middle layer against the pass up to it, then stream `total_tokens` to a file."""
    layer, vocabulary = model.n_layers // 2, model.model.config.vocab_size
    batch = [list(p) for p in prompts(16, 128, 128, vocabulary)]
    ids = torch.tensor(batch)
    mask = torch.ones_like(ids)
    ratios = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        _forward_to(model, layer, ids, mask)
        middle = time.perf_counter()
        for _ in capture(model, batch, [Site(layer)], batch_size=16):
            pass
        ratios.append((time.perf_counter() - middle) / (middle - start))
    sequences = prompts(total_tokens // 128, 128, 128, vocabulary, seed=1)
    early = 0.0
    start = time.perf_counter()
    with tempfile.TemporaryFile() as stored:
        at = 0
        for found in capture(model, sequences, [Site(layer)], batch_size=16):
            values = found.values[Site(layer)][found.mask].numpy()
            stored.write(values.astype(np.float32).tobytes())
            at += len(values)
            if not early and at >= total_tokens // 10:
                early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds = time.perf_counter() - start
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - early
    return CaptureCost(statistics.median(ratios[1:]), (min(ratios[1:]), max(ratios[1:])), at, growth, at / seconds)
