"""The turns of a conversation as fields: role and text of each, in the address, and what can be done with one.

1. A conversation goes through the chat template of the model that is asked; its tokens, and the template's, stand above the lanes' texts.
2. An assistant's turn at the end is the beginning of the response.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import streamlit as st

from steering.errors import BadInput

ROLES = ("user", "assistant", "system")
SWITCHES = {"": "as the template has it", "on": "on", "off": "off"}
PLACE = "pg_turn_numbers"
MOST = 400
"""Letters of the longest turn that is offered as a span."""
Turns = list[tuple[str, str]]


def set_turns(given: Sequence[tuple[str, str]]) -> None:
    """Put turns into the form."""
    first = st.session_state.get("pg_turn_next", 0)
    st.session_state[PLACE] = list(range(first, first + len(given)))
    st.session_state["pg_turn_next"] = first + len(given)
    for number, (role, text) in zip(st.session_state[PLACE], given, strict=True):
        st.session_state[f"pg_role_{number}"], st.session_state[f"pg_says_{number}"] = role, text


def turns() -> Turns:
    """The turns as they stand in the form."""
    state = st.session_state
    return [
        (state.get(f"pg_role_{number}") or "user", state.get(f"pg_says_{number}") or "")
        for number in state.get(PLACE, [])
    ]


def write(given: Sequence[tuple[str, str]]) -> str:
    """As the address holds them."""
    return json.dumps([[role, text] for role, text in given], ensure_ascii=False, separators=(",", ":"))


def read(text: str) -> Turns:
    """From the address. Raises BadInput."""
    try:
        found = [(role, said) for role, said in json.loads(text)]
        if not all(role in ROLES and isinstance(said, str) for role, said in found) or len(found) > 200:
            raise ValueError(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput("the conversation of this link cannot be read") from error
    return found


def spans_of(given: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Spans that cover the text of one turn, with what they are called. A text that stands in two turns is covered in both."""
    found: dict[str, str] = {}
    for number, (role, text) in enumerate(given, 1):
        if 0 < len(said := text.strip()) <= MOST:
            twice = sum(said in other for _, other in given) > 1
            found.setdefault(
                f"text:{json.dumps(said)}",
                f"turn {number}, {role}" + (", and wherever its text stands" if twice else ""),
            )
    return found


def turn_fields() -> None:
    """The fields."""
    for place, number in enumerate(list(st.session_state.get(PLACE, []))):
        with st.container(border=True, gap="small", key=f"pg_turn_{number}"):
            bar = st.container(horizontal=True, vertical_alignment="center")
            bar.selectbox(
                f"Turn {place + 1}",
                ROLES,
                key=f"pg_role_{number}",
                persist_state="session",
                label_visibility="collapsed",
                width=140,
            )
            if st.session_state.get(f"pg_role_{number}") == "assistant" and place:
                bar.button(
                    "Write it anew", icon=":material/refresh:", key=f"pg_anew_{number}", on_click=_cut, args=(place, True),
                    help="Takes this turn and those behind it away, and writes it again: unsteered and steered.",
                )  # fmt: skip
            bar.button(
                "Remove",
                icon=":material/delete:",
                key=f"pg_drop_{number}",
                on_click=_drop,
                args=(place,),
                type="tertiary",
            )
            st.text_area(
                f"Text of turn {place + 1}",
                key=f"pg_says_{number}",
                height=90,
                label_visibility="collapsed",
                persist_state="session",
            )
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    bar.button("Add a turn", icon=":material/add:", key="pg_turn_add", on_click=_add)
    bar.segmented_control(
        "Thinking", list(SWITCHES), key="pg_switch", format_func=SWITCHES.__getitem__, required=True, persist_state="session",
        help="Where the model's chat template has a switch for it; refused where it has none.",
    )  # fmt: skip


def answered(text: str) -> None:
    """Put a response into the conversation, and an empty turn behind it."""
    given = turns()
    if given and given[-1][0] == "assistant":  # it was the beginning of this response
        given[-1] = ("assistant", given[-1][1] + text)
    else:
        given.append(("assistant", text))
    set_turns([*given, ("user", "")])


def _add() -> None:
    given = turns()
    role = "assistant" if given and given[-1][0] == "user" else "user"
    set_turns([*given, (role, "")])


def _drop(place: int) -> None:
    given = turns()
    set_turns(given[:place] + given[place + 1 :])


def _cut(place: int, run: bool) -> None:
    set_turns(turns()[:place])
    st.session_state["pg_begun"] = ""
    st.session_state["pg_at_once"] = run
