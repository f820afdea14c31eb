"""The vectors that the app can offer: files, read without a model library.

1. A vector's name, site, norm and provenance are in the header of its file; its digest is the hash of its bytes and site, as
   `steering.vectors` computes it. A file that is not a whole vector is left out.
2. In order: those of the built-in pair, of the folder given with --vectors, those that the browser itself uploaded, those that the runs of the store hold; random
   controls come last. A vector that lies in several places is listed once.
3. A header is read again only when its file changes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

import steering
from app.shelf import put
from steering.errors import BadInput
from steering.sites import Site

BUILT_IN = Path(steering.__file__).parent / "builtin" / "vectors"
FORMAT = "steering-workbench/vector@1"
LARGEST = 8 << 20
"""Bytes of the largest vector file that is taken."""
MOST = 400
"""Files of runs that are looked at, those of the newest runs first."""


@dataclass(frozen=True)
class VectorFile:
    """A vector in a file."""

    path: Path
    digest: str
    name: str
    site: Site
    norm: float
    width: int
    method: str
    model: str
    """The model that it was taken from, as its provenance names it."""
    source: str
    """Where it was found, in words."""

    @property
    def control(self) -> bool:
        """Whether it is a random direction."""
        return self.method == "random"


def read_vector(data: bytes, what: str) -> VectorFile:
    """The vector in the bytes of a file. Raises BadInput, naming `what`, for anything else."""
    try:
        size = int.from_bytes(data[:8], "little")
        if not 2 <= size <= min(len(data) - 8, 1 << 20):
            raise ValueError("it has no safetensors header")
        header = json.loads(data[8 : 8 + size])
        if header.get("__metadata__", {}).get("format") != FORMAT:
            raise ValueError(f"its metadata lacks format {FORMAT!r}")
        facts, tensor = json.loads(header["__metadata__"]["vector"]), header["direction"]
        begin, end = tensor["data_offsets"]
        raw = data[8 + size + begin : 8 + size + end]
        (width,) = tensor["shape"]
        if tensor["dtype"] != "F32" or len(raw) != 4 * width:
            raise ValueError("it is cut short or not float32")
        direction = np.frombuffer(raw, dtype="<f4")
        if not np.isfinite(direction).all() or not direction.any():
            raise ValueError("it holds NaN, infinity, or only zeros")
        site, origin = Site.parse(facts["site"]), facts["provenance"]
        digest = hashlib.sha256(raw + site.name.encode()).hexdigest()[:16]
        norm = float(np.linalg.norm(direction.astype(np.float64)))
        model = str(origin.get("model_id") or origin.get("model", ""))
        return VectorFile(
            Path(what), digest, str(facts["name"]), site, norm, width, str(origin.get("method", "")), model, ""
        )
    except (ValueError, KeyError, TypeError, BadInput, RecursionError) as error:
        hint = "`steer vectors import` reads other tools' files."
        raise BadInput(f"{what} is no steering vector file: {error}. {hint}") from error


@lru_cache(maxsize=4096)
def _read(path: str, size: int, changed: int) -> VectorFile | None:
    try:
        return replace(read_vector(Path(path).read_bytes(), path), path=Path(path))
    except (BadInput, OSError):
        return None


def _in(folder: Path, source: str, most: int = MOST) -> Iterator[VectorFile]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries[:most]:
        if entry.name.endswith(".safetensors") and entry.is_file():
            stat = entry.stat()
            found = (
                _read(str(Path(entry.path).resolve()), stat.st_size, stat.st_mtime_ns)
                if stat.st_size <= LARGEST
                else None
            )
            if found is not None:
                yield replace(found, source=source)


def _of_shelf(shelf: Path) -> Iterator[VectorFile]:
    """Uploaded vectors, and those imported from uploaded files, each import in a folder of its own."""
    yield from _in(shelf, "uploaded")
    try:
        folders = sorted(entry.path for entry in os.scandir(shelf) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for folder in folders:
        yield from _in(Path(folder), "uploaded")


def _of_runs(root: Path) -> Iterator[VectorFile]:
    try:
        folders = [entry for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return
    left = MOST
    for folder in sorted(folders, key=lambda entry: -entry.stat().st_mtime):
        for found in _in(Path(folder.path) / "vectors", f"run {folder.name}", left):
            left -= 1
            yield found
        if left <= 0:
            return


def offered(root: Path | str, shelf: Path | None = None) -> dict[str, VectorFile]:
    """The vectors by digest, in the order in which they are offered. A store at a URL adds none; `shelf` has a browser's own."""
    named = os.environ.get("STEERING_VECTORS")
    found = [*_in(BUILT_IN, "built in")]
    found += _in(Path(named), "folder") if named else ()
    found += _of_shelf(shelf) if shelf is not None else ()
    found += _of_runs(root) if isinstance(root, Path) else ()
    first: dict[str, VectorFile] = {}
    for vector in found:
        first.setdefault(vector.digest, vector)
    return dict(sorted(first.items(), key=lambda entry: entry[1].control))


def keep_upload(data: bytes, name: str, shelf: Path) -> VectorFile:
    """Store an uploaded vector under its digest on a browser's shelf. Raises BadInput for what is too large, no vector, or has no room."""
    if len(data) > LARGEST:
        raise BadInput(f"{name} has {len(data) >> 20} MiB; a vector file has at most {LARGEST >> 20} MiB.")
    found = read_vector(data, name)
    path = shelf / f"{found.digest}.safetensors"
    if not path.exists():
        put(shelf, path.name, data)
    return replace(found, path=path, source="uploaded")
