"""The board of jobs of one server: a line of generations and, behind it, a line of `steer` commands.

1. Every job passes `admission`, however it comes.
2. Within a line one job runs at a time, in order. A command runs beside generations, at lower priority, and a generation that begins
   beside one is told so (`Engine.beside`); the worker's models are let go before a command only where memory is short. With `alone` there
   is one line: nothing shares the machine, and models are let go first.
3. Jobs belong to the server, not to a browser's session: they go on when every page is closed. Anyone may watch; only the owner cancels,
   unless every browser is that of one user (`single`).
4. An ended job keeps its events, so that its text can be read again, until `KEPT` newer ones have ended.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from app.launch import ALONE, SINGLE

from .admission import NotAdmitted, admitted_command, admitted_generation
from .commands import run_command
from .job import Job, Kind
from .ledger import Ledger
from .line import Line
from .memory import is_short
from .worker import ENGINE, Worker, WorkerDied, WorkerFailed

KEPT = 100
PER_OWNER = 8
"""Jobs that one browser may have waiting."""
MEMORY = (
    "There is not enough memory for this: {what}. The text so far is kept and the models were let go. Next: fewer tokens, a shorter prompt "
    "or a smaller model, or wait for the job that runs beside it, then Retry."
)


class Refused(ValueError):
    """Something that the board does not do; the message is written for the reader."""


class NotOwner(Refused):
    """Only the owner of a job may do this."""


class Board:
    """The jobs of one server. `root` is the local store whose ledger remembers them, or None; `store` is where the runs are, by default
    there. `alone`: one job at a time of either kind. `single`: any browser may stop any job."""

    def __init__(
        self,
        engine: str = ENGINE,
        root: Path | None = None,
        store: str | None = None,
        *,
        alone: bool = False,
        single: bool = False,
    ):
        self._store = root if store is None else store
        self.worker = Worker(engine)
        self.closing = False
        """Whether the server is about to end: event streams end, nothing new is taken."""
        self.speed: dict[str, float] = {}
        """Tokens per second and text, last measured, by model."""
        self.alone, self.single = alone, single
        self._ledger = Ledger(root)
        self._jobs: dict[str, Job] = {job.id: job for job in self._ledger.read()}
        self._lock = threading.Condition()
        generations = Line(self._lock, self._run, self._ledger.write)
        commands = generations if alone else Line(self._lock, self._run, self._ledger.write)
        self._lines: dict[Kind, Line] = {"generate": generations, "command": commands}

    def jobs(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: -job.asked)

    def get(self, job: str) -> Job | None:
        """The job of that id."""
        with self._lock:
            return self._jobs.get(job)

    def holder(self, kind: Kind = "generate") -> Job | None:
        """The job that runs in the line of a kind."""
        return self._lines[kind].holder

    def ahead(self, job: Job) -> int:
        """Jobs that come before a queued one."""
        return self._lines[job.kind].ahead(job)

    def before(self, kind: Kind) -> int:
        """Jobs that a new one of a kind would wait for."""
        line = self._lines[kind]
        return len(line) + (line.holder is not None)

    def active(self) -> tuple[int, int]:
        """Jobs that run, and jobs that wait."""
        with self._lock:
            lines = set(self._lines.values())
            return sum(line.holder is not None for line in lines), sum(map(len, lines))

    def may_cancel(self, job: Job, owner: str) -> bool:
        """Whether the browser of that owner may stop a job."""
        return self.single or job.owner == owner

    def submit_generation(self, request: dict[str, Any], title: str, owner: str) -> str:
        """Queue a `LiveRequest`, as a mapping; returns the job's id. Raises Refused when the owner has too many waiting."""
        job = Job("generate", title, owner, request, total=int(request.get("max_new_tokens", 0)))
        return self._submit(job)

    def submit_command(self, arguments: list[str], title: str, owner: str) -> str:
        """Queue a `steer` command by its arguments; returns the job's id. Raises Refused."""
        return self._submit(Job("command", title, owner, list(arguments)))

    def retry(self, job: str, owner: str) -> str:
        """The same again, as a new job of `owner`, checked as a new one is. Raises Refused."""
        old = self.get(job)
        if old is None or not old.over:
            raise Refused("Only a job that has ended can be run again.")
        return self._submit(
            Job(old.kind, old.title, owner, old.request, total=old.total if old.kind == "generate" else 0)
        )

    def cancel(self, job: str, owner: str) -> None:
        """Stop a job, keeping what it has. Raises NotOwner, and Refused for a job that is not there."""
        found = self.get(job)
        if found is None:
            raise Refused("There is no such job.")
        if not self.may_cancel(found, owner):
            raise NotOwner("This job was started from another browser; only that one can stop it.")
        line = self._lines[found.kind]
        if line.drop(found):
            return
        found.cancelling = True
        if found is line.holder and found.kind == "generate":
            self.worker.cancel(found.id)

    def unload(self) -> None:
        """Let the worker's models go. Raises Refused while a generation runs."""
        with self._lock:
            if self._generating():
                raise Refused("A job is running; its models are in use.")
            self.worker.unload()

    def _generating(self) -> bool:
        holder = self._lines["generate"].holder
        return holder is not None and holder.kind == "generate"

    def close(self) -> None:
        """End everything: the running jobs are interrupted, the worker killed."""
        self.closing = True
        lines = set(self._lines.values())
        for line in lines:
            line.close()
        last = self._lines["generate"].holder
        if last is not None and last.kind == "generate":
            last.to("interrupted", "the server ended")
        self.worker.kill()
        for line in lines:
            line.join(6)
        self.worker.kill()

    def _submit(self, job: Job) -> str:
        try:
            job.request = (admitted_command if job.kind == "command" else admitted_generation)(job.request, self._store)
        except NotAdmitted as error:
            raise Refused(str(error)) from error
        with self._lock:
            if self.closing:
                raise Refused("The server is about to end.")
            if sum(line.owned(job.owner) for line in set(self._lines.values())) >= PER_OWNER:
                raise Refused(f"{PER_OWNER} jobs of yours are waiting already. Cancel one on the Jobs page, or wait.")
            self._jobs[job.id] = job
            ended = [old for old in self._jobs.values() if old.over]
            for old in sorted(ended, key=lambda o: o.ended or 0)[:-KEPT]:
                del self._jobs[old.id]
            self._lines[job.kind].add(job)
            self._ledger.write(job)
        return job.id

    def _run(self, job: Job) -> None:
        self._generate(job) if job.kind == "generate" else self._command(job)

    def _command(self, job: Job) -> None:
        with self._lock:
            if self.alone or (is_short() and not self._generating()):
                self.worker.unload()
        run_command(job, lambda: self.closing, gently=not self.alone)

    def _generate(self, job: Job) -> None:
        job.to("loading", "starting the worker" if self.worker.pid is None else "")
        self._ledger.write(job)
        models: list[str] = []
        self._counts: dict[int, int] = {}
        try:
            other = self._lines["command"].holder
            shared = other is not None and other.kind == "command"
            for event in self.worker.run(job.id, job.request, lambda: job.cancelling or self.closing, shared):
                if event["kind"] == "state":
                    job.to(event["state"], event["detail"])
                elif event["kind"] == "result":
                    job.result = {"manifest": event["manifest"], "rows": event["rows"]}
                else:
                    if event["kind"] == "lanes":
                        models = [lane["model"] for lane in event["lanes"]]
                        self.worker.models = list(dict.fromkeys([*self.worker.models, *models]))
                        job.to("running")
                    self._note(job, event, models)
                    job.add(event)
            if self.closing:
                job.to("interrupted", "the server ended")
            elif self.worker.stopped:
                killed = " (the worker was ended)" if self.worker.stopped == "killed" else ""
                job.to("cancelled", f"stopped by you at {job.done}{killed}")
            else:
                job.to("done")
        except WorkerFailed as error:
            message = MEMORY.format(what=str(error).split("\n")[0][:200]) if error.reason == "memory" else str(error)
            job.to("failed", error=message, traceback=error.trace if error.reason != "input" else "")
        except WorkerDied as error:
            if self.closing or job.cancelling:
                job.to("interrupted" if self.closing else "cancelled", f"stopped at {job.done}")
            else:
                job.to("failed", error=str(error), traceback=error.log)

    def _note(self, job: Job, event: dict[str, Any], models: list[str]) -> None:
        """Keep count: tokens of the first lane that is still written, and the speed of the model."""
        if event["kind"] == "token":
            self._counts[event["lane"]] = self._counts.get(event["lane"], 0) + 1
            job.progress(max(self._counts.values()))
        elif event["kind"] == "end" and event["tokens"] > 8:
            self.speed[models[event["lane"]]] = event["tokens"] / max(event["seconds"], 1e-6)


_BOARD: Board | None = None
_MAKING = threading.Lock()


def board() -> Board:
    """The board of this process, made on first use over the store that the pages read."""
    global _BOARD
    with _MAKING:
        if _BOARD is None:
            root = os.environ.get("STEERING_RUNS", "runs")
            _BOARD = Board(
                os.environ.get("STEERING_ENGINE", ENGINE), None if "://" in root else Path(root), root,
                alone=os.environ.get(ALONE) == "1", single=os.environ.get(SINGLE) == "1",
            )  # fmt: skip
        return _BOARD


def replace_board(new: Board | None) -> None:
    """Put another board in place of this process's own, for the tests."""
    global _BOARD
    with _MAKING:
        _BOARD = new


def submit_command(arguments: list[str], title: str, owner: str) -> str:
    """Queue a `steer` command, such as ["sweep", "run", "sweep.yaml"], on this server's board; returns the job's id. Raises Refused."""
    return board().submit_command(arguments, title, owner)
