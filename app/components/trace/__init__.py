"""The trace component: the view of `experiments.traces`, mounted in a page.

1. Its JavaScript and CSS are those of notebooks and exported pages (`experiments.traces.source`).
2. Text of models reaches the page as `textContent` or as an attribute only.
3. `on_view` is called when the reader chooses a token, a tint, a mode or a search; the new view is then in the component's state under
   `view`, with the keys `tok`, `metric`, `mode` and `q`. Everything is drawn in the browser; no script run is needed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from experiments.traces.data import payload
from experiments.traces.source import script, style

__all__ = ["mount", "payload"]

_MOUNT = """
export default function trace(component) {
  const host = component.parentElement.querySelector(".trace");
  if (host && component.data) mountTrace(host, component.data, (view) => component.setTriggerValue("view", view));
}
"""

_component = st.components.v2.component(
    "steering_trace", html='<div class="trace"></div>', css=style(), js=script() + _MOUNT
)


def mount(data: Mapping[str, Any], key: str, on_view: Callable[[], None]) -> None:
    """Show what `experiments.traces.data.trace_data` made."""
    _component(key=key, data=dict(data), on_view_change=on_view)
