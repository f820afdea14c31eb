"""What a vector or a latent speaks for: the logit lens and the Jacobian lens beside each other, computed as a job when a reader asks.

1. It is `steer vectors lens`, run as a job; what is shown is the latest that this server ran for the same vector. Nothing is computed
   when a page is opened.
2. A model without texts of its own has no button, and neither has an autoencoder that is no name: the command is shown, which takes a
   file of texts.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.escaping import for_markdown, one_line
from app.job_section import document, latest, waiting
from app.jobs.chip import start_command

PAIR = ("builtin:base", "builtin:thinking")
"""The models that have texts of their own."""
COLUMNS = {
    "logit lens promotes": ("logit", "promoted"),
    "Jacobian lens promotes": ("jacobian", "promoted"),
    "logit lens demotes": ("logit", "demoted"),
    "Jacobian lens demotes": ("jacobian", "demoted"),
}
HELP = (
    "The logit lens reads the vector as if it stood at the last layer. The Jacobian lens first carries it there by the average derivative "
    "of the layers between, fitted on texts; it is linear, and no measurement of what a dose does."
)


def lens_section(subject: Sequence[str], model: str, title: str, key: str, *, can_start: bool = True) -> None:
    """The section. `subject`: the vector's file, or `--sae NAME --latents NUMBER`; `key` of its widgets."""
    st.markdown("**What it speaks for**", help=HELP)
    if model not in PAIR or not can_start:
        st.caption("A Jacobian lens of this model is fitted on texts of yours, one per line:")
        st.code(
            shlex.join(["steer", "vectors", "lens", *subject, "--model", model or "MODEL", "--texts", "TEXTS.txt"]),
            language="bash",
        )
        return
    arguments = ["vectors", "lens", *subject, "--model", model, "--json"]
    job = latest(arguments)
    busy = job is not None and not job.over
    found = document(job)
    if found is None:
        if st.button(
            "Jacobian lens",
            icon=":material/play_arrow:",
            key=key,
            disabled=busy,
            help="Fits on 96 texts: about half a minute.",
        ):
            if start_command(arguments, f"Jacobian lens: {one_line(title, 40)}"):
                st.rerun()
        if busy:
            st.fragment(waiting, run_every=1)(arguments)
        elif job is not None and job.state != "done":
            st.error(f"**It did not finish.** {for_markdown(job.error or job.detail, 600)}", icon=":material/error:")
        elif job is not None:
            st.caption(
                "It was computed before this server started; press again, which takes the fitted lens from the cache."
            )
        return
    _show(found, key)


def _show(document: dict[str, Any], key: str) -> None:
    (found,) = document["vectors"]
    shown = {
        heading: [f"{_word(token)} {token['logit']:+.2f}" for token in found[lens][end]]
        for heading, (lens, end) in COLUMNS.items()
    }
    words = f"{found['sentence']} {found['said']} They are {document['about']}."
    st.dataframe(
        pd.DataFrame(shown), hide_index=True, key=f"{key}_table", alt="Tokens by both lenses, strongest first."
    )
    st.caption(for_markdown(words, 900))
    for remark in found["remarks"]:
        st.warning(for_markdown(remark, 600), icon=":material/warning:")


def _word(token: dict[str, Any]) -> str:
    """A token's text; its id where it has none."""
    return one_line(token["text"].strip() or (f"id {token['id']}" if not token["text"] else "␣"), 24)
