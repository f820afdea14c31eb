"""What a sweep will take, before it is run: rows, tokens, time, memory and disk, from a short trial on the machine at hand.

1. The trial writes the unsteered arm on a few development problems; nothing is stored. Time and disk are its own, scaled to the rows.
2. Steered rows may be longer or shorter than unsteered ones: beside the estimate stands the bound at `max_new_tokens`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from steering.models import LoadedModel

from ..loading import load
from ..rows import Parts, chunk_records, chunks_of
from ..shards import to_table
from ..tasks import resolve_task
from .run import Planned
from .spec import SweepSpec

TRIED = 16
"""Problems of the trial."""


@dataclass(frozen=True)
class Estimate:
    """Of the development runs of a sweep."""

    runs: int
    cells: int
    arms: int
    rows: int
    tokens: float
    """At the length of unsteered texts."""
    most_tokens: int
    """If every row runs to its limit."""
    seconds: float
    most_seconds: float
    memory_mib: float
    """Weights, and the cache of a full batch."""
    disk_mib: float


def estimate(spec: SweepSpec, planned: list[Planned], models: dict[str, LoadedModel] | None = None) -> Estimate:
    """Try the unsteered arm on a few problems and scale. Raises BadInput for what could not run."""
    models = {} if models is None else models
    if spec.model not in models:
        models[spec.model] = load(spec.model, spec.loading)
    model = models[spec.model]
    first = planned[0].spec
    split, count = next(iter(first.splits.items()))
    trial = first.model_copy(update={"arms": first.arms[:1], "splits": {split: min(TRIED, count)}})
    parts = Parts(resolve_task(spec.task), models, {}, {})
    chunks = list(chunks_of(trial, parts))
    start = time.perf_counter()
    records = [record for chunk in chunks for record in chunk_records(chunk, trial, parts)]
    seconds = time.perf_counter() - start
    sink = pa.BufferOutputStream()
    pq.write_table(to_table(records).sort_by("key"), sink, compression="zstd", compression_level=3)
    written = sum(len(r["token_ids"]) for r in records)
    arms = sum(len(p.spec.arms) for p in planned)
    rows = sum(len(p.spec.arms) * sum(p.spec.splits.values()) * len(p.spec.generation.seeds) for p in planned)
    most = max(p.spec.generation.max_new_tokens for p in planned)
    config = model.model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    positions = max(len(r["prompt_ids"]) for r in records) + most
    size = model.dtype.itemsize
    cache = 2 * model.n_layers * heads * width * positions * size * min(spec.rows_per_batch, rows)
    weights = sum(p.numel() * p.element_size() for p in model.model.parameters())
    return Estimate(
        len(planned), sum(len(p.cells) for p in planned), arms, rows, rows * written / len(records), rows * most,
        rows * seconds / len(records), seconds / max(1, written) * rows * most, (weights + cache) / 2**20,
        rows * sink.getvalue().size / len(records) / 2**20,
    )  # fmt: skip
