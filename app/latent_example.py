"""Latents found by an example: a text is read, and the latents that are active at each of its tokens are named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.escaping import for_markdown
from app.fed_section import show_fed
from app.job_section import document, offer
from app.latent_names import said
from app.library import runs_root
from experiments.store.files import write_whole
from experiments.store.latent_labels import Label

FOLDER = ".monitor"
AT_A_TOKEN = 8


def find_by_example(name: str, facts: Mapping[str, Any], alive: pd.DataFrame, labels: Mapping[int, Label]) -> None:
    """The field, the reading as a job, and what it found."""
    root, model, sae = runs_root(), str(facts.get("model_id", "")), str(facts.get("name", ""))
    if not isinstance(root, Path) or not model:
        return
    with st.expander(
        "Find latents by a text of your own", icon=":material/manage_search:", key="ft_example", on_change="rerun"
    ) as opened:
        if not opened.open:
            return
        text = st.text_area("Text, fed as it is written", key="ft_text", height=90, persist_state="session")
        if not text.strip():
            st.caption("The latents that are active at its tokens, strongest first. Nothing is steered.")
            return
        show_fed(model, text)
        path = root / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"

        def begin() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text.encode())

        arguments = [
            "monitor",
            "--json",
            "--model",
            model,
            "--file",
            str(path),
            "--sae",
            sae,
            "--strongest",
            str(AT_A_TOKEN),
        ]
        found = document(
            offer(
                arguments,
                f"Latents of {sae} along a text",
                "seconds on a built-in model",
                "ft_read",
                label="Read it",
                begin=begin,
            )
        )
        if found is not None:
            _shown(found, alive, labels, name)


def _shown(found: Mapping[str, Any], alive: pd.DataFrame, labels: Mapping[int, Label], dashboard: str) -> None:
    for remark in found["remarks"]:
        st.warning(for_markdown(remark, 600), icon=":material/warning:")
    tokens, strongest = found["tokens"], found["strongest"]
    density = dict(zip(alive["latent"], alive["density"], strict=True))
    peak = dict(zip(alive["latent"], alive["peak"], strict=True))
    best: dict[int, tuple[float, int]] = {}
    first = 1 if len(tokens) > 1 else 0
    for place, own in list(enumerate(strongest))[first:]:
        for number, value in own:
            if value > best.get(number, (0.0, 0))[0]:
                best[number] = (value, place)
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Over the whole text**")
        rows = sorted(best.items(), key=lambda one: -one[1][0] / max(peak.get(one[0], one[1][0]), 1e-9))
        table = pd.DataFrame({
            "latent": [n for n, _ in rows], "label": [said(labels, n) for n, _ in rows],
            "at": [f"#{place} {tokens[place]!r}" for _, (_, place) in rows],
            "activation": [round(value, 3) for _, (value, _) in rows],
            "of its peak %": [round(100 * value / peak[n], 1) if n in peak else None for n, (value, _) in rows],
            "density %": [round(100 * density[n], 2) if n in density else None for n, _ in rows],
        })  # fmt: skip
        st.dataframe(
            table,
            hide_index=True,
            key="ft_by_text",
            height=260,
            alt="Latents that are active in the text, by the share of their peak.",
        )
        st.caption(
            f"Latents among the {AT_A_TOKEN} strongest at some token, by the share of their peak on the dashboard's texts; the "
            "first token, where many latents are large, is left out."
        )
    with right:
        place = st.selectbox(
            "At the token",
            range(len(tokens)),
            index=len(tokens) - 1,
            key=f"ft_at_{len(tokens)}",
            format_func=lambda n: f"#{n} {tokens[n]!r}",
        )
        for number, value in strongest[place]:
            name = said(labels, number)
            line = st.container(horizontal=True, vertical_alignment="center")
            line.page_link(
                "app_pages/features.py",
                label=f"{number}",
                query_params={"ft_sae": dashboard, "ft_id": str(number)},
                width="content",
            )
            line.caption(f"{value:.3g} {for_markdown(name, 60)}")
        if not strongest[place]:
            st.caption("No latent is active there.")
