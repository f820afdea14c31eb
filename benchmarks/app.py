"""`python -m benchmarks.app`: how quickly the app's pages are ready, measured inside the page, and whether the server's memory stays flat.

A page is ready when its script has run and nothing in it changes any more. Times are taken by the page itself (performance.now and a
MutationObserver), because a browser driver's own waiting would be part of them otherwise. Needs Chromium.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from app.launch import command, environment

IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"][data-test-connection-state="CONNECTED"]'
PAGES = {
    "home": "Explore", "playground": "Explore", "compare": "Explore", "results": "Evidence", "sweeps": "Evidence", "hybrid": "Mechanism",
    "vectors": "Mechanism", "features": "Mechanism", "runs": "Library", "jobs": "Library", "health": "Library",
}  # fmt: skip
"""Pages and the menus that they are in."""
SWITCH = """async ([name, menu]) => {
  const until = async (look) => {
    for (let i = 0; i < 500; i++) {
      const found = look();
      if (found) return found;
      await new Promise(done => setTimeout(done, 10));
    }
    throw new Error('no link to ' + name);
  };
  [...document.querySelectorAll('[data-testid="stTopNavSection"]')].find(b => b.innerText.includes(menu)).click();
  const path = name === 'home' ? '/' : '/' + name;
  const link = await until(() => [...document.querySelectorAll('[data-testid="stTopNavDropdownLink"]')]
    .find(a => new URL(a.href).pathname === path));
  await new Promise(done => setTimeout(done, 200));
  const start = performance.now();
  let last = start, seen = false;
  const observer = new MutationObserver(() => { last = performance.now(); seen = true; });
  observer.observe(document.body, {childList: true, subtree: true, characterData: true});
  link.click();
  await new Promise(done => {
    const look = () => {
      const idle = document.querySelector('[data-testid="stApp"]').dataset.testScriptState === 'notRunning';
      if ((seen && idle && performance.now() - last > 200) || performance.now() - start > 15000) done();
      else setTimeout(look, 20);
    };
    look();
  });
  observer.disconnect();
  return last - start;
}"""


def main(
    runs: Annotated[Path, typer.Argument(help="Folder of a run store.")],
    rounds: Annotated[int, typer.Option(help="Times that every page is opened, after a first one that warms up.")] = 5,
    switches: Annotated[int, typer.Option(help="Page switches over which memory is watched.")] = 500,
) -> None:
    """Print milliseconds to ready per page (median, largest), and the server's memory before and after the switches."""
    from playwright.sync_api import sync_playwright

    with served(runs) as (url, process):
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(url)
            page.wait_for_selector(IDLE)
            found: dict[str, list[float]] = {name: [] for name in PAGES}
            for turn in range(rounds + 1):
                for name, menu in PAGES.items():
                    taken = page.evaluate(SWITCH, [name, menu])
                    if turn:
                        found[name].append(taken)
            for name, times in found.items():
                print(f"{name}\t{statistics.median(times):.0f} ms (largest {max(times):.0f})", flush=True)
            before = psutil.Process(process).memory_info().rss
            marks = []
            for number in range(switches):
                page.evaluate(SWITCH, list(PAGES.items())[number % len(PAGES)])
                if number % max(1, switches // 5) == 0:
                    marks.append(psutil.Process(process).memory_info().rss / 2**20)
            after = psutil.Process(process).memory_info().rss
            between = ", ".join(f"{mark:.0f}" for mark in marks)
            print(
                f"memory of the server: {before / 2**20:.0f} MiB, after {switches} switches {after / 2**20:.0f} MiB ({between})"
            )
            browser.close()


@contextmanager
def served(runs: Path) -> Iterator[tuple[str, int]]:
    """The app over a folder of runs on a free port of this machine: its address and the server's process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command(port, open_browser=False), env=environment(runs), **quiet)
    try:
        _wait(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}", server.pid
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait(url: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit("The server did not answer.")


if __name__ == "__main__":
    typer.run(main)
