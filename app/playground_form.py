"""The left side of the Playground: question, model, intervention stack, sampling; every field is in the address.

1. A field that was set reruns the script, so that everything beside it, *Copy as* and the link too, says what the form says now. Lanes that
   are being written are left alone by a rerun.
2. A link wins over what the session remembers; a part of it that cannot be read is named, with what is shown instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import streamlit as st

from app import address, stack, turn_fields
from app.card_fields import card_fields
from app.escaping import for_markdown
from app.fed_section import show_fed
from app.playground_request import CHAT, OWN, QUESTIONS, SPLITS
from app.presets import preset_menu
from app.stack import Card
from app.uploads import upload
from app.vector_files import VectorFile
from experiments.live.request import DRAWS
from experiments.pair.problem import FORM_SUFFIX
from experiments.tasks.findstart import FindStart
from steering.errors import BadInput

MODELS = ("builtin:base", "builtin:thinking")
FORMS = {"bare": "as it is", "think": "think first", "quick": "be quick"}
CARD_KEYS = (
    "operation", "vector", "layer", "strength", "unit", "span", "keep_norm", "gate", "threshold", "below", "gate_vector",
)  # fmt: skip
SAMPLES = "More than one needs a temperature above 0; what they come to is counted above the lanes."
KEPT: Any = {"persist_state": "session"}
LINKED = 2000
"""Letters of the longest prompt that the address holds."""


def _integer(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return read


def _one_of(*valid: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in valid:
            raise ValueError(text)
        return text

    return read


def _temperature(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0 <= value <= 2):
        raise ValueError(text)
    return value


def _ids(text: str) -> str:
    if text and (len(text) > LINKED * 4 or not all(word.isdigit() for word in text.split(","))):
        raise ValueError(text)
    return text


FIELDS: dict[str, tuple[str, Callable[[str], Any], Any]] = {
    "pg_kind": ("kind of question", _one_of(QUESTIONS, OWN, CHAT), QUESTIONS),
    "pg_split": ("split", _one_of(*SPLITS), "standard-test"),
    "pg_number": ("question number", _integer(0, 99_999), 0),
    "pg_form": ("prompt form", _one_of(*FORM_SUFFIX), "bare"),
    "pg_prompt": ("prompt", str, ""),
    "pg_switch": ("thinking on or off", _one_of(*turn_fields.SWITCHES), ""),
    "pg_model": ("model", str, "builtin:base"),
    "pg_beside": ("model beside", str, ""),
    "pg_tokens": ("token limit", _integer(1, 4096), 200),
    "pg_temp": ("temperature", _temperature, 0.0),
    "pg_begun": ("tokens that the text begins with", _ids, ""),
    "pg_samples": ("texts per lane", _integer(1, DRAWS), 1),
    "pg_seed": ("seed", _integer(0, 2**31 - 1), 0),
}
"""By key: what it is called, how a link's value is read, and the default."""


def begin(
    vectors: Mapping[str, VectorFile], defaults: Mapping[str, Any], cards: list[Card], anew: bool = False
) -> None:
    """Set the fields from the link, the session or the defaults, before any of them is drawn; `anew` passes the session over."""
    if anew:
        for key, (_, _, default) in FIELDS.items():
            st.session_state[key] = defaults.get(key, default)
    for key, (name, read, default) in FIELDS.items():
        asked = address.asked(key)
        if asked is not None:
            try:
                st.session_state[key] = read(asked)
            except ValueError:
                st.warning(
                    f"This link names {name} {for_markdown(asked)}, which is not possible.", icon=":material/link_off:"
                )
        st.session_state.setdefault(key, defaults.get(key, default))
    _begin_turns(anew, defaults)
    asked = address.asked("pg_stack")
    if asked is not None:
        try:
            cards = stack.read(asked)
        except BadInput as error:
            st.warning(f"{for_markdown(error)}; shown instead: the default.", icon=":material/link_off:")
        gone = [card.vector for card in cards if card.vector not in vectors]
        if gone:
            st.warning(
                f"This link names vector {for_markdown(gone[0])}, which is not here. Choose another.",
                icon=":material/link_off:",
            )
    if asked is not None or anew or "pg_cards" not in st.session_state:
        set_cards(cards)


def _begin_turns(anew: bool, defaults: Mapping[str, Any]) -> None:
    asked, given = address.asked("pg_turns"), defaults.get("pg_turns") or [("user", "")]
    if asked is not None:
        try:
            given = turn_fields.read(asked)
        except BadInput as error:
            st.warning(f"{for_markdown(error)}; shown instead: an empty one.", icon=":material/link_off:")
    if asked is not None or anew or turn_fields.PLACE not in st.session_state:
        turn_fields.set_turns(given)


def set_cards(cards: list[Card]) -> None:
    """Put a stack into the form."""
    first = st.session_state.get("pg_next", 0)
    st.session_state["pg_cards"] = list(range(first, first + len(cards)))
    st.session_state["pg_next"] = first + len(cards)
    for number, card in zip(st.session_state["pg_cards"], cards, strict=True):
        for name in CARD_KEYS:
            st.session_state[f"pg_{name}_{number}"] = getattr(card, name)


def fit_cards(model: str, vectors: Mapping[str, VectorFile]) -> None:
    """Give the form interventions that this model can take: those that it has, where every vector is the model's, else its first own vector
    over what is generated. Without one there are none, and it is said what to do."""
    if "pg_cards" not in st.session_state and model.startswith("builtin:"):
        return
    if "pg_cards" in st.session_state and all(
        card.vector in vectors and vectors[card.vector].model == model for card in cards()
    ):
        return
    own = [v for v in vectors.values() if v.model == model and not v.control]
    span = "last_prompt" if model.startswith("builtin:") else "generated"
    set_cards([Card(vector=own[0].digest, span=span)] if own else [])
    if not own:
        st.session_state["pg_said"] = (
            f"No vector of {for_markdown(model, 80)} is at hand, so the text is not steered. *Make a vector* takes one from two sets of "
            "texts, in a minute."
        )


