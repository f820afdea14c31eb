"""Entry point of the app: page settings, context bar, navigation.

1. One table lists the pages by group; a page is a file of `app_pages/` that reads the run from
   `st.session_state["open_run"]`.
2. A page about a run runs only when there is a readable one to show; otherwise the context bar has said what to do. Those in
   `WITHOUT_RUN` always run, and have no run in their bar.
3. This process imports no model and no torch.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from app import address
from app.context import close_bar, context_bar, plain_bar
from app.style import style

# The tab's icon: an unsteered line, and a steered one that leaves it.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="6" fill="#1B2530"/>'
    '<path d="M12 23h15" fill="none" stroke="#8FA3B5" stroke-width="3.5" stroke-linecap="round"/>'
    '<path d="M5 23h7l8-14h7" fill="none" stroke="#D9730D" stroke-width="3.5" stroke-linecap="round"/></svg>'
)

PAGES: dict[str, list[dict[str, Any]]] = {
    "Explore": [
        {
            "page": "app_pages/home.py",
            "title": "Home",
            "icon": ":material/home:",
            "url_path": "home",
            "default": True,
            "help": "What is in the store, and where to go next.",
        },
        {
            "page": "app_pages/playground.py",
            "title": "Playground",
            "icon": ":material/play_circle:",
            "url_path": "playground",
            "help": "One prompt, unsteered and steered, live: choose vector, layer, strength and where, and watch.",
        },
        {
            "page": "app_pages/compare.py",
            "title": "Compare",
            "icon": ":material/compare_arrows:",
            "url_path": "compare",
            "help": "Two arms on one question, token by token: where they part and where steering fired.",
        },
    ],
    "Evidence": [
        {
            "page": "app_pages/results.py",
            "title": "Results",
            "icon": ":material/monitoring:",
            "url_path": "results",
            "help": "Accuracy of every arm with intervals, paired differences against the baseline, and what they cost.",
        },
        {
            "page": "app_pages/sweeps.py",
            "title": "Sweeps",
            "icon": ":material/grid_on:",
            "url_path": "sweeps",
            "help": "Many settings of a plan beside random directions: which is best, and whether that is real.",
        },
        {
            "page": "app_pages/elicitation.py",
            "title": "Elicitation",
            "icon": ":material/auto_awesome:",
            "url_path": "elicitation",
            "help": "Every elicitor beside its control: accuracy against all tokens generated.",
        },
    ],
    "Mechanism": [
        {
            "page": "app_pages/hybrid.py",
            "title": "Hybrid",
            "icon": ":material/merge:",
            "url_path": "hybrid",
            "help": "The base steered where it parts from the thinking model: when it fired, and how much of the gap that closed.",
        },
        {
            "page": "app_pages/vectors.py",
            "title": "Vectors",
            "icon": ":material/north_east:",
            "url_path": "vectors",
            "help": "Every vector at hand: where it is from, what it did, how it lies to the others.",
        },
        {
            "page": "app_pages/make_vector.py",
            "title": "Make a vector",
            "icon": ":material/add_circle:",
            "url_path": "make_vector",
            "help": "A direction of your own: from texts typed here, from two prompt forms, or from a thinking model and its base.",
        },
        {
            "page": "app_pages/monitor.py",
            "title": "Monitor",
            "icon": ":material/monitor_heart:",
            "url_path": "monitor",
            "help": "Any text projected on vectors, latents and probes, token by token, without steering.",
        },
        {
            "page": "app_pages/features.py",
            "title": "Features",
            "icon": ":material/hub:",
            "url_path": "features",
            "help": "Latents of an autoencoder: what they respond to, and what editing them did.",
        },
    ],
    "Library": [
        {
            "page": "app_pages/runs.py",
            "title": "Runs",
            "icon": ":material/list:",
            "url_path": "runs",
            "help": "Every stored run; how two differ; making one again.",
        },
        {
            "page": "app_pages/jobs.py",
            "title": "Jobs",
            "icon": ":material/schedule:",
            "url_path": "jobs",
            "help": "What is running and waiting, how long it takes, what went wrong; stop it, or run it again.",
        },
        {
            "page": "app_pages/health.py",
            "title": "Health",
            "icon": ":material/verified:",
            "url_path": "health",
            "help": "Self-tests of hooks, cache and batches on this machine.",
        },
    ],
}
WITHOUT_RUN = (
    "",
    "home",
    "playground",
    "elicitation",
    "vectors",
    "make_vector",
    "monitor",
    "features",
    "runs",
    "jobs",
    "health",
)
"""Pages that are about no stored run, by `url_path`."""


def where_of(title: str) -> str:
    """The open page in the menu's words: its group, and itself."""
    groups = [name for name, entries in PAGES.items() if any(entry["title"] == title for entry in entries)]
    return f"{groups[0]} › **{title}**" if groups else ""


def main() -> None:
    """One script run of the app."""
    st.set_page_config(page_title="Steering workbench", page_icon=ICON, layout="wide")
    groups = {name: [st.Page(**entry) for entry in entries] for name, entries in PAGES.items()}
    page = st.navigation(groups, position="top")
    address.begin(page.url_path)
    style()
    where = where_of(page.title)
    if page.url_path in WITHOUT_RUN:
        corner = plain_bar(where)
        page.run()
        address.flush()
        close_bar(corner)
        return
    run, corner = context_bar(where)
    if run is not None:
        st.session_state["open_run"] = run
        page.run()
    address.flush()
    close_bar(corner, linked=run is not None)


if __name__ == "__main__":
    main()
