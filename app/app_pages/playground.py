"""Playground: what happens to this prompt if I steer here, this much?

1. Left the question, the model, the stack of interventions and the sampling; right the lanes, live, and the receipt.
2. A generation is a job of the server: it goes on through reruns, other pages and a closed browser; the link names it.
3. The page never is blank: before the first run it shows a finished example of the store, or how to make one.
4. A prompt that was typed on Home is run at once.
5. A generation whose receipt failed is stored only with a mark that says so; one that was stopped is not stored.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit import runtime
from streamlit.delta_generator import DeltaGenerator

from app import address, playground_form, playground_request, stack, token_actions, turn_fields
from app.components import live
from app.doubts import mark_run, say_left_out
from app.escaping import for_markdown, one_line
from app.example import Example, find_example
from app.jobs.board import Refused, board
from app.jobs.chip import this_change_word, this_owner, this_shelf
from app.jobs.job import Job
from app.library import entries, look_again, runs_root
from app.model_shapes import whereabouts
from app.playground_request import CHAT, OWN
from app.unknown_words import warnings_of
from app.vector_files import BUILT_IN, VectorFile, offered
from experiments.live.request import LiveRequest
from experiments.live.saving import MARK, save_live
from experiments.store.runs import Store, StoreError
from steering.errors import BadInput

FIRST = "think-first.safetensors"
"""The built-in vector on the stack of a first visit without an example: the pair's own think-first direction."""


def page() -> None:
    """The page."""
    st.subheader("What happens to this prompt if I steer here, this much?", anchor=False)
    root = runs_root()
    vectors, example = offered(root, this_shelf()), find_example(str(root))
    if runtime.exists():
        board().worker.warm()
    defaults, cards = _first(example, vectors)
    opened = board().get(address.asked("pg_job") or "") if address.asked("pg_stack") is None else None
    if (
        opened is not None
        and opened.kind == "generate"
        and "model" in opened.request
        and "temperature" in opened.request
    ):
        defaults, cards = playground_request.fields_of(opened.request, vectors)
        playground_form.begin(vectors, defaults, cards, anew=True)
    else:
        playground_form.begin(vectors, defaults, cards)
    bar = st.container(
        horizontal=True, vertical_alignment="center", key="pg_bar"
    )  # first, for keyboards and narrow windows
    said = st.container()
    left, right = st.columns([1, 2.1], gap="medium")
    with left:
        playground_form.draw(vectors, _models(root))
        say_left_out()
    with said:
        asked, run = _bar(bar, vectors)
    with right:
        _right(asked, run, example, root)
    playground_form.keep()


def _first(example: Example | None, vectors: dict[str, VectorFile]) -> tuple[dict[str, Any], list[stack.Card]]:
    """What the form holds on a first visit: what made the example, where the form can say it."""
    fallback = [stack.Card(vector=v.digest) for v in vectors.values() if v.path == BUILT_IN / FIRST]
    if example is None:
        return {}, fallback
    split, _, number = example.item.partition("/")
    cards = [stack.card_of(entry, vectors) for entry in example.plan.get("interventions", [])]
    if (
        split not in playground_request.SPLITS
        or not number.isdigit()
        or not all(cards)
        or example.form not in playground_form.FORMS
    ):
        return {}, fallback
    said = {"pg_split": split, "pg_number": int(number), "pg_form": example.form, "pg_model": example.model}
    return said, [card for card in cards if card]


def _models(root: Path | str) -> list[str]:
    found = [arm.model for entry in entries(root) if entry.manifest for arm in entry.manifest.arms]
    return sorted({name for name in found if "/" in name or ":" in name})[:50]


def _bar(bar: DeltaGenerator, vectors: dict[str, VectorFile]) -> tuple[LiveRequest | None, bool]:
    """Run and what belongs to it; what the fields ask for, and whether Run was pressed."""
    asked, trouble = None, ""
    try:
        asked = playground_request.request(vectors, playground_form.cards())
    except BadInput as error:
        trouble = str(error)
    # A prompt that is being typed reaches the script with the click itself, so the button must take it.
    kind = st.session_state["pg_kind"]
    untyped = kind == OWN and not st.session_state["pg_prompt"].strip()
    untyped = untyped or (kind == CHAT and not any(text.strip() for _, text in turn_fields.turns()))
    run = bar.button(
        "Run",
        type="primary",
        icon=":material/play_arrow:",
        shortcut="Ctrl+Enter",
        disabled=asked is None and not untyped,
        key="pg_run",
    )
    if asked is not None:
        with bar.popover("Copy as", icon=":material/content_copy:", key="pg_copy"):
            _copies(asked)
        bar.caption(preflight(asked), width="stretch")
        for warning in warnings_of(asked):
            st.warning(for_markdown(warning, 900), icon=":material/translate:")
    elif untyped and not run:
        st.info("Type a prompt, then press Run. The prompt is empty.", icon=":material/edit:")
    else:
        st.error(for_markdown(trouble, 600), icon=":material/error:")
    return asked, run


