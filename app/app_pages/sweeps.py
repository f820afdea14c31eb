"""Sweeps: which layer and dose, and is the best cell real?

1. The grid's colour is a paired difference by default; cells whose interval holds 0 are faint, cells without rows are blank.
2. A click, or the menu under the grid, chooses a cell; it is in the address as `swp_cell`, the colour as `swp_metric`.
3. Cells are described; the best of many looks better than it is. Whether it is real is said in one line, by its rank among random
   directions on problems that did not choose it, or by whole pseudo-sweeps (`experiments.sweeps.verdict`).
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st
import yaml

from app import address
from app.cell_figures import MEASURES, dose_figure, grid_figure, numeric, say
from app.escaping import for_markdown
from app.library import OpenRun, Unreadable, entries, runs_root
from app.sweep_box import box_section
from app.sweep_notes import elsewhere, no_sweep
from experiments.evaluation.sentences import FEW, sentence
from experiments.store.runs import Store, StoreError
from experiments.sweeps.cells import CARD, axes, is_test, read_cells, test_run
from experiments.sweeps.table import sweep_table
from experiments.sweeps.verdict import of_test

PLOT = {"displaylogo": False, "modeBarButtonsToRemove": ["zoom2d", "pan2d", "autoScale2d", "select2d", "lasso2d"]}

GRID = {
    "displaylogo": False, "displayModeBar": True, "modeBarButtonsToRemove": ["zoom2d", "pan2d", "autoScale2d", "lasso2d", "resetScale2d"],
}  # fmt: skip
"""Of the grid: *Box select* is always in sight."""


@st.cache_resource(max_entries=6, show_spinner="Comparing cells…")
def _table(root: str, run_id: str, content: object, _run: OpenRun) -> pd.DataFrame:
    return sweep_table(_run.run, read_cells(_run.run))


def page(run: OpenRun) -> None:
    """The page."""
    st.subheader("Which layer and dose, and is the best cell real?", anchor=False)
    try:
        if not (run.run.folder / CARD).is_file():
            no_sweep()
            return
        if is_test(run.run):
            _of_test(run)
            return
        cells, table = read_cells(run.run), _table(str(run.root), run.manifest.run_id, run.content, run)
    except (StoreError, Unreadable, OSError, ValueError) as error:
        st.error(
            f"**The rows of this sweep cannot be read.** {for_markdown(error, 900)}", icon=":material/broken_image:"
        )
        return
    if table.empty:
        st.info(
            "No cell of this sweep has rows yet. Start its command again, or wait for its job, then reload this page."
        )
        return
    settings = {key: values for key, values in axes(cells).items() if len(values) > 1} or axes(cells)
    _honesty(run, table, len(cells))
    part, across, down = _facet(table, settings)
    measure = _measure(table)
    chosen = _chosen(table)
    left, right = st.columns([2.2, 1], gap="medium")
    boxed: list[str] = []
    with left:
        figure, words = grid_figure(part, down, across, MEASURES[measure], chosen)
        picked = st.plotly_chart(
            figure,
            key=f"swp_grid_{measure}",
            config=GRID,
            alt=words,
            on_select="rerun",
            selection_mode=("points", "box"),
        )
        points = (picked or {}).get("selection", {}).get("points", [])
        boxed = list(dict.fromkeys(name for point in points if (name := _named(point))))
        if len(boxed) == 1 and (name := boxed[0]) and name != st.session_state.get("swp_clicked"):
            st.session_state["swp_clicked"] = name
            st.session_state["swp_next"] = name
            st.rerun()
        st.caption(
            f"{words} Click a cell to read it; with *Box select*, above the grid, go on with the cells in a box."
        )
    with right:
        _cell(run, table, chosen)
    if run.manifest.status != "running":
        box_section(run, boxed, chosen, _test_run(run) is not None, runs_root())
    if numeric(settings[across]) and len(settings[across]) > 1:
        st.markdown("**Dose and response**")
        figure, words = dose_figure(part, down, across)
        st.plotly_chart(figure, key="swp_dose", config=PLOT, alt=words)
    with st.expander(f"All {len(table)} cells", icon=":material/table_rows:"):
        st.dataframe(
            table, hide_index=True, key="swp_table", alt="Every cell with its settings, accuracy and differences."
        )
        st.download_button(
            "CSV", lambda: table.to_csv(index=False), f"{run.manifest.run_id}-cells.csv", "text/csv", on_click="ignore"
        )
    _copy(run)


def _of_test(run: OpenRun) -> None:
    st.info(
        "This run tests the winner of a sweep on problems that did not choose it. Its result, and the sweep itself:"
    )
    st.page_link(
        "app_pages/results.py", label="Results", icon=":material/monitoring:", query_params={"run": run.manifest.run_id}
    )
    name = run.manifest.name.removesuffix("-test")
    for entry in entries(runs_root()):
        if entry.manifest is not None and (entry.manifest.name == name or entry.manifest.name.startswith(f"{name}-g")):
            st.page_link(
                "app_pages/sweeps.py", label=for_markdown(entry.run_id), icon=":material/grid_on:",
                query_params={"run": entry.run_id},
            )  # fmt: skip


def _named(point: dict[str, Any]) -> str | None:
    name = point.get("customdata")
    return str(name[0] if isinstance(name, list) else name) if name else None


def _facet(table: pd.DataFrame, settings: dict[str, list[Any]]) -> tuple[pd.DataFrame, str, str]:
    """The cells of one facet, and the settings across and down."""
    keys = list(settings)
    numbers = [key for key in keys if numeric(settings[key])]
    across = "dose" if "dose" in keys else (numbers or keys)[-1]
    rest = [key for key in keys if key != across]
    down = (
        "layer"
        if "layer" in rest
        else next((key for key in rest if numeric(settings[key])), rest[0] if rest else across)
    )
    part = table
    for key in (key for key in rest if key != down):
        named = {str(value): value for value in settings[key]}
        address.restore(f"swp_{key}", named, next(iter(named)))
        value = st.segmented_control(
            key, list(named), key=f"swp_{key}", required=True, format_func=say, persist_state="session"
        )
        address.keep(f"swp_{key}", value)
        part = part[part[key] == named[value or next(iter(named))]]
    return part, across, down


def _measure(table: pd.DataFrame) -> str:
    names = [name for name, measure in MEASURES.items() if measure.column in table]
    stale = address.restore("swp_metric", names, names[0])
    if stale:
        st.warning(
            f"This link names the colour {for_markdown(stale)}, which this sweep does not have.",
            icon=":material/link_off:",
        )
    found = st.segmented_control(
        "Colour",
        names,
        key="swp_metric",
        required=True,
        format_func=lambda n: MEASURES[n].label,
        persist_state="session",
    )
    address.keep("swp_metric", found)
    return str(found or names[0])


def _chosen(table: pd.DataFrame) -> str:
    names = list(table.sort_values(["score", "tokens"], ascending=[False, True])["cell"])
    if clicked := st.session_state.pop("swp_next", None):
        st.session_state["swp_cell"] = clicked
    stale = address.restore("swp_cell", names, names[0]) if "swp_clicked" not in st.session_state else None
    if st.session_state.get("swp_cell") not in names:
        st.session_state["swp_cell"] = names[0]
    if stale:
        st.warning(
            f"This link names cell {for_markdown(stale)}, which this sweep does not have.", icon=":material/link_off:"
        )
    address.keep("swp_cell", st.session_state["swp_cell"])
    return str(st.session_state["swp_cell"])


def _honesty(run: OpenRun, table: pd.DataFrame, planned: int) -> None:
    """The best cell, and what may be said of it: by the test run where there is one, else by pseudo-sweeps."""
    best = table.sort_values(["score", "tokens"], ascending=[False, True]).iloc[0]
    n, few = int(table["n"].min()), int(table["directions"].min()) if "directions" in table else 0
    labels = {arm.name: arm.label for arm in run.manifest.arms}
    words = (
        f"**{len(table)} cells** of {planned}, {n} problems and {few} random directions of equal edit size each. Best: "
        + (
            f"**{for_markdown(best['cell'])}** ({for_markdown(labels.get(best['cell'], ''))}), {100 * best['score']:+.1f} points"
        )
    )
    as_good = int((table["score"] >= best["score"]).sum())
    words += f", and {as_good - 1} as good" if as_good > 1 else ""
    if "over_control_low" in best:
        words += f" ({100 * best['over_control_low']:+.1f} to {100 * best['over_control_high']:+.1f}) over its random directions"
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"{words}. The best of {len(table)} looks better than it is.")
        test = _test_run(run)
        if n < FEW:
            st.caption(f"Exploratory: fewer than {FEW} problems.")
        if test is None:
            elsewhere(run)
            return
        found = of_test(test.run)
        badge = {True: ":green-badge[real]", False: ":orange-badge[not called real]", None: ":gray-badge[not tested]"}
        st.markdown(f"{badge[found.real]} {for_markdown(found.sentence, 1200)}")
        for split in test.summary().splits:
            arm = next((a for a in split.arms if a.role == "steered"), None)
            if arm is not None:
                st.markdown(f"On test problems ({for_markdown(split.split)}): {for_markdown(sentence(arm), 900)}")
        st.page_link(
            "app_pages/results.py", label="Results of the test run", icon=":material/monitoring:",
            query_params={"run": test.manifest.run_id},
        )  # fmt: skip


def _test_run(run: OpenRun) -> OpenRun | None:
    """The finished test run of this sweep, if it is in the store."""
    from app.library import open_run

    found = test_run(Store(runs_root()), run.run)
    return None if found is None else open_run(runs_root(), found.manifest.run_id)


def _cell(run: OpenRun, table: pd.DataFrame, chosen: str) -> None:
    names = list(table["cell"])
    labels = {arm.name: arm.label for arm in run.manifest.arms}

    def pick() -> None:
        st.session_state["swp_clicked"] = st.session_state["swp_cell"] = st.session_state["swp_pick"]

    st.session_state["swp_pick"] = chosen
    st.selectbox("Cell", names, key="swp_pick", on_change=pick, format_func=lambda n: f"{n}: {labels.get(n, '')}")
    cell = table[table["cell"] == chosen].iloc[0]
    lines = [
        ("right", f"{100 * cell['accuracy']:.1f} % (unsteered {100 * cell['unsteered']:.1f} %), n = {cell['n']}"),
        ("against unsteered", _interval(cell, "difference", "low", "high")),
    ]
    if "over_control" in cell:
        lines.append(
            ("against its random directions", _interval(cell, "over_control", "over_control_low", "over_control_high"))
        )
        lines.append(
            (
                "random directions that do as well",
                f"{cell['as_good']:.0f} of {cell['directions']:.0f} (rank p {cell['rank_p']:.2g}); theirs lie between "
                f"{100 * cell['control_low']:.1f} and {100 * cell['control_high']:.1f} %",
            )
        )
    lines += [
        ("tokens per answer", f"{cell['tokens']:.0f}"),
        (
            "size of the edit",
            "none" if cell["edit"] != cell["edit"] else f"{cell['edit']:.2f} of the activation's norm" + _matched(cell),
        ),
    ]
    with st.container(border=True):
        st.markdown("\n".join(f"- {name}: **{for_markdown(value)}**" for name, value in lines))
        for outcome in ("helped", "hurt"):
            st.page_link(
                "app_pages/compare.py", label=f"read what it {outcome}", icon=":material/compare_arrows:",
                query_params={
                    "run": run.manifest.run_id, "cmp_a": run.manifest.baseline.name, "cmp_b": chosen, "cmp_show": outcome,
                    "cmp_split": next(iter(run.manifest.splits)),
                },
            )  # fmt: skip


def _matched(cell: pd.Series) -> str:
    """How the edits of the cell's random directions compare."""
    if "control_edit" not in cell or cell["control_edit"] != cell["control_edit"]:
        return ""
    return f", its random directions {cell['control_edit']:.2f}" + ("" if cell["matched"] else ": not matched")


def _interval(cell: pd.Series, value: str, low: str, high: str) -> str:
    return f"{100 * cell[value]:+.1f} points ({100 * cell[low]:+.1f} to {100 * cell[high]:+.1f})"


def _copy(run: OpenRun) -> None:
    with st.expander("Command and file", icon=":material/terminal:"):
        name = run.manifest.run_id
        st.code(f"steer sweep show {name} --runs {run.root}\nsteer report {name} --runs {run.root}", language="bash")
        card = json.loads((run.run.folder / CARD).read_text())["sweep"]
        text = yaml.safe_dump({k: v for k, v in card.items() if v is not None}, sort_keys=False)
        st.code(text, language="yaml")
        st.download_button("YAML", text, f"{run.manifest.name}.yaml", "text/yaml", on_click="ignore")


page(st.session_state["open_run"])
