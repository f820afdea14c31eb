"""What is remembered of jobs when the server ends: one small file per job beside the runs.

1. A file holds facts, not texts: title, state, times, what was asked. It is named by the job's id; one whose content is not what
   `Remembered` says, or whose id is another than its name, is passed over, and nothing is written under any other name.
2. A job that had not ended when its server did is read back as interrupted. Jobs of a server that still runs are left alone.
3. The newest `KEPT` are remembered. A store at a URL has no ledger.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from experiments.store.files import write_whole

from .job import ENDED, Job, Kind, State

FOLDER = ".jobs"
KEPT = 50
LOST = "The server ended while this job had not. Retry runs it again; a command goes on from what is stored."
ID = r"[0-9a-f]{16}"


class Remembered(BaseModel):
    """What a file of the ledger holds; anything else in it makes it one that cannot be read."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    id: str = Field(pattern=f"^{ID}$")
    kind: Kind
    title: str = Field(max_length=2000)
    owner: str = Field(max_length=64)
    request: dict[str, Any] | list[str]
    state: State
    detail: str
    error: str
    asked: float
    begun: float | None
    ended: float | None
    done: int
    total: int
    server: int = Field(ge=1, le=2**31 - 1)
    """Id of the process that wrote it."""


class Ledger:
    """The ledger of the store at `root`; None keeps nothing."""

    def __init__(self, root: Path | None):
        self.folder = None if root is None else root / FOLDER

    def write(self, job: Job) -> None:
        """Remember a job as it is now; a ledger that cannot be written is passed over."""
        if self.folder is None or not re.fullmatch(ID, job.id):
            return
        facts = {name: getattr(job, name) for name in Remembered.model_fields if name != "server"} | {
            "server": os.getpid()
        }
        with suppress(OSError):
            write_whole(self.folder / f"{job.id}.json", json.dumps(facts).encode())

    def read(self) -> list[Job]:
        """The jobs of servers that have ended, oldest first; files that cannot be read are passed over."""
        if self.folder is None or not self.folder.is_dir():
            return []
        found = []
        for path in self.folder.glob("*.json"):
            if path.is_symlink() or not path.is_file():
                continue
            with suppress(OSError, ValueError, RecursionError):  # pydantic's errors are ValueErrors
                facts = Remembered.model_validate_json(path.read_bytes()).model_dump()
                server = facts.pop("server")
                if facts["id"] != path.stem or (server != os.getpid() and _alive(server)):
                    continue
                job = Job(**facts)
                if job.state not in ENDED:
                    job.state, job.error, job.ended = "interrupted", LOST, path.stat().st_mtime
                    self.write(job)
                found.append(job)
        found.sort(key=lambda job: job.asked)
        for job in found[:-KEPT]:
            with suppress(OSError):
                (self.folder / f"{job.id}.json").unlink()
        return found[-KEPT:]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