def _right(asked: LiveRequest | None, run: bool, example: Example | None, root: Path | str) -> None:
    if (run or st.session_state.pop("pg_at_once", False)) and asked is not None:
        try:
            edits = "; ".join(f"{e.operation} {e.vector_name} {e.dose}" for e in asked.edits) or "unsteered"
            title = f"{asked.item or ('conversation' if asked.turns else 'own prompt')} · {asked.model} · {edits}"
            st.session_state["pg_job"] = board().submit_generation(asked.model_dump(), title, this_owner())
            st.session_state.pop("pg_saved", None)
        except Refused as error:
            st.error(for_markdown(error, 400), icon=":material/block:")
    elif address.asked("pg_job"):
        st.session_state["pg_job"] = address.asked("pg_job")
    job = board().get(st.session_state.get("pg_job", ""))
    address.keep("pg_job", st.session_state.get("pg_job"))
    if job is not None and job.kind == "generate":
        _shown(job, root)
    elif st.session_state.get("pg_job"):
        st.info(
            "The generation of this link is not kept by this server any more. Press Run to make it again; greedy text is the same."
        )
        _example(example, asked)
    else:
        _example(example, asked)


def preflight(asked: LiveRequest) -> str:
    """What a run will take, before it runs."""
    lanes, kept = len(asked.lanes()) * asked.samples, board()
    words = f"at most {asked.max_new_tokens:,} tokens × {lanes} lane{'s' * (lanes > 1)}"
    speed = kept.speed.get(asked.model)
    if speed:
        passes = 1 + bool(asked.edits) + bool(asked.thinking)
        most = asked.max_new_tokens * passes / speed
        words += f" · at most {max(1, most):.0f} s at {speed:.0f} tokens/s (last measured)"
    else:
        words += " · no speed measured yet"
    if asked.model not in kept.worker.models:
        words += f" · {whereabouts(asked.model)}"
    if before := kept.before("generate"):
        words += f" · {before} job{'s' * (before > 1)} ahead"
    if beside := kept.holder("command"):
        words += f" · beside {one_line(beside.title, 60)}"
    return for_markdown(words, 300)


def _copies(asked: LiveRequest) -> None:
    forms = {
        "Command": ("bash", asked.as_command),
        "YAML": ("yaml", asked.as_yaml),
        "Python": ("python", asked.as_python),
    }
    st.caption("The same tokens from the command line, from `steer eval FILE`, or in Python.")
    for tab, (language, write) in zip(st.tabs(list(forms)), forms.values(), strict=True):
        tab.code(write(), language=language, wrap_lines=True)


def _shown(job: Job, root: Path | str) -> None:
    """The lanes of a job, and what can be done with it."""
    word = this_change_word() if board().may_cancel(job, this_owner()) else ""
    live.stream(job.id, word, job.over, "pg_live", lambda: None, lambda: _act(job.events, job.request))
    if said := st.session_state.pop("pg_said", ""):
        st.info(said, icon=":material/touch_app:")
    if not job.over:
        return
    if job.traceback:
        with st.expander("Traceback"):
            st.code(job.traceback, language=None, height=240)
    if job.result is None or job.state != "done":
        if job.state == "cancelled":
            st.caption("A generation that was stopped is kept here and not stored: a stored row is whole.")
        return
    if job.request.get("turns"):
        _answers(job)
    _save(job, root)


def _answers(job: Job) -> None:
    """The conversation goes on with one of the responses."""
    lanes: list[dict[str, Any]] = next((event["lanes"] for event in job.events if event["kind"] == "lanes"), [])
    if len(lanes) > 3:  # draws
        return
    bar = st.container(horizontal=True, vertical_alignment="center")
    for event in job.events:
        if event["kind"] == "end":
            name = str(lanes[event["lane"]]["name"])
            bar.button(
                f"Go on with the {name} response", key=f"pg_take_{name}", icon=":material/forum:",
                on_click=_take, args=(str(event["text"]),),
                help="Puts it into the conversation as the assistant's turn; your next turn follows.",
            )  # fmt: skip


