"""Compare: where did the two runs part, and what did steering do there?

1. Two arms of one split side by side, joined on item and seed; by default the baseline and the first steered arm. A run with one arm is
   shown by itself.
2. Split, arms, question and filter are in the address, under `cmp_...`; so is what the trace view shows (`app.trace_section`).
3. A value of a link that this run does not have is named in a message, with what is shown instead.
4. Text of models is shown by the trace component and as plain text, never as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from app import address
from app.escaping import for_markdown, one_line
from app.library import OpenRun, Unreadable, open_run
from app.pairing import OUTCOMES, Pair, Pairing, matching, neighbour, pair_rows
from app.roles import look
from app.trace_section import show_trace
from experiments.traces.lanes import verdict

Row = Mapping[str, Any]
ALL = "all"
TONES: dict[str, tuple[str, Literal["green", "red", "gray"]]] = {
    "helped": (":material/trending_up:", "green"),
    "hurt": (":material/trending_down:", "red"),
    "both right": (":material/done_all:", "gray"),
    "both wrong": (":material/close:", "gray"),
}


def page(run: OpenRun) -> None:
    """The page."""
    st.subheader("Where did the two runs part, and what did steering do there?", anchor=False)
    alone = len(run.manifest.arms) < 2
    if alone:
        st.info(
            "This run has a single arm: its texts are shown by themselves. A run with a second arm can be compared."
        )
    split, left, right = _choices(run, alone)
    try:
        tables, pairing, names, labels = _paired(
            str(run.root), run.manifest.run_id, run.content, split, left, right, run
        )
    except Unreadable as error:
        _unreadable(error)
        return
    if not names:
        _nothing_shared(run, tables, (left, right))
    else:
        name = _question(names, pairing, alone)
        pair = names[name]
        keys = [_key(tables[0], pair.left), _key(tables[1], pair.right)][: 1 if alone else 2]
        try:
            rows = [run.row(key) for key in keys]
        except Unreadable as error:
            _unreadable(error)
        else:
            view = "/".join((run.manifest.run_id, split, left, right, name))
            if st.session_state.get("cmp_view", view) != view and not address.asked("cmp_tok"):
                address.keep("cmp_tok", None)
            st.session_state["cmp_view"] = view
            arms = [run.arm(arm).model_dump() for arm in (left, right)][: len(rows)]
            show_trace(run, rows, arms, labels, lambda data, save: _header(pair, rows, arms, data, save))
            line = st.container(horizontal=True, gap="medium")
            for key, arm in zip(keys, arms, strict=True):
                line.page_link(
                    "app_pages/monitor.py", label=f"Vectors and latents along: {for_markdown(one_line(arm['label'], 50))}",
                    icon=":material/monitor_heart:", width="content",
                    query_params={"mon_row": f"{run.manifest.run_id}:{key}", "mon_model": str(arm["model"])},
                )  # fmt: skip
    if run.manifest.status == "running":
        _growing(run)


@st.fragment(run_every=5)
def _growing(run: OpenRun) -> None:
    """Questions of a run that is not finished appear as they are stored."""
    with suppress(Unreadable):
        if open_run(run.root, run.manifest.run_id).content != run.content:
            st.rerun()


def _choices(run: OpenRun, alone: bool) -> tuple[str, str, str]:
    """Split and arms, from the link, the session or the defaults."""
    arms = {arm.name: arm for arm in run.manifest.arms}
    others = [arm for arm in run.manifest.arms if arm.role != "baseline"] or list(run.manifest.arms)
    steered = next((arm for arm in others if arm.role == "steered"), others[0])

    def say(name: str) -> str:
        return f"{look(arms[name].role).glyph} {one_line(arms[name].label, 70)}"

    fields: list[tuple[str, str, list[str], str, Any]] = [
        ("cmp_split", "Split", list(run.manifest.splits), next(iter(run.manifest.splits)), one_line),
        ("cmp_a", "Left arm", list(arms), run.manifest.baseline.name, say),
        ("cmp_b", "Right arm", list(arms), steered.name, say),
    ]
    chosen = []
    if alone:
        fields = [fields[0], ("cmp_a", "Arm", list(arms), next(iter(arms)), say)]
    columns = st.columns([1.2, 2, 2][: len(fields)])
    for column, (key, label, valid, default, say_it) in zip(columns, fields, strict=True):
        stale = address.restore(key, valid, default)
        value = column.selectbox(label, valid, key=key, format_func=say_it, persist_state="session")
        address.keep(key, value)
        if stale:
            st.warning(
                f"This link names {label.lower()} {for_markdown(stale)}, which this run does not have. "
                f"Shown instead: {for_markdown(say_it(value))}.",
                icon=":material/link_off:",
            )
        chosen.append(value)
    return chosen[0], chosen[1], chosen[-1]


@st.cache_resource(max_entries=8, show_spinner=False)
def _paired(
    root: str, run_id: str, content: object, split: str, left: str, right: str, _run: OpenRun
) -> tuple[tuple[pa.Table, pa.Table], Pairing, dict[str, Pair], list[str]]:
    """The rows of both arms, how they are joined, the pairs by name, and the split's behaviour labels. Raises Unreadable."""
    table = _run.rows(split)
    tables = table.filter(pc.equal(table["arm"], left)), table.filter(pc.equal(table["arm"], right))
    pairing = _joined(*tables)
    return tables, pairing, pairing.names(), _labels(table)


