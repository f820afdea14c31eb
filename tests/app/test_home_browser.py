"""Home in a real browser: from an own prompt to its steered text in one click, tiles that are links as a whole, no console error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.fake_run import make_fake_run

pytestmark = pytest.mark.browser
Serve = Callable[..., str]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def url(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("home")
    make_fake_run(folder)
    return serve(folder)


@pytest.fixture(scope="module")
def empty_url(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    return serve(tmp_path_factory.mktemp("empty"))


def test_a_prompt_of_ones_own_is_steered_from_home_by_one_click(empty_url: str, open_page: Open) -> None:
    watched = open_page(f"{empty_url}/")
    box = watched.page.get_by_label("Prompt", exact=True)
    assert "goal" in box.input_value(), "an example that the built-in pair knows"
    box.fill("rules + 7 ; goal 12 start 5 9 ?")
    watched.page.get_by_role("button", name="Steer it").click()
    watched.page.locator('.live[data-state="done"]').wait_for(timeout=90_000)
    watched.settle()
    assert watched.page.get_by_label("Prompt, as fed").input_value() == "rules + 7 ; goal 12 start 5 9 ?"
    lanes = watched.page.locator(".live .lane")
    assert lanes.count() == 2 and all(lanes.nth(n).locator(".generated .token").count() for n in range(2))
    assert "pg_job=" in watched.page.url and not watched.faults


def test_a_tile_is_a_link_wherever_it_is_clicked(url: str, open_page: Open) -> None:
    watched = open_page(f"{url}/")
    tile = watched.page.locator(".st-key-tile_0")
    tile.wait_for()
    tile.scroll_into_view_if_needed()
    size = tile.bounding_box()
    watched.page.mouse.click(size["x"] + size["width"] - 12, size["y"] + size["height"] - 10)
    watched.page.wait_for_url("**/compare**", timeout=20_000)
    assert not watched.faults


@pytest.mark.parametrize("width", [400, 900, 1400])
def test_home_fits_and_says_what_a_run_shows(url: str, open_page: Open, width: int, tmp_path: Path) -> None:
    watched = open_page(f"{url}/", width=width)
    watched.page.get_by_role("heading", name="Steering workbench").wait_for()
    watched.page.locator(".st-key-home_story .js-plotly-plot").wait_for(timeout=30_000)
    wide = watched.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, f"{wide} pixels on a screen of {width}"
    assert not watched.faults
