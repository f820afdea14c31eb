"""Make a vector: from texts typed here, from two forms of a question, or from a thinking model and its base.

1. The form is at any time a command; what cannot be run is said before anything starts.
2. Extraction is a job. When it is through, the page names the vectors, how well they separate texts that were held out, and what to do
   with them next.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st

from app import address
from app.escaping import for_markdown, one_line
from app.job_section import offer
from app.jobs.admission import NotAdmitted, admitted_command
from app.jobs.board import board
from app.jobs.job import Job
from app.library import runs_root
from app.marked_texts import HELP, labels_in, marked
from app.model_shapes import shape_of
from app.playground_form import MODELS
from app.unknown_words import fed_of
from app.vector_actions import places, say_quality
from app.vector_examples import EXAMPLES, MARKED
from app.vector_maker import KINDS, METHODS, READS, Wish, arguments, prepare, wish_of
from app.vector_sweep import FORMS, tasks_for
from steering.errors import BadInput

KEPT: Any = {"persist_state": "session"}
STREAMS = {
    "hook_resid_post": "residual stream, behind the layer",
    "hook_resid_pre": "residual stream, before the layer",
    "hook_attn_out": "what attention adds",
    "hook_mlp_out": "what the MLP adds",
}


def page() -> None:
    """The page."""
    st.subheader("Which direction is it?", anchor=False)
    st.caption(
        "A steering vector is the difference between a model's activations on what is wanted and on what is not. It is read at one "
        "place of the model and can be added there, or at another layer, while the model writes."
    )
    _again()
    left, right = st.columns([1.3, 1], gap="large")
    with left:
        wish = _form()
    with right:
        _run(wish)


def _again() -> None:
    """Put what a job of the link was asked into the form, after a reload too."""
    job = board().get(address.asked("mk_job") or "")
    if job is None or st.session_state.get("mk_shown") == job.id:
        return
    try:
        wish = wish_of(admitted_command(job.request, runs_root()))
    except (BadInput, NotAdmitted) as error:
        st.warning(for_markdown(error, 400), icon=":material/link_off:")
        return
    st.session_state["mk_shown"] = job.id
    asked: dict[str, Any] = {
        "mk_kind": wish.kind, "mk_name": wish.name, "mk_model": wish.model, "mk_read": wish.read, "mk_stream": wish.stream,
    }  # fmt: skip
    if wish.kind == "texts":
        asked |= {
            "mk_positive": wish.positive,
            "mk_negative": wish.negative,
            "mk_method": wish.method,
            "mk_chat": wish.chat,
        }
    elif wish.kind == "spans":
        asked |= {"mk_marked": wish.marked, "mk_label": wish.label}
    elif wish.kind == "checkpoint":
        asked["mk_thinking"] = wish.thinking
    for key, value in asked.items():
        st.session_state[key] = value
    st.session_state["mk_layers_of"] = list(wish.layers)


def _form() -> Wish:
    st.session_state.setdefault("mk_name", "my direction")
    st.session_state.setdefault("mk_model", MODELS[0])
    kind = st.radio("What is contrasted", list(KINDS), key="mk_kind", format_func=KINDS.__getitem__, **KEPT)
    name = st.text_input("Its name", key="mk_name", max_chars=60, **KEPT)
    known = list(dict.fromkeys([*MODELS, "smollm2", st.session_state["mk_model"]]))
    model = str(
        st.selectbox(
            "Model" if kind != "checkpoint" else "Base model", known, key="mk_model", accept_new_options=True, **KEPT,
            help="A built-in model, smollm2 (`steer get smollm2`), a folder, or a hub id; type to add one.",
        )
    )  # fmt: skip
    facts: dict[str, Any] = {"kind": str(kind), "name": name, "model": model}
    if kind == "spans":
        return Wish(**facts, **_marked(model), **_place(model))
    facts |= _texts(model) if kind == "texts" else _questions(str(kind), model)
    return Wish(**facts, **_place(model))


def _texts(model: str) -> dict[str, Any]:
    columns = st.columns(2)
    sides = {}
    for column, side, words in zip(columns, ("positive", "negative"), ("Wanted", "Not wanted"), strict=True):
        own = EXAMPLES[model.startswith("builtin:")]
        if st.session_state.get(f"mk_{side}", EXAMPLES[True][side]) in (EXAMPLES[True][side], EXAMPLES[False][side]):
            st.session_state[f"mk_{side}"] = own[side]  # what was typed, or emptied, stays
        sides[side] = column.text_area(f"{words}, one text per line", key=f"mk_{side}", height=190, **KEPT)
    for side, words in (("positive", "Wanted"), ("negative", "Not wanted")):
        fed = fed_of(model, " ".join(sides[side].split()))
        if fed is not None and (unknown := sum(fed.unknown)):
            st.warning(
                f"{words}: {unknown} of {len(fed.texts)} tokens are unknown to {for_markdown(model, 60)}, which is fed the unknown "
                "one in their place.", icon=":material/translate:",
            )  # fmt: skip
    chat = st.checkbox(
        "Each text is a user's turn in the model's chat template",
        key="mk_chat",
        disabled=model.startswith("builtin:"),
        **KEPT,
    )
    if model.startswith("builtin:"):
        st.caption(
            "The built-in models know 30 words and signs of find-the-start problems and the numbers 0 to 99; words that "
            "they do not know are named by the job."
        )
    return {**sides, "chat": bool(chat) and not model.startswith("builtin:")}


def _marked(model: str) -> dict[str, Any]:
    st.session_state.setdefault("mk_marked", MARKED[model.startswith("builtin:")])
    text = st.text_area(
        "Texts with marked parts, a blank line between them", key="mk_marked", height=260, help=HELP, **KEPT
    )
    found = labels_in(text)
    with suppress(BadInput):
        blocks = marked(text)
        counts = Counter(label for _, spans in blocks for _, _, label in spans)
        said = ", ".join(f"{for_markdown(label, 40)} {count}" for label, count in counts.items())
        st.caption(f"{len(blocks)} text{'s' * (len(blocks) != 1)}; marks: {said or 'none'}.")
    label = st.selectbox("Which marks are wanted", found, key="mk_label") if found else None
    return {"marked": text, "label": str(label or "")}


def _questions(kind: str, model: str) -> dict[str, Any]:
    tasks = tasks_for(model)
    task = str(st.selectbox("Questions of", tasks, key="mk_task"))
    forms = list(FORMS[task])
    made: dict[str, Any] = {"task": task}
    if kind == "mode":
        wanted = forms.index("think") if "think" in forms else forms.index("chat-think")
        left, right = st.columns(2)
        first = left.selectbox("Wanted form", forms, index=wanted, key=f"mk_wanted_{task}")
        other = right.selectbox(
            "Other form", forms, index=len(forms) - 1 if task == "find-start" else 0, key=f"mk_other_{task}"
        )
        made["forms"] = (str(first), str(other))
    else:
        made["thinking"] = str(
            st.selectbox("Thinking model", [MODELS[1]], key="mk_thinking", accept_new_options=True, **KEPT)
        )
    made["n"] = int(st.number_input("Questions", 8, 2000, 64, step=8, key="mk_n"))
    return made


def _place(model: str) -> dict[str, Any]:
    shape = shape_of(model)
    layers = list(range(shape.layers if shape else 64))
    middle = len(layers) // 2 - 1 if shape else 10
    left, right = st.columns(2)
    key = f"mk_layers_{model}_{len(layers)}"
    if asked := [layer for layer in st.session_state.pop("mk_layers_of", []) if layer in layers]:
        st.session_state[key] = asked
    st.session_state.setdefault(key, [max(0, middle)])
    chosen = left.multiselect(
        "Layers, a vector each", layers, key=key,
        help="Most published vectors are read in the middle." if shape else "This model is not here, so its layers are not known.",
    )  # fmt: skip
    stream = right.selectbox(
        "Where in the layer", list(STREAMS), key="mk_stream", format_func=STREAMS.__getitem__, **KEPT
    )
    if st.session_state["mk_kind"] == "spans":
        st.caption(
            "Read at the token before every marked part and at its own but the last; the mean over all marked texts is taken off."
        )
        return {"layers": tuple(int(x) for x in chosen), "stream": str(stream)}
    read = left.selectbox("Read at", list(READS), key="mk_read", format_func=READS.__getitem__, **KEPT)
    made: dict[str, Any] = {"layers": tuple(int(x) for x in chosen), "stream": str(stream), "read": str(read)}
    if st.session_state["mk_kind"] == "texts":
        method = right.selectbox("Method", list(METHODS), key="mk_method", format_func=METHODS.__getitem__, **KEPT)
        made["method"] = str(method)
    return made


def _run(wish: Wish) -> None:
    root = runs_root()
    try:
        command = arguments(wish, root)
    except BadInput as error:
        st.error(for_markdown(error, 600), icon=":material/error:")
        return
    assert isinstance(root, Path)
    texts = len(wish.lines("positive")) + len(wish.lines("negative")) if wish.kind == "texts" else wish.n
    takes = (
        "seconds on a built-in model"
        if wish.model.startswith("builtin:")
        else f"the model's loading and {texts} readings"
    )
    job = offer(
        command,
        f"extract {wish.name}",
        takes,
        "mk_run",
        label="Make it",
        primary=True,
        begin=lambda: prepare(wish, root),
    )
    if job is not None:
        st.session_state["mk_shown"] = job.id
        address.keep("mk_job", job.id)
    if job is not None and job.state == "done":
        _made(job, wish)


def _made(job: Job, wish: Wish) -> None:
    """What a finished job wrote, with its quality and what is next."""
    try:
        written = json.loads((job.result or {}).get("output") or "[]")
    except ValueError:
        written = []
    for one in written if isinstance(written, list) else [written]:
        with st.container(border=True, gap="small"):
            st.markdown(f"**{for_markdown(wish.name, 60)}** at {for_markdown(one['site'])}, length {one['norm']:.3g}")
            say_quality(
                Path(one["file"]), str(one["digest"]), few=wish.kind in ("texts", "spans") and one["quality"] is None
            )
            places(str(one["digest"]), wish.model)
    for line in job.log():
        if line.startswith("Warning"):
            st.warning(for_markdown(one_line(line, 600), 600), icon=":material/warning:")


page()
