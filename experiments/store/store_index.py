"""The row indexes of a whole store, gathered in one file so that many runs are listed as fast
as one.

1. It is derived from the runs' own indexes (`row_index.py`): `<store>/.index/rows.parquet` says which files each run's lines were made
   from. A run that has changed since is left out of it and served from its own index; when many have, the file is made anew.
2. It is replaced in one step; where it cannot be written, every run is served from its own index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .files import Stored, files, write_whole
from .row_index import FOLDER, INDEX_SCHEMA, RowIndex, index_bytes, row_index

FILE = "rows.parquet"
FEW = 16
"""Up to this many changed runs, and up to one in twenty, are served from their own indexes."""


@dataclass(frozen=True)
class Gathered:
    """What the gathered file knows of a run."""

    stamp: str
    """Of the shards that its lines were made from."""
    shards: tuple[str, ...]
    damaged: Mapping[str, str]
    copies: int


@dataclass(frozen=True)
class StoreIndex:
    """Where the lines of all rows are, fresh when it was asked for."""

    path: Path | None
    """The gathered file, for the runs in `gathered`."""
    gathered: Mapping[str, Gathered]
    own: Mapping[str, RowIndex]
    """The other runs' own indexes."""

    @property
    def runs(self) -> dict[str, Gathered | RowIndex]:
        """What is known of each run."""
        return {**self.gathered, **self.own}

    @property
    def damaged(self) -> list[str]:
        """What is wrong with each shard that could not be read."""
        return [text for index in self.runs.values() for text in index.damaged.values()]

    @property
    def copies(self) -> int:
        """Rows that several shards hold, beyond the first of each."""
        return sum(index.copies for index in self.runs.values())


def store_index(
    root: Path, runs: Collection[str], on_shards: Callable[[str, int, int], None] | None = None
) -> StoreIndex:
    """The indexes of these runs of the store at `root`, brought up to date where they are stale.

    `on_shards(run, done, total)` reports the shards read.
    """
    path = root / FOLDER / FILE
    known = _known(path) if len(runs) > FEW else {}
    stamps = {run: _stamp(files(root / run / "rows", ".parquet")) for run in runs}
    fresh = {run: known[run] for run in runs if run in known and known[run].stamp == stamps[run] is not None}
    own = {
        run: row_index(root, run, None if on_shards is None else partial(on_shards, run))
        for run in runs
        if run not in fresh
    }
    settled = [run for run in own if stamps[run] is not None and own[run].table is None]
    if len(settled) <= max(FEW, len(runs) // 20):
        return StoreIndex(path if fresh else None, fresh, own)
    pieces = [pq.read_table(own[run].path, partitioning=None) for run in settled]
    if fresh:
        pieces.insert(0, pq.read_table(path, partitioning=None, filters=[("run", "in", list(fresh))]))
    added = {run: Gathered(str(stamps[run]), own[run].shards, own[run].damaged, own[run].copies) for run in settled}
    facts = {run: vars(one) for run, one in (fresh | added).items()}
    table = pa.concat_tables([piece.replace_schema_metadata(None) for piece in pieces])
    try:
        write_whole(path, index_bytes(table, facts))
    except OSError:
        return StoreIndex(path if fresh else None, fresh, own)
    return StoreIndex(path, fresh | added, {run: index for run, index in own.items() if run not in added})


def _stamp(shards: list[Stored]) -> str | None:
    """Changes whenever one of the files does; None while one may change unseen."""
    if not all(file.stamp for file in shards):
        return None
    text = json.dumps([(file.name, file.size, file.stamp) for file in shards])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _known(path: Path) -> dict[str, Gathered]:
    try:
        with path.open("rb") as handle, pq.ParquetFile(handle) as file:
            if not file.schema_arrow.equals(INDEX_SCHEMA):
                return {}
            facts: dict[str, Any] = json.loads((file.schema_arrow.metadata or {})[b"sources"])
        return {
            run: Gathered(f["stamp"], tuple(f["shards"]), dict(f["damaged"]), int(f["copies"]))
            for run, f in facts.items()
        }
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError):
        return {}
