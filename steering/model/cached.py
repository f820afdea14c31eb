"""The cache of what is made once from a file, or fetched, and can be made again.

1. It lies in `$STEERING_CACHE`; else in `steering-workbench` under `$XDG_CACHE_HOME` (where that is an absolute path) or `~/.cache`.
2. A folder of the cache is whole or not there: it is made under a temporary name and renamed. Of two processes that ask for the same one at
   once, one makes it and the other waits for it.
3. A folder whose files are not the ones that were written, or are not all there, is made again.
4. What a killed process has left half made is removed by a later one, after a day.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..errors import BadInput
from ..files import FULL, DiskFull, in_words, sync_folder

VARIABLE = "STEERING_CACHE"
MANIFEST = "cache.json"
_PARTIAL = ".partial-"
_DAY = 24 * 3600


def cache_root() -> Path:
    """The folder of the cache, which need not exist."""
    own, shared = os.environ.get(VARIABLE), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).expanduser()
    return (Path(shared) if shared and Path(shared).is_absolute() else Path.home() / ".cache") / "steering-workbench"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def size_of(folder: Path) -> int:
    """Bytes of the files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def is_whole(folder: Path) -> bool:
    """Whether a folder of the cache holds exactly what was written: files by size and time, and by SHA-256 where the time differs."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return all(_same(folder / name, facts) for name, facts in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def made(place: Path, make: Callable[[Path], None]) -> tuple[Path, bool]:
    """The folder `place` of the cache, and whether it was made now: by `make`, which is given an empty folder to fill.

    Raises BadInput when the cache cannot be written, DiskFull when there is no room for it, and what `make` raises.
    """
    if is_whole(place):
        return place, False
    partial = place.with_name(f"{_PARTIAL}{place.name}-{secrets.token_hex(4)}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_name(f".{place.name}.lock")):
            if is_whole(place):  # by another process, meanwhile
                return place, False
            _sweep(place.parent)
            partial.mkdir()
            make(partial)
            _seal(partial)
            shutil.rmtree(place, ignore_errors=True)
            partial.rename(place)
            sync_folder(place.parent)
            return place, True
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(error, place, size_of(partial)) from error
        raise BadInput(
            f"The cache {cache_root()} cannot be written: {in_words(error)} Set {VARIABLE} to another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _same(path: Path, facts: dict[str, Any]) -> bool:
    found = path.stat()
    if found.st_size != facts["size"]:
        return False
    return found.st_mtime_ns == facts["written"] or file_digest(path) == facts["sha256"]


def _seal(folder: Path) -> None:
    """Flush a folder's files to disk and write its manifest."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
        found = path.stat()
        files[path.relative_to(folder).as_posix()] = {
            "size": found.st_size,
            "written": found.st_mtime_ns,
            "sha256": file_digest(path),
        }
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=1, sort_keys=True))
    sync_folder(folder)


def _sweep(folder: Path) -> None:
    if not folder.is_dir():
        return
    for left in folder.glob(f"{_PARTIAL}*"):
        try:
            old = time.time() - left.stat().st_mtime > _DAY
        except FileNotFoundError:
            continue
        if old:
            shutil.rmtree(left, ignore_errors=True)
