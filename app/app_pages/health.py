"""Health: is the machinery right on this machine, for this model?

1. The checks are `steer doctor`, run as a job; the page shows the latest that this server ran, with its numbers and when.
2. A check that failed says what it would mean for results.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pandas as pd
import streamlit as st

from app import address
from app.escaping import for_markdown, one_line
from app.jobs.board import board
from app.jobs.chip import start_command
from app.library import runs_root

MODELS = ("builtin:base", "builtin:thinking")
DTYPES = ("float32", "bfloat16", "float16")
MARKS = {True: "✓", False: "✗ FAILED", None: "– not applicable"}


def page() -> None:
    """The page."""
    st.subheader("Is the machinery right on this machine?", anchor=False)
    model, dtype = _choice()
    busy = _job(running=True)
    line = st.container(horizontal=True, gap="medium", vertical_alignment="center")
    if line.button(
        "Run the checks", icon=":material/play_arrow:", type="primary", key="hea_run", disabled=busy is not None
    ):
        arguments = ["doctor", model, "--dtype", dtype, "--runs", str(runs_root()), "--json"]
        if start_command(arguments, f"Checks of {model}, {dtype}"):
            st.rerun()
    line.code(f"steer doctor {model} --dtype {dtype}", language="bash", width="content")
    if busy is not None:
        _waiting()
        return
    done = _job(running=False)
    if done is None:
        st.info(
            "Not run since this server was started. The checks take seconds: hooks, cache, batches, samples and receipts are tried on the "
            "model, each against something written another way."
        )
        return
    if done["document"] is None:
        st.error(f"**The checks did not finish.** {for_markdown(done['detail'], 900)}", icon=":material/error:")
        st.page_link("app_pages/jobs.py", label="Log of the job", icon=":material/schedule:")
        return
    _report(done)


def _choice() -> tuple[str, str]:
    left, right = st.columns([2, 1])
    asked = address.asked("hea_model")
    if asked:
        st.session_state["hea_model"] = asked
    options = list(
        dict.fromkeys([*MODELS, *([st.session_state["hea_model"]] if st.session_state.get("hea_model") else [])])
    )
    model = left.selectbox(
        "Model",
        options,
        key="hea_model",
        accept_new_options=True,
        persist_state="session",
        help="Built-in, a folder, or a hub id.",
    )
    stale = address.restore("hea_dtype", DTYPES, DTYPES[0])
    dtype = right.selectbox("Precision", DTYPES, key="hea_dtype", persist_state="session")
    if stale:
        st.warning(
            f"This link names precision {for_markdown(stale)}; shown instead: {dtype}.", icon=":material/link_off:"
        )
    address.keep("hea_model", model)
    address.keep("hea_dtype", dtype)
    return str(model or MODELS[0]), str(dtype)


@st.fragment(run_every=1)
def _waiting() -> None:
    job = _job(running=True)
    if job is None:
        st.rerun()
        return
    st.info(
        f"{for_markdown(job['title'])}: {job['state']} for {job['seconds']:.0f} s", icon=":material/progress_activity:"
    )


def _job(running: bool) -> dict[str, Any] | None:
    """The latest check of this server that runs or waits, or that is over."""
    for job in board().jobs():  # the newest first
        if job.kind == "command" and list(job.request)[:1] == ["doctor"] and job.over is not running:
            try:
                document = json.loads((job.result or {}).get("output") or "null")
            except ValueError:
                document = None
            return {
                "title": job.title, "state": job.state, "seconds": job.seconds, "detail": job.error or job.detail, "document": document,
                "ended": job.ended,
            }  # fmt: skip
    return None


def _report(done: dict[str, Any]) -> None:
    document = done["document"]
    checks, machine = document["checks"], document["machine"]
    wrong = [c for c in checks if c["passed"] is False]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(done["ended"])) if done["ended"] else "in this session"
    passed, subject = sum(c["passed"] is True for c in checks), for_markdown(document["model"])
    words = f"{passed} of {len(checks)} checks pass on {subject}, {document['dtype']} ({when})."
    if wrong:
        st.error(
            f"**{words}** Results of this model on this machine cannot be trusted until these are mended.",
            icon=":material/error:",
        )
    else:
        st.success(words, icon=":material/verified:")
    st.dataframe(
        pd.DataFrame(
            [
                {"": MARKS[c["passed"]], "check": c["name"], "measured": c["measured"], "if it failed": c["means"]}
                for c in sorted(checks, key=lambda c: c["passed"] is not False)
            ]
        ),
        hide_index=True, key="hea_checks", height=36 * len(checks) + 40, alt=words,
    )  # fmt: skip
    st.markdown("**Machine**")
    missing = ", ".join(name for name, there in machine["optional"].items() if not there) or "none"
    devices = "; ".join(" ".join(map(str, d.values())) for d in machine["devices"])
    facts = {
        "Python": f"{machine['python']}, {machine['system']}",
        "processor": f"{machine['cores']} cores, {machine['threads']} threads",
        "memory free": f"{machine['free_memory_gib']} of {machine['memory_gib']} GiB",
        "devices": devices,
        "packages": ", ".join(f"{k} {v}" for k, v in machine["packages"].items()),
        "optional packages that are not here": missing,
        "models from": machine["models"]["cache"] + (" (offline)" if machine["models"]["offline"] else ""),
    }
    st.markdown("\n".join(f"- {name}: {for_markdown(one_line(value, 400), 400)}" for name, value in facts.items()))


page()
