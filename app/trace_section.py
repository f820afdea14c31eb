"""The trace view as a part of a page: its link, its downloads, and how to get the KL that is not computed yet.

1. What the view shows is in the address: `cmp_tok`, `cmp_metric`, `cmp_mode`, `cmp_q`. A choice in the view is written there without a run
   of the page's script; tint and mode are also remembered over pages.
2. A part of a link that these texts do not have is named in a message, with what is shown instead.
3. KL along the steered trace is shown where it is stored beside the run. Where it is not, its command is shown, and a button where the jobs
   of this server take it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from app import address
from app.components import trace
from app.escaping import for_markdown, one_line
from app.going_on import fields_from
from app.jobs.chip import this_shelf
from app.library import OpenRun
from app.saving import save_menu
from app.vector_files import offered
from experiments.store.runs import StoreError
from experiments.traces.data import trace_data
from experiments.traces.forced_kl import command, read_kl, why_not
from experiments.traces.metrics import METRICS

Row = Mapping[str, Any]
PARTS = ("tok", "metric", "mode", "q")
REMEMBERED = ("metric", "mode")


def show_trace(
    run: OpenRun,
    rows: Sequence[Row],
    arms: Sequence[Row],
    labels: Sequence[str],
    header: Callable[[Mapping[str, Any], Callable[[], None]], None],
) -> None:
    """Draw the view of one or two rows. `header` is called with the view's data, before it, and with what draws the menu of downloads."""
    rows, faults = _with_kl(run, rows)
    missing = {index: row for index, row in enumerate(rows) if "kl" not in row and why_not(run.run, row) is None}
    facts = run.manifest.facts.get("tokenizers", {})
    kept = st.session_state.setdefault("cmp_kept", {})
    more: dict[str, Any] = {
        "labels": labels,
        "tokenisers": [facts.get(arm["model"]) for arm in arms],
        "kl_missing": "not computed yet: see below the lanes" if missing else "no arm shown here can have it",
        "view": {part: address.shown(f"cmp_{part}") or kept.get(part) for part in PARTS},
    }
    data = trace_data(rows, arms, **more)
    source = f"run {run.manifest.run_id}, {rows[0]['split']}, {rows[0]['item']}, seed {rows[0]['seed']}"
    header(data, lambda: save_menu(f"{run.manifest.run_id}-{rows[0]['item']}", rows, arms, data, more, source))
    for fault in faults:
        st.warning(for_markdown(fault, 900), icon=":material/broken_image:")
    _say_stale(data)
    if not any(row["token_ids"] for row in rows):
        st.info(
            "These rows are stored as text, without numbers per token: there is nothing to tint, and no place to compare."
        )
    elif data["by_text"]:
        st.warning(
            "The two arms have different tokenisers: texts are aligned by their characters, and no numbers are compared token by token.",
            icon=":material/join_inner:",
        )
    _remember(data["view"])
    trace.mount(data, key="cmp_trace", on_view=_chosen)
    _address(run, rows, arms)
    for index, row in missing.items():
        _offer_kl(run, str(row["key"]), arms[index]["label"])


def _with_kl(run: OpenRun, rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows with the KL that is stored, and what is wrong with what cannot be used."""
    found: list[Row] = []
    faults = []
    for row in rows:
        try:
            reading = read_kl(run.run, row)
        except (StoreError, OSError) as error:
            faults.append(f"KL is left out. {error}")
            reading = None
        found.append(row if reading is None else {**row, "kl": reading["divergence"]})
    return found, faults


def _remember(view: Mapping[str, str | None]) -> None:
    st.session_state["cmp_kept"] = {part: view[part] for part in REMEMBERED}
    for part in PARTS:
        address.keep(f"cmp_{part}", view[part] or None)


def _chosen() -> None:
    """What the reader chose in the view, into the address. Only the fragment below runs again. A choice that arrives when the view has gone
    from the page changes nothing."""
    view = (st.session_state.get("cmp_trace") or {}).get("view")
    if view is None:
        return
    _remember({**dict.fromkeys(PARTS), **view})
    address.flush()
    st.rerun("cmp_address")


@st.fragment(key="cmp_address")
def _address(run: OpenRun, rows: Sequence[Row], arms: Sequence[Row]) -> None:
    """What can be done from the chosen token."""
    found = re.fullmatch(r"([ab])(\d{1,7})", address.shown("cmp_tok") or "")
    if not found or "ab".index(found[1]) >= len(rows):
        return
    row, arm = rows["ab".index(found[1])], arms["ab".index(found[1])]
    place = int(found[2]) - len(row["prompt_ids"])
    if not 0 < place < len(row["token_ids"]):
        return
    vectors = offered(run.root, this_shelf())
    fields = fields_from(row, arm, run.manifest.spec.get("task", "find-start"), place, vectors)
    if isinstance(fields, str):
        st.caption(fields)
    elif st.button(
        f"Go on from token {place} of {one_line(arm['label'], 40)} in the Playground", key="cmp_go_on", icon=":material/fork_right:",
        help="Keeps all before the token. There: another token in its place, draws from here on, steering from here or no longer.",
    ):  # fmt: skip
        st.session_state["pg_at_once"] = True
        st.switch_page("app_pages/playground.py", query_params=fields)


def _say_stale(data: Mapping[str, Any]) -> None:
    if data["stale"]:
        view = data["view"]
        tint = "no tint" if view["metric"] == "none" else METRICS[view["metric"]].label
        st.warning(
            f"This link names {for_markdown('; '.join(data['stale']), 400)}. "
            f"Shown instead: tint {tint}, {view['mode']} scroll, {'token ' + view['tok'] if view['tok'] else 'no token chosen'}.",
            icon=":material/link_off:",
        )


def _offer_kl(run: OpenRun, key: str, label: str) -> None:
    """How to compute the KL of one row."""
    from app.jobs.chip import start_command

    words = command(run.manifest.run_id, key) + ("" if str(run.root) == "runs" else f" --runs {run.root}")
    with st.expander(
        f"KL along the steered trace of {one_line(label, 60)}: not computed yet", icon=":material/function:"
    ):
        st.caption(
            "How far steering moves each prediction, in nats: the stored text is read token by token with the plan and without it. "
            "The two texts themselves have no common KL after they part."
        )
        st.code(words, language="bash")
        if st.button("Compute it now", key=f"cmp_kl_{key}", icon=":material/play_arrow:"):
            arguments = ["trace", "kl", run.manifest.run_id, key, "--runs", str(run.root)]
            if start_command(arguments, f"KL: {one_line(label, 40)}"):
                st.info("Queued: see Jobs. When it is done, show this question again.")