def _take(text: str) -> None:
    turn_fields.answered(text)
    st.session_state["pg_begun"] = ""


def _act(events: Sequence[Mapping[str, Any]], asked: Mapping[str, Any] | None) -> None:
    """Set the form to what was chosen at a token, and run it. Called before the page's script. What arrives when the lanes have gone from
    the page changes nothing."""
    act = (st.session_state.get("pg_live") or {}).get("act")
    if act is None:
        return
    vectors = offered(runs_root(), this_shelf())
    fields, cards = ({}, []) if asked is None else playground_request.fields_of(asked, vectors)
    chosen, own, said = token_actions.acted(act, events, cards or playground_form.cards())
    if said:
        st.session_state["pg_said"] = said
        return
    fields |= chosen
    warm = fields.pop("pg_warm", None)
    if warm is not None and not fields.get("pg_temp", st.session_state["pg_temp"]):
        fields["pg_temp"] = warm
    if told := fields.pop("pg_turns", None):
        turn_fields.set_turns(told)
    st.session_state.update(fields)
    playground_form.set_cards(own)
    st.session_state["pg_at_once"] = act["do"] != "span"
    if act["do"] == "span":
        st.session_state["pg_said"] = (
            f"The first intervention covers {own[0].span} now. The lanes below are the old ones; Run writes new ones."
        )


def _save(job: Job, root: Path | str) -> None:
    receipt: dict[str, Any] = next((event for event in reversed(job.events) if event["kind"] == "receipt"), {})
    failed = receipt.get("ok") is False
    bar = st.container(horizontal=True, vertical_alignment="center", key="pg_save_bar")
    marked = bar.checkbox(f"Store it marked {MARK}", key="pg_marked") if failed else False
    pressed = bar.button(
        "Save to runs", icon=":material/save:", key="pg_save", disabled=failed and not marked,
        help="An ordinary run with one question: Compare, reports and `steer runs reproduce` take it.",
    )  # fmt: skip
    if pressed and job.result is not None:
        asked = LiveRequest.model_validate(job.request)
        try:
            run = save_live(Store(root), job.result, receipt, asked.files, marked=marked)
            st.session_state["pg_saved"] = (job.id, run.manifest.run_id)
            look_again()
        except (StoreError, OSError, BadInput) as error:
            st.error(for_markdown(error, 600), icon=":material/report:")
    saved = st.session_state.get("pg_saved")
    if saved and saved[0] == job.id:
        steered = bool(LiveRequest.model_validate(job.request).edits)
        bar.caption(f"Stored as {for_markdown(saved[1])}.")
        if steered:
            bar.page_link(
                "app_pages/compare.py",
                label="Open in Compare",
                icon=":material/compare_arrows:",
                query_params={"run": saved[1]},
            )


def _example(example: Example | None, asked: LiveRequest | None) -> None:
    """What is shown before anything has run: an example, which is `asked` again or something else."""
    if st.session_state["pg_kind"] == CHAT:
        st.info("Nothing has run here yet. Write a user's turn, then press Run.", icon=":material/forum:")
        return
    if example is None:
        st.info(
            "Nothing has run here yet. Press Run: the built-in pair needs no download and no GPU.",
            icon=":material/play_circle:",
        )
        st.markdown("The demo run fills this page with a finished example, and the other pages with results:")
        st.code(f"steer demo --runs {shlex.quote(str(runs_root()))}", language="bash")
        return
    edited = {str(entry.get("vector")) for entry in example.plan.get("interventions", [])}
    own = asked is not None and asked.item == example.item and edited == {edit.vector for edit in asked.edits}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge("example", icon=":material/inventory_2:", color="gray")
        st.caption(
            f"Question {for_markdown(example.item)} of run {for_markdown(example.run)}, already finished"
            + (
                ". Press Run to make it again, live, or change the fields first."
                if own
                else ", under another plan than the form's. Press Run for the form's own text."
            ),
            width="stretch",
        )
    mark_run(example.run)
    acts = (lambda: _act(example.events, None)) if own else None
    live.finished(f"{example.run}/{example.item}", example.events, "pg_live", acts)


page()
