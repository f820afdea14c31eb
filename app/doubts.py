"""What pages say of files that are not as they should be: runs that do not verify, vectors that are passed over."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.escaping import for_markdown, one_line
from app.jobs.chip import this_shelf
from app.library import Unreadable, open_run, runs_root
from app.vector_files import left_out


def mark_run(run_id: str, place: DeltaGenerator | None = None) -> None:
    """Say, where figures of a run are shown, that it does not verify; nothing where it does."""
    try:
        said = open_run(runs_root(), run_id).doubts()
    except Unreadable as error:
        said = str(error)
    if said:
        (place or st).error(f"{for_markdown(run_id)}: {for_markdown(said, 900)}", icon=":material/gpp_bad:")


def say_left_out() -> None:
    """Name the vector files that are passed over, with the reasons."""
    found = left_out(runs_root(), this_shelf())
    if not found:
        return
    with st.expander(f"{len(found)} file{'s' * (len(found) > 1)} passed over", icon=":material/broken_image:"):
        for name, reason in found[:50]:
            st.markdown(f"- {for_markdown(one_line(name, 160), 200)}: {for_markdown(reason, 400)}")
        if len(found) > 50:
            st.caption(f"{len(found) - 50} more are not listed.")
