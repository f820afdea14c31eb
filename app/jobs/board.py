"""The board of jobs of one server: a first-in-first-out queue, and one job at a time with the machine to itself.

1. Every job passes `admission`, however it comes.
2. The job that runs holds the lease: generation and `steer` commands never share the device, and before a command the worker's models are
   let go.
3. Jobs belong to the server, not to a browser's session: they go on when every page is closed. Anyone may watch; only the owner cancels.
4. An ended job keeps its events, so that its text can be read again, until `KEPT` newer ones have ended.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from pathlib import Path
from typing import Any

from .admission import NotAdmitted, admitted_command, admitted_generation
from .commands import run_command
from .job import Job
from .ledger import Ledger
from .worker import ENGINE, Worker, WorkerDied, WorkerFailed

KEPT = 100
PER_OWNER = 8
"""Jobs that one browser may have waiting."""
MEMORY = (
    "There is not enough memory for this: {what}. The text so far is kept and the models were let go. Next: fewer tokens, a shorter prompt "
    "or a smaller model, then Retry."
)


class Refused(ValueError):
    """Something that the board does not do; the message is written for the reader."""


class NotOwner(Refused):
    """Only the owner of a job may do this."""


class Board:
    """The jobs of one server. `root` is the local store whose ledger remembers them, or None; `store` is where the runs are, by default
    there."""

    def __init__(self, engine: str = ENGINE, root: Path | None = None, store: str | None = None):
        self._store = root if store is None else store
        self.worker = Worker(engine)
        self.closing = False
        """Whether the server is about to end: event streams end, nothing new is taken."""
        self.speed: dict[str, float] = {}
        """Tokens per second and text, last measured, by model."""
        self._ledger = Ledger(root)
        self._jobs: dict[str, Job] = {job.id: job for job in self._ledger.read()}
        self._queue: deque[Job] = deque()
        self._holder: Job | None = None
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def jobs(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._wake:
            return sorted(self._jobs.values(), key=lambda job: -job.asked)

    def get(self, job: str) -> Job | None:
        """The job of that id."""
        with self._wake:
            return self._jobs.get(job)

    @property
    def holder(self) -> Job | None:
        """The job that has the machine to itself now."""
        return self._holder

    def ahead(self, job: Job) -> int:
        """Jobs that come before a queued one."""
        with self._wake:
            waiting = list(self._queue).index(job) if job in self._queue else 0
            return waiting + (self._holder is not None and job in self._queue)

    def active(self) -> tuple[int, int]:
        """Jobs that run, and jobs that wait."""
        with self._wake:
            return int(self._holder is not None), len(self._queue)

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
        if found.owner != owner:
            raise NotOwner("This job was started from another browser; only that one can stop it.")
        with self._wake:
            if found in self._queue:
                self._queue.remove(found)
                found.to("cancelled", "before it began")
                self._ledger.write(found)
                self._places()
                return
            found.cancelling = True
        if found is self._holder and found.kind == "generate":
            self.worker.cancel(found.id)

    def unload(self) -> None:
        """Let the worker's models go. Raises Refused while a job runs."""
        with self._wake:
            if self._holder is not None:
                raise Refused("A job is running; its models are in use.")
            self.worker.unload()

    def close(self) -> None:
        """End everything: the running job is interrupted, the worker killed."""
        self.closing = True
        with self._wake:
            waiting, self._holder_at_end = list(self._queue), self._holder
            self._queue.clear()
            self._wake.notify_all()
        for job in waiting:
            job.to("interrupted", "the server ended")
            self._ledger.write(job)
        if self._holder_at_end is not None and self._holder_at_end.kind == "generate":
            self._holder_at_end.to("interrupted", "the server ended")
        if self._thread is not None:
            self.worker.kill()
            self._thread.join(timeout=6)
        self.worker.kill()

    def _submit(self, job: Job) -> str:
        try:
            job.request = (admitted_command if job.kind == "command" else admitted_generation)(job.request, self._store)
        except NotAdmitted as error:
            raise Refused(str(error)) from error
        with self._wake:
            if self.closing:
                raise Refused("The server is about to end.")
            if sum(waiting.owner == job.owner for waiting in self._queue) >= PER_OWNER:
                raise Refused(f"{PER_OWNER} jobs of yours are waiting already. Cancel one on the Jobs page, or wait.")
            self._jobs[job.id] = job
            self._queue.append(job)
            ended = [old for old in self._jobs.values() if old.over]
            for old in sorted(ended, key=lambda o: o.ended or 0)[:-KEPT]:
                del self._jobs[old.id]
            self._places()
            self._ledger.write(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
                self._thread.start()
            self._wake.notify_all()
        return job.id

    def _places(self) -> None:
        """Tell the waiting jobs how many are ahead of them."""
        for place, job in enumerate(self._queue):
            ahead = place + (self._holder is not None)
            words = "next" if ahead == 0 else f"{ahead} job{'s' * (ahead > 1)} ahead"
            if job.detail != words or not job.events:
                job.to("queued", words)

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self.closing:
                    self._wake.wait()
                if self.closing:
                    return
                job = self._holder = self._queue.popleft()
                self._places()
            try:
                self._generate(job) if job.kind == "generate" else self._command(job)
            except Exception as error:
                job.to("failed", error=f"The server could not run this job: {error}")
            finally:
                self._ledger.write(job)
                with self._wake:
                    self._holder = None
                    self._places()

    def _command(self, job: Job) -> None:
        self.worker.unload()
        run_command(job, lambda: self.closing)

    def _generate(self, job: Job) -> None:
        job.to("loading", "starting the worker" if self.worker.pid is None else "")
        self._ledger.write(job)
        models: list[str] = []
        self._counts: dict[int, int] = {}
        try:
            for event in self.worker.run(job.id, job.request, lambda: job.cancelling or self.closing):
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
            _BOARD = Board(os.environ.get("STEERING_ENGINE", ENGINE), None if "://" in root else Path(root), root)
        return _BOARD


def replace_board(new: Board | None) -> None:
    """Put another board in place of this process's own, for the tests."""
    global _BOARD
    with _MAKING:
        _BOARD = new


def submit_command(arguments: list[str], title: str, owner: str) -> str:
    """Queue a `steer` command, such as ["sweep", "run", "sweep.yaml"], on this server's board; returns the job's id. Raises Refused."""
    return board().submit_command(arguments, title, owner)
