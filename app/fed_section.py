"""A prompt as the model is fed it, token by token, under the field that it is typed into; what the model does not know is red."""

from __future__ import annotations

import streamlit as st

from app.escaping import for_markdown
from app.unknown_words import fed_of

SHOWN = 120
"""Tokens that are drawn; longer prompts show their first and last ones."""


def show_fed(model: str, text: str) -> None:
    """The tokens, and how many they are; nothing where the model's tokenizer is not on this machine."""
    found = fed_of(model, text)
    if found is None:
        return
    pieces = [_chip(piece, unknown) for piece, unknown in zip(found.texts, found.unknown, strict=True)]
    if len(pieces) > SHOWN:
        half = SHOWN // 2
        pieces = [*pieces[:half], f"… {len(pieces) - SHOWN:,} more …", *pieces[-half:]]
    unknown = sum(found.unknown)
    said = f"{len(found.texts):,} tokens as fed to {for_markdown(model, 60)}"
    said += f", :red[{unknown} of them unknown to it]" if unknown else ""
    st.markdown(f":small[{said}:] {' '.join(pieces)}")


def _chip(piece: str, unknown: bool) -> str:
    shown = piece.replace("\n", "↵").replace("\t", "→")
    shown = for_markdown(shown.replace(" ", "·"), 40) or "∅"
    return f":{'red' if unknown else 'gray'}-background[:small[{shown}]]"
