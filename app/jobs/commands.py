"""`steer` commands as jobs: a subprocess, its standard error as log, its exit code as the job's state.

1. Only what `admission` lets through runs, as arguments of one program, without a shell.
2. Cancel sends SIGINT, on which every verb keeps what is finished; after `GRACE` seconds, SIGKILL.
3. Lines such as `evaluating demo: 120/480` are the job's progress.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .job import Job, State
from .worker import ROOT

GRACE = 8.0
"""Seconds between SIGINT and SIGKILL."""
OUTPUT = 4 << 20
"""Bytes of standard output that are kept."""
_PROGRESS = re.compile(r"(\d[\d,]*)\s*/\s*(\d[\d,]*)\s*$")
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_command(job: Job, closing: Callable[[], bool], *, gently: bool = False) -> None:
    """Run a job's command to its end and set the job's state; `gently` lets everything else go first."""
    nice = shutil.which("nice") if gently else None
    process = subprocess.Popen(
        [*([nice, "-n", "10"] if nice else []), sys.executable, "-m", "experiments.commands.cli", *job.request],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
        | {"PYTHONUNBUFFERED": "1", "COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"},
    )
    job.to("running", "steer " + " ".join(job.request))
    output: list[bytes] = []
    readers = [
        threading.Thread(target=_log, args=(job, process.stderr), daemon=True),
        threading.Thread(target=_keep, args=(output, process.stdout), daemon=True),
    ]
    for reader in readers:
        reader.start()
    asked: float | None = None
    while process.poll() is None:
        if asked is None and (job.cancelling or closing()):
            asked = time.monotonic()
            _signal(process, signal.SIGINT)
        elif asked is not None and time.monotonic() - asked > (2.0 if closing() else GRACE):
            _signal(process, signal.SIGKILL)
        time.sleep(0.05)
    for reader in readers:
        reader.join(timeout=2)
    code = process.returncode
    job.result = {"exit": code, "output": b"".join(output).decode(errors="replace")}
    state, error = outcome(code, job.cancelling)
    job.to(state, f"exit code {code}", error=error)


def outcome(code: int, cancelled: bool) -> tuple[State, str]:
    """State and message of an exit code: 0 done, 1 failure, 2 bad input, 3 partial, 130 interrupted, below 0 killed."""
    if code == 0:
        return "done", ""
    if cancelled:
        return "cancelled", "Stopped. Everything finished is stored; Retry goes on where it stopped."
    if code in (130, -signal.SIGINT):
        return "interrupted", "Interrupted. Everything finished is stored; Retry goes on where it stopped."
    if code == 2:
        return "failed", "The command was refused: its input cannot be run. The last log line says what to change."
    if code == 3:
        return (
            "failed",
            "Only part could be run; that part is stored. The log says why; Retry goes on where it stopped.",
        )
    if code == -signal.SIGKILL:
        return "failed", (
            "The command was killed from outside (signal 9), most likely because the machine ran out of memory. Everything finished is "
            "stored. Next: fewer rows per batch or a smaller model, then Retry."
        )
    if code < 0:
        return "failed", f"The command was ended by signal {-code}. Everything finished is stored; Retry goes on."
    return "failed", "The command failed. The log says why; what was finished is stored."


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _log(job: Job, stream: Any) -> None:
    for raw in stream:
        for part in raw.decode(errors="replace").replace("\r", "\n").split("\n"):
            line = _SEQUENCE.sub("", part).rstrip()[:2000]
            if not line:
                continue
            found = _PROGRESS.search(line)
            if found:
                job.progress(*(int(number.replace(",", "")) for number in found.groups()))
            job.add({"kind": "log", "line": line})


def _keep(output: list[bytes], stream: Any) -> None:
    kept = 0
    for raw in stream:
        if kept < OUTPUT:
            output.append(raw)
            kept += len(raw)
