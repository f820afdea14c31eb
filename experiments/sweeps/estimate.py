"""What evaluations will take, before they are run: rows, tokens, time, memory and disk, from a short trial on the machine at hand.

1. The trial writes every arm that has no plan (of a sweep, the unsteered one) on a few problems; nothing is stored. Time and disk are its
   own, scaled to the rows.
2. Steered rows may be longer or shorter than unsteered ones: beside the estimate stands the bound at `max_new_tokens`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from steering.model.layout import text_config
from steering.model.models import LoadedModel

from ..evaluation.loading import load
from ..evaluation.records import chunk_records
from ..evaluation.rows import CHUNK_ROWS, Parts, chunks_of, models_of
from ..evaluation.spec import EvalSpec
from ..store.shards import to_table
from ..tasks.task import resolve_task
from .run import Planned
from .spec import SweepSpec

TRIED = 16
"""Problems of the trial."""


@dataclass(frozen=True)
class Estimate:
    """Of the development runs of a sweep, or of an evaluation."""

    runs: int
    cells: int
    """Of a sweep; 0 for an evaluation."""
    arms: int
    rows: int
    tokens: float
    """At the length of the trial's texts."""
    most_tokens: int
    """If every row runs to its limit."""
    seconds: float
    most_seconds: float
    memory_mib: float
    """Weights of every model, and the cache of a full batch."""
    disk_mib: float
    lengths: tuple[int, ...] = ()
    """Tokens of the trial's texts."""

    @property
    def sentence(self) -> str:
        """In words."""
        cells = f"{self.cells} cells, " if self.cells else ""
        runs = f"{self.runs} run{'s' * (self.runs > 1)}"
        return (
            f"{cells}{self.arms} arms, {self.rows:,} rows in {runs}; about {self.tokens:,.0f} tokens (at most {self.most_tokens:,}), "
            f"{time_text(self.seconds)} (at most {time_text(self.most_seconds)}), {self.memory_mib:,.0f} MiB of memory, "
            f"{self.disk_mib:,.1f} MiB on disk"
        )


def time_text(seconds: float) -> str:
    """A duration in the unit that fits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(spec: SweepSpec, planned: list[Planned], models: dict[str, LoadedModel] | None = None) -> Estimate:
    """Try the unsteered arm of a sweep on a few problems and scale. Raises BadInput for what could not run."""
    found = estimated([p.spec for p in planned], models)
    return replace(found, cells=sum(len(p.cells) for p in planned))


def estimated(specs: list[EvalSpec], models: dict[str, LoadedModel] | None = None) -> Estimate:
    """Try the plain arms of the first evaluation on a few problems and scale. Raises BadInput for what could not run."""
    models, first = {} if models is None else models, specs[0]
    for name in models_of(first):
        if name not in models:
            models[name] = load(name, first.loading)
    split, count = next(iter(first.splits.items()))
    plain = tuple(arm for arm in first.arms if not arm.plan and arm.controller is None)
    arms = plain or (first.arms[0].model_copy(update={"plan": None, "controller": None}),)
    trial = first.model_copy(update={"arms": arms, "splits": {split: min(TRIED, count)}})
    parts = Parts(resolve_task(first.task), models, {}, {})
    chunks = list(chunks_of(trial, parts))
    start = time.perf_counter()
    records = [record for chunk in chunks for record in chunk_records(chunk, trial, parts)]
    seconds = time.perf_counter() - start
    sink = pa.BufferOutputStream()
    pq.write_table(to_table(records).sort_by("key"), sink, compression="zstd", compression_level=3)
    written = sum(len(r["token_ids"]) for r in records)
    rows = sum(len(s.arms) * sum(s.splits.values()) * len(s.generation.seeds) for s in specs)
    most = max(s.generation.max_new_tokens for s in specs)
    positions = max(len(r["prompt_ids"]) for r in records) + most
    batch = min(first.rows_per_batch or first.rows_per_chunk or CHUNK_ROWS, rows)
    weights = sum(p.numel() * p.element_size() for m in models.values() for p in m.model.parameters())
    return Estimate(
        len(specs), 0, sum(len(s.arms) for s in specs), rows, rows * written / len(records), rows * most,
        rows * seconds / len(records), seconds / max(1, written) * rows * most,
        (weights + max(map(_cache_bytes, models.values())) * positions * batch) / 2**20,
        rows * sink.getvalue().size / len(records) / 2**20, tuple(len(r["token_ids"]) for r in records),
    )  # fmt: skip


def _cache_bytes(model: LoadedModel) -> int:
    """Bytes of keys and values per token of a row."""
    config = text_config(model.model.config)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * model.n_layers * heads * width * model.dtype.itemsize)
