"""The seal of a run: one list, `SHA256SUMS`, with the checksum of every file of the run.

1. `cd runs/RUN && sha256sum -c SHA256SUMS` checks it without this program. What `Run` writes is entered as it is written; when the run is
   complete, the list is closed: from then on a file that is not in it is one too many.
2. What was there before this version, without a list, is not covered: that is said, and is no fault.
3. A seal finds what was lost, cut or changed by hand, not a forger who writes the list anew.
4. Looking is cheap: a file is read again only when its size or time changed, and shards are read up to a limit.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from .files import Stored, StoreError, files, folders, is_local, write_whole
from .shards import check_shard, recorded_checksum

FILE = "SHA256SUMS"
CLOSED = "# every file of this run"
MOST = 64 << 20
"""Bytes of shards that a look reads."""
_LINE = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\\]+)")
Status = Literal["ok", "no checksum", "damaged", "missing", "extra"]
BAD: tuple[Status, ...] = ("damaged", "missing", "extra")


@dataclass(frozen=True)
class Checked:
    """One file of a run after checking."""

    file: str
    """A shard by its name, any other by its path in the run's folder."""
    status: Status
    """`no checksum`: nothing says what its bytes should be; of a shard, every page is right."""
    problem: str | None = None


@dataclass(frozen=True)
class Seal:
    """The list: checksums by path in the run's folder, and whether it names every file."""

    sums: dict[str, str]
    closed: bool = False


def read_seal(folder: Path) -> Seal:
    """The list of a run; an empty one where there is none. Raises StoreError for one that is damaged."""
    path = folder / FILE
    try:
        text = path.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        return Seal({})
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read ({error}).") from error
    lines = text.splitlines()
    found = [_LINE.fullmatch(line) for line in lines if not line.startswith("#")]
    if not all(found):
        raise StoreError(
            f"{path} is damaged: it is no list of SHA-256 checksums. `steer runs migrate` writes it anew from the files."
        )
    return Seal({match[2]: match[1] for match in found if match}, CLOSED in lines)


def members(folder: Path) -> list[tuple[str, Stored]]:
    """Every file of a run by its path in the run's folder, without temporary and set-aside ones, checksums and the list itself."""
    found = [(file.name, file) for file in files(folder)]
    for inner in folders(folder):
        found += [(f"{inner}/{file.name}", file) for file in files(folder / inner)]
    return [
        (name, file)
        for name, file in found
        if name != FILE
        and not name.endswith((".tmp", ".corrupt"))
        and not (name.startswith("rows/") and name.endswith(".sha256"))
    ]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine from changing the list and what is entered with it."""
    if not is_local(folder) or os.name == "nt":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def enter(folder: Path, names: Iterable[str], closed: bool | None = None) -> None:
    """Put files into the list, which the caller holds. With `closed`, also every file that it lacks: it then names all of them; with False
    it is open again. A list that is damaged is begun anew."""
    try:
        before = read_seal(folder)
    except StoreError:
        before = Seal({})
    sums = dict(before.sums)
    for name in names:
        sums[name] = _sum(folder / name)
    for name, _ in members(folder) if closed else ():
        if name not in sums:
            with suppress(FileNotFoundError):  # set aside by another program since it was listed
                sums[name] = _sum(folder / name)
    after = Seal(sums, before.closed if closed is None else closed)
    if after != before:
        lines = [*([CLOSED] if after.closed else []), *(f"{sums[name]}  {name}" for name in sorted(sums))]
        write_whole(folder / FILE, ("\n".join(lines) + "\n").encode())


def _sum(path: Path) -> str:
    recorded = recorded_checksum(path) if path.suffix == ".parquet" and path.parent.name == "rows" else None
    return recorded or hashlib.sha256(path.read_bytes()).hexdigest()


def verified(folder: Path) -> Iterator[Checked]:
    """Every file of a run, read whole and checked; then what is missing."""
    try:
        seal = read_seal(folder)
    except StoreError as error:
        yield Checked(FILE, "damaged", str(error))
        seal = Seal({})
    there = members(folder)
    for name, _ in there:
        yield _shard(folder, name, seal) if _is_shard(name) else _plain(folder, name, seal, _sum(folder / name))
    yield from _missing(seal, {name for name, _ in there})


def look(folder: Path, most: int = MOST) -> list[Checked]:
    """What is wrong with a run's files, as far as a look shows: every file but shards is checked, shards where all have at most `most`
    bytes together, else that they are there."""
    try:
        seal = read_seal(folder)
    except StoreError as error:
        return [Checked(FILE, "damaged", str(error))]
    there = members(folder)
    read_shards = sum(file.size for name, file in there if _is_shard(name)) <= most
    found = [
        _plain(folder, name, seal, _seen(folder / name, file))
        for name, file in there
        if name in seal.sums and (read_shards or not _is_shard(name)) or seal.closed and name not in seal.sums
    ]
    return [one for one in (*found, *_missing(seal, {name for name, _ in there})) if one.status in BAD]


def in_words(found: Iterable[Checked], run_id: str) -> str | None:
    """What is wrong with a run, in one sentence for where its figures are shown; None where nothing is."""
    bad = [one for one in found if one.status in BAD]
    if not bad:
        return None
    words = {"damaged": "was changed", "missing": "is missing", "extra": "was added later"}
    named = "; ".join(f"{one.file} {words[one.status]}" for one in bad[:4]) + (
        f"; and {len(bad) - 4} more" if len(bad) > 4 else ""
    )
    return f"This run does not verify: {named}. What is shown may not be what was stored. `steer runs verify {run_id}` lists every file."


def _is_shard(name: str) -> bool:
    return name.startswith("rows/") and name.endswith(".parquet")


def _shown(name: str) -> str:
    return name.removeprefix("rows/") if _is_shard(name) else name


def _shard(folder: Path, name: str, seal: Seal) -> Checked:
    path, listed = folder / name, seal.sums.get(name)
    try:
        status: Status = "ok" if check_shard(path) else "no checksum"
    except StoreError as error:
        return Checked(path.name, "damaged", str(error))
    if listed is None:
        return _plain(folder, name, seal, "") if seal.closed else Checked(path.name, status)
    return _plain(folder, name, seal, _sum(path))


def _plain(folder: Path, name: str, seal: Seal, found: str) -> Checked:
    """A file against the list."""
    listed = seal.sums.get(name)
    if listed is None and seal.closed:
        return Checked(_shown(name), "extra", f"{folder / name} was not there when the run was complete.")
    if listed is None:
        return Checked(_shown(name), "no checksum", "It is not covered by a checksum.")
    if listed != found:
        said = f"{folder / name} was changed: its SHA-256 begins {found[:12]}, {FILE} says {listed[:12]}."
        return Checked(_shown(name), "damaged", said)
    return Checked(_shown(name), "ok")


def _missing(seal: Seal, there: set[str]) -> Iterator[Checked]:
    for name in sorted(seal.sums.keys() - there):
        remedy = " Running the run's command again redoes its rows." if _is_shard(name) else ""
        yield Checked(_shown(name), "missing", f"{name} is in {FILE} and not in the run's folder.{remedy}")


def _seen(path: Path, file: Stored) -> str:
    return _digest(str(path), file.size, file.stamp) if is_local(path) and file.stamp else _bytes_sum(path)


@lru_cache(maxsize=50_000)
def _digest(path: str, size: int, stamp: str) -> str:
    return _bytes_sum(Path(path))


def _bytes_sum(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"unreadable ({error.strerror or error})"
