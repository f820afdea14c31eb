"""Jobs: what is running, how long, and can I stop it?

1. Every job of this server, and those that an earlier one left, with state, progress, time left, speed, log, and what went wrong.
2. Cancel is offered to the browser that started a job, on a server of one user to each of theirs; Retry and Open to everyone.
3. While something runs, the list renews itself; when the last job has ended, it stops.
"""

from __future__ import annotations

import time
from typing import Literal

import streamlit as st

from app import address
from app.escaping import for_markdown, one_line
from app.jobs.board import Board, Refused, board
from app.jobs.chip import this_owner
from app.jobs.job import Job

Colour = Literal["gray", "blue", "green", "orange", "red"]
COLOURS: dict[str, Colour] = {
    "queued": "gray",
    "loading": "blue",
    "running": "blue",
    "done": "green",
    "cancelled": "orange",
    "failed": "red",
    "interrupted": "orange",
}
EVERY = 1.0
SHOWN = 30


def page() -> None:
    """The page."""
    st.subheader("What is running, how long, and can I stop it?", anchor=False)
    kept = board()
    _memory(kept)
    active = any(kept.active())
    st.fragment(_list, run_every=EVERY if active else None)()


def _memory(kept: Board) -> None:
    models, busy = kept.worker.models, kept.before("generate") > 0
    with st.container(horizontal=True, vertical_alignment="center"):
        loaded = ", ".join(map(for_markdown, models)) if models else "none"
        worker = "The worker process is there" if kept.worker.pid else "The worker process is not started"
        order = (
            "One job runs at a time, in order."
            if kept.alone
            else "One generation runs at a time, and one command beside it."
        )
        st.caption(f"{order} {worker}; models in memory: {loaded}.", width="stretch")
        if models and st.button("Unload models", icon=":material/eject:", disabled=busy, help="Lets the memory go."):
            try:
                kept.unload()
            except Refused as error:
                st.toast(for_markdown(error))
            st.rerun()


def _list() -> None:
    kept, owner = board(), this_owner()
    jobs = kept.jobs()
    active = any(kept.active())
    if not active and st.session_state.pop("_jobs_list_active", False):
        st.rerun()
    st.session_state["_jobs_list_active"] = active
    if not jobs:
        st.info(
            "Nothing has run yet. The Playground runs prompts, Sweeps runs cells, Health runs the self-tests; each of them appears here.",
            icon=":material/hourglass_empty:",
        )
        st.page_link("app_pages/playground.py", label="Open the Playground", icon=":material/play_circle:")
        return
    chosen = st.session_state.get("job") or address.asked("job")
    for job in sorted(jobs, key=lambda j: (j.over, -j.asked if j.over else j.asked))[:SHOWN]:
        _job(kept, job, owner, job.id == chosen)
    if len(jobs) > SHOWN:
        st.caption(f"{len(jobs) - SHOWN} older jobs are not shown.")


def _job(kept: Board, job: Job, owner: str, chosen: bool) -> None:
    with st.container(border=True, gap="small", key=f"job_{job.id}"):
        top = st.container(horizontal=True, vertical_alignment="center")
        with top:
            st.badge(job.state, color=COLOURS[job.state])
            st.markdown(f"**{for_markdown(job.title, 90)}**", width="stretch")
            _buttons(kept, job, owner)
        st.caption(" · ".join(_facts(kept, job, owner)))
        if job.state == "running" and job.total:
            st.progress(min(job.done / job.total, 1.0), text=None)
        if job.error:
            tone = st.error if job.state == "failed" else st.warning
            tone(
                for_markdown(job.error, 1200), icon=":material/report:" if job.state == "failed" else ":material/info:"
            )
        log = job.log()
        if log:
            with st.expander(f"Log, last {len(log)} lines", expanded=chosen or not job.over):
                text = "\n".join(one_line(line, 400) for line in log)
                st.code(text, language=None, wrap_lines=True, height=180 if len(log) > 7 else "content")
        if job.traceback:
            with st.expander("Traceback"):
                st.code(job.traceback, language=None, height=260)


def _facts(kept: Board, job: Job, owner: str) -> list[str]:
    """What is to be said of a job, in words."""
    facts = ["yours" if job.owner == owner else "from another browser"]
    if job.kind == "command":
        facts.append("`steer " + one_line(" ".join(job.request), 160).replace("`", "'") + "`")
    if job.state == "queued":
        ahead = kept.ahead(job)
        facts.append("next in the queue" if ahead == 0 else f"{ahead} ahead of it in the queue")
    elif job.detail and job.kind == "generate":
        facts.append(for_markdown(job.detail))
    unit = "tokens" if job.kind == "generate" else "rows"
    if job.done:
        facts.append(f"{job.done:,} of {job.total:,} {unit}" if job.total and not job.over else f"{job.done:,} {unit}")
    if job.begun is not None:
        facts.append(f"{'ran' if job.over else 'running for'} {duration(job.seconds)}")
    if job.rate and not (job.over and job.state != "done"):
        facts.append(f"{job.rate:,.0f} {unit}/s" if job.rate >= 10 else f"{job.rate:.2g} {unit}/s")
    if job.remaining is not None:
        facts.append(
            f"at most {duration(job.remaining)} left"
            if job.kind == "generate"
            else f"about {duration(job.remaining)} left"
        )
    if job.ended:
        facts.append(f"ended {ago(time.time() - job.ended)}")
    return facts


def _buttons(kept: Board, job: Job, owner: str) -> None:
    if not job.over:
        mine = kept.may_cancel(job, owner)
        words = "stopping…" if job.cancelling else "Cancel"
        why = "Keeps what is finished." if mine else "Only the browser that started it can stop it."
        off = not mine or job.cancelling
        if st.button(words, key=f"cancel_{job.id}", icon=":material/stop_circle:", disabled=off, help=why):
            _try(lambda: kept.cancel(job.id, owner))
    else:
        if st.button("Retry", key=f"retry_{job.id}", icon=":material/replay:", help="The same again, as a new job."):
            _try(lambda: kept.retry(job.id, owner))
    if job.kind == "generate" and (not job.over or job.events):
        link = {"pg_job": job.id}
        st.page_link(
            "app_pages/playground.py", label="Open", icon=":material/open_in_new:", query_params=link, width="content"
        )


def _try(action: object) -> None:
    try:
        action()  # type: ignore[operator]
    except Refused as error:
        st.toast(for_markdown(error, 400), icon=":material/block:")
        return
    st.rerun()


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def ago(seconds: float) -> str:
    """A time in the past, in words."""
    return "just now" if seconds < 5 else f"{seconds:.0f} s ago" if seconds < 90 else f"{duration(seconds)} ago"


page()
