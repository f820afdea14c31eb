"""The jobs chip of the context bar, and who the reader is, for the pages."""

from __future__ import annotations

import secrets
from pathlib import Path

import streamlit as st

from app.escaping import for_markdown
from app.jobs.board import Refused, board, submit_command
from app.jobs.owner import COOKIE, change_word, owner_id
from app.shelf import shelf

PAGE = "app_pages/jobs.py"


def this_owner() -> str:
    """The public id of the browser that looks at this page: from its cookie, or of the session where there is none."""
    return owner_id(_secret())


def start_command(arguments: list[str], title: str) -> bool:
    """Queue a `steer` command for this browser; where it is refused, the page says why, and the answer is false."""
    try:
        submit_command(arguments, title, this_owner())
    except Refused as error:
        st.error(for_markdown(error, 600), icon=":material/block:")
        return False
    return True


def this_shelf() -> Path:
    """Where the uploaded files of this browser lie."""
    return shelf(_secret())


def _secret() -> str:
    """The token of this browser: of its cookie, or of the session where there is none."""
    found = dict(st.context.cookies).get(COOKIE)
    return found or str(st.session_state.setdefault("_owner_token", secrets.token_urlsafe(24)))


def this_change_word() -> str:
    """What this browser's page says to change something of its own by a route."""
    return change_word(_secret())


def _chip() -> None:
    running, waiting = board().active()
    place = st.container(horizontal=True, horizontal_alignment="right")
    if not running and not waiting:
        place.page_link(
            PAGE, label="no jobs", icon=":material/check_circle:", help="Nothing is running. Opens the list of jobs."
        )
        if st.session_state.pop("_jobs_seen", False):
            st.rerun()
        return
    st.session_state["_jobs_seen"] = True
    words = ", ".join(f"{count} {word}" for count, word in ((running, "running"), (waiting, "queued")) if count)
    place.page_link(PAGE, label=words, icon=":material/progress_activity:", width="content")


def jobs_chip() -> None:
    """Draw the chip; it looks again every two seconds while something runs."""
    active = any(board().active())
    st.fragment(_chip, run_every=2 if active else None)()
