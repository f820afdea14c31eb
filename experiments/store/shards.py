"""Shards: rows as immutable Parquet files with one schema.

1. Equal rows give equal bytes: a shard holds no time and no machine, is sorted by key and named by the hash of its keys.
2. Rows are checked before they are written: columns, arms, splits, and per-token lists that must be equally long.
3. `<name>.sha256` beside a shard holds the checksum of its bytes. It is written first, so a shard without one is of schema version 1.
4. A shard that is read whole is checked against its checksum; one that is read in part, page by page. A damaged, renamed or foreign shard
   is an error that names file and remedy.
5. A key names one row: copies are collapsed; two different rows under one key are an error, never a loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .columns import ALIGNED, COLUMNS, FINISHES, IDENTITY, NULLABLE, OPTIONAL, ROW_SCHEMA
from .files import StoreError, is_local, write_whole
from .manifest import AGAIN, Manifest, near
from .migration import SCHEMA_VERSION, VERSION_KEY, migrated_table, schemas, shard_version

GROUP_TOKENS = 16_384
"""Generated tokens per row group, about: what is decoded to read one row."""
REPEATED = (
    "arm",
    "split",
    "finish",
    "prompt_ids.list.element",
    "prompt_tokens.list.element",
    "token_ids.list.element",
) + (
    "tokens.list.element",
    "top_ids.list.element",
    "top_tokens.list.element",
)
"""Columns with few distinct values, written as dictionaries."""
NUMBERS = ("logprob", "entropy", "top_logprob", "edit_ratio")
REMEDY = f"To go on, {AGAIN}: only its rows are redone."


def shard_name(table: pa.Table) -> str:
    """File name of a shard: the hash of its keys."""
    joined = "\n".join(sorted(table["key"].to_pylist()))
    return hashlib.sha256(joined.encode()).hexdigest()[:24] + ".parquet"


def shard_bytes(table: pa.Table) -> bytes:
    """Rows, all columns, sorted by key, as the bytes of a shard of this program's version."""
    arrays = [
        table[field.name].combine_chunks().cast(field.type) for field in ROW_SCHEMA
    ]  # Parquet names what lists hold
    labelled = pa.table(arrays, schema=ROW_SCHEMA.with_metadata({VERSION_KEY: str(SCHEMA_VERSION).encode()}))
    tokens = pc.sum(pc.list_value_length(table["token_ids"])).as_py() or 1
    sink = pa.BufferOutputStream()
    pq.write_table(
        labelled,
        sink,
        compression="zstd",
        compression_level=3,
        write_page_checksum=True,
        row_group_size=max(1, GROUP_TOKENS * len(table) // tokens),
        use_dictionary=list(REPEATED),
        use_byte_stream_split=[f"{name}.list.element" for name in NUMBERS],
    )
    return bytes(sink.getvalue().to_pybytes())


def checksum_path(path: Path) -> Path:
    """The file that holds a shard's checksum, in the format of `sha256sum`."""
    return path.with_name(path.name.removesuffix(".parquet") + ".sha256")


def write_shard(path: Path, data: bytes) -> None:
    """Write a shard after its checksum."""
    line = f"{hashlib.sha256(data).hexdigest()}  {path.name}\n"
    write_whole(checksum_path(path), line.encode())
    write_whole(path, data)


def recorded_checksum(path: Path) -> str | None:
    """The checksum recorded for a shard: 64 hex digits, or None when there is none."""
    try:
        return checksum_path(path).read_bytes()[:64].decode("ascii", "replace")
    except FileNotFoundError:
        return None


def check_shard(path: Path) -> bool:
    """Check a shard's bytes against its checksum, else every page of it, and its keys against its name.

    Returns whether there is a checksum. Raises StoreError for a damaged, renamed or foreign one.
    """
    recorded = recorded_checksum(path)
    read_shard(path, None if recorded is None else ["key"], whole=True)
    return recorded is not None


@contextmanager
def _opened(path: Path, whole: bool) -> Iterator[Any]:
    """What Parquet reads a shard from: its bytes, checked, or the file."""
    if whole:
        data = path.read_bytes()
        recorded = recorded_checksum(path)
        found = hashlib.sha256(data).hexdigest()
        if recorded is not None and recorded != found:
            raise StoreError(
                f"{path} is cut short or damaged: its SHA-256 begins {found[:12]}, {checksum_path(path).name} says "
                f"{recorded[:12]}. {REMEDY}"
            )
        yield pa.BufferReader(data)
    elif is_local(path):
        yield path
    else:
        with path.open("rb") as handle:
            yield handle


def read_shard(path: Path, columns: Sequence[str] | None = None, whole: bool | None = None) -> pa.Table:
    """A shard as a table of this program's version, its keys checked against its name.

    `whole` (by default when all columns are asked for) reads the file whole and checks its checksum; else the pages read are checked
    against theirs.
    """
    try:
        with (
            _opened(path, columns is None if whole is None else whole) as source,
            pq.ParquetFile(source, page_checksum_verification=True) as file,
        ):
            version = shard_version(file.metadata.metadata, str(path))
            there = file.schema_arrow
            if not any(there.equals(schema) for schema in schemas(version)):
                raise StoreError(f"{path} does not have the columns of schema version {version}. {REMEDY}")
            wanted = None if columns is None else [*columns, *([] if "key" in columns else ["key"])]
            table = file.read(columns=wanted if wanted is None else [c for c in wanted if c in there.names])
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is cut short or damaged ({error}). {REMEDY}") from error
    table = migrated_table(table.replace_schema_metadata(None), version)
    if shard_name(table) != path.name:
        raise StoreError(f"{path} does not hold the rows that its name stands for: renamed or damaged. {REMEDY}")
    return table.select(ROW_SCHEMA.names if columns is None else list(columns))


def read_rows(path: Path, keys: Collection[str], columns: Sequence[str]) -> pa.Table:
    """The rows of these keys in a shard, some columns: only the row groups that hold them are read, and their pages checked."""
    try:
        with (
            _opened(path, whole=False) as source,
            pq.ParquetFile(source, page_checksum_verification=True) as file,
        ):
            version = shard_version(file.metadata.metadata, str(path))
            there = [name for name in dict.fromkeys([*columns, "key"]) if name in file.schema_arrow.names]
            place, groups = file.schema_arrow.names.index("key"), []
            for number in range(file.metadata.num_row_groups):
                held = file.metadata.row_group(number).column(place).statistics
                if held is None or not held.has_min_max or any(held.min <= key <= held.max for key in keys):
                    groups.append(number)
            table = file.read_row_groups(groups, columns=there)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} is cut short or damaged ({error}). {REMEDY}") from error
    table = migrated_table(table.replace_schema_metadata(None), version)
    return table.filter(holding(table["key"], keys)).select(list(columns))


def holding(column: pa.ChunkedArray, keys: Collection[str]) -> Any:
    """Which of a column's values are among `keys`."""
    if len(keys) == 1:  # the other way loads pandas, which takes longer than reading a row
        return pc.equal(column, next(iter(keys)))
    return pc.is_in(column, value_set=pa.array(list(keys), pa.string()))


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
        missing = [n for n in COLUMNS if n not in row and n not in OPTIONAL]
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
        for group in ALIGNED:
            lengths = [len(row[n]) for n in group]
            if len(set(lengths)) > 1:
                raise StoreError(f"{where}: {', '.join(group)} must be equally long; their lengths are {lengths}.")
        ratios, positions = len(row["edit_ratio"]), len(row["prompt_ids"]) + len(row["token_ids"])
        if ratios != positions:
            raise StoreError(f"{where}: edit_ratio has {ratios} values for {positions} prompt and generated tokens.")


def to_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table with ROW_SCHEMA; `choices` may be left out of rows that are no hybrid's."""
    arrays = []
    for field in ROW_SCHEMA:
        try:
            arrays.append(pa.array([row.get(field.name) for row in rows], field.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise StoreError(f"Column {field.name} needs {field.type}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=ROW_SCHEMA)
