"""Tiles: links to pages with what they are for, each clickable as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.escaping import for_markdown

_WHOLE = (
    "<style>[class*='st-key-tile_']{position:relative} [class*='st-key-tile_'] :is(div,a){position:static} "
    "[class*='st-key-tile_'] a::after{content:'';position:absolute;inset:0;border-radius:inherit}</style>"
)
"""The link of a tile reaches over all of it."""


def tiles(entries: Sequence[tuple[str, str, str, str]]) -> None:
    """Page, icon, title and a sentence of each, side by side."""
    st.html(_WHOLE)
    for number, (column, (page, icon, title, words)) in enumerate(zip(st.columns(len(entries)), entries, strict=True)):
        with column.container(border=True, height="stretch", gap="xsmall", key=f"tile_{number}"):
            st.page_link(page, label=f"**{title}**", icon=icon)
            st.caption(for_markdown(words, 300))
