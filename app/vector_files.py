"""The vectors that the app can offer: files, read without a model library.

1. A vector's name, site, norm and provenance are in the header of its file; its digest is the hash of its bytes and site, as
   `steering.vector.vectors` computes it. A file that is not a whole vector is left out.
2. In order: those of the built-in pair, of the folder given with --vectors, those that the browser itself uploaded, those made here,
   those that the runs of the store hold; random controls come last. A vector that lies in several places is listed once.
3. A file that is no whole vector is passed over with its name and the reason (`left_out`); it keeps no other from being offered.
4. A header is read again only when its file changes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import steering
from app.escaping import one_line
from app.shelf import put
from steering.errors import BadInput
from steering.model.sites import Site

BUILT_IN = Path(steering.__file__).parent / "builtin" / "vectors"
SHIPPED = (BUILT_IN, BUILT_IN.parent / "language")
"""Folders of the vectors that come with the program: the built-in pair's, and those of language models."""
FORMAT = "steering-workbench/vector@1"
MADE = ".vectors"
"""Folder of the store with the vectors that were made in the app."""
LARGEST = 8 << 20
"""Bytes of the largest vector file that is taken."""
MOST = 400
"""Files of runs that are looked at, those of the newest runs first."""


class NoVector(BadInput):
    """A file that holds no vector. `format` is what its metadata says it is."""

    def __init__(self, message: str, format: object):
        super().__init__(message)
        self.format = format


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
    def label(self) -> str:
        """What it is called in a list: no two vectors have the same, whatever their names."""
        return f"{one_line(self.name, 24)} @{self.site.layer} ({self.digest[:8]})"

    @property
    def control(self) -> bool:
        """Whether it is a random direction."""
        return self.method == "random"


def read_vector(data: bytes, what: str) -> VectorFile:
    """The vector in the bytes of a file. Raises BadInput, naming `what`, for anything else."""
    hint = "`steer vectors import` reads other tools' files."
    try:
        size = int.from_bytes(data[:8], "little")
        if not 2 <= size <= min(len(data) - 8, 1 << 20):
            raise ValueError("it has no safetensors header")
        header = _mapping(json.loads(data[8 : 8 + size]), "its header")
        metadata = _mapping(header.get("__metadata__", {}), "its metadata")
        if metadata.get("format") != FORMAT:
            raise NoVector(
                f"{what} is no steering vector file: its metadata lacks format {FORMAT!r}. {hint}",
                metadata.get("format"),
            )
        facts = _mapping(json.loads(metadata["vector"]), "what it says of the vector")
        tensor, origin = _mapping(header["direction"], "its tensor"), _mapping(facts["provenance"], "its provenance")
        begin, end = tensor["data_offsets"]
        (width,) = tensor["shape"]
        if not all(type(number) is int and number >= 0 for number in (begin, end, width)):
            raise ValueError("its tensor has no place or shape")
        raw = data[8 + size + begin : 8 + size + end]
        if tensor["dtype"] != "F32" or len(raw) != 4 * width:
            raise ValueError("it is cut short or not float32")
        direction = np.frombuffer(raw, dtype="<f4")
        if not np.isfinite(direction).all() or not direction.any():
            raise ValueError("it holds NaN, infinity, or only zeros")
        if not isinstance(facts["name"], str) or not isinstance(facts["site"], str):
            raise ValueError("its name or its site is no text")
        site = Site.parse(facts["site"])
        digest = hashlib.sha256(raw + site.name.encode()).hexdigest()[:16]
        norm = float(np.linalg.norm(direction.astype(np.float64)))
        if not norm <= float(np.finfo(np.float32).max):
            raise ValueError("its norm is more than a 32-bit number holds")
        model = str(origin.get("model_id") or origin.get("model", ""))
        return VectorFile(
            Path(what), digest, facts["name"], site, norm, width, str(origin.get("method", "")), model, ""
        )
    except NoVector:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise NoVector(f"{what} is no steering vector file: {said}. {hint}", FORMAT) from error


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no mapping")
    return value


@lru_cache(maxsize=4096)
def _read(path: str, size: int, changed: int) -> VectorFile | str | None:
    """The vector; else why it is none; None for another kind of the project's own files, such as latents."""
    if size > LARGEST:
        return f"it has {size / (1 << 20):.0f} MiB; a vector file has at most {LARGEST >> 20} MiB"
    try:
        return replace(read_vector(Path(path).read_bytes(), path), path=Path(path))
    except NoVector as error:
        ours = str(error.format).startswith("steering-workbench/") and error.format != FORMAT
        return None if ours else str(error).removeprefix(f"{path} is no steering vector file: ")
    except OSError as error:
        return error.strerror or str(error)


Found = VectorFile | tuple[str, str]
"""A vector; or a file that is none, and why."""


def _in(folder: Path, source: str, most: int = MOST) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries[:most]:
        try:
            if not entry.name.endswith(".safetensors") or not entry.is_file():
                continue
            stat = entry.stat()
        except OSError:
            continue
        found = _read(str(Path(entry.path).resolve()), stat.st_size, stat.st_mtime_ns)
        if isinstance(found, str):
            yield f"{entry.name} ({source})", found
        elif found is not None:
            yield replace(found, source=source)


def _of_shelf(shelf: Path) -> Iterator[Found]:
    """Uploaded vectors, and those imported from uploaded files, each import in a folder of its own."""
    yield from _in(shelf, "uploaded")
    try:
        folders = sorted(entry.path for entry in os.scandir(shelf) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for folder in folders:
        yield from _in(Path(folder), "uploaded")


def _of_runs(root: Path) -> Iterator[Found]:
    try:
        folders = [entry for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")]
        folders.sort(key=lambda entry: -entry.stat().st_mtime)
    except OSError:
        return
    yield from _in(root / MADE, "made here")
    left = MOST
    for folder in folders:
        for found in _in(Path(folder.path) / "vectors", f"run {folder.name}", left):
            left -= 1
            yield found
        if left <= 0:
            return


def _found(root: Path | str, shelf: Path | None) -> Iterator[Found]:
    named = os.environ.get("STEERING_VECTORS")
    for folder in SHIPPED:
        yield from _in(folder, "built in")
    yield from _in(Path(named), "folder") if named else ()
    yield from _of_shelf(shelf) if shelf is not None else ()
    yield from _of_runs(root) if isinstance(root, Path) else ()


def offered(root: Path | str, shelf: Path | None = None) -> dict[str, VectorFile]:
    """The vectors by digest, in the order in which they are offered. A store at a URL adds none; `shelf` has a browser's own."""
    first: dict[str, VectorFile] = {}
    for found in _found(root, shelf):
        if isinstance(found, VectorFile):
            first.setdefault(found.digest, found)
    return dict(sorted(first.items(), key=lambda entry: entry[1].control))


def left_out(root: Path | str, shelf: Path | None = None) -> list[tuple[str, str]]:
    """Files that are passed over: name and place, and why."""
    return [found for found in _found(root, shelf) if not isinstance(found, VectorFile)]


def keep_upload(data: bytes, name: str, shelf: Path) -> VectorFile:
    """Store an uploaded vector under its digest on a browser's shelf. Raises BadInput for what is too large, no vector, or has no room."""
    if len(data) > LARGEST:
        raise BadInput(f"{name} has {len(data) >> 20} MiB; a vector file has at most {LARGEST >> 20} MiB.")
    found = read_vector(data, name)
    path = shelf / f"{found.digest}.safetensors"
    if not path.exists():
        put(shelf, path.name, data)
    return replace(found, path=path, source="uploaded")
