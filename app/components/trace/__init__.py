"""The trace component: lanes of tokens side by side, and the panel of one token.

1. Text of models reaches the page as `textContent` only; the HTML, CSS and JavaScript are constant files beside
   this one.
2. `lanes` calls `on_token` once per click or Enter on a token; the address of the token is then in the component's
   state under `token`, as `a17` or `b17`.
3. Every token can be reached by keyboard: Tab to a lane, arrows along the text, Home and End, `j` and `k` along
   steered tokens, `d` to the divergence, Enter to open the panel.
4. `payload` makes data safe for JSON: a number that is not finite becomes null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent

_mount = st.components.v2.component(
    "steering_trace",
    html='<div class="trace"></div>',
    css=(HERE / "trace.css").read_text(encoding="utf-8"),
    js=(HERE / "trace.js").read_text(encoding="utf-8"),
)


def payload(value: Any) -> Any:
    """`value` with everything that JSON cannot say replaced by null."""
    if isinstance(value, Mapping):
        return {str(key): payload(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [payload(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def lanes(data: Mapping[str, Any], key: str, on_token: Callable[[], None]) -> None:
    """Show lanes of tokens; `on_token` runs when one is chosen."""
    _mount(key=key, data=payload({"kind": "lanes", **data}), on_token_change=on_token)


def panel(data: Mapping[str, Any], key: str) -> None:
    """Show the numbers of one token."""
    _mount(key=key, data=payload({"kind": "panel", **data}))
