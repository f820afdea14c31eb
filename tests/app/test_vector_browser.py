"""A vector of one's own in a browser: made from what is typed, found on its page, tested beside a generation that does not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_typed_contrast_becomes_a_vector_that_is_tried_while_its_test_runs(
    tmp_path: Path, serve: Callable[[Path], str], open_page: Callable[..., Any]
) -> None:
    url = serve(tmp_path)
    watched = open_page(f"{url}/make_vector")
    page = watched.page
    page.locator(".st-key-mk_name input").fill("my own")
    page.keyboard.press("Tab")
    watched.settle(600)
    page.get_by_role("button", name="Make it").click()
    page.get_by_role("link", name="Its page").wait_for(timeout=90_000)
    watched.settle(500)
    assert len(list((tmp_path / ".vectors").glob("my-own-*.safetensors"))) == 1
    page.reload()
    watched.settle(800)
    assert page.locator(".st-key-mk_name input").input_value() == "my own", (
        "a reload keeps what was asked and what came of it"
    )
    page.get_by_role("link", name="Its page").wait_for(timeout=20_000)
    assert "texts held out" in page.locator('[data-testid="stMain"]').inner_text()
    page.get_by_role("link", name="Its page").click()
    watched.reach("/vectors", "vec=")
    page.get_by_text("Test it: which layer and dose").click()
    watched.settle(500)
    page.get_by_role("button", name="Test it").click()
    watched.show('[data-testid="stMain"]', "running for")
    page.get_by_role("link", name="Try it").click()
    watched.reach("/playground", "pg_stack=")
    page.locator(".st-key-pg_run button").click()
    page.locator('.live[data-state="done"]').wait_for(timeout=90_000)
    receipt = page.locator(".live .receipt").inner_text()
    assert "fired 1 of 1 planned edits" in receipt and "blocks.1.hook_resid_post" in receipt
    page.goto(f"{url}/jobs")
    row = page.locator('[class*="st-key-job_"]', has_text="test of my own").first
    row.wait_for()
    assert "running" in row.inner_text(), "the test was still running: the generation did not wait for it"
    row.get_by_role("button", name="Cancel").click()
    page.locator('[class*="st-key-job_"]', has_text="test of my own").filter(has_text="cancelled").first.wait_for(
        timeout=60_000
    )
    assert watched.faults == []
