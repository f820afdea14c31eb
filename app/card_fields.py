"""One intervention of the stack as fields: vector, strength, layer, operation, span, gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from app import stack
from app.escaping import for_markdown, one_line
from app.gate_fields import gate_fields
from app.model_shapes import shape_of
from app.turn_fields import spans_of, turns
from app.vector_files import VectorFile
from steering.plan.verbs import OPERATIONS

UNIT = "× ‖v‖: times the norm of the vector. × ‖h‖: times the norm of the activation at each position."
LAYER = "own: the layer that the vector was taken from."
KEPT: Any = {"persist_state": "session"}


def card_fields(
    number: int, vectors: Mapping[str, VectorFile], place: int, cards: Callable[[], list[stack.Card]]
) -> None:
    """The fields of the intervention `number`, which stands at `place` of `cards`."""

    def key(name: str) -> str:
        return f"pg_{name}_{number}"

    def say(digest: str) -> str:
        vector = vectors.get(digest)
        if vector is None:
            return f"{digest or 'none'}, not here"
        return f"{vector.label} · {one_line(vector.source, 40)}"

    shape = shape_of(st.session_state["pg_model"])
    layers = [stack.OWN, *range(shape.layers if shape else 64)]
    if st.session_state.get(key("layer"), stack.OWN) not in layers:
        layers.append(st.session_state[key("layer")])
    chosen = st.session_state.get(key("vector"), "")
    top = max(4.0, abs(float(st.session_state.get(key("strength"), 1.0))))
    names = {**stack.SPANS, **(spans_of(turns()) if st.session_state["pg_kind"] == "conversation" else {})}
    spans = list(dict.fromkeys([*names, st.session_state.get(key("span"), "generated")]))
    with st.container(border=True, gap="small", key=f"pg_card_{number}"):
        digests = list(dict.fromkeys([*vectors, *([chosen] if chosen not in vectors else [])]))
        st.selectbox(f"Vector {place + 1}", digests, key=key("vector"), format_func=say, **KEPT)
        st.slider("Strength", -top, top, step=0.05, key=key("strength"), **KEPT)
        left, right = st.columns(2)
        left.selectbox(
            "Unit", list(stack.UNITS), key=key("unit"), format_func=stack.UNITS.__getitem__, help=UNIT, **KEPT
        )
        right.selectbox("Layer", layers, key=key("layer"), format_func=_layer, help=LAYER, **KEPT)
        st.selectbox("Operation", list(OPERATIONS), key=key("operation"), help=_operations(), **KEPT)
        st.selectbox(
            "Where", spans, key=key("span"), accept_new_options=True, format_func=lambda s: names.get(s, s), **KEPT,
            help='Any span of the plan language can be typed, such as first_n:16 or at:"wait".',
        )  # fmt: skip
        st.toggle(
            "Keep the norm", key=key("keep_norm"), help="Rescale the edited activation to the norm it had.", **KEPT
        )
        gate_fields(key, vectors)
        card = cards()[place]
        vector = vectors.get(card.vector)
        if vector is not None:
            wrong = ""
            if shape is not None and vector.width != shape.width:
                wrong = f" :red[Width {vector.width} does not fit this model, whose activations have {shape.width}.]"
            said = f"{card.raw(vector)} · at {card.site(vector).name} · {stack.MEANINGS[card.operation]}"
            st.caption(f"{for_markdown(vector.name)}, {for_markdown(vector.source)} · {for_markdown(said)}.{wrong}")
        if st.button("Remove", icon=":material/delete:", key=key("remove")):
            st.session_state["pg_cards"].remove(number)
            st.rerun()


def _layer(number: int) -> str:
    return "own" if number == stack.OWN else str(number)


def _operations() -> str:
    return "; ".join(f"**{name}** {meaning}" for name, meaning in stack.MEANINGS.items())
