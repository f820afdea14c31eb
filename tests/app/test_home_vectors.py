"""What Home gives the form: interventions that the chosen model can take."""

from __future__ import annotations

from typing import Any

import pytest

from app import playground_form
from app.stack import Card
from app.vector_files import offered
from tests.app.test_playground import THINK_FIRST


def test_home_gives_the_form_vectors_that_the_model_can_take(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = offered("nowhere")
    for model, before, after in (
        ("smollm2", None, "shorter answers"),
        ("smollm2", THINK_FIRST, "shorter answers"),
        ("me/other", THINK_FIRST, None),
        ("builtin:base", THINK_FIRST, vectors[THINK_FIRST].name),
    ):
        state: dict[str, Any] = {}
        monkeypatch.setattr("streamlit.session_state", state)
        if before:
            playground_form.set_cards([Card(vector=before)])
        playground_form.fit_cards(model, vectors)
        names = [vectors[card.vector].name for card in playground_form.cards()]
        assert names == ([after] if after else []), model
        assert ("is at hand, so the text is not steered" in state.get("pg_said", "")) == (after is None)
    state = {}
    monkeypatch.setattr("streamlit.session_state", state)
    playground_form.fit_cards("builtin:base", vectors)
    assert state == {}, "the form has its own beginning for the built-in pair"
