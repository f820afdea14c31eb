"""A `steer` command that a page offers: what it would run, how long it takes, a button, and how far it is.

Nothing is started when a page is opened. What is shown is the latest job of this server with the same arguments, whoever started it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import streamlit as st

from app.escaping import for_markdown, one_line
from app.jobs.board import board
from app.jobs.chip import start_command
from app.jobs.job import Job
from app.library import look_again


def latest(arguments: list[str]) -> Job | None:
    """The newest job with these arguments and no others, but for the store that admission may put behind them."""

    def same(request: list[str]) -> bool:
        behind = request[len(arguments) :]
        return request[: len(arguments)] == arguments and (not behind or (len(behind) == 2 and behind[0] == "--runs"))

    return next((job for job in board().jobs() if job.kind == "command" and same(list(job.request))), None)


def document(job: Job | None) -> dict[str, Any] | None:
    """The JSON document that a finished job printed."""
    if job is None or job.state != "done":
        return None
    try:
        found = json.loads((job.result or {}).get("output") or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def offer(
    arguments: list[str],
    title: str,
    takes: str,
    key: str,
    *,
    label: str = "Start it",
    primary: bool = False,
    begin: Callable[[], None] | None = None,
) -> Job | None:
    """The command, and a button that runs it as a job; its progress while it runs, and why it did not finish. `takes`: how long, in words;
    `begin` is called before it is started, and may raise BadInput. Returns its latest job."""
    from steering.errors import BadInput

    job = latest(arguments)
    busy = job is not None and not job.over
    st.code(shlex.join(["steer", *arguments]), language="bash", wrap_lines=True)
    pressed = st.button(
        label, icon=":material/play_arrow:", key=key, disabled=busy, type="primary" if primary else "secondary",
        help=f"A job: it goes on when this page is closed. Takes {takes}.",
    )  # fmt: skip
    st.caption(f"Takes {takes}.")
    if pressed:
        try:
            if begin is not None:
                begin()
        except (BadInput, OSError) as error:
            st.error(for_markdown(str(error), 600), icon=":material/error:")
            return job
        if start_command(arguments, one_line(title, 80)):
            st.rerun()
        return job
    if busy:
        st.fragment(waiting, run_every=1)(arguments)
    elif job is not None and job.state == "cancelled":
        st.info("Stopped; what was finished is kept. The button goes on from there.", icon=":material/stop_circle:")
    elif job is not None and job.state != "done":
        last = job.log()[-1] if job.log() else ""
        st.error(
            f"**It did not finish.** {for_markdown(job.error or job.detail, 600)} {for_markdown(last, 400)}",
            icon=":material/error:",
        )
    return job


def waiting(arguments: list[str]) -> None:
    """How far the job is; when it has ended, the whole page is drawn again."""
    job = latest(arguments)
    if job is None or job.over:
        look_again()
        st.rerun()
        return
    share = f", {job.done:,} of {job.total:,}" if job.total else ""
    left = f", about {job.remaining:.0f} s left" if job.remaining is not None else ""
    st.info(f"{for_markdown(job.state)} for {job.seconds:.0f} s{share}{left}", icon=":material/progress_activity:")
    if lines := job.log():
        st.caption(for_markdown(one_line(lines[-1], 160), 200))
    st.page_link("app_pages/jobs.py", label="On the Jobs page", icon=":material/pending_actions:")
