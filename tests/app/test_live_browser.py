"""Live generation in a real browser: what reaches the page is what the engine says, whatever happens on the way.

1. A stream survives a slider, reruns, another page, a dropped connection and a reload, without a token lost or doubled.
2. Cancel takes effect within a second and keeps the text so far.
3. Two browsers cannot touch each other's texts or jobs.
4. Hostile text stays text; no console error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from app.vector_files import offered
from experiments.live.request import LiveRequest
from tests.app.wire import Wire

pytestmark = pytest.mark.browser
Serve = Callable[..., str]
Open = Callable[..., Any]
THINK_FIRST = next(v.digest for v in offered("nowhere").values() if v.path.name == "think-first.safetensors")
DROPPED = "net::ERR_"
"""What Chromium says of a connection that was cut."""
CANCELLED_AFTER = """() => new Promise((resolve) => {
  const find = (root) => {
    for (const node of root.querySelectorAll("*")) {
      if (node.classList.contains("live")) return node;
      const inner = node.shadowRoot && find(node.shadowRoot);
      if (inner) return inner;
    }
    return null;
  };
  const host = find(document), begun = performance.now();
  new MutationObserver(() => {
    if (host.dataset.state === "cancelled") resolve(performance.now() - begun);
  }).observe(host, { attributes: true });
  host.querySelector(".stop").click();
})"""
"""Milliseconds from the click on Cancel to the state on the page, measured inside it."""


@pytest.fixture(scope="module")
def url(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that waits 30 ms after every token, so that there is time to disturb it."""
    os.environ["STEERING_TOKEN_PAUSE"] = "0.03"
    try:
        yield serve(tmp_path_factory.mktemp("live"), ["127.0.0.1"])  # a wire has a port of its own
    finally:
        del os.environ["STEERING_TOKEN_PAUSE"]


