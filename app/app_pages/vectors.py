"""Vectors: what is this vector, and can I trust it?

1. Where it was found, how it was taken, its length, and how it lies to the others (cosines of vectors of one width).
2. What it did: every arm of the store that used it, with its paired difference; a vector that no run has used says that its causal claim
   is untested. That beats any property of the vector itself.
3. Whether it is just a word, where the store holds an audit of it.
4. Which tokens it speaks for, by two lenses, where a reader asks for it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app import address
from app.decomposition_section import decomposition_section
from app.doubts import mark_run, say_left_out
from app.escaping import for_markdown, for_plotly, one_line
from app.jobs.chip import this_shelf
from app.lens_section import lens_section
from app.library import Unreadable, entries, open_run, runs_root
from app.vector_actions import audit_section, export_section, places, say_quality, test_section
from app.vector_files import VectorFile, offered
from experiments.evaluation.sentences import sentence
from experiments.store.runs import Store, StoreError
from experiments.studies.elicitation.findings import audits_of, stored_findings

PLOT = {"displaylogo": False, "modeBarButtonsToRemove": ["zoom2d", "pan2d", "autoScale2d", "select2d", "lasso2d"]}
MOST = 14
"""Vectors in the table of cosines."""


def page() -> None:
    """The page."""
    st.subheader("What is this vector, and can I trust it?", anchor=False)
    found = offered(runs_root(), this_shelf())
    if not found:
        st.info(
            "No vectors yet. One takes seconds on the built-in pair; `steer app --vectors FOLDER` offers those of a folder."
        )
        st.page_link("app_pages/make_vector.py", label="Make a vector", icon=":material/add_circle:")
        return
    st.page_link("app_pages/make_vector.py", label="Make a vector", icon=":material/add_circle:", width="content")
    say_left_out()
    show = st.toggle("Random directions too", key="vec_random", persist_state="session")
    listed = {digest: v for digest, v in found.items() if show or not v.control} or found
    st.dataframe(
        _table(listed),
        hide_index=True,
        key="vec_table",
        height=min(36 * len(listed) + 40, 320),
        alt="Every vector at hand.",
    )
    digests = list(listed)
    stale = address.restore("vec", digests, digests[0])
    chosen = st.selectbox(
        "Vector",
        digests,
        key="vec",
        format_func=lambda d: f"{one_line(listed[d].name, 60)} at {listed[d].site} ({d})",
        persist_state="session",
    )
    address.keep("vec", chosen)
    if stale:
        st.warning(
            f"This link names vector {for_markdown(stale)}, which is not among those at hand.",
            icon=":material/link_off:",
        )
    left, right = st.columns(2, gap="large")
    vector = listed[chosen]
    with left:
        _facts(vector)
        places(vector.digest, vector.model, own_page=False)
    with right:
        _evidence(vector)
    test_section(vector)
    export_section(vector)
    _audits(vector)
    lens_section([str(vector.path)], vector.model, vector.name, "vec_lens")
    if not vector.control:
        decomposition_section(vector)
    _cosines(listed, chosen)


def _table(vectors: dict[str, VectorFile]) -> pd.DataFrame:
    return pd.DataFrame([
        {
            "name": one_line(v.name, 60), "site": str(v.site), "norm": round(v.norm, 2), "method": v.method, "model": one_line(v.model, 60),
            "found in": v.source, "digest": d,
        }
        for d, v in vectors.items()
    ])  # fmt: skip


def _provenance(vector: VectorFile) -> dict[str, Any]:
    data = vector.path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return dict(json.loads(header["__metadata__"]["vector"])["provenance"])


def _direction(vector: VectorFile) -> np.ndarray:
    data = vector.path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    low, high = header["direction"]["data_offsets"]
    return np.frombuffer(data[begin + low : begin + high], dtype="<f4").astype(np.float64)


def _facts(vector: VectorFile) -> None:
    st.markdown("**Where it is from**")
    facts = {
        "site": str(vector.site),
        "length": f"{vector.norm:.2f}",
        "width": str(vector.width),
        "file": f"{vector.path.name} ({vector.source})",
    }
    facts |= {
        key.replace("_", " "): value for key, value in _provenance(vector).items() if value not in (None, "", [], {})
    }
    st.markdown(
        "\n".join(f"- {for_markdown(key)}: {for_markdown(one_line(value, 240), 240)}" for key, value in facts.items())
    )
    say_quality(vector.path, vector.digest)


def _evidence(vector: VectorFile) -> None:
    st.markdown(
        "**What it did**", help="Every arm of this store whose plan uses this vector, against its run's baseline."
    )
    lines: list[tuple[str, str, str, str]] = []
    for entry in entries(runs_root()):
        manifest = entry.manifest
        if manifest is None or entry.problem:
            continue
        arms = [a for a in manifest.arms if vector.digest in json.dumps(a.plan or {})]
        if arms and len(lines) < 12:
            lines += _effects(entry.run_id, {a.name for a in arms})
    if not lines:
        st.info(
            "No run of this store has used it: that it does anything is untested. Steer one prompt, or test it below."
        )
        return
    for run_id, split, label, words in lines[:12]:
        st.markdown(f"- {for_markdown(label, 80)}, {for_markdown(split)}: {for_markdown(words, 500)}")
        st.page_link(
            "app_pages/results.py",
            label=for_markdown(run_id),
            icon=":material/monitoring:",
            query_params={"run": run_id},
        )
    for run_id in dict.fromkeys(line[0] for line in lines[:12]):
        mark_run(run_id)


def _audits(vector: VectorFile) -> None:
    """What audits of the store say of it."""
    try:
        verdicts = audits_of(stored_findings(Store(runs_root()))[0], vector.digest)
    except (OSError, StoreError, Unreadable) as error:
        st.error(f"**The audits cannot be read.** {for_markdown(error, 600)}", icon=":material/broken_image:")
        return
    st.markdown(
        "**Is it just a word?**",
        help="Beside it at the same positions: a bias on its words that diverges as much, and itself without them.",
    )
    for words in verdicts:
        st.markdown(f"- {for_markdown(words, 700)}")
    if verdicts:
        st.page_link("app_pages/elicitation.py", label="Every arm of the audit", icon=":material/fact_check:")
    else:
        st.caption("Nobody has asked in this store.")
        audit_section(vector)


def _effects(run_id: str, arms: set[str]) -> list[tuple[str, str, str, str]]:
    try:
        summary = open_run(runs_root(), run_id).summary()
    except Unreadable:
        return []
    return [(run_id, s.split, a.label, sentence(a)) for s in summary.splits for a in s.arms if a.name in arms and a.n][
        :4
    ]


def _cosines(vectors: dict[str, VectorFile], chosen: str) -> None:
    same = [d for d, v in vectors.items() if v.width == vectors[chosen].width]
    kept = [chosen, *(d for d in same if d != chosen)][:MOST]
    if len(kept) < 2:
        return
    units = np.array([_direction(vectors[d]) / vectors[d].norm for d in kept])
    table = units @ units.T
    names = [f"{for_plotly(vectors[d].name, 24)} @{vectors[d].site.layer}" for d in kept]
    labels = [f"{name} ({d[:6]})" if names.count(name) > 1 else name for d, name in zip(kept, names, strict=True)]
    figure = go.Figure(
        go.Heatmap(
            z=table, x=labels, y=labels, zmin=-1, zmax=1, zmid=0, colorscale=[[0, "#1F83C4"], [0.5, "#EEF1F4"], [1, "#D9730D"]],
            text=np.round(table, 2), texttemplate="%{text}", textfont={"color": "#1B2530"},
            hovertemplate="%{y}<br>%{x}<br>cosine %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(automargin=True, tickangle=-35)
    figure.update_layout(height=36 * len(kept) + 180, margin={"l": 10, "r": 10, "t": 10, "b": 10})
    st.markdown(
        "**How it lies to the others**",
        help="Cosines between vectors of the same width. Those at other sites share no stream.",
    )
    best = max(range(1, len(kept)), key=lambda i: abs(table[0, i]))
    words = f"Closest to {vectors[chosen].label}: {vectors[kept[best]].label}, cosine {table[0, best]:+.2f}."
    st.plotly_chart(figure, key="vec_cosines", config=PLOT, alt=words)
    st.caption(words + (f" The first {MOST} of {len(same)} are shown." if len(same) > MOST else ""))


page()
