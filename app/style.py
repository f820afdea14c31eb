"""Contrast where Streamlit's own is below 4.5 to 1: the key of a main button, code beside captions, colours of code."""

from __future__ import annotations

import streamlit as st

KINDS = ("variable", "function", "string", "number", "keyword", "comment")
"""Parts of code that have a colour; all others have the text's."""
LIGHT = ("#0A5C8A", "#0A5C8A", "#0B6B3A", "#8A4B00", "#7A1F8A", "#5A6570")
DARK = ("#6CC4F0", "#6CC4F0", "#7FD8A4", "#F0B76C", "#D9A3E8", "#A8B3BD")
CHOSEN = "#7BBBEE"
"""What is chosen, on a dark ground; the buttons' own blue is too dark as text there."""


def style() -> None:
    """Draw it; once per script run."""
    dark = st.context.theme.type == "dark"
    colours = DARK if dark else LIGHT
    chosen = (
        "[data-selected='true'] p,[data-testid='stSliderThumbValue'] p" + f"{{color:{CHOSEN} !important}}"
        if dark
        else ""
    )
    code = ".stCode .token{color:inherit !important} " + "".join(
        f".stCode .token.{kind}{{color:{colour} !important}}" for kind, colour in zip(KINDS, colours, strict=True)
    )
    st.html(
        "<style>[data-testid='stBaseButton-primary'] kbd{color:#fff !important;opacity:1 !important;border-color:currentColor !important} "
        f"[data-testid='stCaptionContainer'] code{{color:inherit !important;opacity:1}} {code} {chosen}</style>"
    )
