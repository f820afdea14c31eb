"""What latents are called: one's own label as a field, a judged one marked as such; both are searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

from app.escaping import for_markdown, one_line
from app.library import runs_root
from experiments.store.latent_labels import LONGEST, Label, labels_of, write_labels
from steering.errors import BadInput


def read_labels(facts: Mapping[str, Any]) -> dict[int, Label]:
    """The labels of a dashboard's autoencoder; none, and said, where they cannot be read."""
    try:
        return labels_of(runs_root(), str(facts.get("name", "")))
    except BadInput as error:
        st.warning(for_markdown(str(error), 400), icon=":material/broken_image:")
        return {}


def said(labels: Mapping[int, Label], number: int) -> str:
    """As a list has it: one's own label, else the judged one with its mark."""
    own = labels.get(number, Label())
    return one_line(own.own or (f"{own.judged} (judged)" if own.judged else ""), 60)


def hit(
    number: int, promoted: Iterable[object], text: str, labels: Mapping[int, Label], examples: Mapping[int, str]
) -> bool:
    """Whether a text stands in a label, a promoted token or an example of a latent, in whatever case."""
    wanted, own = text.strip().lower(), labels.get(number, Label())
    if wanted in own.own.lower() or wanted in own.judged.lower() or wanted in examples.get(number, ""):
        return True
    return any(wanted in str(token).lower() for token in promoted)


def label_field(facts: Mapping[str, Any], number: int, labels: Mapping[int, Label]) -> None:
    """One's own label as a field; the judged one beside it."""
    own, sae = labels.get(number, Label()), str(facts.get("name", ""))
    key = f"ft_label_{sae}_{number}"
    st.session_state.setdefault(key, own.own)
    text = st.text_input(
        "Your label", key=key, max_chars=LONGEST, placeholder="what it responds to, in your words",
        help="Kept in .labels of the store; `steer sae label` writes the same file.",
    )  # fmt: skip
    if text.strip() != own.own:
        try:
            write_labels(runs_root(), sae, {**labels, number: Label(text.strip(), own.judged, own.judge)})
            st.rerun()
        except (BadInput, OSError) as error:
            st.error(for_markdown(str(error), 400), icon=":material/error:")
    if own.judged:
        st.caption(f"Judged by {for_markdown(own.judge or 'nobody who is named', 60)}: {for_markdown(own.judged, 200)}")
