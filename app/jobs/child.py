"""The worker process: one engine, jobs one after the other over a channel of its own, cancelled at any token.

    python -m app.jobs.child DESCRIPTOR MODULE:CLASS

1. In: ("run", job, request, whether a command runs beside it), ("cancel", job), ("unload",). Out: ("event", job, event), then exactly
   one of ("done", job, cancelled) and ("failed", job, reason, message, traceback); ("ready", models) at the start and after every job.
2. The channel is looked at after every token; a cancelled job ends with its partial rows.
3. When the server is gone, the channel ends and so does the process.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any, Protocol

PAUSE = float(os.environ.get("STEERING_TOKEN_PAUSE", "0"))
"""Seconds to wait after every token: slows generation down where it is to be watched, as in the tests."""


class Runs(Protocol):
    """What the process needs of an engine (`experiments.live.run.Engine`)."""

    def run(self, request: Mapping[str, Any], cancel: Callable[[], bool]) -> Iterator[dict[str, Any]]: ...

    def beside(self, other: bool) -> None: ...

    def unload(self) -> None: ...

    def loaded(self) -> list[str]: ...


def serve(channel: Connection, engine: Runs) -> None:
    """Run jobs until the channel ends."""
    try:
        channel.send(("ready", engine.loaded()))
        while True:
            message = channel.recv()
            if message[0] == "run":
                _run(channel, engine, *message[1:])
            elif message[0] == "unload":
                engine.unload()
            channel.send(("ready", engine.loaded()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _run(channel: Connection, engine: Runs, job: str, request: Mapping[str, Any], beside: bool) -> None:
    stopped = False

    def cancel() -> bool:
        nonlocal stopped
        while channel.poll():
            if channel.recv() == ("cancel", job):
                stopped = True
        return stopped

    try:
        engine.beside(beside)
        for event in engine.run(request, cancel):
            channel.send(("event", job, event))
            if PAUSE and event["kind"] == "token":
                time.sleep(PAUSE)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except BaseException as error:
        reason = _reason(error)
        if reason == "memory":
            engine.unload()
        channel.send(("failed", job, reason, str(error) or type(error).__name__, traceback.format_exc()))
    else:
        channel.send(("done", job, stopped))


def _reason(error: BaseException) -> str:
    """`memory`, `input` or `error`."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"} or "can't allocate memory" in str(error):
        return "memory"
    return "input" if names & {"BadInput", "ValidationError"} else "error"


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor, (module, _, name) = int(sys.argv[1]), sys.argv[2].partition(":")
    serve(Connection(descriptor), getattr(importlib.import_module(module), name)())


if __name__ == "__main__":
    main()
