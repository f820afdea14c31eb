"""Start the app: Streamlit as a process of its own, on this machine only.

1. The server listens on 127.0.0.1, sends no usage statistics, and watches no files, whatever a user's own Streamlit
   settings say.
2. The server reads runs and vectors from the folders that it is given; it imports neither torch nor a model. Models live in a worker
   process that it starts when a page needs one.
3. `launch` returns the exit code of the server. Ctrl+C ends the server and returns 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

APP = Path(__file__).resolve().parent


def command(port: int, open_browser: bool) -> list[str]:
    """The command line of the server."""
    flags = {
        "server.address": "127.0.0.1",
        "server.port": port,
        "server.headless": not open_browser,
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


def environment(runs: Path | str, vectors: Path | str | None = None) -> dict[str, str]:
    """The environment of the server: the runs folder, a folder of vectors to offer, and the project on the import path."""
    paths = [str(APP.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "STEERING_RUNS": str(runs) if "://" in str(runs) else str(Path(runs).resolve()),
        "PYTHONPATH": os.pathsep.join(paths),
        **({"STEERING_VECTORS": str(Path(vectors).resolve())} if vectors else {}),
    }


def launch(runs: Path | str, port: int = 8501, open_browser: bool = True, vectors: Path | str | None = None) -> int:
    """Run the app over the runs in `runs` until it is stopped; returns the server's exit code."""
    process = subprocess.Popen(command(port, open_browser), env=environment(runs, vectors))
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait(timeout=10)
        return 0
