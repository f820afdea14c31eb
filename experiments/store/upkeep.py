"""Upkeep of a store: check its files, bring them to this program's version, and find what can go.

1. Checking reads every byte of every file against its checksum (`seal`); shards without one, page by page.
2. Migration rewrites what is of an older version, shard by shard; stopped midway, it leaves every shard whole and goes on when it is
   called again.
3. What can go is listed with why. Of a complete run nothing can go that is not derived, temporary or set aside; a folder that is no run is
   left alone.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import StoreError, files, folders, is_local, read_json, write_whole
from .manifest import read_manifest, write_manifest
from .migration import SCHEMA_VERSION
from .row_index import FOLDER
from .runs import Run, Store
from .seal import FILE, Checked, enter, held, look, members, read_seal, verified
from .shards import checksum_path, read_shard, recorded_checksum, shard_bytes

KINDS = ("temporary", "corrupt", "checksum", "index", "unfinished")


@dataclass(frozen=True)
class Rubbish:
    """Something that can go."""

    kind: str
    path: Path
    size: int
    """Bytes."""
    why: str


def verify(run: Run) -> Iterator[Checked]:
    """Every file of a run, checked whole, and those that are missing."""
    return verified(run.folder)


def migrate_run(run: Run) -> int:
    """Rewrite a run's manifest and shards that are of an older version, and add missing checksums; returns the files written.

    Raises StoreError for a damaged shard, after the ones before it are written, and for another file that is not as the run's list says.
    """
    found = look(run.folder, 0)
    for one in found:
        if one.status == "damaged" and one.file != FILE:
            raise StoreError(f"{one.problem} Nothing was written.")
    sums = {} if any(one.file == FILE for one in found) else read_seal(run.folder).sums
    written, changed = 0, []
    for path in run.shards():
        recorded, data = recorded_checksum(path), shard_bytes(read_shard(path))
        digest = hashlib.sha256(data).hexdigest()
        if recorded == digest:
            continue
        if data != path.read_bytes():
            checksum_path(path).unlink(missing_ok=True)  # a shard without one is whole too
            write_whole(path, data)
            written += 1
        write_whole(checksum_path(path), f"{digest}  {path.name}\n".encode())
        changed.append(f"rows/{path.name}")
        written += 1
    stored = read_json(run.folder / "run.json", "")
    with held(run.folder):
        if stored.get("schema_version", 1) != SCHEMA_VERSION:
            write_manifest(run.folder, read_manifest(run.folder))
            changed.append("run.json")
            written += 1
        before = _list_of(run.folder)
        lacking = [name for name, _ in members(run.folder) if name not in sums]
        enter(run.folder, [*changed, *lacking], closed=run.manifest.status == "complete")
        return written + (_list_of(run.folder) != before)


def _list_of(folder: Path) -> bytes | None:
    path = folder / FILE
    return path.read_bytes() if path.exists() else None


def rubbish(store: Store, unfinished: bool = False, days: float = 30, kinds: Collection[str] = KINDS) -> list[Rubbish]:
    """What can go: leftovers of ended programs, set-aside shards, checksums without a shard, indexes; with `unfinished` also runs
    that are not complete and have not changed for `days`."""
    found: list[Rubbish] = []
    for line in store.catalogue():
        folder = store.root / line.run
        if unfinished and line.status in ("running", "interrupted"):
            everything = [f for place in (folder, folder / "rows") for f in files(place)]
            age = (time.time() - max((f.changed for f in everything), default=0)) / 86_400
            if age >= days:
                size = sum(f.size for f in everything)
                why = f"{line.status}, {line.rows} of {line.expected or '?'} rows, unchanged for {age:.0f} days"
                found.append(Rubbish("unfinished", folder, size, why))
                continue
        for place in (folder, *(folder / name for name in folders(folder))):
            found += _leftovers(place)
    if is_local(store.root) and store.root.is_dir():
        for path in sorted(store.root.glob(".import-*")):
            found.append(Rubbish("temporary", path, _size(path), "an import that ended before it was done"))
    index = store.root / FOLDER
    for place in (index, index / "rows"):
        found += [
            Rubbish("index", place / f.name, f.size, "derived from the runs; made again when needed")
            for f in files(place)
        ]
    return [item for item in found if item.kind in kinds]


def _leftovers(place: Path) -> Iterator[Rubbish]:
    there = files(place)
    names = {f.name for f in there}
    for file in there:
        if file.name.endswith(".tmp"):
            yield Rubbish(
                "temporary", place / file.name, file.size, "left by a program that ended while it was writing"
            )
        elif file.name.endswith(".corrupt"):
            yield Rubbish("corrupt", place / file.name, file.size, "a damaged shard, set aside; its rows were redone")
        elif file.name.endswith(".sha256") and file.name.removesuffix(".sha256") + ".parquet" not in names:
            yield Rubbish("checksum", place / file.name, file.size, "of a shard that is not there")


def delete(items: Collection[Rubbish]) -> None:
    """Delete what `rubbish` found."""
    for item in items:
        if item.kind != "unfinished" and not item.path.name.startswith(".import-"):
            item.path.unlink(missing_ok=True)
        elif is_local(item.path):
            shutil.rmtree(item.path)
        else:
            place: Any = item.path
            place.fs.rm(place.path, recursive=True)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
