"""`steer app` ends with everything that it started, however it is told to end. The server and its worker are real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.launch import command as server_command
from tests.app.conftest import _wait_for

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are read from /proc")


def processes(mark: str) -> dict[int, str]:
    """Command lines of the living processes whose environment holds the mark, by id."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                line = (entry / "cmdline").read_bytes().replace(b"\x00", b" ").decode()
                if line.strip():  # a process that has ended and is not yet waited for has none
                    found[int(entry.name)] = line
        except OSError:
            continue
    return found


def until_gone(mark: str, seconds: float = 20) -> dict[int, str]:
    end = time.monotonic() + seconds
    while (left := processes(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`steer app` with a worker that was warmed up and a command that runs; and the mark that all its processes carry."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mark = f"STEERING_TEST_MARK={tmp_path.name}-{os.getpid()}"
    name, _, value = mark.partition("=")
    runs = tmp_path / "runs"
    source = ROOT / "app" / "asgi.py"
    script = tmp_path / "warmed.py"
    script.write_text(
        source.read_text().replace("__file__", repr(str(source)))
        + f"\nboard().worker.warm()\nboard().submit_command(['eval', '--n', '4000', '--runs', {str(runs)!r}], 'long', 'me')\n"
    )
    code = (
        "import sys, app.launch as launch\n"
        "old = launch.command\n"
        f"launch.command = lambda *given: [{str(script)!r} if w.endswith('asgi.py') else w for w in old(*given)]\n"
        f"sys.exit(launch.launch({str(runs)!r}, port={port}, open_browser=False))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, name: value},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
        end = time.monotonic() + 60
        while not all(
            any(what in line for line in processes(mark).values())
            for what in ("app.jobs.child", "experiments.commands.cli")
        ):
            assert time.monotonic() < end, processes(mark)
            time.sleep(0.1)
        yield process, mark
    finally:
        for number in processes(mark):
            os.kill(number, signal.SIGKILL)
        process.wait(timeout=20)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 0), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_signal_to_the_app_ends_every_process_that_it_started(
    started: tuple[subprocess.Popen[bytes], str], number: signal.Signals, code: int
) -> None:
    process, mark = started
    assert len(processes(mark)) >= 4, "the app, its server, the worker and the command"
    process.send_signal(number)
    assert process.wait(timeout=25) == code
    assert until_gone(mark) == {}


def test_a_first_start_asks_for_no_address() -> None:
    """Streamlit's first start waits for an e-mail address where a browser is opened."""
    assert "--server.showEmailPrompt=false" in server_command(8501, True)


def test_the_app_advertises_nothing_of_streamlit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a browser opened, Streamlit shows a card over the page that offers to install files for other programs."""
    from streamlit import config
    from streamlit.web import skills

    monkeypatch.setattr(skills, "agent_harness_present", lambda: True)
    asked = dict(word[2:].split("=", 1) for word in server_command(8501, True) if word.startswith("--"))
    before = {name: config.get_option(name) for name in ("server.headless", "logger.hideWelcomeMessage")}
    try:
        for name in before:
            config.set_option(name, asked.get(name) == "true")
        assert not config.get_option("server.headless"), "the card is shown where a browser is opened"
        assert skills.nudge_suppression_reason(str(ROOT / "app")) == "welcome_hidden"
    finally:
        for name, value in before.items():
            config.set_option(name, value)


def test_the_app_says_its_address_once_it_has_the_port(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"import app.launch as launch\nlaunch.launch({str(tmp_path)!r}, port={port}, open_browser=False)\n"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
    finally:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=25)
    assert f"The app is at http://127.0.0.1:{port}\n" in said.decode()
