"""Features in a real browser: a text of one's own names latents, and one of them is steered with in the Playground."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.app.test_library_pages import dashboard

pytestmark = pytest.mark.browser


def test_from_a_text_to_a_latent_to_steered_text(
    serve: Callable[..., str], open_page: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("latents")
    dashboard(folder / ".dashboards" / "tiny")
    watched = open_page(f"{serve(folder)}/features?ft_sae=tiny")
    page = watched.page
    page.get_by_text("Find latents by a text of your own").click()
    watched.settle()
    page.locator(".st-key-ft_text textarea").fill("rules + 1 ; goal 3")
    page.locator(".st-key-ft_text textarea").press("Control+Enter")
    watched.settle()
    page.locator(".st-key-ft_read button").first.click()
    page.get_by_text("Over the whole text").wait_for(timeout=60_000)
    watched.settle()
    page.locator(".st-key-ft_steer button").first.click()
    page.get_by_role("link", name="Steer it in the Playground").click(timeout=60_000)
    watched.settle()
    assert "/playground" in page.url
    page.locator(".st-key-pg_run button").click()
    page.locator('.live[data-state="done"]').wait_for(timeout=60_000)
    watched.show(".live .receipt", "fired")
    assert watched.faults == []
