"""What is done from a token, in a real browser: choose one, press, and a text that goes on from there is written, linked and stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from experiments.live.run import Engine
from experiments.live.saving import save_live
from experiments.store.runs import Store
from tests.app.test_token_actions import request

pytestmark = pytest.mark.browser
Serve = Callable[..., str]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def url(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    return serve(tmp_path_factory.mktemp("actions"))


def ended(watched: Any, before: str | None = None) -> str:
    """The name of the job that has ended on the page, another than `before`."""
    other = f':not([data-job="{before}"])' if before else ""
    watched.page.locator(f'.live[data-state="done"]{other}').wait_for(timeout=60_000)
    watched.page.locator(".st-key-pg_save").wait_for(timeout=30_000)
    watched.settle()
    return str(watched.page.locator(".live").get_attribute("data-job"))


def ran(watched: Any) -> str:
    watched.page.locator(".st-key-pg_run button").click()
    return ended(watched)


def texts(watched: Any, lane: int) -> list[str]:
    return list(watched.page.locator(f'.live .lane[data-lane="{lane}"] .generated .token').all_inner_texts())


def choose(watched: Any, lane: int, token: int) -> None:
    watched.page.locator(f'.live .lane[data-lane="{lane}"] .generated .token').nth(token).click()
    watched.page.locator(".live .acts").wait_for(timeout=5_000)


def asked(open_page: Open, url: str, number: int) -> tuple[Any, str]:
    """A question that has been run."""
    watched = open_page(f"{url}/playground?" + urlencode({"pg_number": number}))
    return watched, ran(watched)


def press(watched: Any, lane: int, token: int, act: str) -> None:
    """Choose a token and press a button below it."""
    choose(watched, lane, token)
    watched.page.locator(f'.live .act[data-act="{act}"]').first.click()


def test_another_token_is_chosen_and_gone_on_from(url: str, open_page: Open) -> None:
    watched, job = asked(open_page, url, 3)
    before = texts(watched, 1)
    choose(watched, 1, 2)
    other = watched.page.locator('.live .act[data-act="swap"]').first
    name = other.inner_text().split("  ")[0]
    other.click()
    ended(watched, job)
    after = texts(watched, 1)
    assert after[:2] == before[:2] and after[2] == name != before[2]
    assert watched.page.locator('.live .lane[data-lane="1"] .token.given').count() == 3
    assert "pg_begun=" in watched.page.url
    watched.show(".st-key-pg_question", "Goes on from 3 tokens")
    watched.page.reload()
    ended(watched)
    assert texts(watched, 1) == after
    watched.page.locator(".st-key-pg_anew button").click()
    watched.settle()
    assert "Goes on from" not in watched.page.locator(".st-key-pg_question").inner_text()
    assert watched.faults == []


def test_a_token_is_drawn_again_and_outcomes_are_counted(url: str, open_page: Open) -> None:
    watched, job = asked(open_page, url, 4)
    press(watched, 1, 1, "resample")
    ended(watched, job)
    table = watched.page.locator(".live .outcomes")
    assert table.locator("tr").count() == 3 and " of 8 (" in table.inner_text()
    assert watched.page.locator(".live .lane").count() == 16
    watched.page.locator(".st-key-pg_save button").first.click()
    watched.show(".st-key-pg_save_bar", "Stored as")
    assert watched.faults == []


def test_steering_begins_and_ends_at_a_token(url: str, open_page: Open) -> None:
    watched, job = asked(open_page, url, 5)
    press(watched, 0, 1, "from")
    job = ended(watched, job)
    watched.show(".live .receipt", "fired 1 of 1")
    press(watched, 1, 0, "until")
    ended(watched, job)
    assert watched.page.locator(".live .lane").count() >= 1
    assert watched.faults == []


def test_a_token_joins_the_span_of_the_intervention(url: str, open_page: Open) -> None:
    watched, _ = asked(open_page, url, 6)
    press(watched, 1, 1, "span")
    watched.settle(800)
    watched.page.locator(".st-key-pg_copy button").first.click()
    watched.show('[data-testid="stPopoverBody"]', "last_prompt | window:1:2")
    assert watched.faults == []


def test_a_stored_text_is_gone_on_from_in_the_playground(
    serve: Serve, open_page: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("stored")
    asked = request(item="standard-test/00002")
    found = list(Engine().run(asked.model_dump(), lambda: False))
    receipt = next(event for event in found if event["kind"] == "receipt")
    run = save_live(Store(folder), found[-1], receipt, asked.files)
    row = next(row for row in run.table().to_pylist() if row["arm"] == "steered")
    place = 7
    watched = open_page(f"{serve(folder)}/compare?run={run.manifest.run_id}&cmp_tok=b{len(row['prompt_ids']) + place}")
    watched.page.locator(".st-key-cmp_go_on button").first.click()
    ended(watched)
    assert texts(watched, 1) == row["tokens"]
    assert watched.page.locator('.live .lane[data-lane="1"] .token.given').count() == place
    assert watched.faults == []
