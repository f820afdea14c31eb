"""A conversation in a real browser: a turn is typed and run, a response is taken into it, and a turn is written anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from app import turn_fields
from tests.app.test_token_actions_browser import ended
from tests.app.test_turns import SAID, folder

__all__ = ["folder"]
pytestmark = pytest.mark.browser
Serve = Callable[..., str]
Open = Callable[..., Any]


def test_a_conversation_goes_on_with_the_response_that_was_chosen(
    folder: Path, serve: Serve, open_page: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = serve(tmp_path_factory.mktemp("talk"))
    query = {
        "pg_kind": "conversation", "pg_turns": turn_fields.write(SAID), "pg_model": str(folder / "model"), "pg_stack": "[]",
        "pg_tokens": 5,
    }  # fmt: skip
    watched = open_page(f"{url}/playground?{urlencode(query)}")
    page = watched.page
    areas = page.locator('[class*="st-key-pg_says_"] textarea')
    areas.last.fill("And 4+4?")
    page.locator(".st-key-pg_run button").click()
    job = ended(watched)
    prompt = "".join(page.locator('.live .lane[data-lane="0"] .prompt .token').all_inner_texts())
    assert "And·4+4?" in prompt or "And 4+4?" in prompt
    assert "<|im_start|>" in prompt
    said = "".join(page.locator('.live .lane[data-lane="0"] .generated .token').all_inner_texts())
    assert said
    page.locator(".st-key-pg_take_unsteered button").first.click()
    watched.settle(800)
    assert areas.count() == len(SAID) + 2 and areas.last.input_value() == ""
    page.locator('[class*="st-key-pg_anew_"] button').first.click()
    assert ended(watched, job) != job
    assert areas.count() == 2
    assert watched.faults == []
