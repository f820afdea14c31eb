"""Fixtures of the app's tests: a started server over a folder of runs, and a browser page that remembers its faults.

1. `serve(runs)` starts the real app on a free port of this machine and returns its address; one server per folder,
   all ended.
2. `open_page(url, ...)` opens a page in Chromium and waits until the script has run. Console errors, uncaught
   errors and requests to other machines are collected in `page.faults`.
3. Tests that use them are skipped when no Chromium is found, and say so; where CI is set they fail instead.
"""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.launch import command, environment

IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"][data-test-connection-state="CONNECTED"]'
PROBES = ("/_stcore/health", "/_stcore/host-config")
"""Streamlit asks for these beside a page's path first, to find where it is mounted; a 404 there is normal."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs Chromium and a started server")


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., str]]:
    """Start the app over a folder of runs, to be asked under `hosts` too; returns its address."""
    running: dict[Path, tuple[subprocess.Popen[bytes], str]] = {}

    def start(runs: Path, hosts: Sequence[str] = ()) -> str:
        if runs not in running:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen(command(port, open_browser=False), env=environment(runs, hosts=hosts), **quiet)
            running[runs] = process, url
            _wait_for(f"{url}/_stcore/health", process)
        return running[runs][1]

    yield start
    for process, _ in running.values():
        process.terminate()
        process.wait(timeout=20)


def _wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the server did not answer at {url} within {seconds:.0f} s")


@dataclass
class Watched:
    """A browser page with its faults."""

    page: Any
    host: str
    faults: list[str] = field(default_factory=list)

    def visit(self, url: str) -> None:
        """Open another address in the same browser: a new session of the server, with what the browser has loaded kept."""
        self.page.goto(url)
        self.page.wait_for_selector(IDLE, timeout=60_000)
        self.settle()

    def settle(self, milliseconds: int = 250) -> None:
        """Wait until the script has run and the page is quiet."""
        self.page.wait_for_timeout(milliseconds)
        self.page.wait_for_selector(IDLE, timeout=60_000)

    def watch(self) -> None:
        """Begin to collect faults."""
        self.page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        self.page.on("console", self._console)
        self.page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type == "error" and not message.location.get("url", "").endswith(PROBES):
            self.faults.append(f"console: {message.text} {message.location}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.host, self.host.replace("http", "ws", 1), "data:", "blob:")):
            self.faults.append(f"request to another machine: {request.url}")


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Watched]]:
    """Open an address of a served app."""
    contexts = []

    def open_it(url: str, colour_scheme: str = "light", width: int = 1400, height: int = 1000) -> Watched:
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=colour_scheme)
        contexts.append(context)
        watched = Watched(context.new_page(), "/".join(url.split("/")[:3]))
        watched.watch()
        watched.visit(url)
        return watched

    yield open_it
    for context in contexts:
        context.close()
