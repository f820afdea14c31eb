"""Runs as files: tables for other programs, and archives that another store takes in whole.

1. An archive holds every file of a run but temporary and set-aside ones; equal runs give equal archives.
2. An archive is checked before it is taken in: names that lead nowhere else, a manifest that can be read, every file against its checksum.
   A run that is there already is never changed.
3. A file appears whole or not at all, and one that is there is replaced only when asked.
"""

from __future__ import annotations

import csv
import json
import lzma
import re
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from steering.files import DiskFull, new_file

from .columns import COLUMNS, ROW_SCHEMA
from .files import StoreError, files, folders, is_local, write_whole
from .manifest import check_run_id, read_manifest
from .runs import Run, Store
from .seal import BAD, verified

FORMATS = ("csv", "parquet", "jsonl", "zip")
PLAIN = tuple(name for name, kind in COLUMNS.items() if not pa.types.is_list(kind))
"""Columns of a CSV: those that hold one value."""
_MEMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){1,2}")
_TIME = (1980, 1, 1, 0, 0, 0)
EXPANSION = 200
"""An archive that unpacks to more than this many times its size is refused."""


def export(run: Run, path: Path, kind: str, force: bool = False) -> int:
    """Write a run's rows (`csv`, `parquet`, `jsonl`) or all its files (`zip`) to a local file; returns the rows or files written.

    Rows are in the order of `Run.table`, a split and arm at a time. Raises StoreError for a file that exists, unless `force`.
    """
    if path.exists() and not force:
        raise StoreError(f"{path} exists. Give another name, or --force to replace it.")
    writers: dict[str, Callable[[Run, Path], int]] = {"csv": _csv, "parquet": _parquet, "jsonl": _jsonl, "zip": _zip}
    if kind not in writers:
        raise StoreError(f"Unknown format {kind!r}. There are: {', '.join(FORMATS)}.")
    with new_file(path) as partial:
        return writers[kind](run, partial)


def _pieces(run: Run, columns: tuple[str, ...] | None = None) -> Iterator[pa.Table]:
    """The rows of a run in its order, a few at a time."""
    order = run.index().read(["key", "split", "arm", "order", "seed"]).to_pylist()
    splits = {name: place for place, name in enumerate(run.manifest.splits)}
    arms = {arm.name: place for place, arm in enumerate(run.manifest.arms)}
    order.sort(key=lambda row: (splits[row["split"]], arms[row["arm"]], row["order"], row["seed"], row["key"]))
    for start in range(0, len(order), 256):
        yield run.traces([row["key"] for row in order[start : start + 256]], columns)


def _csv(run: Run, path: Path) -> int:
    n = 0
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("run", *PLAIN))
        for piece in _pieces(run, PLAIN):
            writer.writerows((run.manifest.run_id, *row.values()) for row in piece.to_pylist())
            n += len(piece)
    return n


def _jsonl(run: Run, path: Path) -> int:
    n = 0
    with path.open("w", encoding="utf-8") as handle:
        for piece in _pieces(run):
            for row in piece.to_pylist():
                handle.write(json.dumps({"run": run.manifest.run_id, **row}, ensure_ascii=False) + "\n")
            n += len(piece)
    return n


def _parquet(run: Run, path: Path) -> int:
    n = 0
    with pq.ParquetWriter(path, ROW_SCHEMA, compression="zstd") as writer:
        for piece in _pieces(run):
            writer.write_table(piece.cast(ROW_SCHEMA))
            n += len(piece)
    return n


def _zip(run: Run, path: Path) -> int:
    members = sorted(members_of(run))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for member in members:
            info = zipfile.ZipInfo(f"{run.manifest.run_id}/{member}", _TIME)
            info.external_attr = 0o644 << 16
            archive.writestr(info, (run.folder / member).read_bytes())
    return len(members)


