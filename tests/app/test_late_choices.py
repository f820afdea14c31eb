"""A choice in a text that arrives when the text has gone from the page, as after a quick click on another one, changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import streamlit as st

from app import trace_section
from app.app_pages import playground


@pytest.mark.parametrize("state", [{}, {"cmp_trace": None, "pg_live": None}, {"cmp_trace": {}, "pg_live": {}}])
@pytest.mark.parametrize("choice", [trace_section._chosen, lambda: playground._act([], None)], ids=["trace", "lanes"])
def test_a_late_choice_changes_nothing(
    choice: Callable[[], None], state: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(state)
    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(st, "rerun", lambda *given: pytest.fail("nothing has changed"))
    choice()
    assert state == before
