"""The row index: what there is to list and filter of a run's rows, without their tokens, in one small file.

1. It is derived: `<store>/.index/rows/<run>.parquet` holds size and time of change of each shard that it was made from. A shard that is new
   or changed is read again, one that is gone is left out; the rest is taken over. Deleting it costs the time to make it again.
2. It is replaced in one step, so readers see the one or the other. Where it cannot be written (a read-only store), it is made in memory.
3. A damaged shard has no rows here and is named in `damaged`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .columns import ROW_SCHEMA
from .files import Stored, StoreError, files, write_whole
from .shards import read_shard

FOLDER = ".index"
"""In the store's folder: everything derived from its runs."""
VERSION = b"1"
_STORED = (
    *("key", "arm", "split", "item", "order", "seed", "gold", "answer", "correct", "scorable", "truncated", "trace_ok"),
    *("well_formed", "finish", "edits_planned", "edits_fired"),
)
INDEX_SCHEMA = pa.schema(
    [
        pa.field("run", pa.string()),
        *(ROW_SCHEMA.field(name) for name in _STORED),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("tokens", pa.int32()),
        pa.field("shard", pa.string()),
    ]
)
"""One line per row: the columns of the row that are no lists and no long texts, and
`prompt_tokens`, `tokens`: how many were fed and generated; `shard`: the name of the file that holds the row."""


@dataclass(frozen=True)
class RowIndex:
    """A run's index, fresh when it was asked for."""

    path: Path
    """The index file."""
    table: pa.Table | None
    """The index itself, where it could not be written."""
    shards: tuple[str, ...]
    """Names of the files that hold the rows."""
    damaged: Mapping[str, str]
    """What is wrong with each shard that could not be read, by name."""
    copies: int
    """Rows that several shards hold, beyond the first of each."""

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of the index, with INDEX_SCHEMA or some of its columns."""
        if self.table is None:
            return _read(self.path, columns)
        return self.table if columns is None else self.table.select(list(columns))


def row_index(root: Path, run_id: str, on_shards: Callable[[int, int], None] | None = None) -> RowIndex:
    """The index of a run in the store at `root`, made or brought up to date where it is stale.

    `on_shards(done, total)` reports the shards read.
    """
    path, folder = root / FOLDER / "rows" / f"{run_id}.parquet", root / run_id / "rows"
    there = files(folder, ".parquet")
    known, damaged, copies = _sources(path)
    fresh = {f.name for f in there if f.stamp and known.get(f.name) == [f.size, f.stamp]}
    if known and len(fresh) == len(there) == len(known):
        return RowIndex(path, None, tuple(n for n in known if n not in damaged), damaged, copies)
    pieces = []
    if fresh:
        old = _read(path)
        pieces.append(old.filter(pc.is_in(old["shard"], value_set=pa.array(sorted(fresh)))))
    damaged = {name: text for name, text in damaged.items() if name in fresh}
    stale = [f for f in there if f.name not in fresh]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for done, (file, piece) in enumerate(
            zip(stale, pool.map(lambda f: _piece(folder, f, run_id), stale), strict=True), 1
        ):
            if isinstance(piece, str):
                damaged[file.name] = piece
            else:
                pieces.append(piece)
            if on_shards is not None:
                on_shards(done, len(stale))
    everything = pa.concat_tables([INDEX_SCHEMA.empty_table(), *pieces])
    table = _once(everything)
    copies = (copies if fresh else 0) + len(everything) - len(table)
    facts = {"shards": {f.name: [f.size, f.stamp] for f in there}, "damaged": damaged, "copies": copies}
    unwritten: pa.Table | None = None
    try:
        write_whole(path, index_bytes(table, facts))
    except OSError:
        unwritten = table
    return RowIndex(path, unwritten, tuple(f.name for f in there if f.name not in damaged), damaged, copies)


def _piece(folder: Path, file: Stored, run_id: str) -> pa.Table | str:
    """The lines of one shard, or what is wrong with it."""
    try:
        shard = read_shard(folder / file.name, [*_STORED, "prompt_ids", "token_ids", "spent"], whole=False)
    except StoreError as error:
        return str(error)
    columns = {
        "run": pa.array([run_id] * len(shard), pa.string()),
        **{name: shard[name] for name in _STORED},
        "prompt_tokens": pc.list_value_length(shard["prompt_ids"]),
        "tokens": pc.coalesce(shard["spent"], pc.list_value_length(shard["token_ids"])),
        "shard": pa.array([file.name] * len(shard), pa.string()),
    }
    return pa.table([columns[name] for name in INDEX_SCHEMA.names], schema=INDEX_SCHEMA)


def _once(table: pa.Table) -> pa.Table:
    """The table with the first line of each key."""
    if pc.count_distinct(table["key"]).as_py() == len(table):
        return table
    numbered = pa.table({"key": table["key"], "place": pa.array(range(len(table)))})
    first = numbered.group_by("key").aggregate([("place", "min")])["place_min"]
    return table.take(first.take(pc.sort_indices(first)))


def index_bytes(table: pa.Table, facts: Mapping[str, Any]) -> bytes:
    """An index as a file that says what it was made from."""
    metadata = {b"index_version": VERSION, b"sources": json.dumps(facts).encode()}
    sink = pa.BufferOutputStream()
    words = ["run", "arm", "split", "item", "answer", "gold", "finish", "shard"]
    pq.write_table(
        table.replace_schema_metadata(metadata), sink, compression="zstd", row_group_size=1 << 17, use_dictionary=words
    )
    return bytes(sink.getvalue().to_pybytes())


def _sources(path: Path) -> tuple[dict[str, list[Any]], dict[str, str], int]:
    """Size and stamp of the shards that an index was made from, what was wrong with some, and how many copies were left out.

    Empty where there is no readable index.
    """
    try:
        with path.open("rb") as handle, pq.ParquetFile(handle) as file:
            metadata = file.schema_arrow.metadata or {}
            if metadata.get(b"index_version") != VERSION or not file.schema_arrow.equals(INDEX_SCHEMA):
                return {}, {}, 0
            facts = json.loads(metadata[b"sources"])
            return dict(facts["shards"]), dict(facts["damaged"]), int(facts["copies"])
    except (OSError, pa.ArrowException, ValueError, KeyError):
        return {}, {}, 0


def _read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    with path.open("rb") as handle, pq.ParquetFile(handle) as file:
        return file.read(columns=None if columns is None else list(columns)).replace_schema_metadata(None)