def _joined(left: pa.Table, right: pa.Table) -> Pairing:
    light = ["item", "seed", "order", "correct"]
    return pair_rows(left.select(light).to_pylist(), right.select(light).to_pylist())


def _key(table: pa.Table, index: int) -> str:
    return str(table["key"][index])


def _unreadable(error: Unreadable) -> None:
    st.error(f"**The rows cannot be read.** {for_markdown(error, 900)}", icon=":material/broken_image:")


def _nothing_shared(run: OpenRun, tables: tuple[pa.Table, pa.Table], names: tuple[str, str]) -> None:
    for table, name in zip(tables, names, strict=True):
        if not len(table):
            st.info(
                f"No rows of arm {for_markdown(run.arm(name).label)} are stored in this split yet. "
                "Pick another arm, or finish the run: start its command again."
            )
            return
    st.info(
        f"The two arms have rows ({len(tables[0])} and {len(tables[1])}), but not one question with the same seed "
        "in both. Pick another arm or split."
    )


def _question(names: Mapping[str, Pair], pairing: Pairing, alone: bool) -> str:
    """The question, chosen by filter, menu or the buttons beside it."""
    named = address.asked("cmp_item")
    stale = address.restore("cmp_item", names, next(iter(names)))
    by_link = address.asked("cmp_show")
    address.restore("cmp_show", [ALL, *OUTCOMES], ALL)
    if by_link and not named:
        _into(matching(names, st.session_state["cmp_show"]))
    counts = {ALL: len(names), **pairing.counts}

    def filtered() -> None:
        _into(matching(names, st.session_state["cmp_show"]))

    def go(to: str) -> None:
        st.session_state["cmp_item"] = to

    bar = st.container(horizontal=True, vertical_alignment="bottom", key="question_bar")
    picked = bar.segmented_control(
        "Questions",
        [ALL] if alone else list(counts),
        format_func=lambda outcome: f"{outcome} {counts[outcome]}",
        key="cmp_show",
        required=True,
        on_change=filtered,
        persist_state="session",
        help="Read from left to right. " + "; ".join(f"{name}: {meaning}" for name, meaning in OUTCOMES.items()) + ".",
    )
    show = picked or ALL
    kept = matching(names, show)
    current = st.session_state["cmp_item"]
    wanted = {*kept, current}
    listed = [name for name in names if name in wanted]
    before, after = neighbour(names, kept, current, -1), neighbour(names, kept, current, 1)
    bar.button(
        "Previous",
        icon=":material/chevron_left:",
        disabled=before is None,
        on_click=go,
        args=(before,),
        key="cmp_before",
    )
    name = bar.selectbox(
        "Question",
        listed,
        key="cmp_item",
        format_func=lambda item: one_line(item, 60) + ("" if alone else f" · {names[item].outcome}"),
        persist_state="session",
        width=320,
    )
    bar.button(
        "Next",
        icon=":material/chevron_right:",
        disabled=after is None,
        on_click=go,
        args=(after,),
        key="cmp_after",
    )
    address.keep("cmp_item", name)
    address.keep("cmp_show", show)
    place = f"{kept.index(name) + 1} of {len(kept)}" if name in kept else f"not among the {len(kept)}"
    bar.caption(f"{place} · {for_markdown(show)}")
    if stale:
        words = f"This link names question {for_markdown(stale)}, which the two arms do not share."
        st.warning(f"{words} Shown instead: {for_markdown(name)}.", icon=":material/link_off:")
    if not kept:
        st.info(f"No question is {for_markdown(show)} here.")
    if pairing.left_only or pairing.right_only:
        st.caption(
            f"{pairing.left_only} rows of the left arm and {pairing.right_only} of the right have no partner with "
            "the same question and seed; they are left out."
        )
    return name


def _into(kept: list[str]) -> None:
    """Move to the first of `kept`, unless the question shown is one of them."""
    if kept and st.session_state["cmp_item"] not in kept:
        st.session_state["cmp_item"] = kept[0]


def _header(
    pair: Pair, rows: Sequence[Row], arms: Sequence[Row], data: Mapping[str, Any], save: Callable[[], None]
) -> None:
    icon, colour = TONES[pair.outcome]
    with st.container(border=True, gap="small", key="question_card"):
        with st.container(horizontal=True, vertical_alignment="center"):
            if len(rows) > 1:
                st.badge(pair.outcome, icon=icon, color=colour)
            st.text(f"gold {one_line(rows[0]['gold'], 120)}")
            for row, arm in zip(rows, arms, strict=True):
                judged = verdict(row)
                name = f"{look(arm['role']).glyph} {one_line(arm['label'], 50)}"
                st.text(f"{name}: {one_line(judged['answer'], 60)} {judged['mark']}, {len(row['token_ids'])} tokens")
            if len(rows) > 1:
                st.text(f"◆ {data['part']}")
            save()
        st.text(rows[0]["prompt"])
        if data["kind"] == "prompt":
            st.caption("The prompt of the left arm; the right arm was asked in another way, as its lane shows.")


def _labels(table: pa.Table) -> list[str]:
    flat = pc.list_flatten(table["labels"].combine_chunks())
    return [str(label) for label in pc.unique(pc.struct_field(flat, "label")).to_pylist()]


page(st.session_state["open_run"])
