"""`steer` in a process of its own, for what only a process can show: signals, limits of the kernel, two at once.

1. The process is forked from one that has imported the model libraries and has no threads, so that a test does not pay for their import.
2. It has the caller's environment, its own `sys.argv`, and pipes for its two outputs; it ends as `python -m experiments.commands.cli` does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

LIBRARIES = [
    "experiments.commands.cli",
    "experiments.evaluation.executors",
    "experiments.evaluation.spec_files",
    "experiments.sweeps.run",
    "transformers.models.qwen2.modeling_qwen2",
]
"""What the process that is forked has imported. One that is missing here costs time and nothing else."""


def context() -> multiprocessing.context.ForkServerContext:
    """Where processes are forked; every one of them computes with one thread."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(LIBRARIES)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
    return found


def _steer(words: list[str], environment: Mapping[str, str], first: Callable[[], None] | None, *pipes: Any) -> None:
    for number, pipe in enumerate(pipes, 1):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["steer", *words]
    if first is not None:
        first()
    from experiments.commands import cli

    cli.main()


class SteerProcess:
    """`steer` with arguments, begun in a process of its own. `first` is called in it before anything else, and must be picklable."""

    def __init__(self, *arguments: object, first: Callable[[], None] | None = None):
        forked = context()
        mine, theirs = zip(*(forked.Pipe(duplex=False) for _ in range(2)), strict=True)
        words = [str(word) for word in arguments]
        self.process = forked.Process(target=_steer, args=(words, dict(os.environ), first, *theirs))
        self.process.start()
        for pipe in theirs:
            pipe.close()
        self._readers = ThreadPoolExecutor(len(mine))
        self._said = [self._readers.submit(_whole, pipe) for pipe in mine]

    def running(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        """End it as the kernel does when memory is short."""
        self.process.kill()
        self.process.join()
        self._readers.shutdown()

    def done(self, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Wait for its end: exit code, standard output, standard error. Raises TimeoutError, and ends it, when it takes longer."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.kill()
            raise TimeoutError(f"steer did not end within {timeout:.0f} s")
        out, err = (said.result() for said in self._said)
        self._readers.shutdown()
        code = self.process.exitcode
        assert code is not None
        return subprocess.CompletedProcess(["steer"], code, out, err)


@dataclass(frozen=True)
class KilledAfterWriting:
    """Said as `first`: the process is killed `seconds` after its first stored shard, and its second one waits for that.

    So it ends between two shards on a machine of any speed, at a moment that `seconds` draws.
    """

    seconds: float

    def __call__(self) -> None:
        from experiments.store.runs import Run

        write, dying = Run.write, threading.Event()

        def once(self_: Run, rows: Sequence[Mapping[str, Any]]) -> Path:
            if dying.is_set():
                time.sleep(600)
            path = write(self_, rows)
            dying.set()
            threading.Timer(self.seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
            return path

        Run.write = once  # type: ignore[method-assign]


def _whole(pipe: Any) -> str:
    """All that is written into a pipe until its other end is closed. A pipe is no file: a limit on the size of files is none on it."""
    with pipe, os.fdopen(os.dup(pipe.fileno()), encoding="utf-8") as text:
        return text.read()
