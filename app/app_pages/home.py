"""Home: what is this, how do I try it, and what has it shown so far?

1. One sentence says what the workbench does; a prompt of one's own is one field and one button away from its steered text.
2. What the store shows is one figure with intervals, of the first complete run with a steered arm; the words that it uses are explained.
3. Runs have readable names; every page is listed with what it is for. With nothing in the store the demo starts by a button.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import playground_form
from app.doubts import mark_run
from app.escaping import for_markdown
from app.figures import accuracy_figure
from app.jobs.board import board
from app.jobs.chip import start_command, this_shelf
from app.library import Unreadable, entries, open_run, runs_root
from app.roles import look
from app.tiles import tiles
from app.vector_files import offered
from experiments.evaluation.sentences import sentence
from experiments.pair.problem import split_problems
from experiments.store.runs import RunEntry

WHAT = (
    "Base language models already hold reasoning; post-training mostly teaches them *when* to use it. Steer a model at chosen tokens, see "
    "both texts side by side with a receipt of every edit, and measure whether it really helps, beside controls that can fail."
)
TASKS = (
    (
        "app_pages/compare.py",
        ":material/compare_arrows:",
        "Compare two arms",
        "Where did the texts part, where did steering fire, and did it help?",
    ),
    (
        "app_pages/sweeps.py",
        ":material/grid_on:",
        "Find the best layer",
        "Which layer and dose, beside random directions, and is the best cell real?",
    ),
    (
        "app_pages/elicitation.py",
        ":material/auto_awesome:",
        "Elicit reasoning",
        "Every elicitor beside its control: accuracy against all tokens generated.",
    ),
)
WORDS = {
    "arm": "one condition that answers all questions of a run: a model, a prompt form and perhaps a plan of edits.",
    "plan": "which direction is added where: operation, vector, layer, dose and the tokens that it covers.",
    "dose": "how much of a vector is added: `1v` is the vector itself, `0.5r` half the norm of the activation at that position.",
    "cell": "one setting of a sweep, such as layer 3 at dose 1v, with random directions of its own beside it.",
    "gap": "what the thinking model gets right more often than the base; *gap recovered* is an elicitor's share of it.",
    "receipt": "what a generation's edits really did: planned and fired, their size, and whether the text can be made again.",
    "control": "an arm that should do nothing if the claim is true: random directions, the wrong sign, words in a vector's place.",
}
LATEST = 6


def page() -> None:
    """The page."""
    root = runs_root()
    st.title("Steering workbench", anchor=False)
    st.markdown(WHAT)
    try:
        found = entries(root)
    except Unreadable as error:
        st.error(for_markdown(error, 600), icon=":material/folder_off:")
        return
    if isinstance(root, Path) and not root.is_dir():
        st.info(
            f"There is no folder {for_markdown(root, 300)}: the first run makes it. Runs that lie elsewhere are shown by "
            "`steer app --runs FOLDER`.",
            icon=":material/folder_off:",
        )
    left, right = st.columns([1.1, 1], gap="large")
    with left:
        _try_it()
    with right:
        if found:
            _latest(found)
        else:
            _empty()
    tiles(TASKS)
    if found:
        _story(found)
    with st.expander("What the words mean", icon=":material/menu_book:", expanded=not found):
        for word, meaning in WORDS.items():
            st.markdown(f"**{word}**: {meaning}")


def _try_it() -> None:
    with st.container(border=True, gap="small", key="home_try"):
        st.markdown("#### Try it: steer a prompt of your own")
        example = split_problems("standard-test", 1)[0].prompt("bare")
        prompt = st.text_area(
            "Prompt", example, height=90, key="home_prompt", persist_state="session",
            help="The built-in pair knows find-the-start problems; a language model reads any text.",
        )  # fmt: skip
        model = st.selectbox(
            "Model", list(dict.fromkeys([*playground_form.MODELS, "smollm2"])), key="home_model", accept_new_options=True,
            persist_state="session", help="A built-in model, a folder, or a hub id; type to add one.",
        )  # fmt: skip
        pressed = st.button("Steer it", type="primary", icon=":material/play_arrow:", key="home_steer", width="stretch")
        st.caption(
            "Writes the text unsteered and steered beside each other; vector, layer and strength can be changed there."
        )
        if pressed and prompt.strip():
            kind = {"pg_kind": playground_form.OWN, "pg_prompt": prompt, "pg_model": model, "pg_at_once": True}
            st.session_state.update(kind)
            playground_form.fit_cards(model, offered(runs_root(), this_shelf()))
            st.switch_page("app_pages/playground.py")
        elif pressed:
            st.info("The prompt is empty: type one first.", icon=":material/edit:")


def _empty() -> None:
    with st.container(border=True, gap="small"):
        st.markdown("#### No runs yet")
        st.markdown(
            "The demo is the main job on the built-in pair of small models: it finds the direction that starts reasoning, chooses layer "
            "and dose, and measures it beside its controls. No network, no GPU, about three minutes on two cores."
        )
        if st.button("Run the demo as a job", icon=":material/play_arrow:", key="home_demo"):
            if start_command(["demo", "--runs", str(runs_root())], "Demo on the built-in pair"):
                st.switch_page("app_pages/jobs.py")
        st.caption("The same from the command line:")
        st.code(f"steer demo --runs {runs_root()}", language="bash")


def _name(entry: RunEntry) -> str:
    """A run in words: its name, and what it asked."""
    if entry.manifest is None:
        return entry.run_id
    asked = ", ".join(f"{split} {n:,}" for split, n in entry.manifest.splits.items())
    return f"{entry.manifest.name}: {len(entry.manifest.arms)} arms on {asked}"


def _latest(found: list[RunEntry]) -> None:
    running, waiting = board().active()
    jobs = f" · {running + waiting} job{'s' * (running + waiting != 1)} at work or waiting" if running + waiting else ""
    rows = sum(entry.rows or 0 for entry in found)
    st.markdown(f"**Runs** :small[{len(found)} in the store, {rows:,} rows{jobs}]")
    for entry in found[:LATEST]:
        line = st.container(horizontal=True, vertical_alignment="center", gap="medium")
        line.page_link(
            "app_pages/results.py", label=for_markdown(_name(entry), 80), icon=":material/monitoring:",
            query_params={"run": entry.run_id}, width="content",
        )  # fmt: skip
        state = "broken" if entry.problem else entry.manifest.status if entry.manifest else "unknown"
        if state != "complete" or entry.rows != entry.expected:
            line.caption(f"{state} · {entry.rows or 0:,} of {entry.expected or 0:,} rows")
    if len(found) > LATEST:
        st.page_link("app_pages/runs.py", label=f"All {len(found)} runs", icon=":material/list:")


def _story(found: list[RunEntry]) -> None:
    """The first complete run with a steered arm, the demo before others: one figure, and one sentence per split."""
    usable = [
        entry
        for entry in found
        if entry.manifest
        and entry.manifest.status == "complete"
        and any(arm.role == "steered" for arm in entry.manifest.arms)
    ]
    usable.sort(key=lambda entry: entry.manifest is None or entry.manifest.name != "demo")
    if not usable:
        st.info(
            "No complete run with a steered arm is stored yet: the demo makes one.", icon=":material/hourglass_empty:"
        )
        return
    entry = usable[0]
    try:
        summary = open_run(runs_root(), entry.run_id).summary()
    except Unreadable as error:
        st.error(for_markdown(error, 600), icon=":material/broken_image:")
        return
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"#### What the run {for_markdown(entry.manifest.name if entry.manifest else entry.run_id)} shows")
        mark_run(entry.run_id)
        figure, words = accuracy_figure(summary.splits[0].arms)
        st.plotly_chart(figure, key="home_story", config={"displayModeBar": False}, alt=words)
        for split in summary.splits:
            for arm in split.arms:
                if arm.role == "steered" and arm.n:
                    st.markdown(
                        f"{look(arm.role).badge} {for_markdown(split.split)}: {for_markdown(sentence(arm), 600)}"
                    )
        st.page_link(
            "app_pages/results.py",
            label="Every arm, with its controls",
            icon=":material/monitoring:",
            query_params={"run": entry.run_id},
        )


page()
