"""Files that are whole or not there: written under a temporary name, flushed to disk, renamed.

1. Several processes may write one file at once: each has a temporary name of its own, and the last rename stays.
2. Whatever goes wrong, no temporary file is left behind, and the file that was there before is as it was.
3. A disk without room is a `DiskFull` (an OSError), whose message says which file and what to do.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BadInput

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
ATTEMPTS = 5


class DiskFull(OSError):
    """There is no room for a file. What was stored before is whole."""

    def __init__(self, error: OSError, path: Path, size: int):
        super().__init__(error.errno, error.strerror, str(path))
        self._said = (
            f"There is no room for {path} ({size:,} bytes): {error.strerror or 'the disk is full'}. What was stored before is whole; free "
            "some space, then run the same command again."
        )

    def __str__(self) -> str:
        return self._said


def in_words(error: OSError) -> str:
    """What went wrong with a file, in one sentence."""
    if isinstance(error, DiskFull) or error.strerror is None:
        return str(error)
    where = f": {str(error.filename)[:300]}" if error.filename is not None else ""
    more = (
        " Free some space, then run the same command again; what was stored before is whole."
        if error.errno in FULL
        else ""
    )
    return f"{error.strerror}{where}.{more}"


def write_new(path: Path, data: bytes) -> None:
    """Write `data` where there is nothing yet; a file that holds the same stays. Raises BadInput for another file, or a folder, there."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder; give the name of a file in it.")
    if path.exists():
        if path.read_bytes() != data:
            raise BadInput(f"{path} is there already and holds something else; give another name, or remove it first.")
        return
    write_file(path, data)


def write_file(path: Path, data: bytes) -> None:
    """Write `data` so that the local file `path` holds all of it or is unchanged. Raises DiskFull, and OSError for what else fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(ATTEMPTS):
        partial = path.with_name(f"{_short(path.name)}.{secrets.token_hex(4)}.tmp")
        try:
            with partial.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(path)
            break
        except FileNotFoundError:
            # Another program swept the temporary file away between the two steps.
            if attempt == ATTEMPTS - 1:
                raise
        except OSError as error:
            if error.errno in FULL:
                raise DiskFull(error, path, len(data)) from error
            raise
        finally:
            partial.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary path for what writes a file by itself; on leaving it becomes `path`, or is removed where something failed. Raises
    DiskFull."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_short(path.name)}.{secrets.token_hex(4)}.tmp")
    try:
        yield partial
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError as error:
        if error.errno in FULL and not isinstance(error, DiskFull):
            raise DiskFull(error, path, partial.stat().st_size if partial.exists() else 0) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a rename to disk."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _short(name: str) -> str:
    """A name that leaves room for the end of a temporary one."""
    return name.encode()[:200].decode(errors="ignore")