@pytest.fixture(scope="module")
def fake_url(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over the engine that writes what it is told."""
    os.environ["STEERING_ENGINE"] = "tests.app.fake_engine:Engine"
    try:
        yield serve(tmp_path_factory.mktemp("fake"))
    finally:
        del os.environ["STEERING_ENGINE"]


@pytest.fixture(scope="module")
def engine() -> Any:
    from experiments.live.run import Engine

    return Engine()


def expected(engine: Any, number: int, form: str, steered: bool = True) -> list[list[str]]:
    """The engine's own tokens, one list per lane."""
    vector = offered("none")[THINK_FIRST]
    edit = {"vector": vector.digest, "site": vector.site.name, "span": "last_prompt", "amount": 1.0, "unit": "vector"}
    asked = LiveRequest(
        item=f"hard-test/{number:05d}",
        form=form,
        edits=(edit,) if steered else (),  # type: ignore[arg-type]
        files={vector.digest: str(vector.path)},
    )
    lanes: list[list[str]] = [[] for _ in asked.lanes()]
    for event in engine.run(asked.model_dump(), lambda: False):
        if event["kind"] == "token":
            lanes[event["lane"]].append(event["text"])
    return lanes


def playground(url: str, number: int, form: str, **more: str) -> str:
    return f"{url}/playground?" + urlencode({"pg_split": "hard-test", "pg_number": number, "pg_form": form, **more})


def run(watched: Any) -> None:
    watched.page.locator(".st-key-pg_run button").click()
    watched.page.locator('.live[data-state="running"]').wait_for(timeout=60_000)


def tokens(watched: Any, least: int) -> None:
    """Wait until the longest lane has this many."""
    watched.page.locator(".live .lane:last-child .generated .token").nth(least - 1).wait_for(timeout=30_000)


def lanes(watched: Any) -> list[list[str]]:
    found = watched.page.locator(".live .lane")
    return [found.nth(i).locator(".generated .token").all_inner_texts() for i in range(found.count())]


def finished(watched: Any) -> None:
    watched.page.locator('.live[data-state="done"]').wait_for(timeout=60_000)
    watched.settle()


def go(watched: Any, group: str, page: str) -> None:
    watched.page.get_by_text(group, exact=True).first.click()
    watched.page.get_by_role("menuitem", name=page).click()


def test_a_stream_survives_a_slider_another_page_a_dropped_connection_and_a_reload(
    url: str, open_page: Open, engine: Any
) -> None:
    wire = Wire(url)
    watched = open_page(playground(wire.url, 4, "bare"))
    page = watched.page
    run(watched)
    tokens(watched, 5)
    slider = page.get_by_role("slider").first
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    tokens(watched, 20)
    go(watched, "Library", "Jobs")
    page.get_by_text("running", exact=True).first.wait_for()
    page.get_by_role("link", name="Open").first.click()
    tokens(watched, 30)
    wire.down = True
    assert wire.cut() > 0
    page.locator('.live[data-link="lost"]').wait_for(timeout=5_000)
    wire.down = False
    page.locator('.live[data-link="open"]').wait_for(timeout=10_000)
    tokens(watched, 50)
    page.reload()
    finished(watched)
    assert lanes(watched) == expected(engine, 4, "bare")
    receipt = page.locator(".live .receipt").inner_text()
    assert receipt.startswith("✓ receipt: fired 1 of 1 planned edits")
    assert "unsteered replay identical ✓" in receipt
    assert page.locator(".live .lane[data-name=steered] .token.fired").count() == 1
    page.locator(".live .lane[data-name=steered] .generated .token").first.click()
    assert page.locator('.live .panel b[data-fact="log-prob"]').inner_text() != "—"
    page.locator(".st-key-pg_save button").first.click()
    page.get_by_role("link", name="Open in Compare").click()
    page.wait_for_url("**/compare?*run=playground-*")
    page.locator(".live").wait_for(state="detached")
    page.locator(".token.fired").first.wait_for()
    assert [fault for fault in watched.faults if DROPPED not in fault] == []
    wire.close()


def test_an_own_prompt_runs_with_one_click_right_after_it_was_typed(fake_url: str, open_page: Open) -> None:
    watched = open_page(f"{fake_url}/playground?{urlencode({'pg_kind': 'own prompt', 'pg_stack': '[]'})}")
    page = watched.page
    area, button = page.locator(".st-key-pg_prompt textarea"), page.locator(".st-key-pg_run button")
    area.click()
    page.keyboard.type("a 9")
    place = button.bounding_box()
    page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)  # not waiting for anything
    finished(watched)
    assert lanes(watched) == [[f"a{i}" for i in range(9)]]
    area.click()
    page.keyboard.press("Control+A")
    page.keyboard.type("b 4")
    page.keyboard.press("Control+Enter")
    page.locator(".live .token", has_text="b3").wait_for(timeout=20_000)
    finished(watched)
    assert lanes(watched) == [[f"b{i}" for i in range(4)]]
    assert watched.faults == []


def test_copies_and_link_follow_a_slider_without_a_run(url: str, open_page: Open) -> None:
    watched = open_page(playground(url, 2, "bare"))
    page = watched.page
    slider = page.get_by_role("slider").first
    for value in ("1.05", "1.1", "1.15", "1.2"):
        slider.press("ArrowRight")
        assert slider.input_value() == value
    watched.settle(1200)
    page.locator(".st-key-pg_copy button").first.click()
    watched.show('[data-testid="stPopoverBody"]', "1.2v")
    page.keyboard.press("Escape")
    page.locator(".st-key-link button").first.click()
    watched.show('[data-testid="stPopoverBody"] code', "%2C1.2%2C")
    assert watched.faults == []


def test_unknown_text_is_warned_of_before_a_run_and_beside_its_receipt(url: str, open_page: Open) -> None:
    query = {"pg_kind": "own prompt", "pg_prompt": "Who wrote this? 你好", "pg_tokens": 6}
    watched = open_page(f"{url}/playground?{urlencode(query)}")
    alert = watched.page.locator('[data-testid="stAlert"]')
    assert "does not know 4 of the 4 pieces" in alert.first.inner_text()
    watched.page.locator(".st-key-pg_run button").click()
    finished(watched)
    receipt = watched.page.locator(".live .receipt")
    assert receipt.inner_text().startswith("⚠ receipt: fired")
    assert "'你好'" in receipt.inner_text()
    assert "good" not in str(receipt.get_attribute("class"))
    assert watched.page.locator(".live .caution").count() == 0, "said once beside the texts"
    assert watched.faults == []


