"""Elicitation: what draws reasoning out of the base, what does it cost, and does its control do the same?

1. Accuracy against all tokens generated, every elicitor a point with its interval, controls beside them. A figure holds points on questions
   of one split: a card that asks others than the setting's has a figure of its own. Points on fewer of these questions are faint, and
   stand on no front.
2. The table has every number of the figure, and each arm's difference to the greedy base and to its own control.
3. A store without findings shows those that are shipped, and says so.
4. What a card says of its numbers stands below, with its tables; a link leads to the run and the traces of every point.
"""

from __future__ import annotations

from collections import Counter

import pandas as pd
import streamlit as st

from app import address
from app.elicitation_figure import by_split, pareto
from app.escaping import for_markdown, one_line
from app.job_section import offer
from app.library import Unreadable, runs_root
from app.roles import look
from experiments.store.runs import Store, StoreError
from experiments.studies.elicitation.findings import Findings, shipped_findings, stored_findings
from experiments.studies.elicitation.written import signed

PLOT = {"displaylogo": False, "modeBarButtonsToRemove": ["zoom2d", "pan2d", "autoScale2d", "select2d", "lasso2d"]}
EVERY = "all cards"


def page() -> None:
    """The page."""
    st.subheader("What draws reasoning out of the base, and what does it cost?", anchor=False)
    try:
        found, broken = stored_findings(Store(runs_root()))
    except (OSError, StoreError, Unreadable) as error:
        st.error(f"**The findings cannot be read.** {for_markdown(error, 900)}", icon=":material/broken_image:")
        return
    for words in broken:
        st.warning(for_markdown(words, 600), icon=":material/broken_image:")
    shipped = not found
    if shipped:
        found = shipped_findings()
        with st.container(border=True):
            st.badge("shipped with the program", icon=":material/inventory_2:", color="gray")
            st.markdown(
                "No card has been run in this store. These are the results of the program's own runs on the built-in pair, each made by "
                "`steer train CARD --preset quick` (`docs/cards` says how long it took); their texts are not shipped."
            )
        with st.expander("Run a card here", icon=":material/play_circle:"):
            _offers()
    asked = {f"{one_line(f.pair[0], 40)} on {one_line(f.task, 40)}": (f.pair, f.task) for f in found}
    chosen = _choice("eli_pair", "Model and task", list(asked))
    kept = [f for f in found if (f.pair, f.task) == asked[chosen]]
    left, right = st.columns(2)
    with left:
        setting = _choice("eli_setting", "Setting", list(dict.fromkeys(p.setting for f in kept for p in f.points)))
    with right:
        names = _names(kept)
        card = _choice("eli_card", "Card", [EVERY, *names])
    shown = [f for f, name in zip(kept, names, strict=True) if card in (EVERY, name)]
    points = [p for f in shown for p in f.points if p.setting == setting]
    if not points:
        st.info("This card has no arms in this setting.")
    else:
        splits = by_split(points)
        for place, (split, own) in enumerate(splits.items()):
            if len(splits) > 1:
                cards = [f.card for f in shown if any(p.setting == setting and p.split == split for p in f.points)]
                st.markdown(
                    f"**Questions of {for_markdown(split)}** ({', '.join(map(for_markdown, dict.fromkeys(cards)))})"
                )
            figure, words = pareto(own)
            st.plotly_chart(figure, key=f"eli_pareto_{place}", config=PLOT, alt=words)
            st.caption(words)
        st.dataframe(
            table(shown, setting), hide_index=True, key="eli_table", alt="Every arm of the setting, with its control."
        )
        if not shipped:
            _links(shown, setting)
    for place, findings in enumerate(shown):
        _card(findings, setting, place)


def _offers() -> None:
    """Cards that are run from here."""
    for verb, card, takes, what in (
        (
            "elicit",
            "cot-decoding",
            "about 3 min",
            "Reasoning paths among the likeliest first tokens, without training:",
        ),
        ("train", "reinforced", "about 8 min", "A vector trained by reward, beside training all weights:"),
    ):
        st.markdown(what)
        offer([verb, card, "--runs", str(runs_root())], f"card {card}", takes, f"eli_{card}")