def members_of(run: Run) -> list[str]:
    """Names of a run's files, relative to its folder, without temporary and set-aside ones."""
    found = [file.name for file in files(run.folder)]
    for folder in folders(run.folder):
        found += [f"{folder}/{file.name}" for file in files(run.folder / folder)]
    return [name for name in found if not name.endswith((".tmp", ".corrupt"))]


def import_archive(path: Path, store: Store) -> Run:
    """Take the run in an archive into a store. Raises StoreError for what is no whole archive of a run, and for a run that exists."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _taken(path, archive, store)
    except DiskFull:
        raise
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
        raise StoreError(
            f"{path} is no whole archive ({error}). `steer runs export RUN -o x.zip` writes one."
        ) from error


def _taken(path: Path, archive: zipfile.ZipFile, store: Store) -> Run:
    members = [info for info in archive.infolist() if not info.is_dir()]
    run_id = _run_of(str(path), [info.filename for info in members], store)
    if sum(info.file_size for info in members) > EXPANSION * max(path.stat().st_size, 1):
        raise StoreError(f"{path} would unpack to more than {EXPANSION} times its size; nothing was written.")
    locked = next((info.filename for info in members if info.flag_bits & 1), None)
    if locked is not None:
        raise StoreError(
            f"{path} holds {locked!r} encrypted; archives are read without a password. Nothing was written."
        )
    return _placed(str(path), run_id, ((info.filename, _content(path, archive, info)) for info in members), store)


def take_in(where: str, folder: Path, store: Store) -> Run:
    """Take the run that lies in a folder (`<run>/run.json` and so on) into a store, after checking every file; `where` names the folder
    for messages. Raises StoreError for what is no whole run, and for a run that exists."""
    held = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in held]
    run_id = _run_of(where, names, store)
    return _placed(where, run_id, ((name, path.read_bytes()) for name, path in zip(names, held, strict=True)), store)


def _run_of(where: str, names: Sequence[str], store: Store) -> str:
    """The run that files of these names are. Raises StoreError for other names, for none or several runs, and for one that exists."""
    for name in names:
        if not _MEMBER.fullmatch(name):
            raise StoreError(f"{where} holds {name!r}, which is no file of a run; nothing was written.")
    roots = {name.split("/", 1)[0] for name in names}
    if len(roots) != 1:
        raise StoreError(f"{where} holds {len(roots)} runs; one is taken at a time. Nothing was written.")
    run_id = check_run_id(roots.pop())
    if (store.root / run_id / "run.json").exists():
        raise StoreError(f"Run {run_id!r} exists in {store.root}. Give another store with --runs.")
    return run_id


def _placed(where: str, run_id: str, contents: Iterable[tuple[str, bytes]], store: Store) -> Run:
    """Write the files aside, check them, and put the run in its place."""
    scratch = store.root / f".import-{secrets.token_hex(4)}" if is_local(store.root) else Path(_scratch())
    try:
        for name, data in contents:
            write_whole(scratch / name, data)
        read_manifest(scratch / run_id)
        for one in verified(scratch / run_id):
            if one.status in BAD:
                said = str(one.problem).replace(f"{scratch}/", "")
                raise StoreError(f"{where} holds a run that is not whole, so nothing was written: {said}")
        if is_local(store.root):
            shutil.rmtree(store.root / run_id, ignore_errors=True)  # a folder without a manifest is no run
            (scratch / run_id).replace(store.root / run_id)
        else:
            _upload(scratch / run_id, store.root / run_id)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return store.open(run_id)


def _content(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except (
        OSError,
        RuntimeError,
        NotImplementedError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
    ) as error:
        raise StoreError(f"{path}: {info.filename!r} cannot be unpacked ({error}); nothing was written.") from error


def _scratch() -> str:
    import tempfile

    return tempfile.mkdtemp()


def _upload(source: Path, target: Path) -> None:
    """Copy a run's files to a URL, its manifest last: without it there is no run."""
    names: list[Any] = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    for name in sorted(names, key=lambda name: name.as_posix() == "run.json"):
        write_whole(target / name.as_posix(), (source / name).read_bytes())
