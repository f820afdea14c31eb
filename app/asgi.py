"""The app as a server: the Streamlit pages, the routes of the jobs beside them, and the life of the worker.

1. The pages and the routes run in this process, which imports neither torch nor a model; models live in the worker process.
2. Every request passes the gate (`app.gate`) before anything else sees it.
3. When the server is asked to end, event streams end at once, the running job is interrupted, and no process is left behind; so too
   when the process that started it is gone.
4. Streamlit's welcome is off, and with it what it advertises over the page; so the server prints its own address, once it has the port.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from app.gate import Gate, failed
from app.jobs.board import board
from app.jobs.owner import OwnerCookie
from app.jobs.routes import ROUTES
from app.launch import PARENT


def _end_with(descriptor: int) -> None:
    """End this process when the one that started it has ended, however that was."""
    with suppress(OSError):
        while os.read(descriptor, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Begin with the jobs of the server before; end with none running."""
    kept = board()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def end(number: int, frame: Any) -> None:
        kept.closing = True
        number = signal.SIGTERM if number == signal.SIGHUP else number
        then = before[signal.Signals(number)]
        if callable(then):
            then(number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in (*before, signal.SIGHUP):
            signal.signal(number, end)
    if descriptor := os.environ.pop(PARENT, ""):
        threading.Thread(target=_end_with, args=(int(descriptor),), name="parent", daemon=True).start()
    if st.get_option("logger.hideWelcomeMessage"):
        address = str(st.get_option("server.address"))
        shown = (
            "127.0.0.1"
            if ipaddress.ip_address(address).is_unspecified
            else f"[{address}]"
            if ":" in address
            else address
        )
        print(f"The app is at http://{shown}:{st.get_option('server.port')}", flush=True)
    try:
        yield
    finally:
        kept.close()


app = st.App(
    Path(__file__).parent / "main.py",
    routes=ROUTES,
    lifespan=lifespan,
    middleware=[Middleware(Gate), Middleware(OwnerCookie)],
    exception_handlers={Exception: failed},
)