def cards() -> list[Card]:
    """The stack as it stands in the form."""
    found = []
    for number in st.session_state["pg_cards"]:
        values = {name: st.session_state.get(f"pg_{name}_{number}") for name in CARD_KEYS}
        found.append(Card(**{name: value for name, value in values.items() if value is not None}))
    return found


def draw(vectors: Mapping[str, VectorFile], models: list[str]) -> None:
    """The fields."""
    with st.container(border=True, gap="small", key="pg_question"):
        st.markdown("**Question**")
        _question()
        _goes_on()
    st.markdown("**Interventions** :small[:orange[change the output]]")
    for place, number in enumerate(list(st.session_state["pg_cards"])):
        card_fields(number, vectors, place, cards)
    bar = st.container(horizontal=True)
    if bar.button("Add intervention", icon=":material/add:", key="pg_add", disabled=not vectors):
        set_cards([*cards(), Card(vector=next(iter(vectors)))])
        st.rerun()
    with bar.popover("Add a file", icon=":material/upload_file:"):
        upload(vectors, set_cards)
    with bar.popover("Stacks", icon=":material/bookmarks:", key="pg_stacks"):
        preset_menu(vectors, cards(), set_cards)
    with st.container(border=True, gap="small", key="pg_models"):
        st.markdown("**Model**")
        known = list(dict.fromkeys([*MODELS, *models, st.session_state["pg_model"]]))
        st.selectbox(
            "Model", known, key="pg_model", accept_new_options=True, label_visibility="collapsed", **KEPT,
            help="A built-in model, a folder, or a hub id; type to add one.",
        )  # fmt: skip
        beside = list(dict.fromkeys(["", "builtin:thinking", *models, st.session_state["pg_beside"]]))
        st.selectbox(
            "Beside it (unsteered)", beside, key="pg_beside", accept_new_options=True, **KEPT,
            format_func=lambda name: name or "no other model",
            help="A third lane: for example the thinking model, as the mark to reach.",
        )  # fmt: skip
    with st.container(border=True, gap="small", key="pg_sampling"):
        st.markdown("**Sampling**")
        st.slider("Most new tokens", 1, 4096 if st.session_state["pg_tokens"] > 480 else 480, key="pg_tokens", **KEPT)
        st.slider(
            "Temperature",
            0.0,
            2.0,
            step=0.05,
            key="pg_temp",
            help="0 is greedy: the likeliest token, always.",
            **KEPT,
        )
        left, right = st.columns(2)
        left.number_input("Texts per lane", 1, DRAWS, step=1, key="pg_samples", help=SAMPLES, **KEPT)
        right.number_input(
            "Seed", 0, 2**31 - 1, step=1, key="pg_seed", help="Used when the temperature is above 0.", **KEPT
        )


def _goes_on() -> None:
    """That the response begins with given tokens, and the way back to none."""
    if count := len([word for word in st.session_state["pg_begun"].split(",") if word]):
        line = st.container(horizontal=True, vertical_alignment="center")
        line.caption(f"Goes on from {count} token{'s' * (count > 1)} that the response begins with.", width="stretch")
        line.button("From its beginning", icon=":material/undo:", key="pg_anew", on_click=_from_its_beginning)


def _from_its_beginning() -> None:
    st.session_state["pg_begun"] = ""


def _question() -> None:
    st.segmented_control(
        "Kind",
        [QUESTIONS, OWN, CHAT],
        key="pg_kind",
        required=True,
        label_visibility="collapsed",
        persist_state="session",
    )
    if st.session_state["pg_kind"] == CHAT:
        turn_fields.turn_fields()
        return
    if st.session_state["pg_kind"] == OWN:
        st.text_area("Prompt, as fed", key="pg_prompt", height=120, **KEPT)
        show_fed(st.session_state["pg_model"], st.session_state["pg_prompt"])
        st.caption("A find-the-start problem is graded; any other prompt has no right answer to compare with.")
        if len(st.session_state["pg_prompt"]) > LINKED:
            st.caption(
                f":orange[The link leaves this prompt out: it holds at most {LINKED:,} letters. *Copy as* has all of it.]"
            )
        return
    left, right = st.columns([3, 2])
    left.selectbox("Split", SPLITS, key="pg_split", **KEPT)
    right.number_input("Number", 0, 99_999, step=1, key="pg_number", **KEPT)
    st.segmented_control("Asked", list(FORMS), key="pg_form", required=True, format_func=FORMS.__getitem__, **KEPT)
    with suppress(BadInput):
        item = FindStart().items(st.session_state["pg_split"], int(st.session_state["pg_number"]) + 1)[-1]
        st.caption(
            f"{for_markdown(FindStart().prompt(item, st.session_state['pg_form']), 300)} · right answer {for_markdown(item.gold)}"
        )
        show_fed(st.session_state["pg_model"], FindStart().prompt(item, st.session_state["pg_form"]))


def keep() -> None:
    """Note all fields for the address: what a link leaves out would be filled by the defaults of the store where it is opened."""
    for key in FIELDS:
        value = str(st.session_state[key])
        long = {"pg_prompt": LINKED, "pg_begun": 4 * LINKED}.get(key)
        address.keep(key, None if long and not 0 < len(value) <= long else value)
    told = turn_fields.write(turn_fields.turns())
    chat = st.session_state["pg_kind"] == CHAT
    address.keep("pg_turns", told if chat and len(told) <= 4 * LINKED else None)
    address.keep("pg_stack", stack.write(cards()) or "[]")
