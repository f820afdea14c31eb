"""Hybrid: when did it fire, in which category, and how much of the gap did it close?

1. One line per arm: accuracy and share of the gap with intervals, share of tokens steered, cost in readings; controls in the same table.
2. Shares of categories are drawn only for arms that have any; a controller that fires nowhere says so.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app import address
from app.escaping import for_markdown, for_plotly, one_line
from app.job_section import offer
from app.library import OpenRun, Unreadable, entries, runs_root
from app.roles import look
from experiments.store.runs import StoreError
from experiments.studies.hybrid.report import HYBRID, gap_undefined, hybrid_frame
from experiments.studies.hybrid.shipped_lines import shipped_hybrid

SMALL = {"traces": 60, "rollouts": 120, "held_out": 24, "epochs": 4}
"""Fields of the small hybrid."""
PLOT = {"displaylogo": False, "modeBarButtonsToRemove": ["zoom2d", "pan2d", "autoScale2d", "select2d", "lasso2d"]}


@st.cache_resource(max_entries=4, show_spinner="Counting choices…")
def _frame(root: str, run_id: str, content: object, _run: OpenRun) -> pd.DataFrame:
    return hybrid_frame(_run.run)


def page(run: OpenRun) -> None:
    """The page."""
    st.subheader("When did it fire, and how much of the gap did that close?", anchor=False)
    if not any(arm.controller for arm in run.manifest.arms):
        _none()
        return
    try:
        frame = _frame(str(run.root), run.manifest.run_id, run.content, run)
    except (StoreError, Unreadable, OSError, KeyError, ValueError) as error:
        st.error(f"**The rows of this run cannot be read.** {for_markdown(error, 900)}", icon=":material/broken_image:")
        return
    if not len(frame):
        st.info("No rows of this run are stored yet. Start its command again, then reload this page.")
        return
    part, split = _drawn(frame, {arm.name: str(arm.role) for arm in run.manifest.arms})
    _links(run, part, split)


def _drawn(frame: pd.DataFrame, roles: dict[str, str]) -> tuple[pd.DataFrame, str]:
    """The figures of one split, which is chosen; its lines and its name."""
    splits = list(dict.fromkeys(frame["split"]))
    stale = address.restore("hyb_split", splits, splits[0])
    chosen = st.segmented_control(
        "Split", splits, key="hyb_split", required=True, format_func=for_markdown, persist_state="session"
    )
    address.keep("hyb_split", chosen)
    if stale:
        st.warning(
            f"This link names split {for_markdown(stale)}, which this run does not have.", icon=":material/link_off:"
        )
    part = frame[frame["split"] == chosen]
    _headline(part)
    figure, words = _gap_figure(part, roles)
    if figure is not None:
        st.plotly_chart(figure, key="hyb_gap", config=PLOT, alt=words)
        st.caption(words)
    st.dataframe(
        _table(part, roles), hide_index=True, key="hyb_table", alt="Every arm: accuracy, gap, steered share, cost."
    )
    _categories(part)
    return part, str(chosen)


def _headline(part: pd.DataFrame) -> None:
    found = part[part["arm"] == HYBRID]
    if found.empty:
        return
    line = found.iloc[0]
    words = [
        f"**{100 * line['accuracy']:.1f} %** right ({100 * line['low']:.0f} to {100 * line['high']:.0f}), n = {int(line['n'])}"
    ]
    if line.get("gap") == line.get("gap") and line.get("gap") is not None:
        words.append(f"**{_gap(line)}** of the gap to the thinking model")
    if line.get("steered") == line.get("steered"):
        words.append(f"**{100 * line['steered']:.1f} %** of its tokens steered")
    words.append(f"{line['readings']:.2f} readings per token")
    st.markdown("The hybrid: " + "; ".join(words) + ".")


def _gap(line: pd.Series) -> str:
    ends = (
        f" ({100 * line['gap_low']:.0f} to {100 * line['gap_high']:.0f})"
        if line.get("gap_low") == line.get("gap_low")
        else ""
    )
    return f"{100 * line['gap']:.0f} %{ends}"


def _gap_figure(part: pd.DataFrame, roles: dict[str, str]) -> tuple[go.Figure | None, str]:
    """Share of the gap closed per arm, with its interval."""
    kept = part[part["gap"].notna()] if "gap" in part else part.head(0)
    if kept.empty:
        return None, ""
    figure = go.Figure()
    for place, (_, line) in enumerate(kept.iterrows()):
        appearance, value = look(roles.get(line["arm"], "")), 100 * line["gap"]
        bounded = line.get("gap_low") == line.get("gap_low")
        figure.add_trace(
            go.Scatter(
                x=[value], y=[place], mode="markers", showlegend=False,
                marker={"color": appearance.colour, "symbol": appearance.symbol, "size": 11},
                error_x={
                    "type": "data", "symmetric": False, "array": [100 * line["gap_high"] - value if bounded else 0],
                    "arrayminus": [value - 100 * line["gap_low"] if bounded else 0], "color": appearance.colour, "thickness": 2,
                },
                text=[f"{for_plotly(line['label'])}<br>{_gap(line)} of the gap, n = {int(line['n'])}"],
                hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip
    names = [f"{for_plotly(line['label'], 44)}  (n = {int(line['n'])})" for _, line in kept.iterrows()]
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(kept))), ticktext=names, range=[len(kept) - 0.5, -0.5], automargin=True, zeroline=False,
    )  # fmt: skip
    figure.update_xaxes(title="share of the gap closed, % (bootstrap interval)", zeroline=True)
    for edge in (0, 100):
        figure.add_vline(x=edge, line={"color": "#808080", "width": 1, "dash": "dash"})
    figure.update_layout(height=27 * len(kept) + 80, margin={"l": 10, "r": 20, "t": 10, "b": 40})
    best = kept.loc[kept["gap"].idxmax()]
    return figure, f"Share of the gap closed by {len(kept)} arms; largest: {one_line(best['label'], 60)}, {_gap(best)}."


def _table(part: pd.DataFrame, roles: dict[str, str]) -> pd.DataFrame:
    def percent(line: dict[str, Any], name: str) -> float | None:
        value = line.get(name)
        return None if value is None or value != value else round(100 * float(value), 1)

    lines = []
    for line in part.to_dict("records"):
        lines.append({
            "arm": f"{look(roles.get(line['arm'], '')).glyph} {one_line(line['label'], 60)}", "n": int(line["n"]),
            "right %": percent(line, "accuracy"), "95 %": f"{percent(line, 'low')} to {percent(line, 'high')}",
            "gap closed": _gap(pd.Series(line)) if line.get("gap") == line.get("gap") and line.get("gap") is not None else
            (f"not defined: {why}" if (why := gap_undefined(line)) else ""),
            "against hybrid": "" if line.get("against") is None or line["against"] != line["against"] else
            f"{100 * line['against']:+.1f} ({100 * line['against_low']:+.0f} to {100 * line['against_high']:+.0f})",
            "steered %": percent(line, "steered"), "became the thinking token %": percent(line, "matched"),
            "‖shift‖/‖h‖": None if line.get("size") is None or line["size"] != line["size"] else round(float(line["size"]), 2),
            "tokens": round(float(line["tokens"]), 1), "readings per token": round(float(line["readings"]), 2),
            "cut": int(line["truncated"]), "unscorable": int(line["unscorable"]),
        })  # fmt: skip
    return pd.DataFrame(lines)


def _categories(part: pd.DataFrame) -> None:
    if "categories" not in part:
        return
    kept = [
        (line["label"], line["categories"])
        for line in part.to_dict("records")
        if isinstance(line["categories"], list) and line["categories"]
    ]
    if not kept:
        st.caption("No arm of this split sorts its edits into categories, or none fired.")
        return
    st.markdown("**Which category fired**")
    width = max(len(shares) for _, shares in kept)
    lines = [
        {
            "arm": one_line(label, 60),
            **{f"category {i}": f"{100 * (shares[i] if i < len(shares) else 0):.0f} %" for i in range(width)},
        }
        for label, shares in kept
    ]
    st.dataframe(pd.DataFrame(lines), hide_index=True, key="hyb_categories", alt="Share of edits per category and arm.")


def _links(run: OpenRun, part: pd.DataFrame, split: str) -> None:
    arm = HYBRID if HYBRID in set(part["arm"]) else next((a.name for a in run.manifest.arms if a.controller), None)
    line = st.container(horizontal=True, gap="medium")
    for outcome in ("helped", "hurt"):
        line.page_link(
            "app_pages/compare.py", label=f"read what {for_markdown(arm or '')} {outcome}", icon=":material/compare_arrows:",
            width="content",
            query_params={
                "run": run.manifest.run_id, "cmp_split": split, "cmp_a": run.manifest.baseline.name, "cmp_b": str(arm), "cmp_show": outcome,
            },
        )  # fmt: skip
    st.code(f"steer report {run.manifest.run_id} --runs {run.root}", language="bash")


def _none() -> None:
    here = [e for e in entries(runs_root()) if e.manifest is not None and any(a.controller for a in e.manifest.arms)]
    if here:
        st.info("This run has no hybrid arm. Hybrid runs of this store:")
        for entry in here[:20]:
            st.page_link(
                "app_pages/hybrid.py",
                label=for_markdown(entry.run_id),
                icon=":material/merge:",
                query_params={"run": entry.run_id},
            )
        return
    st.info("No hybrid has been run yet in this store; below it stands one that comes with the program.")
    root = str(runs_root())
    st.markdown("A small one, every step and control on few problems:")
    small = [f"--set={field}={value}" for field, value in SMALL.items()]
    arguments = [
        "hybrid",
        "--n",
        "24",
        "--n-dev",
        "16",
        *[part for s in small for part in s.split("=", 1)],
        "--runs",
        root,
    ]
    job = offer(arguments, "a small hybrid", "about 4 min", "hyb_small", primary=True)
    if job is not None and job.state == "done":
        st.rerun()
    st.markdown("The whole experiment on the built-in pair; it goes on where it stopped:")
    offer(
        ["hybrid", "--pair", "builtin", "--runs", root], "the hybrid on the built-in pair", "about 20 min", "hyb_whole"
    )
    try:
        found = shipped_hybrid()
    except (OSError, ValueError) as error:
        st.error(for_markdown(f"The shipped hybrid cannot be read: {error}", 400), icon=":material/broken_image:")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge("shipped", icon=":material/inventory_2:", color="gray")
        pair = " and ".join(map(for_markdown, found.pair))
        st.caption(
            f"Measured once with {for_markdown(found.program)} on {pair}; `{found.command}` makes it again. What it shows and what "
            "not is in docs/hybrid.md.",
            width="stretch",
        )
    _drawn(found.frame, found.roles)


page(st.session_state["open_run"])
