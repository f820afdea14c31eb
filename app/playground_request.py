"""The request that the fields of the Playground stand for, and the fields that stand for a request.

It is the one object that everything else is made from; what is wrong with the fields is said before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
from pydantic import ValidationError

from app import stack, turn_fields
from app.model_shapes import shape_of
from app.stack import Card
from app.vector_files import VectorFile
from experiments.live.edits import Edit
from experiments.live.request import LiveRequest
from experiments.tasks.turn import Turn
from steering.errors import BadInput

QUESTIONS, OWN, CHAT = "built-in question", "own prompt", "conversation"
SPLITS = ("standard-dev", "hard-dev", "standard-test", "hard-test", "new-map-test")


def request(vectors: Mapping[str, VectorFile], cards: Sequence[Card]) -> LiveRequest:
    """What the fields ask for. Raises BadInput, in words for the reader."""
    state = st.session_state
    edits = [card.edit(vectors) for card in cards]
    own, chat = state["pg_kind"] == OWN, state["pg_kind"] == CHAT
    said = [turn for turn in turn_fields.turns() if turn[1].strip()] if chat else []
    if chat and not said:
        raise BadInput("The conversation is empty. Write a user's turn.")
    shape = shape_of(state["pg_model"])
    for vector in (vectors[digest] for edit in edits for digest in edit.vectors):
        width = vector.width
        if shape is not None and width != shape.width:
            raise BadInput(
                f"Vector {vector.name} has width {width}; {state['pg_model']} has {shape.width}. Choose another vector."
            )
    try:
        return LiveRequest(
            item=None if own or chat else f"{state['pg_split']}/{int(state['pg_number']):05d}",
            prompt=state["pg_prompt"] if own else None,
            turns=tuple(Turn(role=role, content=text) for role, text in said),  # type: ignore[arg-type]
            switch={"on": True, "off": False}.get(state["pg_switch"]) if chat else None,
            form="bare" if own or chat else state["pg_form"],
            model=state["pg_model"],
            thinking=state["pg_beside"] or None,
            edits=tuple(edits),
            files={digest: str(vectors[digest].path) for edit in edits for digest in edit.vectors},
            begun=tuple(int(word) for word in state["pg_begun"].split(",") if word),
            samples=int(state["pg_samples"]),
            max_new_tokens=int(state["pg_tokens"]),
            temperature=float(state["pg_temp"]),
            seed=int(state["pg_seed"]),
        )
    except ValidationError as error:
        raise BadInput(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error


def fields_of(asked: Mapping[str, Any], vectors: Mapping[str, VectorFile]) -> tuple[dict[str, Any], list[Card]]:
    """The fields and the stack that ask for this request; what the form cannot say is left out."""
    split, _, number = str(asked.get("item") or "").partition("/")
    fields: dict[str, Any] = {
        "pg_kind": QUESTIONS if split in SPLITS else OWN,
        "pg_prompt": asked.get("prompt") or "",
        "pg_form": asked.get("form", "bare"),
        "pg_model": asked["model"],
        "pg_beside": asked.get("thinking") or "",
        "pg_tokens": asked["max_new_tokens"],
        "pg_temp": asked["temperature"],
        "pg_begun": ",".join(map(str, asked.get("begun") or ())),
        "pg_samples": asked.get("samples", 1),
        "pg_seed": asked["seed"],
    }
    if asked.get("turns"):
        switch = {True: "on", False: "off"}.get(asked.get("switch"), "")  # type: ignore[arg-type]
        told = [(turn["role"], turn["content"]) for turn in asked["turns"]]
        fields |= {"pg_kind": CHAT, "pg_turns": told, "pg_switch": switch}
    if split in SPLITS:
        fields |= {"pg_split": split, "pg_number": int(number)}
    cards = [stack.card_of(Edit.model_validate(edit).facts(), vectors) for edit in asked.get("edits", ())]
    return fields, [card for card in cards if card is not None]
