"""Versions of what is stored, and the way from each to the next.

1. `run.json` and every shard say their version; one without says 1. What is older is brought forward in memory, step by step, when it is
   read; files are rewritten only by `migrate_run`.
2. What is newer is refused, with the program that wrote it.
3. A migrated run has the bytes that this program would have written.

| version | what changed |
|---|---|
| 1 | shards of rows that are no hybrid's have no column `choices`; no checksums; manifests do not say which program wrote them |
| 2 | every shard has every column and says its version; `<shard>.sha256` beside each shard; `program` in the manifest |
| 3 | columns `unclosed` and `lenient`; null in rows of older versions, where it is not known |
| 4 | columns `spent` and `candidates`, of rows that a decoder chose among several texts; null in others |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa

from .columns import ROW_SCHEMA
from .files import StoreError

SCHEMA_VERSION = 4
VERSION_KEY = b"schema_version"
"""Where a shard's Parquet metadata say its version."""


@cache
def program() -> str:
    """Name and version of this program."""
    try:
        return f"steering-workbench {version('steering-workbench')}"
    except PackageNotFoundError:
        return "steering-workbench of unknown version"


@dataclass(frozen=True)
class Migration:
    """The way from one version to the next."""

    schemas: tuple[pa.Schema, ...]
    """What shards of the older version may look like."""
    manifest: Callable[[dict[str, Any]], dict[str, Any]]
    table: Callable[[pa.Table], pa.Table]
    """Rows of the older version, all columns or some, with what the newer version has besides."""


def _manifest_2(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "schema_version": 2, "program": "steering-workbench, schema version 1"}


def _table_2(table: pa.Table) -> pa.Table:
    if "choices" in table.column_names:
        return table
    field = ROW_SCHEMA.field("choices")
    return table.append_column(field, pa.nulls(len(table), field.type))


def _manifest_3(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "schema_version": 3}


def _with_nulls(table: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """The table with those of the columns that it lacks, null in every row."""
    for name in names:
        if name not in table.column_names:
            field = ROW_SCHEMA.field(name)
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


def _table_3(table: pa.Table) -> pa.Table:
    return _with_nulls(table, ("unclosed", "lenient"))


def _manifest_4(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "schema_version": 4}


def _table_4(table: pa.Table) -> pa.Table:
    return _with_nulls(table, ("spent", "candidates"))


_THIRD = pa.schema([field for field in ROW_SCHEMA if field.name not in ("spent", "candidates")])
_SECOND = pa.schema([field for field in _THIRD if field.name not in ("unclosed", "lenient")])
_FIRST = pa.schema([field for field in _SECOND if field.name != "choices"])
MIGRATIONS: dict[int, Migration] = {
    1: Migration((_SECOND, _FIRST), _manifest_2, _table_2),
    2: Migration((_SECOND,), _manifest_3, _table_3),
    3: Migration((_THIRD,), _manifest_4, _table_4),
}
"""By the version that is left."""


def schemas(number: int) -> tuple[pa.Schema, ...]:
    """What shards of a version may look like."""
    return (ROW_SCHEMA,) if number == SCHEMA_VERSION else MIGRATIONS[number].schemas


def check_version(number: object, where: str, writer: object = None) -> int:
    """The version, if this program reads it. Raises StoreError."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise StoreError(
            f"{where} says schema version {number!r}, which is no version; there are 1 to {SCHEMA_VERSION}."
        )
    if number > SCHEMA_VERSION:
        raise StoreError(
            f"{where} has schema version {number}, written by {writer or 'a newer program'}; this program, {program()}, "
            f"reads versions up to {SCHEMA_VERSION}. Upgrade the program."
        )
    return number


def shard_version(metadata: Mapping[bytes, bytes] | None, where: str) -> int:
    """Version of a shard from its Parquet metadata. Raises StoreError for one that this program does not read."""
    text = (metadata or {}).get(VERSION_KEY, b"1").decode(errors="replace")
    return check_version(int(text) if text.isdigit() else text, where)


def migrated_manifest(data: dict[str, Any], where: str) -> dict[str, Any]:
    """A manifest in this program's version. Raises StoreError for one of a newer version."""
    number = check_version(data.get("schema_version", 1), where, data.get("program"))
    for step in range(number, SCHEMA_VERSION):
        data = MIGRATIONS[step].manifest(data)
    return data


def migrated_table(table: pa.Table, number: int) -> pa.Table:
    """Rows in this program's version, from rows of version `number`."""
    for step in range(number, SCHEMA_VERSION):
        table = MIGRATIONS[step].table(table)
    return table
