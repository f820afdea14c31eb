"""The app in a real browser: pages, token panel, keyboard, links, and text of models that tries to be markup.

1. Every page is opened from a started server; no console error, no uncaught error, no request to another machine.
2. The numbers in the token panel are those of the stored Parquet rows.
3. Hostile text is visible as text and never runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from experiments.store.runs import Store
from tests.experiments.fake_run import HOSTILE, make_fake_run

pytestmark = pytest.mark.browser
Serve = Callable[[Path], str]
Open = Callable[..., Any]
SPLIT, LEFT, RIGHT = "standard-test", "base_bare", "steered"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_fake_run(folder, n_items=12, hostile=True)
    return folder


def stored(runs: Path, arm: str, item: str) -> dict[str, Any]:
    return Store(runs).open("hostile").table(arms=[arm], split=SPLIT, items=[item]).to_pylist()[0]


def fact(watched: Any, name: str) -> str:
    return watched.page.locator(f'.panel [data-fact="{name}"]').inner_text()


def compare(url: str, item: str, **more: str) -> str:
    query = {"run": "hostile", "cmp_split": SPLIT, "cmp_a": LEFT, "cmp_b": RIGHT, "cmp_item": item, **more}
    return f"{url}/compare?" + "&".join(f"{key}={value}" for key, value in query.items())


@pytest.mark.parametrize("path", ["/results", "/compare", "/playground?run=hostile", "/jobs?run=hostile"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_open_without_a_fault(runs: Path, serve: Serve, open_page: Open, path: str, scheme: str) -> None:
    watched = open_page(serve(runs) + path, colour_scheme=scheme)
    body = watched.page.locator('[data-testid="stMain"]').inner_text()
    assert "Traceback" not in body
    assert watched.page.locator('[data-testid="stException"]').count() == 0
    assert watched.page.evaluate("window.__xss") is None
    assert watched.faults == []
    assert "run=hostile" in watched.page.url


def test_a_clicked_token_shows_the_stored_numbers(runs: Path, serve: Serve, open_page: Open) -> None:
    item = f"{SPLIT}-003"
    row = stored(runs, RIGHT, item)
    index = min(4, len(row["token_ids"]) - 1)
    position = len(row["prompt_ids"]) + index
    watched = open_page(compare(serve(runs), item))
    watched.page.locator(f'.token[data-address="b{position}"]').click()
    watched.reach(f"cmp_tok=b{position}")
    watched.show('.panel [data-fact="position"]', str(position))
    assert fact(watched, "token id") == str(row["token_ids"][index])
    assert fact(watched, "position") == str(position)
    assert float(fact(watched, "log-prob")) == pytest.approx(row["logprob"][index], abs=6e-5)
    assert float(fact(watched, "entropy")) == pytest.approx(row["entropy"][index], abs=6e-5)
    shown = watched.page.locator(".panel .alternatives .what").all_inner_texts()[:5]
    assert shown == row["top_tokens"][5 * index : 5 * index + 5]
    assert parse_qs(urlsplit(watched.page.url).query)["cmp_tok"] == [f"b{position}"]
    assert watched.faults == []


def test_the_steered_prompt_token_shows_its_edit(runs: Path, serve: Serve, open_page: Open) -> None:
    item = f"{SPLIT}-004"
    row = stored(runs, RIGHT, item)
    position = len(row["prompt_ids"]) - 1
    watched = open_page(compare(serve(runs), item, cmp_tok=f"b{position}"))
    watched.page.locator(".lane[data-side=b] .token.fired").first.wait_for()  # tokens are drawn after the page is there
    watched.show('.panel [data-fact="position"]', str(position))
    assert watched.page.locator(".lane[data-side=b] .token.fired").count() == 1
    assert watched.page.locator(".lane[data-side=a] .token.fired").count() == 0
    assert float(fact(watched, "edit ‖Δ‖/‖h‖")) == pytest.approx(row["edit_ratio"][position], abs=6e-5)
    assert "fired 1/1 planned edits" in watched.page.locator(".lane[data-side=b] .receipt").inner_text()
    assert watched.faults == []


def test_tokens_can_be_reached_by_keyboard(runs: Path, serve: Serve, open_page: Open) -> None:
    item = f"{SPLIT}-005"
    row = stored(runs, LEFT, item)
    first = len(row["prompt_ids"])
    watched = open_page(compare(serve(runs), item))
    watched.page.locator(f'.token[data-address="a{first}"]').focus()
    watched.page.keyboard.press("ArrowRight")
    watched.page.keyboard.press("ArrowRight")
    watched.page.keyboard.press("ArrowLeft")
    watched.page.keyboard.press("Enter")
    watched.reach(f"cmp_tok=a{first + 1}")
    watched.show('.panel [data-fact="position"]', str(first + 1))
    assert fact(watched, "token id") == str(row["token_ids"][1])
    assert watched.faults == []


def test_after_the_divergence_the_other_arm_is_not_compared(runs: Path, serve: Serve, open_page: Open) -> None:
    store = Store(runs).open("hostile")
    for left, right in zip(*(store.table(arms=[arm], split=SPLIT).to_pylist() for arm in (LEFT, RIGHT)), strict=True):
        if left["token_ids"][0] != right["token_ids"][0] and len(right["token_ids"]) > 3:
            break
    position = len(right["prompt_ids"]) + 2
    watched = open_page(compare(serve(runs), right["item"], cmp_tok=f"b{position}"))
    watched.show(".panel", "Not comparable after the divergence at #0.")
    watched.page.locator(".flag").nth(1).wait_for()
    assert watched.page.locator(".flag").all_inner_texts() == ["◆ #0", "◆ #0"]
    watched.page.locator(f'.token[data-address="b{position - 2}"]').click()
    watched.reach(f"cmp_tok=b{position - 2}")
    watched.show(".panel .alternatives th", "Δ log-prob")
    assert "difference" in watched.page.locator(".panel .numbers").inner_text()
    assert "Not comparable" not in watched.page.locator(".panel").inner_text()


def test_hostile_text_stays_text(runs: Path, serve: Serve, open_page: Open) -> None:
    from playwright import sync_api as playwright

    for order, text in enumerate(HOSTILE):
        watched = open_page(compare(serve(runs), f"{SPLIT}-{order:03d}"))
        page = watched.page
        watched.show('[data-testid="stText"]', text)
        assert text in page.locator('[data-testid="stText"]').all_inner_texts()[-1]
        token = page.locator(".lane[data-side=b] .generated .token", has_text=re.compile(re.escape(text))).first
        playwright.expect(token).to_have_text(text, use_inner_text=True)  # the view may be drawn anew just now
        token.click()
        watched.reach("cmp_tok=b")
        assert watched.show(".panel .big", text).inner_text() == text
        assert page.locator(".panel img, .panel script, .lanes img, .lanes script").count() == 0
        page.get_by_role("button", name="Link", exact=True).click()
        watched.settle()
        assert page.evaluate("window.__xss") is None
        assert watched.faults == []


def test_a_link_shows_the_same_view_again(runs: Path, serve: Serve, open_page: Open) -> None:
    first = open_page(serve(runs) + "/compare")
    for number in (1, 2):
        first.page.get_by_role("button", name="Next").click()
        first.reach(f"cmp_item={SPLIT}-{number:03d}")
    first.page.locator(".lane[data-side=b] .generated .token").first.click()
    first.reach("cmp_tok=b")
    first.page.locator(".panel .alternatives").wait_for()
    again = open_page(first.page.url)
    again.page.locator(".panel .alternatives").wait_for()
    again.settle()
    assert again.page.url == first.page.url
    assert f"cmp_item={SPLIT}-002" in again.page.url
    assert again.page.locator(".panel").inner_text() == first.page.locator(".panel").inner_text()
    again.page.locator(".token.chosen").first.wait_for()
    assert again.page.locator(".token.chosen").count() == 1
    assert first.faults == again.faults == []


def test_the_run_stays_in_the_address_over_navigation_and_back(runs: Path, serve: Serve, open_page: Open) -> None:
    watched = open_page(serve(runs) + "/results?run=hostile")
    page = watched.page
    helped = page.get_by_role("link", name=re.compile("read the [1-9][0-9]* helped"))
    helped.and_(page.locator(f'[href*="cmp_b={RIGHT}&"], [href$="cmp_b={RIGHT}"]')).first.click()
    page.locator(".lanes").wait_for()
    watched.reach("/compare", "run=hostile", "cmp_show=helped", "cmp_item=")
    query = parse_qs(urlsplit(page.url).query)
    assert (query["run"], query["cmp_show"], query["cmp_b"]) == (["hostile"], ["helped"], [RIGHT])
    page.get_by_text("Evidence", exact=True).click()
    page.get_by_role("menuitem", name="Results").click()
    page.get_by_text("Each arm by itself").wait_for()
    watched.reach("/results", "run=hostile", without="cmp_")
    assert "run=hostile" in page.url
    assert "cmp_" not in page.url
    page.go_back()  # a page without its parameters, as the navigation's link left it
    watched.settle(600)
    page.go_back()
    page.locator(".lanes").wait_for()
    watched.reach("/compare", "run=hostile")
    assert "/compare" in page.url
    assert "run=hostile" in page.url
    assert watched.faults == []


def test_back_returns_to_the_view_before(runs: Path, serve: Serve, open_page: Open) -> None:
    from playwright.sync_api import expect

    watched = open_page(compare(serve(runs), f"{SPLIT}-004"))
    for expected in ("005", "006"):
        watched.page.get_by_role("button", name="Next").click()
        watched.reach(f"cmp_item={SPLIT}-{expected}")
    for expected in ("005", "004"):
        watched.page.go_back()
        watched.reach(f"cmp_item={SPLIT}-{expected}")
        chosen = re.compile(f"{SPLIT}-{expected}")
        expect(watched.page.locator(".st-key-cmp_item input")).to_have_value(chosen, timeout=20_000)
    assert watched.faults == []


def test_hostile_labels_of_a_manifest_stay_text(tmp_path: Path, serve: Serve, open_page: Open) -> None:
    good = make_fake_run(tmp_path / "good", n_items=4)
    labels = [f"{arm.name} {HOSTILE[i % 2]} <b>$x$</b>" for i, arm in enumerate(good.manifest.arms)]
    arms = [arm.model_copy(update={"label": label}) for arm, label in zip(good.manifest.arms, labels, strict=True)]
    manifest = good.manifest.model_copy(update={"arms": arms, "name": HOSTILE[1]})
    Store(tmp_path / "bad").create(manifest).write(good.table().to_pylist())
    url = serve(tmp_path / "bad")
    watched = open_page(url + "/results")
    for text in ("<script>", "<img"):  # ticks are drawn one after the other
        watched.page.locator("#root .ytick", has_text=text).first.wait_for()
    ticks = watched.page.locator("#root .ytick").all_text_contents()
    assert any("<script>" in tick for tick in ticks)
    assert any("<img" in tick for tick in ticks)
    other = open_page(url + "/compare")
    assert "<script>window.__xss=1</script>" in other.page.locator(".lane[data-side=a] .name").inner_text()
    for each in (watched, other):
        assert each.page.evaluate("window.__xss") is None
        assert each.page.locator('img[src="x"]').count() == 0
        assert each.faults == []
