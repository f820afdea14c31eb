"""The gate of an intervention in the Playground's form: at which tokens the edit is made, by what the model holds there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from app import stack
from app.vector_files import VectorFile

KEPT: Any = {"persist_state": "session"}
HELP = "The edit is made only at tokens where this holds. The values that were read are in the receipt of a stored run."


def gate_fields(key: Callable[[str], str], vectors: Mapping[str, VectorFile]) -> None:
    """The fields; `key` names a field of the card."""
    with st.popover(_said(st.session_state.get(key("gate"), "")), icon=":material/filter_alt:", key=key("gating")):
        st.selectbox(
            "Only where", ["", *stack.GATES], key=key("gate"), help=HELP, **KEPT,
            format_func=lambda kind: stack.GATES[kind] if kind else "everywhere in the span",
        )  # fmt: skip
        kind = st.session_state[key("gate")]
        if not kind:
            return
        st.toggle("is below", key=key("below"), **KEPT)
        st.number_input("the threshold", key=key("threshold"), step=0.1, format="%.4g", **KEPT)
        if kind == "entropy":
            st.caption("Entropy is known of generated tokens alone: the span must cover no others.")
            return
        chosen = st.session_state.get(key("gate_vector"), "")
        digests = list(dict.fromkeys(["", *vectors, chosen]))
        st.selectbox(
            "along", digests, key=key("gate_vector"), **KEPT,
            format_func=lambda d: "its own vector" if not d else vectors[d].label if d in vectors else f"{d}, not here",
        )  # fmt: skip


def _said(kind: str) -> str:
    return f"only where {kind}" if kind else "everywhere in the span"
