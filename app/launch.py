"""Start the app: Streamlit as a process of its own, on this machine only.

1. The server listens on 127.0.0.1 unless it is told another address, as in a container; it checks hosts and origins (`app.gate`), sends no
   usage statistics, and watches no files, whatever a user's own Streamlit settings say.
2. The server reads runs and vectors from the folders that it is given; it imports neither torch nor a model. Models live in a worker
   process that it starts when a page needs one.
3. `launch` returns the exit code of the server. SIGINT (Ctrl+C), SIGTERM and SIGHUP end the server and every process that it started,
   once and in order; after `GRACE` seconds by force. Ctrl+C returns 0, the others 128 + their number.
4. The server holds the reading end of a pipe whose other end is here: however this process ends, the server ends too.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.gate import LOCAL, VARIABLE, read_hosts
from steering.errors import BadInput

APP = Path(__file__).resolve().parent
PARENT = "STEERING_PARENT"
"""Environment variable with the descriptor of the pipe that ends when `launch` does."""
ALONE, SINGLE = "STEERING_ALONE", "STEERING_SINGLE_USER"
"""Environment variables that are 1 where one job runs at a time, and where every browser is that of one user."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 15.0
"""Seconds that the server has to end by itself."""


def read_address(text: str) -> str:
    """An address of this machine to listen on. Raises BadInput for what is none."""
    try:
        return str(ipaddress.ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError as error:
        raise BadInput(
            f"--listen {text!r} is no address: give 127.0.0.1, 0.0.0.0 for every network of this machine, or one of its own."
        ) from error


def command(port: int, open_browser: bool, address: str = "127.0.0.1") -> list[str]:
    """The command line of the server. Raises BadInput for an address that is none."""
    flags = {
        "server.address": read_address(address),
        "server.port": port,
        "server.headless": not open_browser,
        "server.showEmailPrompt": False,  # a first start asks for no address
        "logger.hideWelcomeMessage": True,  # and advertises nothing: in the terminal, or over the page where a browser is opened
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.enableAgentApi": False,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "runner.magicEnabled": False,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
    }
    return [
        sys.executable,
        *("-m", "streamlit", "run", str(APP / "asgi.py")),
        *(f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in flags.items()),
    ]


def environment(
    runs: Path | str,
    vectors: Path | str | None = None,
    hosts: Sequence[str] = (),
    alone: bool = False,
    address: str = "127.0.0.1",
) -> dict[str, str]:
    """The environment of the server: the runs folder, a folder of vectors to offer, hosts that it may be asked as beside this machine's
    own, whether one job runs at a time, and the project on the import path. Without further hosts, and where it listens on this machine
    alone, every browser is of one user."""
    paths = [str(APP.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "STEERING_RUNS": str(runs) if "://" in str(runs) else str(Path(runs).resolve()),
        "PYTHONPATH": os.pathsep.join(paths),
        VARIABLE: ",".join(read_hosts(hosts)),
        ALONE: str(int(alone)),
        SINGLE: str(int(not hosts and read_address(address) in LOCAL)),
        **({"STEERING_VECTORS": str(Path(vectors).resolve())} if vectors else {}),
    }


def launch(
    runs: Path | str,
    port: int = 8501,
    open_browser: bool = True,
    vectors: Path | str | None = None,
    hosts: Sequence[str] = (),
    alone: bool = False,
    address: str = "127.0.0.1",
) -> int:
    """Run the app over the runs in `runs` until it is stopped; returns the server's exit code. Raises BadInput for a host or an address
    that is none."""
    settings = environment(runs, vectors, hosts, alone, address)
    reading, writing = os.pipe()
    asked: list[int] = []

    def end(number: int, frame: Any) -> None:
        asked.append(number)

    before = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        process = subprocess.Popen(
            command(port, open_browser, address),
            env={**settings, PARENT: str(reading)},
            pass_fds=[reading],
            start_new_session=True,  # a terminal's signals come here alone and are passed on once
        )
        while process.poll() is None and not asked:
            time.sleep(0.05)
        if not asked:
            return process.returncode
        process.terminate()
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return 0 if asked[0] == signal.SIGINT else 128 + asked[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
