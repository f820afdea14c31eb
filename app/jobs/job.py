"""One job: what was asked, by whom, how far it is, and every event that it had.

1. Events are numbered from 0 without gaps and never change: who knows the number of the last one resumes without loss or doubling.
2. A state that ends a job is final. Everything that came before it is kept, partial text included.
3. All methods may be called from any thread.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

State = Literal["queued", "loading", "running", "done", "cancelled", "failed", "interrupted"]
STATES: tuple[State, ...] = get_args(State)
ENDED: frozenset[str] = frozenset({"done", "cancelled", "failed", "interrupted"})
Kind = Literal["generate", "command"]
LOG_LINES = 50
"""Log lines that are shown."""


@dataclass
class Job:
    """One job. `request` is a `LiveRequest` as a mapping, or the arguments of a `steer` command."""

    kind: Kind
    title: str
    owner: str
    request: Any
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: State = "queued"
    detail: str = ""
    """What is going on within the state, in words."""
    error: str = ""
    """Why it failed and what to do, written for the reader."""
    traceback: str = ""
    asked: float = field(default_factory=time.time)
    """Seconds since 1970, as `begun` and `ended`."""
    begun: float | None = None
    ended: float | None = None
    done: int = 0
    """Units of progress: tokens of a generation, rows of a command."""
    total: int = 0
    first: float | None = None
    """When the first unit of progress was there; `latest`: the newest."""
    latest: float | None = None
    cancelling: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    """Of a generation: manifest and rows, for the store. Of a command: `exit` and `output`."""
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _before: int = 0
    _counted: int = 0
    _readers: list[Callable[[], None]] = field(default_factory=list, repr=False)

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.state in ENDED

    @property
    def seconds(self) -> float:
        """Time that it has run, or ran."""
        return 0.0 if self.begun is None else (self.ended or time.time()) - self.begun

    @property
    def rate(self) -> float | None:
        """Units of progress per second, without the time to the first; None where it is not known."""
        if self.first is None or self.latest is None or self.latest - self.first < 0.02:
            return None
        return self._counted / (self.latest - self.first)

    @property
    def remaining(self) -> float | None:
        """Seconds to the end at this rate; None where it is not known."""
        rate = self.rate
        return None if self.over or not rate or not self.total else max(self.total - self.done, 0) / rate

    def add(self, event: Mapping[str, Any]) -> None:
        """Append an event and tell the readers."""
        with self._lock:
            self.events.append(dict(event))
            readers = list(self._readers)
        for tell in readers:
            tell()

    def to(self, state: State, detail: str = "", **more: Any) -> bool:
        """Change the state, as an event; false when the job has ended already. `more` are fields of the job, set with the state."""
        with self._lock:
            if self.over:
                return False
            self.state, self.detail = state, detail
            for name, value in more.items():
                setattr(self, name, value)
            now = time.time()
            if state in ("loading", "running") and self.begun is None:
                self.begun = now
            if state in ENDED:
                self.ended = now
            self.add(
                {"kind": "state", "state": state, "detail": detail, **({"error": self.error} if self.error else {})}
            )
        return True

    def subscribe(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call `tell` after every new event; returns how to stop that."""
        with self._lock:
            self._readers.append(tell)

        def stop() -> None:
            with self._lock:
                if tell in self._readers:
                    self._readers.remove(tell)

        return stop

    def since(self, number: int) -> tuple[list[dict[str, Any]], bool]:
        """The events from `number` on, and whether they are the last."""
        with self._lock:
            return self.events[number:], self.over

    def log(self) -> list[str]:
        """The last log lines."""
        lines = [event["line"] for event in list(self.events) if event["kind"] == "log"]
        return lines[-LOG_LINES:]

    def progress(self, done: int, total: int | None = None) -> None:
        """Note how far the job is."""
        now = time.time()
        if self.first is None:
            self.first, self._before = now, done
        if done != self.done:
            self.latest, self._counted = now, done - self._before
        self.done, self.total = done, self.total if total is None else total

    def find(self, kind: str) -> dict[str, Any] | None:
        """The first event of a kind, if there is one."""
        return next((event for event in list(self.events) if event["kind"] == kind), None)

    def facts(self) -> dict[str, Any]:
        """What others may see: plain data, without the events."""
        names = ("id", "kind", "title", "state", "detail", "error", "asked", "begun", "ended", "done", "total")
        return {name: getattr(self, name) for name in names} | {"events": len(self.events)}
