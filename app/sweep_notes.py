"""What the Sweeps page says of runs that are no sweep, and of a sweep whose winner was tested by what ran it."""

from __future__ import annotations

import streamlit as st

from app.escaping import for_markdown
from app.library import OpenRun, entries, runs_root
from experiments.sweeps.cells import CARD, read_card

EXAMPLE = """name: layers-doses
model: builtin:base
plan: add mode-$layer.safetensors ${dose}v on last_prompt
vary: {layer: [0, 1, 2], dose: [-1, 0.5, 1, 2]}
splits: {development: {standard-dev: 64}, test: {standard-test: 200}}
"""


def elsewhere(run: OpenRun) -> None:
    """Where the winner was tested by what ran the sweep, or that it was not."""
    card = read_card(run.run)
    result, chosen = card.get("result"), str(card.get("chosen", ""))
    if result is None:
        st.caption("The winner has not been run on problems that did not choose it: give the sweep test splits.")
        return
    labels = {arm.name: arm.label for arm in run.manifest.arms}
    which = f"{for_markdown(chosen)} ({for_markdown(labels.get(chosen, ''))})" if chosen else "one cell"
    st.caption(
        f"Of these {which} was run on problems that did not choose it, beside random directions and its wrong sign: of cells that are as "
        "good the smallest dose, and then the last one."
    )
    st.page_link(
        "app_pages/results.py",
        label=for_markdown(str(result)),
        icon=":material/monitoring:",
        query_params={"run": str(result)},
    )


def no_sweep() -> None:
    """Where sweeps are, or how one is made."""
    root = runs_root()
    sweeps = [e for e in entries(root) if e.manifest is not None and e.manifest.name and _is_sweep(e.run_id)]
    if sweeps:
        st.info("This run is no sweep. Sweeps of this store:")
        for entry in sweeps[:20]:
            st.page_link(
                "app_pages/sweeps.py", label=for_markdown(entry.run_id), icon=":material/grid_on:",
                query_params={"run": entry.run_id},
            )  # fmt: skip
        return
    st.info(
        "This run is no sweep, and the store holds none yet. A sweep of a vector's layer and dose is started on the vector's page:"
    )
    st.page_link("app_pages/vectors.py", label="Choose a vector and test it", icon=":material/north_east:")
    st.caption("Any other is a file, and a command:")
    st.code(EXAMPLE, language="yaml")
    st.code(
        f"steer extract 'mode-{{layer}}.safetensors' --contrast mode --layers 0,1,2\nsteer sweep run sweep.yaml --runs {root}",
        language="bash",
    )


@st.cache_data(ttl=30, max_entries=512, show_spinner=False)
def _is_sweep(run_id: str) -> bool:
    from experiments.store.runs import Store

    return bool((Store(runs_root()).open(run_id).folder / CARD).is_file())
