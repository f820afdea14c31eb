"""Where files lie: a local folder, or any place that fsspec reaches by URL (`s3://`, `gs://`, `hf://`, `memory://`).

1. A file appears whole or not at all. Locally: temporary name, flush to disk, rename. On object stores a whole-object put is one step.
2. Leftover `*.tmp` files are never read; `sweep` removes them.
3. A listing is read from the store each time, never from a cache of the file system's client.
4. A protocol whose package is missing is refused with the name of the package.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from upath import UPath

from steering.files import sync_folder as sync_local
from steering.files import write_file

PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
"""Python package that a protocol needs."""
RACY = 2_000_000_000
"""Nanoseconds. A file changed more recently than this may change again without its time of change showing it."""


class StoreError(ValueError):
    """A run or row that cannot be stored or read. The message says what was wrong, where, and what to do."""


@dataclass(frozen=True)
class Stored:
    """A file as a listing shows it."""

    name: str
    size: int
    """Bytes."""
    stamp: str
    """Changes whenever the file does. Empty for a file changed so recently that another change might not show."""
    changed: float
    """Seconds since 1970; 0 where the store does not say."""


def locate(root: Path | str) -> Path:
    """The folder that a path or URL names; for a URL an object with the methods of Path.

    Raises BadInput for an unknown protocol, or one whose package is not installed.
    """
    from steering.errors import BadInput, unknown

    if not isinstance(root, str):
        if is_local(root) and re.match(r"[a-z0-9]{2,}:/", root.as_posix()):
            raise BadInput(f"{str(root)!r} is a URL that was made a path: give the URL as text.")
        return root
    if "://" not in root:
        return Path(root).expanduser()
    protocol, rest = root.split("://", 1)
    if protocol in ("file", "local"):
        return Path(rest)
    try:
        place = UPath(root.rstrip("/"), use_listings_cache=False)
        place.fs  # noqa: B018  # the package is imported here
    except ImportError as error:
        package = PACKAGES.get(protocol, f"for {protocol}")
        raise BadInput(f"{root!r} needs the package {package}, which is not here: pip install {package}") from error
    except ValueError as error:
        raise unknown("protocol", protocol, ("s3", "gs", "hf", "memory", "file"), repr(root)) from error
    return cast(Path, place)


def is_local(path: Path) -> bool:
    """Whether a place is a folder or file of this machine's own file system."""
    return not isinstance(path, UPath)


def location(path: Path) -> str:
    """A place as one writes it: an absolute path, or a URL."""
    return path.resolve().as_posix() if is_local(path) else str(path)


def files(folder: Path, suffix: str = "") -> list[Stored]:
    """The files directly in a folder whose names end in `suffix`, by name; none when it does not exist."""
    if not is_local(folder):
        return [file for file in _remote_files(folder) if file.name.endswith(suffix)]
    now, found = time.time_ns(), []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.name.endswith(suffix) and entry.is_file():
                        found.append(_local(entry.name, entry.stat(), now))
                except FileNotFoundError:
                    continue
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda file: file.name)


def stored(path: Path) -> Stored | None:
    """One file as a listing shows it, or None when there is none."""
    if not is_local(path):
        return next((file for file in files(path.parent) if file.name == path.name), None)
    try:
        return _local(path.name, path.stat(), time.time_ns())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _local(name: str, facts: os.stat_result, now: int) -> Stored:
    settled = now - facts.st_mtime_ns > RACY
    return Stored(name, facts.st_size, str(facts.st_mtime_ns) if settled else "", facts.st_mtime)


def _remote_files(folder: Path) -> list[Stored]:
    place: Any = folder
    try:
        listing = place.fs.ls(place.path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for facts in listing:
        if facts["type"] != "file":
            continue
        changed = facts.get("LastModified") or facts.get("mtime") or facts.get("updated") or facts.get("created") or 0
        stamp = facts.get("ETag") or facts.get("etag") or facts.get("oid") or facts.get("blob_id") or changed
        seconds = changed.timestamp() if hasattr(changed, "timestamp") else changed
        name = facts["name"].rstrip("/").rsplit("/", 1)[-1]
        found.append(
            Stored(name, int(facts["size"] or 0), str(stamp), float(seconds) if isinstance(seconds, int | float) else 0)
        )
    return sorted(found, key=lambda file: file.name)


def folders(folder: Path) -> list[str]:
    """Names of the folders directly in a folder, without those that begin with a dot; none when it does not exist."""
    if is_local(folder):
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
    else:
        place: Any = folder
        try:
            listing = place.fs.ls(place.path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = [f["name"].rstrip("/").rsplit("/", 1)[-1] for f in listing if f["type"] == "directory"]
    return sorted(name for name in names if not name.startswith("."))


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds all of it or is unchanged, also when the machine stops midway. Raises DiskFull (an OSError)."""
    if is_local(path):
        write_file(path, data)
        return
    place: Any = path
    if place.protocol == "memory":
        place.parent.mkdir(parents=True, exist_ok=True)
    place.fs.pipe_file(place.path, data)


def sync_folder(folder: Path) -> None:
    """Flush a rename to disk."""
    if is_local(folder):
        sync_local(folder)


def sweep(folder: Path) -> None:
    """Remove temporary files that an ended program left in a run's folder. A program that is still writing one writes it anew."""
    if is_local(folder):
        for path in (*folder.glob("*.tmp"), *(folder / "rows").glob("*.tmp")):
            path.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Give a damaged file the name `<name>.corrupt`, so that it is kept and not read; returns the new path."""
    aside = path.with_name(path.name + ".corrupt")
    if is_local(path):
        with suppress(FileNotFoundError):  # another program set it aside at the same time
            path.replace(aside)
    else:
        write_whole(aside, path.read_bytes())
        path.unlink()
    return aside


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON mapping. Raises StoreError that ends in `remedy`."""
    try:
        data = json.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: it is half-written or damaged ({error}). {remedy}") from error
    if not isinstance(data, dict):
        raise StoreError(f"{path} is not a JSON mapping. {remedy}")
    return data
