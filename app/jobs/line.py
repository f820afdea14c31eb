"""A line of jobs: first in, first out, one at a time, by a thread of its own.

Generations have one line and `steer` commands another, so that a long command does not keep a prompt waiting; where the machine holds one
job only, both share a line. A line is changed under the board's lock, and its thread waits on it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from .job import Job


class Line:
    """`run` runs one job to its end; `written` is told of every job whose state changed."""

    def __init__(self, lock: threading.Condition, run: Callable[[Job], None], written: Callable[[Job], None]):
        self._lock, self._run, self._written = lock, run, written
        self._waiting: deque[Job] = deque()
        self._thread: threading.Thread | None = None
        self._closing = False
        self.holder: Job | None = None
        """The job that runs."""

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def owned(self, owner: str) -> int:
        """Jobs of an owner that wait."""
        with self._lock:
            return sum(job.owner == owner for job in self._waiting)

    def add(self, job: Job) -> None:
        """Queue a job."""
        with self._lock:
            self._waiting.append(job)
            self._tell()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
                self._thread.start()
            self._lock.notify_all()

    def drop(self, job: Job) -> bool:
        """Take a job out that waits; false where it does not."""
        with self._lock:
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
            job.to("cancelled", "before it began")
            self._written(job)
            self._tell()
            return True

    def ahead(self, job: Job) -> int:
        """Jobs that come before a waiting one; 0 for any other."""
        with self._lock:
            if job not in self._waiting:
                return 0
            return list(self._waiting).index(job) + (self.holder is not None)

    def close(self) -> None:
        """Begin no job any more; those that wait are interrupted."""
        with self._lock:
            self._closing = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._lock.notify_all()
        for job in waiting:
            job.to("interrupted", "the server ended")
            self._written(job)

    def join(self, seconds: float) -> None:
        """Wait for the thread to end."""
        if self._thread is not None:
            self._thread.join(timeout=seconds)

    def _tell(self) -> None:
        """Tell the waiting jobs how many are ahead of them."""
        for place, job in enumerate(self._waiting):
            ahead = place + (self.holder is not None)
            words = "next" if ahead == 0 else f"{ahead} job{'s' * (ahead > 1)} ahead"
            if job.detail != words or not job.events:
                job.to("queued", words)

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._waiting and not self._closing:
                    self._lock.wait()
                if self._closing:
                    return
                job = self.holder = self._waiting.popleft()
                self._tell()
            try:
                self._run(job)
            except Exception as error:
                job.to("failed", error=f"The server could not run this job: {error}")
            finally:
                self._written(job)
                with self._lock:
                    self.holder = None
                    self._tell()
