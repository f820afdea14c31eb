"""Shards: rows as immutable Parquet files with one schema.

1. Equal rows give equal bytes: a shard holds no time and no machine, is sorted by key and named by the hash of its keys.
2. Rows are checked before they are written: columns, arms, splits, and per-token lists that must be equally long.
3. A damaged, renamed or foreign shard is an error that names file and remedy.
4. A key names one row: copies are collapsed; two different rows under one key are an error, never a loss.
5. The column `choices` is written where a row is a hybrid's; shards without it read as if it were null.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .manifest import AGAIN, SCHEMA_VERSION, Manifest, StoreError, near

FINISHES = ("eos", "length", "stop", "cancelled")

_IDS, _WORDS, _NUMBERS = pa.list_(pa.int32()), pa.list_(pa.string()), pa.list_(pa.float32())
_LABEL = {
    **{"label": pa.string(), "start": pa.int32(), "end": pa.int32()},
    **{"detector": pa.string(), "confidence": pa.float32()},
}
_CHOICE = {
    **{"token": pa.int32(), "category": pa.int32(), "alpha": pa.float32()},
    **{"agreed": pa.bool_(), "matched": pa.bool_()},
}
COLUMNS: dict[str, pa.DataType] = {
    **dict.fromkeys(("key", "arm", "split", "item"), pa.string()),
    **dict.fromkeys(("order", "seed"), pa.int32()),
    **dict.fromkeys(("prompt", "gold", "text", "answer"), pa.string()),
    **dict.fromkeys(("correct", "scorable", "truncated", "trace_ok", "well_formed"), pa.bool_()),
    "finish": pa.string(),
    **dict.fromkeys(("prompt_ids", "token_ids"), _IDS),
    **dict.fromkeys(("prompt_tokens", "tokens"), _WORDS),
    **dict.fromkeys(("logprob", "entropy"), _NUMBERS),
    "top_ids": _IDS,
    "top_tokens": _WORDS,
    **dict.fromkeys(("top_logprob", "edit_ratio"), _NUMBERS),
    **dict.fromkeys(("edits_planned", "edits_fired"), pa.int32()),
    "labels": pa.list_(pa.struct(list(_LABEL.items()))),
    "choices": pa.list_(pa.struct(list(_CHOICE.items()))),
}
NULLABLE = ("answer", "trace_ok", "well_formed", "choices")
ROW_SCHEMA = pa.schema([pa.field(name, kind, nullable=name in NULLABLE) for name, kind in COLUMNS.items()])
"""One row is one generated sequence; lengths, units and meanings are in the table of the design."""
PLAIN_SCHEMA = pa.schema([field for field in ROW_SCHEMA if field.name != "choices"])
"""Of shards whose rows are no hybrid's."""

IDENTITY = ("key", "arm", "split", "item", "order", "seed")
_ALIGNED = (
    ("prompt_ids", "prompt_tokens"),
    ("token_ids", "tokens", "logprob", "entropy"),
    ("top_ids", "top_tokens", "top_logprob"),
)


def shard_name(table: pa.Table) -> str:
    """File name of a shard: the hash of its keys."""
    joined = "\n".join(sorted(table["key"].to_pylist()))
    return hashlib.sha256(joined.encode()).hexdigest()[:24] + ".parquet"


def read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A shard as a table, its pages checked against their checksums and its keys against its name."""
    remedy = f"To go on, {AGAIN}: only its rows are redone."
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            plain = file.schema_arrow.equals(PLAIN_SCHEMA)
            if not plain and not file.schema_arrow.equals(ROW_SCHEMA):
                raise StoreError(f"{path} does not have the columns of schema version {SCHEMA_VERSION}. {remedy}")
            stored = columns if columns is None or not plain else [c for c in columns if c in PLAIN_SCHEMA.names]
            table = file.read(columns=stored)
            if plain and (columns is None or "choices" in columns):
                nothing = pa.nulls(len(table), ROW_SCHEMA.field("choices").type)
                table = table.append_column(ROW_SCHEMA.field("choices"), nothing)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is cut short or damaged ({error}). {remedy}") from error
    if shard_name(table) != path.name:
        raise StoreError(f"{path} does not hold the rows that its name stands for: renamed or damaged. {remedy}")
    return table if columns is None else table.select(columns)


def one_per_key(table: pa.Table, where: str) -> pa.Table:
    """The table without copies of a row. Raises StoreError when one key stands for two different rows."""
    first: dict[str, tuple[Any, ...]] = {}
    keep: list[int] = []
    for index, (key, *identity) in enumerate(zip(*(table[name].to_pylist() for name in IDENTITY), strict=True)):
        if key not in first:
            first[key] = tuple(identity)
            keep.append(index)
        elif first[key] != tuple(identity):
            raise StoreError(
                f"In {where}, key {key!r} stands for two different rows: {', '.join(IDENTITY[1:])} are {first[key]} "
                f"and {tuple(identity)}. Leave out the arm or item that repeats the other, or make their keys differ."
            )
    return table if len(keep) == len(table) else table.take(keep)


def check_rows(rows: Sequence[Mapping[str, Any]], manifest: Manifest) -> None:
    """Raises StoreError naming the row and the column that are wrong."""
    names = {"arm": [a.name for a in manifest.arms], "split": list(manifest.splits), "finish": list(FINISHES)}
    for index, row in enumerate(rows):
        where = f"Row {index} ({row.get('arm')}, {row.get('split')}, {row.get('item')})"
        missing = [n for n in PLAIN_SCHEMA.names if n not in row]
        if missing:
            raise StoreError(f"{where} lacks the column {', '.join(missing)}.")
        extra = sorted(str(n) for n in row if n not in COLUMNS)
        if extra:
            raise StoreError(f"{where} has the unknown column {extra[0]!r}.{near(extra[0], COLUMNS)}")
        null = [n for n in COLUMNS if row.get(n) is None and n not in NULLABLE]
        if null:
            raise StoreError(f"{where} has no value for {', '.join(null)}; only {', '.join(NULLABLE)} may be null.")
        for kind, valid in names.items():
            if row[kind] not in valid:
                raise StoreError(f"{where}: {row[kind]!r} is no {kind} of this run.{near(str(row[kind]), valid)}")
        for group in _ALIGNED:
            lengths = [len(row[n]) for n in group]
            if len(set(lengths)) > 1:
                raise StoreError(f"{where}: {', '.join(group)} must be equally long; their lengths are {lengths}.")
        ratios, positions = len(row["edit_ratio"]), len(row["prompt_ids"]) + len(row["token_ids"])
        if ratios != positions:
            raise StoreError(f"{where}: edit_ratio has {ratios} values for {positions} prompt and generated tokens.")


def to_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table with ROW_SCHEMA; without `choices` where no row has any."""
    arrays = []
    schema = PLAIN_SCHEMA if all(row.get("choices") is None for row in rows) else ROW_SCHEMA
    for field in schema:
        try:
            arrays.append(pa.array([row.get(field.name) for row in rows], field.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise StoreError(f"Column {field.name} needs {field.type}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=schema)
