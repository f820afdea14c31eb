"""Every page in a browser: its link opens the same view again, and a click on a sweep's cell opens its items."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from experiments.sweeps.run import SweepResult
from tests.app.test_library_pages import swept  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PAGES = ("", "playground", "compare", "results", "sweeps", "hybrid", "vectors", "features", "runs", "jobs", "health")
MAIN = '[data-testid="stMain"]'


def words(page: Any) -> str:
    """What the page's block says."""
    return str(page.locator(MAIN).inner_text())


def test_every_pages_link_opens_the_same_view(
    swept: tuple[Path, SweepResult],  # noqa: F811
    serve: Callable[[Path], str],
    open_page: Callable[..., Any],
) -> None:
    root, result = swept
    url = serve(root)
    addresses = [f"{url}/{path}?run={result.runs[0].manifest.run_id}" for path in PAGES]
    first, again = open_page(addresses[0]), open_page(addresses[0])  # the reader, and whom a link is sent to
    for path, opened in zip(PAGES, addresses, strict=True):
        first.visit(opened)
        address = first.page.url
        again.visit(address)
        assert again.page.locator('[data-testid="stException"]').count() == 0
        assert parse_qs(urlsplit(again.page.url).query) == parse_qs(urlsplit(address).query), path
        for _ in range(40):  # charts are drawn after the script has run
            if words(again.page) == words(first.page):
                break
            again.settle(200)
        assert words(again.page) == words(first.page), path
        assert first.faults == again.faults == [], path


def test_a_cell_of_the_heatmap_opens_its_items(
    swept: tuple[Path, SweepResult],  # noqa: F811
    serve: Callable[[Path], str],
    open_page: Callable[..., Any],
) -> None:
    root, result = swept
    run = result.runs[0].manifest.run_id
    watched = open_page(f"{serve(root)}/sweeps?run={run}")
    page = watched.page
    before = parse_qs(urlsplit(page.url).query)["swp_cell"]
    names = [f"cell-{n:03d}" for n in range(6)]
    target = next(name for name in reversed(names) if [name] != before)
    marks = page.locator(".st-key-swp_grid_score .scatterlayer .trace").last.locator("path.point")
    marks.nth(names.index(target)).click(force=True)
    page.wait_for_url(f"**swp_cell={target}**")
    watched.settle()
    page.locator(".st-key-swp_grid_score .modebar-btn[data-title='Box Select']").click()
    first, last = marks.nth(0).bounding_box(), marks.nth(names.index("cell-004")).bounding_box()
    assert first is not None and last is not None
    page.mouse.move(first["x"] - 4, first["y"] - 4)
    page.mouse.down()
    page.mouse.move(first["x"] + 40, first["y"] + 20, steps=4)
    page.mouse.move(last["x"] + last["width"] + 4, last["y"] + last["height"] + 4, steps=6)
    page.mouse.up()
    page.get_by_text("A finer sweep of the").wait_for(timeout=15_000)
    watched.settle()
    link = page.get_by_role("link", name="read what it hurt").first
    assert f"cmp_b={target}" in json.dumps(link.get_attribute("href"))
    link.click()
    page.wait_for_url("**/compare?**")
    watched.settle()
    assert parse_qs(urlsplit(page.url).query)["cmp_b"] == [target]
    assert (
        page.locator(".lane").count() == 2 or "no question" in words(page).lower() or "not one question" in words(page)
    )
    assert watched.faults == []