def _choice(key: str, label: str, names: list[str]) -> str:
    stale = address.restore(key, names, names[0])
    chosen = st.selectbox(label, names, key=key, persist_state="session")
    address.keep(key, chosen)
    if stale:
        st.warning(
            f"This link names {for_markdown(stale)}, which this store does not have.", icon=":material/link_off:"
        )
    return str(chosen)


def _name(findings: Findings) -> str:
    n = max((p.n for p in findings.points), default=0)
    return f"{findings.card} ({findings.preset}, n {n})"


def _names(findings: list[Findings]) -> list[str]:
    """A name of its own for each: what differs beside card, preset and n is counted."""
    seen: Counter[str] = Counter()
    found = []
    for one in findings:
        name = _name(one)
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}, {seen[name]}")
    return found


def table(findings: list[Findings], setting: str) -> pd.DataFrame:
    """Every arm of a setting: its card, its numbers, its difference to the base and to its control."""
    lines = []
    for found in findings:
        labels = {p.arm: p.label for p in found.points if p.setting == setting}
        for p in found.points:
            if p.setting == setting:
                lines.append({
                    "card": found.card, "arm": f"{look(p.role).glyph} {one_line(p.label, 70)}", "questions": one_line(p.split, 40),
                    "n": p.n,
                    "right %": round(100 * p.accuracy, 1), "95 %": f"{100 * p.low:.1f} to {100 * p.high:.1f}", "tokens": round(p.tokens, 1),
                    "points over the base": signed(p.difference, p.difference_low, p.difference_high),
                    "its control": one_line(labels.get(p.control or "", ""), 60),
                    "points over its control": signed(p.over_control, p.over_control_low, p.over_control_high),
                    "cut": p.truncated, "unscorable": p.unscorable, "run": p.run,
                })  # fmt: skip
    return pd.DataFrame(lines)


def _links(findings: list[Findings], setting: str) -> None:
    points = [p for found in findings for p in found.points if p.setting == setting and p.difference is not None]
    if not points:
        return
    names = [f"{p.run}/{p.arm}" for p in points]
    labels = {name: f"{one_line(p.label, 70)} ({p.run})" for name, p in zip(names, points, strict=True)}
    names = list(labels)
    stale = address.restore("eli_arm", names, names[0])
    chosen = st.selectbox(
        "Read the texts of",
        names,
        key="eli_arm",
        format_func=lambda n: labels[n],
        persist_state="session",
    )
    address.keep("eli_arm", chosen)
    if stale:
        st.warning(
            f"This link names {for_markdown(stale)}, which this setting does not have.", icon=":material/link_off:"
        )
    point = next(p for p in points if f"{p.run}/{p.arm}" == chosen)
    line = st.container(horizontal=True, gap="medium")
    line.page_link(
        "app_pages/results.py",
        label="the run",
        icon=":material/monitoring:",
        width="content",
        query_params={"run": point.run},
    )
    base = next(
        (p.arm for found in findings for p in found.points if p.run == point.run and p.role == "baseline"), "base"
    )
    for outcome in ("helped", "hurt"):
        line.page_link(
            "app_pages/compare.py", label=f"what it {outcome}", icon=":material/compare_arrows:", width="content",
            query_params={"run": point.run, "cmp_split": point.split, "cmp_a": base, "cmp_b": point.arm, "cmp_show": outcome},
        )  # fmt: skip


def _card(findings: Findings, setting: str, place: int) -> None:
    papers = ", ".join(f"[{p}](https://arxiv.org/abs/{p})" for p in findings.papers)
    st.markdown(f"**{for_markdown(_name(findings))}** · {', '.join(findings.systems)} · {papers}")
    named = {p.setting for p in findings.points}
    said = [s for s in findings.said if s.startswith(setting) or not s.startswith(tuple(named))]
    st.markdown("\n".join(f"- {for_markdown(s, 600)}" for s in said))
    for number, own in enumerate(findings.tables):
        if own.title.startswith(setting) or not own.title.startswith(tuple(named)):
            with st.expander(for_markdown(own.title, 200)):
                lines = [["" if cell is None else str(cell) for cell in line] for line in own.lines]
                st.dataframe(
                    pd.DataFrame(lines, columns=list(own.heads)), hide_index=True, key=f"eli_{place}_{number}",
                    alt=one_line(own.title, 200),
                )  # fmt: skip
                for note in own.notes:
                    st.caption(for_markdown(note, 600))


page()
