"""Files that a reader gives to the Playground: vectors, plans, and control vectors of other tools.

1. safetensors, JSON and GGUF only, each with its own largest size; what a file is, is read from its bytes, and none of it is run.
2. Every browser's files lie on a shelf of its own (`app.shelf`).
3. A GGUF file does not say how its writer numbers layers: the reader chooses, and `steer vectors import` reads it as a job.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import streamlit as st

from app import stack
from app.escaping import for_markdown
from app.jobs.board import Refused, submit_command
from app.jobs.chip import this_owner, this_shelf
from app.shelf import clear, own_name, put, used
from app.stack import Card
from app.vector_files import LARGEST, VectorFile, keep_upload
from steering.errors import BadInput

LIMITS = {"safetensors": LARGEST, "json": 1 << 20, "gguf": 50 << 20}
"""Bytes of the largest file by kind."""
CONVENTIONS = ("llama.cpp", "cvector-generator", "repeng", "easysteer")


def check_upload(name: str, data: bytes) -> str:
    """The kind of a file. Raises BadInput for another kind, for one that is too large, and for one that is not what its name says."""
    kind = name.rpartition(".")[2].lower()
    if kind not in LIMITS:
        raise BadInput(f"{name} is of another kind; {', '.join(LIMITS)} are taken.")
    if len(data) > LIMITS[kind]:
        raise BadInput(
            f"{name} has {len(data) / (1 << 20):.1f} MiB; a {kind} file has at most {LIMITS[kind] >> 20} MiB."
        )
    if kind == "gguf" and data[:4] != b"GGUF":
        raise BadInput(f"{name} is no GGUF file: it does not begin with GGUF.")
    return kind


def read_cards(data: bytes, vectors: Mapping[str, VectorFile]) -> list[Card]:
    """The cards of a plan written as JSON (`steer plan show --json`). Raises BadInput."""
    try:
        entries = json.loads(data)["interventions"]
        cards = [stack.card_of(entry, vectors) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            "The file holds no plan: a mapping with a list `interventions`, as `steer plan show --json` writes it."
        ) from error
    for entry, card in zip(entries, cards, strict=True):
        if card is None:
            name = entry.get("vector_name") or entry.get("vector")
            raise BadInput(
                f"Intervention {entry.get('operation')} of {name} cannot be shown as a card: its vector is not here, or it has a gate, a "
                "schedule or several sites. Run it with `steer generate --plan FILE`."
            )
    return [card for card in cards if card is not None]


def upload(vectors: Mapping[str, VectorFile], set_cards: Callable[[list[Card]], None]) -> None:
    """The fields for a file, and what became of it."""
    taken = st.file_uploader(
        "Vector, plan or control vector", type=list(LIMITS), key="pg_upload", max_upload_size=max(LIMITS.values()) >> 20
    )
    st.caption(
        "A vector (.safetensors), a plan (.json) or another tool's control vector (.gguf). No code in them runs."
    )
    if taken is None:
        _own_files()
        return
    data = taken.getvalue()
    try:
        kind = check_upload(taken.name, data)
        if kind == "safetensors":
            vector = keep_upload(data, taken.name, this_shelf())
            st.success(
                f"{for_markdown(vector.name)}, {vector.site.name}, norm {vector.norm:.4g}: now in the list of vectors."
            )
        elif kind == "json":
            cards = read_cards(data, vectors)
            if st.button(f"Put its {len(cards)} interventions into the form", key="pg_take_plan"):
                set_cards(cards)
                st.rerun()
        else:
            _gguf(taken.name, data)
    except (BadInput, Refused) as error:
        st.error(for_markdown(error, 600))


def _own_files() -> None:
    """What this browser has uploaded, and how to remove it."""
    size = used(this_shelf())
    if not size:
        return
    st.caption(f"Your uploaded files take {size / (1 << 20):.1f} MiB. Other browsers neither see nor use them.")
    if st.button("Remove my uploaded files", key="pg_clear", icon=":material/delete:"):
        clear(this_shelf())
        st.rerun()


def _gguf(name: str, data: bytes) -> None:
    layers = st.selectbox("How its writer numbers layers", CONVENTIONS, key="pg_layers")
    if not st.button("Import", key="pg_import"):
        return
    path = put(this_shelf(), own_name(name), data, room=len(data))
    arguments = ["vectors", "import", str(path), "--out", str(path.parent), "--format", "gguf", "--layers", layers]
    submit_command(arguments, f"import {name}", this_owner())
    st.success("Being imported, as a job; its vectors then are in the list.")
