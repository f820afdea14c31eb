"""Random clicks and typing over every page, from fixed seeds: no exception, no fault of the browser, no lost row, and a server whose memory
stays flat. STEERING_MONKEY_MINUTES says for how long each seed goes on; a quarter of a minute by default."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error

from app.main import PAGES
from experiments.store.runs import Store
from tests.experiments.fake_run import make_fake_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTES = float(os.environ.get("STEERING_MONKEY_MINUTES", "0.25"))
COSTLY = (
    "Start it", "Make it", "Test it", "Ask", "Compute", "Ablate", "Run", "Retry", "demo", "Self-test", "Check", "Jacobian", "Steer",
)  # fmt: skip
"""Words of buttons that start a job of minutes; what they start is tested elsewhere."""
TYPED = ("", "a", "5", "-1e9", "\N{SNOWMAN} <b>x</b> [y](z) $k$", "0" * 400, "../../etc/passwd", "NaN")
TARGETS = (
    "button:visible:enabled, [role=tab]:visible, [role=radio]:visible, summary:visible, input:visible:enabled, textarea:visible:enabled, "
    "[data-testid=stMain] a:visible, [role=slider]:visible, [role=option]:visible"
)


def memory(port: str) -> int:
    """Kilobytes that the server on that port holds."""
    found = subprocess.run(["pgrep", "-f", f"server.port={port}"], capture_output=True, text=True).stdout.split()
    sizes = [
        int(line.split()[1])
        for pid in found
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    return max(sizes)


@pytest.mark.parametrize("seed", [0, 1])
def test_random_hands_break_nothing(
    seed: int, tmp_path: Path, serve: Callable[[Path], str], open_page: Callable[..., Any]
) -> None:
    run = make_fake_run(tmp_path, 12, hostile=True)
    rows = run.table().to_pylist()
    url, rng = serve(tmp_path), random.Random(seed)
    watched = open_page(url)
    page = watched.page
    paths = [entry["url_path"] for entries in PAGES.values() for entry in entries]
    for path in paths:  # every page once: what is imported and cached then is no leak
        watched.visit(f"{url}/{'' if path == 'home' else path}")
    before, steps, end = memory(url.rsplit(":", 1)[1]), 0, time.monotonic() + 60 * MINUTES
    while time.monotonic() < end:
        if steps % 12 == 0 or not page.url.startswith(url):
            path = rng.choice(paths)
            watched.visit(f"{url}/{'' if path == 'home' else path}")
        _touch(page, rng)
        steps += 1
        page.wait_for_timeout(120)
        assert page.locator('[data-testid="stException"]').count() == 0, page.locator(
            '[data-testid="stException"]'
        ).first.inner_text()
    watched.settle(1000)
    assert steps > 20 * MINUTES
    grown = memory(url.rsplit(":", 1)[1]) - before
    assert grown < 150_000 + 10_000 * MINUTES, f"{grown} KB more after {steps} steps"
    assert watched.faults == []
    assert Store(tmp_path).open(run.manifest.run_id).table().to_pylist() == rows


def _touch(page: Any, rng: random.Random) -> None:
    """One click, text or key on something that is there; what has gone meanwhile is passed over."""
    found = page.locator(TARGETS)
    count = found.count()
    if count == 0:
        return
    target = found.nth(rng.randrange(count))
    try:
        words = (target.inner_text(timeout=500) or target.get_attribute("aria-label", timeout=500) or "").strip()
        if (
            any(words.startswith(costly) or costly in words for costly in COSTLY)
            or target.get_attribute("target", timeout=500) == "_blank"
        ):
            return
        kind = target.evaluate("node => node.tagName", timeout=500)
        if kind in ("INPUT", "TEXTAREA") and target.get_attribute("type") not in ("checkbox", "radio", "range", "file"):
            target.fill(rng.choice(TYPED), timeout=800)
            page.keyboard.press(rng.choice(["Enter", "Tab", "Escape"]))
        elif rng.random() < 0.15:
            target.focus(timeout=500)
            page.keyboard.press(rng.choice(["ArrowRight", "ArrowLeft", "End", "Space"]))
        else:
            target.click(timeout=800)
    except (
        Error
    ):  # the element is gone, covered, or another one by now; what the page itself does wrong is looked for outside
        return
