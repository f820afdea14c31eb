"""The process that compares mathematical answers. It is a program of its own, so that no answer can hang or end the run that asks.

1. One JSON line in, one JSON line out; the first line out says that it is ready.
2. A child does the comparing, under a timer of the kernel whose signal ends it whatever it is doing (a power tower computes in C, where no
   exception reaches), and under a limit on its memory. A child that ended is replaced from this process, which has everything loaded, in
   milliseconds.
3. Nothing that a library prints reaches the line protocol.

It imports nothing of the project: math-verify and what that needs are all that is loaded.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import sys
from typing import Any, BinaryIO

KILLED = "killed"


def main(memory: int) -> None:
    """Serve until standard input ends. `memory`: MiB that one comparison may take beyond what is loaded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(4000)
    _compare({"gold": r"\frac{1}{2}", "answer": "(1, 2]"})
    _say(out, {"ready": True})
    child: tuple[int, BinaryIO, BinaryIO] | None = None
    for line in sys.stdin.buffer:
        if child is None:
            child = _child(memory)
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


def _child(memory: int) -> tuple[int, BinaryIO, BinaryIO]:
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
                    reply, spent = _compare(request), False
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


def _compare(request: dict[str, Any]) -> dict[str, Any]:
    """Whether two answers are the same: `equal`, and what the answer was read as; `read` false where it is no mathematics."""
    from math_verify import verify

    gold, answer = _parsed(request["gold"]), _parsed(request["answer"])
    if not gold or not answer:
        return {"equal": False, "read": bool(answer), "gold_read": bool(gold)}
    equal = bool(verify(gold, answer, timeout_seconds=None))
    return {"equal": equal, "read": True, "gold_read": True, "as": _shown(answer[0])}


def _shown(value: Any) -> str:
    # Only small things are spelled out: the digits of a large power take longer than the power.
    text = value if isinstance(value, str) else type(value).__name__
    return text[:80]


def _parsed(text: str) -> list[Any]:
    from math_verify import parse
    from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig

    if re.fullmatch(r"-?\.?\d[\d.]*", text):
        text = text.rstrip(".")
    # An escaped dollar inside a formula would end it.
    formula = text.replace(r"\$", "").replace("$", "")
    return list(
        parse(
            f"${formula}$",
            extraction_config=[LatexExtractionConfig(), ExprExtractionConfig()],
            parsing_timeout=None,
            raise_on_error=True,
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
