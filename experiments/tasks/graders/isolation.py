"""A worker process behind a function call that always comes back in time.

1. `ask` returns within `timeout` plus `GRACE` seconds, whatever is asked: a comparison that takes longer is ended by the kernel's timer in
   the worker, and should the worker itself not answer, it is killed and started anew.
2. Starting the worker (it loads math-verify) is not part of any answer's time.
3. Threads take turns; a forked process starts a worker of its own. The worker ends with its parent.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

GRACE = 1.0
"""Seconds beyond the timeout before the worker itself is killed."""
START = 120.0
"""Seconds that a worker may take to load."""
LONGEST = 60_000
"""Bytes of one question: less than a pipe holds, so that asking never waits for a worker that does not read."""
_WORKER = Path(__file__).with_name("worker.py")


class WorkerFailed(RuntimeError):
    """The worker cannot be started. The message says how it ended."""


class Isolated:
    """The comparing process. `timeout` in seconds of real time per comparison, `memory` in MiB beyond what is loaded."""

    def __init__(self, timeout: float = 5.0, memory: int = 1024):
        self.timeout, self.memory = timeout, memory
        self.restarts = 0
        """Workers that had to be killed or were found dead."""
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()
        atexit.register(self.close)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The worker's reply; `{"killed": signal}` where a comparison was ended, by `SIGALRM` when it ran out of time.

        Raises WorkerFailed when no worker can be started.
        """
        with self._lock:
            process = self._running()
            line = json.dumps({**request, "timeout": self.timeout}).encode() + b"\n"
            if len(line) > LONGEST:
                return {"error": f"the question to the worker has {len(line)} bytes, more than {LONGEST}"}
            try:
                assert process.stdin is not None
                process.stdin.write(line)
            except BrokenPipeError:
                self._stop()
                return {"killed": "worker"}
            reply = _line(process, time.monotonic() + self.timeout + GRACE)
            if reply is None:
                self._stop()
                return {"killed": "worker"}
            found: dict[str, Any] = json.loads(reply)
            return found

    def start(self) -> None:
        """Load the worker now rather than at the first question."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _stop(self) -> None:
        self.restarts += 1
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid():
            return self._process
        # -P: the folder of the worker is no place to import from.
        command = [sys.executable, "-P", str(_WORKER), str(self.memory)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        self._process, self._owner = process, os.getpid()
        if _line(process, time.monotonic() + START) is None:
            code = process.poll()
            self.close()
            raise WorkerFailed(
                f"The process that compares answers did not start ({'no answer' if code is None else f'exit {code}'}). "
                f"Is math-verify installed? Try: {sys.executable} -P {_WORKER} {self.memory}"
            )
        return process


def _line(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """The next line that the process says; None when it says nothing in time or has ended."""
    assert process.stdout is not None
    handle, held = process.stdout.fileno(), bytearray()
    while not held.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([handle], [], [], left)[0]:
            return None
        piece = os.read(handle, 65536)
        if not piece:
            return None
        held += piece
    return bytes(held)


@cache
def shared(timeout: float = 5.0, memory: int = 1024) -> Isolated:
    """The worker that graders with the same limits share."""
    return Isolated(timeout, memory)
