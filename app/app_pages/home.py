"""Home: what do I have, and what should I do next?

1. Counts of what is in the store and at hand, the latest runs, and three tasks, each one click away.
2. With nothing in the store the page says how to make the demo run, and starts it as a job.
"""

from __future__ import annotations

import streamlit as st

from app.doubts import mark_run
from app.escaping import for_markdown
from app.jobs.board import board
from app.jobs.chip import start_command
from app.library import Unreadable, entries, open_run, runs_root
from app.roles import look
from experiments.evaluation.sentences import sentence
from experiments.store.runs import RunEntry

TASKS = (
    (
        "app_pages/playground.py",
        ":material/play_circle:",
        "Steer one prompt",
        "Choose a vector, a layer and a strength, and watch both texts being written.",
    ),
    (
        "app_pages/compare.py",
        ":material/compare_arrows:",
        "Compare two arms",
        "Where did the texts part, where did steering fire, and did it help?",
    ),
    (
        "app_pages/sweeps.py",
        ":material/grid_on:",
        "Find the best layer",
        "Which layer and dose, beside random directions, and is the best cell real?",
    ),
)
LATEST = 6


def page() -> None:
    """The page."""
    root = runs_root()
    st.subheader("What do I have, and what next?", anchor=False)
    try:
        found = entries(root)
    except Unreadable as error:
        st.error(for_markdown(error, 600), icon=":material/folder_off:")
        return
    _counts(found)
    columns = st.columns(len(TASKS))
    for column, (target, icon, title, words) in zip(columns, TASKS, strict=True):
        with column.container(border=True, height="stretch"):
            st.page_link(target, label=f"**{title}**", icon=icon)
            st.caption(words)
    if not found:
        _empty()
        return
    _latest(found)
    _worked_example(found)


def _counts(found: list[RunEntry]) -> None:
    complete = sum(e.manifest is not None and e.manifest.status == "complete" for e in found)
    broken = sum(e.problem is not None for e in found)
    running, waiting = board().active()
    cells = st.columns(4)
    cells[0].metric("Runs", len(found), help=f"In {runs_root()}")
    cells[1].metric("Complete", complete, f"{broken} with a problem" if broken else None, delta_color="inverse")
    cells[2].metric("Rows stored", f"{sum(e.rows or 0 for e in found):,}")
    cells[3].metric("Jobs", running + waiting, f"{waiting} waiting" if waiting else None, delta_color="off")


def _empty() -> None:
    with st.container(border=True):
        st.markdown(
            "**No runs yet.** The demo is the main job on the built-in pair of small models: it needs no network and no GPU."
        )
        st.code(f"steer demo --runs {runs_root()}", language="bash")
        if st.button("Run the demo as a job", icon=":material/play_arrow:", type="primary", key="home_demo"):
            if start_command(["demo", "--runs", str(runs_root())], "Demo on the built-in pair"):
                st.switch_page("app_pages/jobs.py")


def _latest(found: list[RunEntry]) -> None:
    st.markdown("**Runs**")
    for entry in found[:LATEST]:
        line = st.container(horizontal=True, vertical_alignment="center", gap="medium")
        line.page_link(
            "app_pages/results.py", label=for_markdown(entry.run_id, 60), icon=":material/monitoring:",
            query_params={"run": entry.run_id}, width="content",
        )  # fmt: skip
        state = "broken" if entry.problem else entry.manifest.status if entry.manifest else "unknown"
        line.caption(f"{state} · {entry.rows or 0:,} of {entry.expected or 0:,} rows")
    if len(found) > LATEST:
        st.page_link("app_pages/runs.py", label=f"All {len(found)} runs", icon=":material/list:")


def _worked_example(found: list[RunEntry]) -> None:
    """The first complete run with a steered arm, in one sentence per split."""
    entry = next(
        (
            e
            for e in found
            if e.manifest and e.manifest.status == "complete" and any(a.role == "steered" for a in e.manifest.arms)
        ),
        None,
    )
    if entry is None:
        return
    try:
        summary = open_run(runs_root(), entry.run_id).summary()
    except Unreadable:
        return
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**What {for_markdown(entry.run_id)} says**")
        mark_run(entry.run_id)
        for split in summary.splits:
            for arm in split.arms:
                if arm.role == "steered" and arm.n:
                    st.markdown(
                        f"{look(arm.role).badge} {for_markdown(split.split)}: {for_markdown(sentence(arm), 600)}"
                    )
        st.page_link(
            "app_pages/results.py",
            label="Every arm, with its controls",
            icon=":material/monitoring:",
            query_params={"run": entry.run_id},
        )


page()
