"""The server's end of the worker process: started when it is needed, killed when it must be, replaced when it has died.

1. The process is a fresh interpreter with a socket of its own. It does not import the server's main module, and nothing that it holds is
   shared, so it can be killed at any time.
2. A cancelled job has `GRACE` seconds to end by itself (it looks after every token); then the process is killed.
3. A process that ends by itself fails the job it was on with its own message; the next job gets a new process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ENGINE = "experiments.live.run:Engine"
GRACE = 0.7
"""Seconds that a cancelled job has before its process is killed."""
ROOT = Path(__file__).resolve().parents[2]


class WorkerDied(RuntimeError):
    """The process ended under a job. `log` is the end of what it wrote."""

    def __init__(self, message: str, log: str):
        super().__init__(message)
        self.log = log


class WorkerFailed(RuntimeError):
    """The job failed; the process lives. `reason` is `memory`, `input` or `error`."""

    def __init__(self, reason: str, message: str, trace: str):
        super().__init__(message)
        self.reason, self.trace = reason, trace


class Worker:
    """The process, at most one at a time. `run` is called by one thread; `cancel`, `kill`, `warm` by any."""

    def __init__(self, engine: str = ENGINE):
        self.engine = engine
        self.models: list[str] = []
        """Ids of the models in the process's memory."""
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Connection | None = None
        self._log: Any = None
        self._cancelled: tuple[str, float] | None = None

    @property
    def pid(self) -> int | None:
        """Process id; None while there is no process."""
        with self._lock:
            alive = self._process is not None and self._process.poll() is None
            return self._process.pid if alive and self._process else None

    def warm(self) -> None:
        """Start the process, unless it is there; it imports its libraries while nobody waits."""
        with self._lock:
            if self.pid is not None:
                return
            self._drop()
            mine, theirs = socket.socketpair()
            self._log = tempfile.TemporaryFile()
            paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.jobs.child", str(theirs.fileno()), self.engine],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
            theirs.close()  # so that the end of the process ends the channel
            self._channel = Connection(mine.detach())

    def run(
        self, job: str, request: Any, cancelled: Callable[[], bool], beside: bool = False
    ) -> Iterator[dict[str, Any]]:
        """The events of a job, as they come (`beside`: while a command runs, too); after the last, `self.stopped` says how it ended: "",
        "asked" or "killed".

        Raises WorkerFailed and WorkerDied. Before it returns or raises, the process is idle or gone.
        """
        self.stopped = ""
        with self._lock:
            self.warm()
            channel, process = self._channel, self._process
            assert channel is not None and process is not None
        try:
            self._send(("run", job, request, beside))
            last: Any = None
            while True:
                if channel.poll(0.05):
                    message = channel.recv()
                    if message[0] == "event" and message[1] == job:
                        yield message[2]
                    elif message[0] in ("done", "failed") and message[1] == job:
                        last = message
                    elif message[0] == "ready":
                        self.models = message[1]
                        if last is not None:
                            break
                if last is None and cancelled():
                    with self._lock:
                        if self._cancelled is None or self._cancelled[0] != job:
                            self.cancel(job)
                        since = self._cancelled[1] if self._cancelled else time.monotonic()
                    if time.monotonic() - since > GRACE:
                        self.kill()
                        self.stopped = "killed"
                        return
        except (EOFError, OSError):
            code, log = process.wait(), self._tail()
            self._drop()
            raise WorkerDied(_how(code), log) from None
        if last[0] == "failed":
            raise WorkerFailed(*last[2:])
        self.stopped = "asked" if last[2] else ""

    def cancel(self, job: str) -> None:
        """Ask the process to end a job at the next token."""
        with self._lock:
            if self._cancelled is None or self._cancelled[0] != job:
                self._cancelled = job, time.monotonic()
                with suppress(OSError):
                    self._send(("cancel", job))

    def unload(self) -> None:
        """Let the models go, so that something else can have the memory. Called between jobs."""
        with self._lock:
            if self.pid is None or not self._channel:
                return
            with suppress(OSError, EOFError):
                self._send(("unload",))
                end = time.monotonic() + 30
                while time.monotonic() < end and self._channel.poll(0.5):
                    message = self._channel.recv()
                    if message[0] == "ready":
                        self.models = message[1]
                        if not self.models:
                            return

    def kill(self) -> None:
        """End the process for certain."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._drop()

    def _send(self, message: tuple[Any, ...]) -> None:
        with self._lock:
            if self._channel is not None:
                self._channel.send(message)

    def _tail(self) -> str:
        with suppress(OSError, ValueError):
            self._log.seek(0)
            return str(self._log.read()[-4000:].decode(errors="replace"))
        return ""

    def _drop(self) -> None:
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            if self._log is not None:
                self._log.close()
            self._process, self._channel, self._log, self.models = None, None, None, []


def _how(code: int) -> str:
    """What an exit code of the worker means and what to do."""
    if code == -signal.SIGKILL:
        return (
            "The worker process was killed from outside (signal 9), most likely because the machine ran out of memory. The text so far is "
            "kept and a new worker takes its place. Next: fewer tokens or a smaller model, or unload models on the Jobs page, then Retry."
        )
    if code < 0:
        name = signal.Signals(-code).name
        return f"The worker process ended with {name}. The text so far is kept and a new worker takes its place. Next: Retry."
    return f"The worker process ended with exit code {code}. The text so far is kept. Next: look at its log below, then Retry."
