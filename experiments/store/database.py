"""A store as a database: DuckDB views over its runs, rows, tokens and receipts.

1. `runs` and `rows` read the derived indexes (`catalogue.py`, `store_index.py`), which are brought up to date first; `tokens` and
   `receipts` read the shards. Nothing is copied, and a filter on `run` opens the files of that run alone.
2. A damaged shard is left out and named.
3. `query` runs one SELECT: it changes nothing, and reads nothing outside the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from .catalogue import as_dict
from .files import StoreError, folders, is_local, location
from .row_index import INDEX_SCHEMA
from .runs import Store
from .store_index import StoreIndex, store_index

VIEWS = ("runs", "rows", "tokens", "receipts")
RUNS_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("run", "status", "name", "task"), pa.string()),
        **{"models": pa.list_(pa.string()), "arms": pa.int32(), "splits": pa.list_(pa.string()), "seeds": pa.int32()},
        **{"rows": pa.int64(), "expected": pa.int64(), "changed": pa.string(), "problem": pa.string()},
    }
)
_SHARDS = "split_part(replace(filename, '\\', '/'), '/', -3) as run, split_part(replace(filename, '\\', '/'), '/', -1) as shard"
_ROW = "run, key, arm, split, item, seed"
TOKENS = f"""
select {_ROW}, unnest(range(len(token_ids)))::int as position, unnest(token_ids) as token_id, unnest(tokens) as text,
    unnest(logprob) as logprob, unnest(entropy) as entropy, unnest(edit_ratio[len(prompt_ids) + 1:]) as edit_ratio
from shards
"""
"""One line per generated token: `position` from 0, log-probability and entropy in nats, and `edit_ratio`, the size of the edit at the
token's own position over that of the activation (an edit changes the prediction of the token after it)."""
RECEIPTS = f"""
select {_ROW}, position, if(position < fed, null, position - fed)::int as generated, token_id, text, edit_ratio
from (
    select {_ROW}, len(prompt_ids) as fed, unnest(range(len(edit_ratio)))::int as position,
        unnest(list_concat(prompt_ids, token_ids)) as token_id, unnest(list_concat(prompt_tokens, tokens)) as text,
        unnest(edit_ratio) as edit_ratio
    from shards where edits_fired > 0
) where edit_ratio > 0
"""
"""One line per edited position: `position` over prompt and generated tokens; `generated`, its place among the generated ones, is null in
the prompt."""


@dataclass(frozen=True)
class Database:
    """An open connection, and what could not be read."""

    connection: duckdb.DuckDBPyConnection
    damaged: tuple[str, ...]
    """What is wrong with each shard that was left out."""

    def query(self, sql: str) -> pa.Table:
        """The result of one SELECT. Raises StoreError for anything else, and for SQL that DuckDB refuses."""
        try:
            statements = self.connection.extract_statements(sql)
            kinds = [str(statement.type).rsplit(".", 1)[-1] for statement in statements]
            if len(kinds) != 1 or kinds[0] not in ("SELECT", "EXPLAIN"):
                raise StoreError(
                    f"One SELECT at a time, not {' and '.join(kinds) or 'nothing'}. Views: {', '.join(VIEWS)}; "
                    "for example: select run, arm, avg(correct::int) from rows group by all"
                )
            return self.connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise StoreError(f"The query cannot be run: {error} Views: {', '.join(VIEWS)}.") from error


def views_of(sql: str) -> tuple[str, ...]:
    """The views that a query may name."""
    return tuple(name for name in VIEWS if re.search(rf"\b{name}\b", sql, re.IGNORECASE))


def connect(
    store: Store,
    views: Collection[str] = VIEWS,
    runs: Collection[str] | None = None,
    on_shards: Callable[[str, int, int], None] | None = None,
) -> Database:
    """A connection with views over all runs of a store, or those named. Indexes that are stale are brought up to date first.

    Only `views` are made, since `rows`, `tokens` and `receipts` need every run's row index. `on_shards(run, done, total)` reports
    shards read. Raises StoreError for a run that does not exist.
    """
    for run in runs or ():
        store.open(run)
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    if not is_local(store.root):
        place: Any = store.root
        connection.register_filesystem(place.fs)
    if "runs" in views:
        lines = [as_dict(line) for line in store.catalogue() if runs is None or line.run in runs]
        connection.register("runs", pa.Table.from_pylist(lines, schema=RUNS_SCHEMA))
    damaged: list[str] = []
    if set(views) - {"runs"}:
        index = store_index(store.root, folders(store.root) if runs is None else runs, on_shards)
        damaged = index.damaged
        _rows(connection, index)
        if {"tokens", "receipts"} & set(views):
            _shards(connection, store.root, index)
    connection.execute("set python_enable_replacements = false")
    inside = {location(store.root), _plainly(store.root)}
    connection.execute(f"set allowed_directories = [{', '.join(map(_text, sorted(inside)))}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return Database(connection, tuple(damaged))


def _rows(connection: duckdb.DuckDBPyConnection, index: StoreIndex) -> None:
    held = [own.table for own in index.own.values() if own.table is not None]
    connection.register("rows_in_memory", pa.concat_tables([INDEX_SCHEMA.empty_table(), *held]))
    parts = ["select * from rows_in_memory"]
    if index.path is not None:
        runs = pa.table({"run": pa.array(list(index.gathered), pa.string())})
        connection.register("gathered_runs", runs)
        gathered = f"read_parquet({_text(location(index.path))}, hive_partitioning = false)"
        parts.append(f"select * from {gathered} where run in (select run from gathered_runs)")
    written = [own.path for own in index.own.values() if own.table is None and own.shards]
    if written:
        paths = ", ".join(_text(path) for path in _locations(written))
        parts.append(f"select * from read_parquet([{paths}], hive_partitioning = false)")
    connection.execute(f"create view rows as {' union all '.join(parts)}")


def _shards(connection: duckdb.DuckDBPyConnection, root: Path, index: StoreIndex) -> None:
    top = location(root)
    paths = [f"{top}/{run}/rows/{shard}" for run, known in index.runs.items() for shard in known.shards]
    columns = "key, arm, split, item, seed, prompt_ids, token_ids, prompt_tokens, tokens, logprob, entropy, edit_ratio, edits_fired"
    if paths:
        source = f"read_parquet([{', '.join(map(_text, paths))}], filename = true, hive_partitioning = false)"
        shards = f"select {_SHARDS}, {columns} from {source}"
        if index.copies:
            shards = f"select s.* from ({shards}) s semi join rows r on s.key = r.key and s.shard = r.shard and s.run = r.run"
    else:
        from .columns import ROW_SCHEMA

        connection.register("no_rows", ROW_SCHEMA.empty_table())
        shards = f"select '' as run, '' as shard, {columns} from no_rows"
    connection.execute(f"create view shards as {shards}")
    connection.execute(f"create view tokens as {TOKENS}")
    connection.execute(f"create view receipts as {RECEIPTS}")


def _locations(paths: list[Path]) -> list[str]:
    """Files of one folder, as DuckDB is told them."""
    top = location(paths[0].parent)
    return [f"{top}/{path.name}" for path in paths]


def _plainly(root: Path) -> str:
    """A place as DuckDB names what it finds there."""
    place: Any = root
    return str(root) if is_local(root) else f"{place.protocol}://{place.path}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
