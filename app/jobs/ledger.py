"""What is remembered of jobs when the server ends: one small file per job beside the runs.

1. A file holds facts, not texts: title, state, times, what was asked.
2. A job that had not ended when its server did is read back as interrupted. Jobs of a server that still runs are left alone.
3. The newest `KEPT` are remembered. A store at a URL has no ledger.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from .job import ENDED, STATES, Job

FOLDER = ".jobs"
KEPT = 50
LOST = "The server ended while this job had not. Retry runs it again; a command goes on from what is stored."
_FACTS = (
    "id",
    "kind",
    "title",
    "owner",
    "request",
    "state",
    "detail",
    "error",
    "asked",
    "begun",
    "ended",
    "done",
    "total",
)


class Ledger:
    """The ledger of the store at `root`; None keeps nothing."""

    def __init__(self, root: Path | None):
        self.folder = None if root is None else root / FOLDER

    def write(self, job: Job) -> None:
        """Remember a job as it is now; a ledger that cannot be written is passed over."""
        if self.folder is None:
            return
        facts = {name: getattr(job, name) for name in _FACTS} | {"server": os.getpid()}
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = self.folder / f"{job.id}.tmp"
            partial.write_text(json.dumps(facts), encoding="utf-8")
            partial.replace(self.folder / f"{job.id}.json")

    def read(self) -> list[Job]:
        """The jobs of servers that have ended, oldest first; files that cannot be read are passed over."""
        if self.folder is None or not self.folder.is_dir():
            return []
        found = []
        for path in self.folder.glob("*.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                facts = json.loads(path.read_text(encoding="utf-8"))
                server = int(facts.pop("server"))
                if facts["state"] not in STATES or (server != os.getpid() and _alive(server)):
                    continue
                job = Job(**{name: facts[name] for name in _FACTS})
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