def test_cancel_takes_effect_within_a_second_and_keeps_the_text(url: str, open_page: Open, engine: Any) -> None:
    watched = open_page(playground(url, 5, "bare"))
    run(watched)
    tokens(watched, 12)
    assert watched.page.evaluate(CANCELLED_AFTER) < 1000
    watched.settle()
    kept, whole = lanes(watched), expected(engine, 5, "bare")
    assert all(mine == theirs[: len(mine)] for mine, theirs in zip(kept, whole, strict=True))
    assert 12 <= max(map(len, kept)) < max(map(len, whole))
    assert "stopped, partial" in watched.page.locator(".live .lane").last.inner_text()
    assert watched.page.locator(".st-key-pg_save").count() == 0
    assert watched.faults == []


def test_two_browsers_cannot_touch_each_others_texts_or_jobs(url: str, open_page: Open, engine: Any) -> None:
    first = open_page(playground(url, 1, "bare"))
    second = open_page(playground(url, 1, "bare", pg_stack="[]"))
    run(first)
    tokens(first, 5)
    second.page.locator(".st-key-pg_run button").click()
    second.page.locator('.live .detail:has-text("1 job ahead")').wait_for()
    watcher = open_page(first.page.url)
    tokens(watcher, 5)
    assert watcher.page.locator(".live .stop").is_hidden()
    assert first.page.locator(".live .stop").is_visible()
    for watched in (first, second, watcher):
        finished(watched)
    both, alone = expected(engine, 1, "bare"), expected(engine, 1, "bare", steered=False)
    assert lanes(first) == lanes(watcher) == both
    assert lanes(second) == alone == both[:1]
    assert first.faults == second.faults == watcher.faults == []


def test_hostile_text_stays_text_and_line_breaks_are_seen(fake_url: str, open_page: Open) -> None:
    markup = "<img/src=x/onerror=window.__xss=1>"
    query = urlencode({"pg_kind": "own prompt", "pg_prompt": f"{markup} lines 6", "pg_stack": "[]"})
    watched = open_page(f"{fake_url}/playground?{query}")
    watched.page.locator(".st-key-pg_run button").click()
    finished(watched)
    assert lanes(watched) == [[f"{markup}{i}↵" for i in range(6)]]
    watched.page.locator(".live .generated .token").first.click()
    assert watched.page.locator(".live .panel .shown").inner_text() == f"{markup}0↵"
    assert watched.page.locator(".live img").count() == 0
    assert watched.page.evaluate("window.__xss") is None
    assert watched.faults == []


def test_a_worker_that_dies_says_so_on_the_page_and_the_next_run_works(fake_url: str, open_page: Open) -> None:
    query = {"pg_kind": "own prompt", "pg_prompt": "a die", "pg_stack": "[]"}
    watched = open_page(f"{fake_url}/playground?{urlencode(query)}")
    watched.page.locator(".st-key-pg_run button").click()
    watched.page.locator('.live[data-state="failed"]').wait_for(timeout=30_000)
    assert "ran out of memory" in watched.page.locator(".live .trouble").inner_text()
    assert lanes(watched) == [[f"a{i}" for i in range(6)]]
    go(watched, "Library", "Jobs")
    watched.page.get_by_role("button", name="Retry").first.wait_for()
    again = open_page(f"{fake_url}/playground?{urlencode({**query, 'pg_prompt': 'b 4'})}")
    again.page.locator(".st-key-pg_run button").click()
    finished(again)
    assert lanes(again) == [[f"b{i}" for i in range(4)]]
    assert watched.faults == again.faults == []
