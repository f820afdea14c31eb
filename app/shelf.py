"""Where uploaded files lie: a shelf per browser, in a folder that this user alone can read.

1. A shelf's name follows from its browser's secret token and from nothing that others see; names of files never come from a reader
   alone, so two browsers, or two files of one name, cannot meet.
2. A browser has `OWN` bytes, all of them together `ALL`; a file that does not fit is refused before a byte is written, with what to do.
3. Files that have not been used for `DAYS` days make room for new ones.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import shutil
import stat
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from experiments.store.files import write_whole
from steering.errors import BadInput

OWN = 200 << 20
ALL = 1 << 30
DAYS = 30
_WRITING = threading.Lock()


def shelves() -> Path:
    """The folder that holds all shelves. Raises BadInput where it is somebody else's, so that nobody can put files under it."""
    folder = Path(tempfile.gettempdir()) / f"steering-uploads-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise BadInput(
            f"{folder} is not this user's own folder, so no file is taken; remove it, or set TMPDIR to another place."
        )
    if facts.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def shelf(secret: str) -> Path:
    """The shelf of the bearer of a token; it need not exist."""
    return shelves() / hmac.new(secret.encode(), b"shelf", hashlib.sha256).hexdigest()[:32]


def put(place: Path, name: str, data: bytes, room: int = 0) -> Path:
    """Store a file on a shelf, whole, with `room` more bytes kept free for what is made from it. Raises BadInput when it does not fit."""
    with _WRITING:
        _clear_old(place.parent)
        needed = len(data) + room
        if used(place) + needed > OWN:
            raise BadInput(
                f"Your uploaded files would take more than {OWN >> 20} MiB together. Remove them under 'Add a file', then give this one "
                "again."
            )
        if used(place.parent) + needed > ALL:
            raise BadInput(
                f"The uploaded files of all browsers would take more than {ALL >> 20} MiB together, so none is taken now. Start the app "
                "with --vectors FOLDER to offer files of this machine."
            )
        place.mkdir(mode=0o700, exist_ok=True)
        path = place / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, data)
        return path


def own_name(name: str) -> str:
    """A relative path in a new folder that cannot be guessed, ending in the readable part of a reader's file name."""
    stem, _, ending = name.rpartition(".")
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:60].strip("-") or "file"
    return f"{secrets.token_hex(16)}/{plain}.{ending.lower()}"


def used(folder: Path) -> int:
    """Bytes of the files under a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size if not path.is_dir() else 0
    return total


def clear(place: Path) -> None:
    """Remove everything on a shelf."""
    with _WRITING:
        shutil.rmtree(place, ignore_errors=True)


def _clear_old(folder: Path) -> None:
    for place in folder.iterdir():
        with suppress(OSError):
            newest = max((path.lstat().st_mtime for path in place.rglob("*")), default=place.lstat().st_mtime)
            if time.time() - newest > DAYS * 86_400:
                shutil.rmtree(place, ignore_errors=True)
