"""Runs: which runs do I have, how do they differ, can I make one again?

1. The table comes from the store's catalogue: no rows are read. Broken runs are listed with what is wrong.
2. Two chosen runs are compared: the settings that differ, and accuracy on the questions that both answered, joined by question.
3. The search is in the address as `lib_find`, the chosen runs as `lib_a` and `lib_b`.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import address
from app.doubts import mark_run
from app.escaping import for_markdown, one_line
from app.jobs.chip import start_command
from app.library import Unreadable, entries, open_run, runs_root
from experiments.store.differences import accuracy_differences, settings
from experiments.store.runs import RunEntry, StoreError
from steering.errors import BadInput

REFRESH = 5
"""Seconds after which the list is looked up again."""


def page() -> None:
    """The page."""
    st.subheader("Which runs do I have, and how do they differ?", anchor=False)
    try:
        found = entries(runs_root())
    except Unreadable as error:
        st.error(for_markdown(error, 600), icon=":material/folder_off:")
        return
    if not found:
        st.info("No runs yet. Make the demo run, or any evaluation:")
        st.code(f"steer demo --runs {runs_root()}\nsteer eval SPEC.yaml --runs {runs_root()}", language="bash")
        return
    asked = address.asked("lib_find")
    if asked:
        st.session_state["lib_find"] = asked
    text = st.text_input(
        "Find", key="lib_find", placeholder="part of a name, a model, a status", persist_state="session"
    )
    address.keep("lib_find", text or None)
    shown = [e for e in found if _matches(e, text)]
    st.caption(f"{len(shown)} of {len(found)} runs in {for_markdown(runs_root())}")
    if not shown:
        st.info("No run matches. Clear the search to see all.")
        return
    st.dataframe(
        _table(shown), hide_index=True, key="lib_table", height=min(36 * len(shown) + 40, 420),
        alt="Every run with its status, models, arms, questions and rows.",
        column_config={
            "rows": st.column_config.NumberColumn(format="localized"),
            "done": st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent"),
        },
    )  # fmt: skip
    _problems(shown)
    _difference([e.run_id for e in found if e.manifest is not None])


def _matches(entry: RunEntry, text: str) -> bool:
    words = (text or "").lower().split()
    facts = " ".join([entry.run_id, "broken" if entry.problem else "", *_facts(entry)]).lower()
    return all(word in facts for word in words)


def _facts(entry: RunEntry) -> list[str]:
    manifest = entry.manifest
    if manifest is None:
        return []
    return [manifest.status, ", ".join(dict.fromkeys(a.model for a in manifest.arms)), ", ".join(manifest.splits)]


def _table(shown: list[RunEntry]) -> pd.DataFrame:
    lines = []
    for e in shown:
        status, models, splits = _facts(e) or ["broken", "", ""]
        lines.append({
            "run": e.run_id, "status": "broken" if e.problem else status, "models": one_line(models, 80),
            "arms": len(e.manifest.arms) if e.manifest else None, "questions": splits, "rows": e.rows,
            "done": (e.rows or 0) / e.expected if e.expected else None,
        })  # fmt: skip
    return pd.DataFrame(lines)


def _problems(shown: list[RunEntry]) -> None:
    broken = [e for e in shown if e.problem]
    if broken:
        with st.expander(f"{len(broken)} runs with a problem", icon=":material/broken_image:"):
            for entry in broken:
                st.markdown(f"**{for_markdown(entry.run_id)}**: {for_markdown(entry.problem, 600)}")


def _difference(ids: list[str]) -> None:
    st.markdown("**One run, or two side by side**")
    columns = st.columns(2)
    chosen = []
    for column, (key, label) in zip(columns, (("lib_a", "Run A"), ("lib_b", "Run B")), strict=True):
        options = ["", *ids]
        stale = address.restore(key, options, ids[0] if key == "lib_a" and ids else "")
        value = column.selectbox(label, options, key=key, format_func=lambda n: n or "none", persist_state="session")
        address.keep(key, value or None)
        if stale:
            st.warning(
                f"This link names run {for_markdown(stale)}, which is not in this store.", icon=":material/link_off:"
            )
        chosen.append(value)
    if not chosen[0]:
        return
    _one(chosen[0])
    if not chosen[1] or chosen[0] == chosen[1]:
        st.caption(
            "Choose a second run to see which settings differ, and what that did on the questions that both answered."
        )
        return
    try:
        a, b = open_run(runs_root(), chosen[0]), open_run(runs_root(), chosen[1])
        changed, accuracies = settings(a.run, b.run), accuracy_differences(a.run, b.run)
    except (BadInput, StoreError, Unreadable, ValueError) as error:
        st.info(f"These two cannot be compared: {for_markdown(error, 500)}")
        return
    mark_run(chosen[1])
    st.dataframe(
        pd.DataFrame([{"setting": s.place, "A": one_line(s.a), "B": one_line(s.b)} for s in changed]), hide_index=True, key="lib_settings",
        alt="Settings that differ between the two runs.",
    )  # fmt: skip
    if not accuracies:
        st.caption("No arm of one has an arm of that name in the other with questions in common.")
        return
    lines = [
        {
            "split": d.split, "arm": d.arm_a if d.arm_a == d.arm_b else f"{d.arm_a} : {d.arm_b}", "n": d.difference.n,
            "B minus A": f"{100 * d.difference.difference:+.1f} points",
            "95 %": f"{100 * d.difference.interval.low:+.1f} to {100 * d.difference.interval.high:+.1f}", "p": f"{d.difference.p:.3g}",
        }
        for d in accuracies
    ]  # fmt: skip
    st.dataframe(
        pd.DataFrame(lines), hide_index=True, key="lib_accuracies", alt="Paired differences of accuracy, B minus A."
    )


def _one(run_id: str) -> None:
    root = runs_root()
    mark_run(run_id)
    line = st.container(horizontal=True, gap="medium", vertical_alignment="center")
    for target, label, icon in (
        ("app_pages/results.py", "Results", ":material/monitoring:"),
        ("app_pages/compare.py", "Compare", ":material/compare_arrows:"),
    ):
        line.page_link(target, label=label, icon=icon, query_params={"run": run_id}, width="content")
    for verb, label, icon in (
        ("reproduce", "Make it again, compare every token", ":material/replay:"),
        ("verify", "Check its files", ":material/verified:"),
    ):
        if line.button(label, icon=icon, key=f"lib_{verb}"):
            arguments = ["runs", verb, run_id, "--runs", str(root), *(["--n", "96"] if verb == "reproduce" else [])]
            if start_command(arguments, f"{label}: {run_id}"):
                st.switch_page("app_pages/jobs.py")
    with st.expander("Commands", icon=":material/terminal:"):
        st.code(
            f"steer runs show {run_id} --runs {root}\nsteer runs spec {run_id} --runs {root}\nsteer report {run_id} --runs {root}\n"
            f"steer runs reproduce {run_id} --runs {root}\nsteer runs export {run_id} --runs {root} -o {run_id}.zip",
            language="bash",
        )


page()
