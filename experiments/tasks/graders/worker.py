"""The process that compares mathematical answers. It is a program of its own, so that no answer can hang or end the run that asks.

1. One JSON line in, one JSON line out; the first line out says that it is ready.
2. A child does the comparing, under a timer of the kernel whose signal ends it whatever it is doing (a power tower computes in C, where no
   exception reaches), and under a limit on its memory. A child that ended is replaced from this process, which has everything loaded, in
   milliseconds.
3. Nothing that a library prints reaches the line protocol.

It imports two files of the project, `reading.py` and `equality.py`, which import nothing of it; math-verify and what that needs are all
else that is loaded.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

KILLED = "killed"
Compared = Callable[[dict[str, Any]], dict[str, Any]]


def main(memory: int) -> None:
    """Serve until standard input ends. `memory`: MiB that one comparison may take beyond what is loaded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(4000)
    compared = _comparing()
    compared({"gold": {"kind": "leaf", "text": r"\frac{x}{2}"}, "answer": {"kind": "leaf", "text": r"\sqrt{2}x"}})
    _say(out, {"ready": True})
    child: tuple[int, BinaryIO, BinaryIO] | None = None
    for line in sys.stdin.buffer:
        if child is None:
            child = _child(memory, compared)
        pid, to, back = child
        try:
            to.write(line)
            to.flush()
            reply = back.readline()
        except BrokenPipeError:
            reply = b""
        if not reply.endswith(b"\n"):
            to.close()
            back.close()
            _, status = os.waitpid(pid, 0)
            child = None
            what = (
                signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
            )
            reply = json.dumps({KILLED: what}).encode() + b"\n"
        out.write(reply)
        out.flush()


def _say(out: BinaryIO, facts: dict[str, Any]) -> None:
    out.write(json.dumps(facts).encode() + b"\n")
    out.flush()


def _child(memory: int, compared: Compared) -> tuple[int, BinaryIO, BinaryIO]:
    """A forked process that compares; its id, and the pipes to and from it."""
    down, up = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        os.close(down[0])
        os.close(up[1])
        return pid, os.fdopen(down[1], "wb"), os.fdopen(up[0], "rb")
    try:
        os.close(down[1])
        os.close(up[0])
        _limit(memory)
        with os.fdopen(down[0], "rb") as requests, os.fdopen(up[1], "wb") as replies:
            for line in requests:
                request = json.loads(line)
                # The default action of this signal ends the process; no handler of Python has to run.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, request["timeout"])
                try:
                    reply, spent = compared(request), False
                except MemoryError:
                    reply, spent = {"error": "out of memory"}, True
                except RecursionError:
                    reply, spent = {"error": "nested too deeply"}, False
                except Exception as error:
                    reply, spent = {"error": f"{type(error).__name__}: {str(error)[:200]}"}, False
                signal.setitimer(signal.ITIMER_REAL, 0)
                _say(replies, reply)
                if spent:
                    break
    finally:
        os._exit(0)


def _limit(memory: int) -> None:
    if os.path.exists("/proc/self/statm"):  # elsewhere what is held is not known, and only time is limited
        with open("/proc/self/statm") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _comparing() -> Compared:
    """What answers a request: `equal`, and whether both answers were read as mathematics (`read`, `gold_read`)."""
    reading, equality = _beside("reading"), _beside("equality")

    def compared(request: dict[str, Any]) -> dict[str, Any]:
        gold, answer = reading.read(request["gold"]), reading.read(request["answer"])
        facts = {"gold_read": reading.whole(gold), "read": reading.whole(answer)}
        return {"equal": all(facts.values()) and bool(equality.same(gold, answer)), **facts}

    return compared


def _beside(name: str) -> ModuleType:
    """A file of this folder, which is no package here."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(int(sys.argv[1]))
