"""Results: is it really better, by how much, and at what cost?

1. Every split begins with a sentence per steered arm: difference, paired interval, helped and hurt, n, p, tokens;
   its controls stand below it, and a run without a control says so.
2. Accuracy and differences are drawn with their intervals; fewer than 30 items are marked exploratory.
3. A receipt that does not match its plan is an error over the charts, not a footnote.
4. The split in detail is in the address, under `res_split`.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app import address
from app.arm_table import ALONE, COMPARED, DEFINITIONS, gap_words, record
from app.elicitation_figure import pareto
from app.escaping import for_markdown, one_line
from app.figures import accuracy_figure, behaviour_figure, difference_figure
from app.library import OpenRun, Unreadable
from app.roles import look
from experiments.evaluation.crowds import with_crowds
from experiments.evaluation.sentences import FEW, sentence
from experiments.evaluation.summary import ArmSummary, SplitSummary
from experiments.studies.elicitation.findings import Point

PLOT = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "zoom2d", "pan2d", "autoScale2d"]}


def page(run: OpenRun) -> None:
    """The page."""
    st.subheader("Is it really better, by how much, and at what cost?", anchor=False)
    try:
        summary = run.summary()
    except Unreadable as error:
        st.error(f"**The rows of this run cannot be read.** {for_markdown(error, 900)}", icon=":material/broken_image:")
        return
    if not any(arm.n for split in summary.splits for arm in split.arms):
        st.info("No rows of this run are stored yet. Start its command again, then reload this page.")
        return
    for split in summary.splits:
        _headline(run, split)
    names = [split.split for split in summary.splits]
    stale = address.restore("res_split", names, names[0])
    chosen = names[0]
    if len(names) > 1:
        picked = st.segmented_control(
            "Split in detail", names, key="res_split", required=True, format_func=for_markdown, persist_state="session"
        )
        chosen = picked or chosen
    address.keep("res_split", chosen)
    if stale:
        words = f"This link names split {for_markdown(stale)}, which this run does not have."
        st.warning(f"{words} Shown instead: {for_markdown(chosen)}.", icon=":material/link_off:")
    _detail(run, summary.split(chosen))
    _methods(summary.level)


def _headline(run: OpenRun, split: SplitSummary) -> None:
    compared = [arm for arm in split.arms if arm.role == "steered"] or [
        arm for arm in split.arms if arm.role not in ("baseline", "control")
    ]
    controls = [arm for arm in split.arms if arm.role == "control"]
    single = {arm.name for arm in with_crowds(split.arms)}  # without those that their arm's own sentence counts
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**{for_markdown(split.split)}** · {split.items} questions")
        for arm in compared:
            st.markdown(_line(arm))
        for arm in (arm for arm in controls if arm.name in single):
            st.markdown(":small[" + _line(arm) + "]")
        if not controls and any(arm.role == "steered" for arm in split.arms):
            st.caption("This run has no control arm: whether any edit of this size would do the same is open.")


def _line(arm: ArmSummary) -> str:
    return f"{look(arm.role).badge} **{for_markdown(arm.label, 80)}**: {for_markdown(sentence(arm), 900)}"


def _detail(run: OpenRun, split: SplitSummary) -> None:
    for arm in split.arms:
        if arm.edits_fired != arm.edits_planned:
            st.error(
                f"**{for_markdown(arm.label)}** fired {arm.edits_fired} of {arm.edits_planned} planned edits. "
                "Its numbers do not show what its plan would do.",
                icon=":material/receipt_long:",
            )
    labels = {arm.name: arm.label for arm in split.arms}
    for name, said in [entry for kind in ("origins", "sinks") for entry in run.manifest.facts.get(kind, {}).items()]:
        if name in labels:
            st.warning(
                f"**{for_markdown(labels[name])}**: {for_markdown(' '.join(said), 900)}", icon=":material/receipt_long:"
            )
    for said in run.manifest.facts.get("questions", []):
        st.warning(for_markdown(said, 900), icon=":material/quiz:")
    roles = dict.fromkeys(arm.role for arm in split.arms)
    st.caption(" ".join(f"{look(role).badge} {for_markdown(role)}: {look(role).meaning}." for role in roles))
    left, right = st.columns(2)
    figure, words = accuracy_figure(split.arms)
    with left:
        st.markdown("**Right answers**", help=DEFINITIONS["right %"] + " " + DEFINITIONS["interval"])
        st.plotly_chart(figure, key="res_accuracy", config=PLOT, alt=words)
    with right:
        help_text = DEFINITIONS["Δ points"] + " " + DEFINITIONS["Δ interval"]
        st.markdown("**Paired difference to the baseline**", help=help_text)
        if any(arm.versus_baseline for arm in split.arms):
            figure, words = difference_figure(split.arms)
            st.plotly_chart(figure, key="res_difference", config=PLOT, alt=words)
        else:
            st.info("No arm shares a question with the baseline yet.")
    _gaps(split)
    _cost(run, split)
    records = [record(arm) for arm in with_crowds(split.arms)]
    _table("Each arm by itself", records, ALONE, "res_alone")
    _table("Against the baseline", [r for r in records if r["role"] != "baseline"], COMPARED, "res_compared")
    if len(records) < len(split.arms):
        with st.expander(f"All {len(split.arms)} arms, every control by itself", icon=":material/table_rows:"):
            _table(
                "Every arm", [record(arm) for arm in split.arms], tuple(dict.fromkeys(ALONE + COMPARED)), "res_every"
            )
    if any(0 < arm.items < FEW for arm in split.arms):
        st.caption(f"Exploratory: fewer than {FEW} questions.")
    _to_compare(run, split)
    _behaviours(split)


def _table(title: str, records: list[dict[str, Any]], columns: tuple[str, ...], key: str) -> None:
    st.markdown(f"**{title}**")
    config = {
        name: st.column_config.NumberColumn(help=DEFINITIONS[name], format="%+.1f" if "Δ " in name else "%.1f")
        if name.endswith(" %") or name in ("tokens", "Δ points", "Δ tokens")
        else st.column_config.Column(help=DEFINITIONS[name], pinned=name == "arm")
        for name in columns
    }
    st.dataframe(
        pd.DataFrame(records, columns=list(columns)),
        hide_index=True,
        key=key,
        row_height=34,
        placeholder="",
        column_config=config,
        alt=f"{title}, one row per arm: {', '.join(columns)}.",
    )


def _cost(run: OpenRun, split: SplitSummary) -> None:
    """Accuracy against tokens, of every arm."""
    points = [
        Point(
            setting=split.split, arm=arm.name, label=arm.label, role=arm.role, n=arm.n, accuracy=arm.accuracy.value,
            low=arm.accuracy.interval.low, high=arm.accuracy.interval.high, tokens=arm.mean_tokens, truncated=arm.truncated,
            unscorable=arm.unscorable, run=run.manifest.run_id, split=split.split,
        )
        for arm in split.arms
        if arm.accuracy is not None and arm.mean_tokens is not None
    ]  # fmt: skip
    if len(points) < 2:
        return
    with st.expander("Right answers against tokens", icon=":material/scatter_plot:"):
        figure, words = pareto(points)
        st.plotly_chart(figure, key="res_pareto", config=PLOT, alt=words)
        st.caption(words)


def _gaps(split: SplitSummary) -> None:
    found = [(arm, arm.gap) for arm in split.arms if arm.gap is not None]
    st.markdown("**Gap recovered**", help=DEFINITIONS["gap recovered"])
    if not found:
        st.caption("Not defined: this run has no reference arm (the thinking model), so there is no gap to recover.")
        return
    lines = [
        f"- {look(arm.role).badge} {for_markdown(arm.label, 60)}: **{for_markdown(gap_words(gap), 400)}**, n = {gap.n}"
        for arm, gap in found
    ]
    st.markdown("\n".join(lines))


def _to_compare(run: OpenRun, split: SplitSummary) -> None:
    """Links to the questions that an arm helped or hurt."""
    single = {arm.name for arm in with_crowds(split.arms)}
    for arm in split.arms:
        found = arm.versus_baseline
        if found is None or arm.role not in ("steered", "control") or arm.name not in single:
            continue
        line = st.container(horizontal=True, vertical_alignment="center", gap="medium")
        line.markdown(f"{look(arm.role).badge} {for_markdown(arm.label, 60)}", width="content")
        for outcome, n in (("helped", found.helped), ("hurt", found.hurt)):
            query = {
                "run": run.manifest.run_id,
                "cmp_split": split.split,
                "cmp_a": run.manifest.baseline.name,
                "cmp_b": arm.name,
                "cmp_show": outcome,
            }
            line.page_link(
                "app_pages/compare.py",
                label=f"read the {n} {outcome}",
                icon=":material/compare_arrows:",
                query_params=query,
                disabled=n == 0,
                width="content",
            )


def _behaviours(split: SplitSummary) -> None:
    st.markdown("**Behaviours**", help="Spans of the generated text that a detector labelled, per 100 tokens.")
    labels = sorted({label for arm in split.arms for label in arm.behaviours})
    if not labels:
        st.caption("No behaviour is labelled in this split.")
        return
    figure, words = behaviour_figure(split.arms)
    left, right = st.columns(2)
    left.plotly_chart(figure, key="res_behaviours", config=PLOT, alt=words)
    rows = [
        {
            "arm": f"{look(arm.role).glyph} {one_line(arm.label, 60)}",
            **{label: f"{100 * found.share_of_rows:.0f} %" for label, found in sorted(arm.behaviours.items())},
        }
        for arm in split.arms
        if arm.n
    ]
    detectors = sorted({name for arm in split.arms for found in arm.behaviours.values() for name in found.detectors})
    right.caption("Share of rows with at least one. Detector: " + for_markdown(", ".join(detectors)))
    right.dataframe(pd.DataFrame(rows), hide_index=True, key="res_behaviour_table", row_height=34)


def _methods(level: float) -> None:
    with st.expander("Methods and definitions", icon=":material/menu_book:"):
        st.caption(f"All intervals: {100 * level:g} %. Unscorable answers are counted apart and are not right.")
        entries = (f"- **{for_markdown(name)}**: {for_markdown(text, 400)}" for name, text in DEFINITIONS.items())
        st.markdown("\n".join(entries))


page(st.session_state["open_run"])
