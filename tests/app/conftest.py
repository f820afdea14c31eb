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
STORED = "cookies,local_storage,indexeddb,file_systems,service_workers,cache_storage"
"""What a page can leave in a browser for the next one, by its name in Chromium's protocol; the files it has loaded are none of it."""
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

    def reach(self, *parts: str, without: str = "") -> None:
        """Wait until the address holds these texts (and not another), and the page is quiet."""
        self.page.wait_for_url(
            lambda address: all(part in address for part in parts) and (not without or without not in address),
            timeout=60_000,
        )
        self.settle()

    def show(self, selector: str, text: str) -> Any:
        """Wait until what the selector finds says the text, which the page may draw after its script has run; returns it."""
        found = self.page.locator(selector, has_text=text).first
        found.wait_for(timeout=60_000)
        return found

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


@pytest.fixture(scope="session")
def idle_browsers() -> dict[tuple[str, int, int], list[Any]]:
    """Browsers that a test has done with, by colour scheme and size: what they have loaded of the app is not loaded again."""
    return {}


@pytest.fixture
def open_page(chromium: Any, idle_browsers: dict[tuple[str, int, int], list[Any]]) -> Iterator[Callable[..., Watched]]:
    """Open an address of a served app, each time in another browser: without cookies or anything else that an earlier one stored."""
    opened: list[tuple[tuple[str, int, int], Any, Watched]] = []

    def open_it(url: str, colour_scheme: str = "light", width: int = 1400, height: int = 1000) -> Watched:
        kind = (colour_scheme, width, height)
        idle = idle_browsers.setdefault(kind, [])
        size = {"width": width, "height": height}
        context = idle.pop() if idle else chromium.new_context(viewport=size, color_scheme=colour_scheme)
        watched = Watched(context.new_page(), "/".join(url.split("/")[:3]))
        opened.append((kind, context, watched))
        watched.watch()
        watched.visit(url)
        return watched

    yield open_it
    for kind, context, watched in opened:
        if watched.page.is_closed():
            context.close()
            continue
        context.new_cdp_session(watched.page).send(
            "Storage.clearDataForOrigin", {"origin": watched.host, "storageTypes": STORED}
        )
        watched.page.close()
        context.clear_cookies()
        idle_browsers[kind].append(context)
