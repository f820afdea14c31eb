"""The context bar over every page: which run is shown, what state it is in, and the link to this view.

1. The chosen run is in the address (`?run=`) on every page, also when the app chose it by itself: a widget that is
   bound to the address would leave that one out, and the link would later name another run.
2. A link to a run that is not in the store says so and shows no other run in its place.
3. No runs, a broken run and no chosen run each give a message with the next step; the page below it does not run.
4. Every page says how many jobs run and wait, drawn after the page, which may have started one.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlencode, urlsplit

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import address
from app.escaping import for_markdown
from app.job_section import offer
from app.jobs.chip import jobs_chip
from app.library import OpenRun, Unreadable, entries, open_run, runs_root

Colour = Literal["green", "blue", "orange"]
COLOURS: dict[str, Colour] = {"complete": "green", "running": "blue", "interrupted": "orange"}


def context_bar(where: str = "") -> tuple[OpenRun | None, DeltaGenerator]:
    """Draw the bar, which says `where` in the menu the page is; returns the chosen run, or None after saying why there is none, and the
    bar's corner, for `close_bar`."""
    root = runs_root()
    try:
        found = entries(root)
    except Unreadable as error:
        st.error(for_markdown(error, 600), icon=":material/folder_off:")
        return None, st.container()
    asked = address.asked("run")
    if not found:
        _no_runs(asked)
        return None, st.container()
    ids = [entry.run_id for entry in found]
    if asked in ids:
        st.session_state["run"] = asked
    elif st.session_state.get("run") not in ids:
        st.session_state["run"] = None if asked else ids[0]
    left, middle, right = st.columns([3, 5.6, 3.4], vertical_alignment="bottom")
    corner = _corner(right)
    chosen = left.selectbox(
        "Run",
        ids,
        index=None,
        key="run",
        placeholder="Pick a run",
        help="Stored runs, complete ones first. The choice is part of the address.",
    )
    if chosen is None:
        _no_such_run(asked, ids)
        return None, corner
    address.keep("run", chosen)
    try:
        run = open_run(root, chosen)
    except Unreadable as error:
        st.error(f"**This run cannot be read.** {for_markdown(error, 900)}", icon=":material/broken_image:")
        st.caption("Other runs can be picked above.")
        return None, corner
    entry = next(entry for entry in found if entry.run_id == chosen)
    _describe(middle, run, entry.rows, where)
    if doubts := run.doubts():
        st.error(for_markdown(doubts, 900), icon=":material/gpp_bad:")
    for warning in run.manifest.facts.get("warnings", ()):
        st.warning(for_markdown(warning, 900), icon=":material/translate:")
    if entry.problem:
        st.warning(for_markdown(entry.problem, 900), icon=":material/warning:")
    return run, corner


def plain_bar(where: str = "") -> DeltaGenerator:
    """The bar of a page that is about no stored run, which says `where` in the menu it is: returns its corner, for `close_bar`. The run
    that other pages show stays chosen."""
    if asked := address.asked("run"):
        st.session_state["run"] = asked
    elif "run" in st.session_state:
        st.session_state["run"] = st.session_state["run"]  # a widget's value is dropped where the widget is not drawn
    address.keep("run", st.session_state.get("run"))
    corner = _corner(st.container())
    if where:
        corner.caption(where, width="stretch")
    return corner


def _corner(place: DeltaGenerator) -> DeltaGenerator:
    """The right end of the bar, for the jobs chip and the link."""
    return place.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center")


def link() -> str:
    """The address of this view, built from what is shown."""
    parts = urlsplit(st.context.url or "")
    query = urlencode(st.query_params.to_dict())
    return f"{parts.scheme or 'http'}://{parts.netloc or 'localhost'}{parts.path or '/'}?{query}"


def close_bar(corner: DeltaGenerator, linked: bool = True) -> None:
    """Fill the bar's corner when the page is complete: the jobs chip, with what the page has started, and the link to this view."""
    with corner:
        jobs_chip()
    if not linked:
        return
    with corner.popover("Link", icon=":material/link:", key="link", help="The address of exactly this view"):
        st.caption("Opens the same run, questions, arms and tint.")
        st.code(link(), language=None, wrap_lines=True)


def _describe(bar: DeltaGenerator, run: OpenRun, rows: int, where: str) -> None:
    manifest = run.manifest
    with bar.container(horizontal=True, vertical_alignment="center"):
        if where:
            st.caption(where, width="content")
        st.badge(manifest.status, color=COLOURS[manifest.status])
        splits = ", ".join(f"{for_markdown(name)} {n}" for name, n in manifest.splits.items())
        st.caption(
            f"{for_markdown(manifest.name)} · {len(manifest.arms)} arms · questions: {splits} · "
            f"{rows:,} of {manifest.rows_expected:,} rows stored",
            width="stretch",
        )
    if manifest.status == "running":
        st.info("This run is not finished: all numbers are interim. Do not stop it because they look good.")
    elif manifest.status == "interrupted":
        st.warning("This run was interrupted. Start the same command again to redo what is missing.")


def _no_runs(asked: str | None) -> None:
    if asked:
        st.warning(f"This link names run {for_markdown(asked)}, but the folder of runs is empty.")
    st.subheader("No runs yet.")
    st.markdown(f"Nothing is stored in {for_markdown(runs_root())}. The demo fills this page and the others:")
    offer(
        ["demo", "--runs", str(runs_root())],
        "the demo",
        "about 5 min",
        "no_runs_demo",
        label="Run the demo",
        primary=True,
    )


def _no_such_run(asked: str | None, ids: list[str]) -> None:
    if asked:
        st.warning(
            f"This link names run {for_markdown(asked)}, which is not in {for_markdown(runs_root())}. "
            f"Pick one of the {len(ids)} stored runs above, or open the folder that has it: steer app --runs FOLDER.",
            icon=":material/link_off:",
        )
    else:
        st.info("Pick a run above.")
