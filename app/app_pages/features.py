"""Features: what does this latent respond to, and does it cause anything?

1. A list that is searched (labels, promoted tokens, examples) and sorted; a text of one's own names latents too. A latent is in the
   address by its number, as `ft_id`.
2. Examples from every octave of its activation, not the strongest alone; tokens are plain text.
3. Whether it causes anything is a matter of interventions: ablation runs of the store that edited it, beside their matched controls. A
   latent without one says that causal claims are untested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app import address
from app.doubts import mark_run
from app.escaping import for_markdown, one_line
from app.feature_files import FACTS, dashboards, edited, example_texts, features, latent
from app.job_section import offer
from app.latent_actions import latent_actions
from app.latent_example import find_by_example
from app.latent_names import hit, label_field, read_labels, said
from app.lens_section import lens_section
from app.library import Unreadable, entries, open_run, runs_root
from app.roles import look
from experiments.evaluation.sentences import sentence
from experiments.store.latent_labels import Label

PLOT = {"displaylogo": False, "modeBarButtonsToRemove": ["zoom2d", "pan2d", "autoScale2d", "select2d", "lasso2d"]}
PER_BAND = 4
BESIDE = 12
"""Tokens shown before and after the active one."""


def page() -> None:
    """The page."""
    st.subheader("What does this feature respond to, and does it cause anything?", anchor=False)
    found = dashboards(runs_root())
    if not found:
        st.info("No dashboard of an autoencoder is at hand.")
        _offer()
        return
    names = list(found)
    address.restore("ft_sae", names, names[0])
    name = st.selectbox("Autoencoder", names, key="ft_sae", persist_state="session") if len(names) > 1 else names[0]
    address.keep("ft_sae", name if len(names) > 1 else None)
    folder = found[name]
    changed = (folder / FACTS).stat().st_mtime
    try:
        facts, table = features(str(folder), changed)
    except (OSError, ValueError, KeyError) as error:
        st.error(f"**This dashboard cannot be read.** {for_markdown(error, 600)}", icon=":material/broken_image:")
        return
    alive = table[table["active"] > 0]
    st.caption(
        f"{for_markdown(name)}: {len(table):,} latents, {len(table) - len(alive):,} never active on these "
        f"{int(facts.get('tokens', 0)):,} tokens. It reads {for_markdown(facts.get('model_id', 'an unknown model'))} at "
        f"{for_markdown(facts.get('site', 'an unknown site'))}."
    )
    for remark in facts.get("remarks", []):
        st.warning(for_markdown(remark, 600), icon=":material/warning:")
    left, right = st.columns([1, 1.7], gap="large")
    labels = read_labels(facts)
    with left:
        chosen = _list(alive, labels, lambda: example_texts(str(folder), changed))
    with right:
        _detail(str(folder), changed, chosen, facts, labels)
    find_by_example(str(name), facts, alive, labels)
    if not any(folder.is_relative_to(runs_root()) for folder in found.values() if isinstance(runs_root(), Path)):
        with st.expander("A dashboard of a built-in model"):
            _offer()


def _list(alive: pd.DataFrame, labels: Mapping[int, Label], texts: Callable[[], Mapping[int, str]]) -> int:
    orders = {
        "density": "density",
        "peak": "peak",
        "mean_active": "mean where active",
        "difference": "right minus wrong answers",
    }
    address.restore("ft_sort", orders, "density")
    order = st.selectbox(
        "Sort by", list(orders), key="ft_sort", format_func=orders.__getitem__, persist_state="session"
    )
    address.keep("ft_sort", order)
    text = st.text_input(
        "Find",
        key="ft_find",
        placeholder="a label, a token that it promotes, words of its examples",
        persist_state="session",
    )
    shown = alive.assign(difference=(alive["rate_right"] - alive["rate_wrong"]).fillna(0.0))
    if text.strip():
        every = texts()
        pairs = zip(shown["latent"], shown["top_tokens"], strict=True)
        shown = shown[[hit(int(n), tokens, text, labels, every) for n, tokens in pairs]]
    shown = shown.sort_values(str(order), key=lambda c: c.abs() if order == "difference" else c, ascending=False)
    st.dataframe(
        pd.DataFrame({
            "latent": shown["latent"], "label": [said(labels, int(n)) for n in shown["latent"]],
            "density %": (100 * shown["density"]).round(2), "peak": shown["peak"].round(2),
            "promotes": [one_line(" ".join(map(str, list(t)[:5])), 60) for t in shown["top_tokens"]],
        }),
        hide_index=True, key="ft_table", height=420, alt="Latents that were active, with density, peak, and the tokens that they promote.",
    )  # fmt: skip
    st.caption(f"{len(shown):,} latents")
    numbers = [int(n) for n in (shown if len(shown) else alive)["latent"]]
    valid = [str(n) for n in alive["latent"]]
    stale = address.restore("ft_id", valid, str(numbers[0]))
    value = st.selectbox(
        "Latent", [str(n) for n in dict.fromkeys([*numbers, *map(int, valid)])], key="ft_id", persist_state="session"
    )
    address.keep("ft_id", value)
    if stale:
        st.warning(
            f"This link names latent {for_markdown(stale)}, which was never active here.", icon=":material/link_off:"
        )
    return int(value)


def _detail(folder: str, changed: float, number: int, facts: dict[str, Any], labels: Mapping[int, Label]) -> None:
    row, examples = latent(folder, changed, number)
    st.markdown(
        f"**Latent {number}** · active on {100 * row['density']:.2f} % of tokens ({row['active']:,}) · peak {row['peak']:.2f} · "
        f"mean where active {row['mean_active']:.2f}"
    )
    label_field(facts, number, labels)
    latent_actions(facts, row)
    tabs = st.tabs(["Responds to", "Causes", "Neighbours"], key="ft_tab", on_change="rerun")
    if tabs[0].open:
        with tabs[0]:
            _responds(row, examples, facts)
    if tabs[1].open:
        with tabs[1]:
            _causes(number, facts)
    if tabs[2].open:
        with tabs[2]:
            for title, ids, values, what in (
                ("Decoder neighbours", "neighbours", "neighbour_cosines", "cosine"),
                ("Active together", "coactive", "coactive_phi", "phi"),
            ):
                st.markdown(f"**{title}**")
                st.dataframe(
                    pd.DataFrame({"latent": row[ids], what: [round(float(v), 3) for v in row[values]]}),
                    hide_index=True,
                    key=f"ft_{ids}",
                )


def _responds(row: dict[str, Any], examples: pd.DataFrame, facts: dict[str, Any]) -> None:
    left, right = st.columns(2)
    with left:
        edges, counts = row["histogram_edges"], row["histogram"]
        pairs = list(zip(edges, edges[1:], strict=False))
        bars = go.Bar(
            x=[a for a, _ in pairs], width=[b - a for a, b in pairs], offset=0, y=counts, marker_color="#66788A"
        )
        figure = go.Figure(bars)
        figure.update_yaxes(type="log", title="tokens (log)")
        figure.update_xaxes(title="activation")
        figure.update_layout(height=210, margin={"l": 10, "r": 10, "t": 10, "b": 40}, bargap=0.05)
        st.plotly_chart(
            figure, key="ft_histogram", config=PLOT, alt="Histogram of its activations, on a logarithmic scale."
        )
    with right:
        for title, tokens, logits in (
            ("Promotes", "top_tokens", "top_logits"),
            ("Demotes", "bottom_tokens", "bottom_logits"),
        ):
            listed = zip(row[tokens][:8], row[logits][:8], strict=False)
            st.markdown(
                f"**{title}** "
                + ", ".join(f"{for_markdown(str(token).strip() or '␣', 24)} {value:+.2f}" for token, value in listed)
            )
        labels = facts.get("labels", [])
        shares = [(n, s) for n, s in zip(labels, row["label_share"] or [], strict=False) if s and s > 0.005]
        if shares:
            words = ", ".join(f"{for_markdown(n)} {100 * s:.0f} %" for n, s in sorted(shares, key=lambda p: -p[1])[:6])
            st.markdown(f"**Inside behaviours** {words}")
    name, number = str(facts.get("name", "builtin:base")), int(row["latent"])
    subject, shipped = ["--sae", name, "--latents", str(number)], name.startswith("builtin:")
    lens_section(subject, str(facts.get("model_id", "")), f"latent {number} of {name}", "ft_lens", can_start=shipped)
    for band, group in examples.groupby("band", sort=True):
        st.markdown("**Strongest**" if band == 0 else f"**From {group['low'].iloc[0]:.2g} up**")
        for _, example in group.head(PER_BAND).iterrows():
            st.markdown(_strip(example))


def _strip(example: pd.Series) -> str:
    """The window around the active token, which is marked; what belongs to the prompt is grey."""
    tokens, active, prompt = list(example["tokens"]), int(example["active"]), int(example["prompt"])
    first, last = max(0, active - BESIDE), min(len(tokens), active + BESIDE + 1)
    words = []
    for place in range(first, last):
        word = for_markdown(str(tokens[place]).strip() or "␣", 24)
        words.append(
            f":orange-background[**{word}**]" if place == active else f":gray[{word}]" if place < prompt else word
        )
    times = f" ×{int(example['count'])}" if example["count"] > 1 else ""
    return f":small[{example['activation']:.2f}{times}] " + " ".join(words)


def _causes(number: int, facts: dict[str, Any]) -> None:
    lines = []
    for entry in entries(runs_root()):
        manifest = entry.manifest
        if manifest is None or entry.problem or not edited(manifest, number, facts):
            continue
        arms = {
            a.name: a
            for a in manifest.arms
            if "|" in a.name and str(number) in a.name.split("|")[0].replace("+", ",").split(",")
        }
        if not arms:
            continue
        try:
            summary = open_run(runs_root(), entry.run_id).summary()
        except Unreadable:
            continue
        lines += [(entry.run_id, s.split, a) for s in summary.splits for a in s.arms if a.name in arms and a.n]
    if not lines:
        st.info("No run of this store has edited this latent: causal claims about it are untested.")
        name = str(facts.get("name", "builtin:base"))
        arguments = ["ablate", "--sae", name, "--latents", str(number), "--operation", "ablate", "--scope", "all"]
        if not name.startswith("builtin:"):
            own = ["--model", str(facts.get("model_id", "MODEL")), "--task", "TASK.yaml", "--controls", "4"]
            st.code("steer " + " ".join([*arguments, *own, "--runs", str(runs_root())]), language="bash")
            return
        arguments += ["--controls", "4", "--runs", str(runs_root())]
        offer(
            arguments,
            f"Ablation of latent {number}",
            "about 3 min: 200 problems, 4 matched latents",
            "ft_ablate",
            label="Ablate it",
        )
        return
    st.caption(
        f"{look('steered').badge} the edit itself. {look('control').badge} its controls: matched other latents, random directions of equal "
        "size where the run has some, or a reading without an edit; each is named."
    )
    for run_id, split, arm in lines[:12]:
        st.markdown(
            f"- {look(arm.role).badge} {for_markdown(arm.label, 90)}, {for_markdown(split)}: {for_markdown(sentence(arm), 500)}"
        )
        st.page_link(
            "app_pages/results.py",
            label=for_markdown(run_id),
            icon=":material/monitoring:",
            query_params={"run": run_id},
        )
    for run_id in dict.fromkeys(line[0] for line in lines[:12]):
        mark_run(run_id)


def _offer() -> None:
    root = runs_root()
    st.markdown(
        "An autoencoder is shipped for each built-in model. Its dashboard says what each latent responds to and promotes:"
    )
    arguments = ["sae", "dashboard", "builtin:base", "--out", f"{root}/.dashboards/base"]
    job = offer(arguments, "Dashboard of builtin:base", "about 1 min", "ft_start", primary=True)
    if job is not None and job.state == "done" and not dashboards(root):
        st.rerun()


page()
