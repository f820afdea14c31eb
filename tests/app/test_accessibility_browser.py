"""No page has a finding of axe-core that it calls serious or critical, in either theme."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from app.main import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.slow]
GRAVE = ("serious", "critical")


def findings(page: Any) -> list[str]:
    """What axe-core finds on the page as it stands, a line per element."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['impact']} {one['id']}: {node['html'][:160]} {(node.get('any') or [{}])[0].get('message', '')}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_serious_finding(
    theme: str, demo: tuple[Path, Any], serve: Callable[[Path], str], open_page: Callable[..., Any]
) -> None:
    root, (choice, _, _) = demo
    url = serve(root)
    watched = open_page(url, theme)
    paths = [entry["url_path"] for entries in PAGES.values() for entry in entries]
    assert len(paths) >= 13
    found = {}
    for path in paths:
        where = "" if path == "home" else path
        watched.visit(f"{url}/{where}{f'?run={choice.run}' if path == 'sweeps' else ''}")
        watched.settle(700)
        if lines := findings(watched.page):
            found[path] = lines
    assert not found, found


def test_a_page_with_a_grave_finding_is_found(
    open_page: Callable[..., Any], serve: Callable[[Path], str], tmp_path: Path
) -> None:
    watched = open_page(serve(tmp_path))
    pale = "<p style='position:fixed;top:40vh;left:0;z-index:10000000;color:#bbb;background:#fff'>pale</p><img src='data:,'>"
    watched.page.evaluate("pale => document.body.insertAdjacentHTML('beforeend', pale)", pale)
    lines = findings(watched.page)
    assert any("color-contrast" in line for line in lines) and any("image-alt" in line for line in lines)
