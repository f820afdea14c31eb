"""`python -m benchmarks.journey`: how long a new user waits, from Home to a vector of their own with its test, in a browser.

1. Own text: from the click on *Steer it* on Home to the first token on the page and to the end, the model not yet loaded.
2. First token: from the click on *Run* to the first token on the page, model in memory, nothing else running.
3. Own vector: from *Make it* to its page, and from *Test it* to the test on other questions beside random directions and the wrong sign.
4. A job beside: tokens per second of the same generation alone and while a dashboard of latents is computed, in turns.

Times are taken inside the page (performance.now); the jobs' own by the server. Needs Chromium, and the model for `--model smollm2`.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.store.runs import Store

from .app import IDLE, served

PROMPTS = {"smollm2": "Write two sentences about a walk along the river in autumn."}
OWN_PROMPT = "rules + 15 ; * 9 ; goal 31 start 42 91 9 ?"
HOST = """const host = (root => { const look = r => { for (const n of r.querySelectorAll('*')) {
  if (n.classList.contains('live')) return n; const i = n.shadowRoot && look(n.shadowRoot); if (i) return i; } return null; };
  return look(root); })(document);"""
WAIT = (
    """async (selector) => {
  const find = () => {"""
    + HOST
    + """ return host; };
  const before = find()?.dataset.job;
  const begun = performance.now();
  document.querySelector(selector).click();
  const seen = {};
  while (performance.now() - begun < 300000) {
    await new Promise(done => requestAnimationFrame(done));
    const host = find();
    if (!host || host.dataset.job === before) continue;
    const tokens = host.querySelectorAll('.generated .token').length;
    if (tokens && seen.first === undefined) seen.first = performance.now() - begun;
    if (['done', 'failed', 'cancelled', 'interrupted'].includes(host.dataset.state)) {
      return {...seen, end: performance.now() - begun, state: host.dataset.state, job: host.dataset.job, tokens};
    }
  }
  return {...seen, state: 'too long'};
}"""
)
"""Click, and wait for the lanes of another job than the one that is shown."""


class Browser:
    """A page of the app, and what the server says of its jobs."""

    def __init__(self, url: str, page: Any):
        self.url, self.page = url, page

    def visit(self, path: str = "") -> None:
        """Open an address and wait until its script has run."""
        self.page.goto(f"{self.url}/{path}")
        self.page.wait_for_selector(IDLE, timeout=120_000)
        self.page.wait_for_timeout(800)

    def choose(self, key: str, value: str) -> None:
        """A value of a list."""
        field = self.page.locator(f".st-key-{key} input").first
        field.click()
        field.fill(value)
        field.press("Enter")
        self.page.wait_for_timeout(800)

    def click(self, selector: str) -> dict[str, Any]:
        """Click what starts a generation; seconds to its first token and its end."""
        found: dict[str, Any] = self.page.evaluate(WAIT, selector)
        if found["state"] != "done":
            raise SystemExit(f"The generation ended as {found['state']}: {found}")
        return found

    def ended(self, title: str, most: float) -> float:
        """Seconds that the latest job of this title took, once it has ended."""
        end = time.monotonic() + most
        while time.monotonic() < end:
            with urllib.request.urlopen(f"{self.url}/steer/jobs", timeout=10) as answer:
                jobs = json.loads(answer.read())["jobs"]
            found = [job for job in jobs if job["title"].startswith(title)]
            if found and found[0]["ended"] is not None:
                if found[0]["state"] != "done":
                    raise SystemExit(f"{title}: {found[0]['state']}: {found[0]['error']}")
                return float(found[0]["ended"] - found[0]["begun"])
            time.sleep(0.5)
        raise SystemExit(f"{title}: not done after {most:.0f} s")


def own_text(browser: Browser, model: str) -> dict[str, Any]:
    """From Home to the own prompt's steered text."""
    browser.visit()
    if model != "builtin:base":
        browser.choose("home_model", model)
    browser.page.get_by_label("Prompt", exact=True).fill(PROMPTS.get(model, OWN_PROMPT))
    browser.page.keyboard.press("Tab")
    browser.page.wait_for_timeout(600)
    return browser.click(".st-key-home_steer button")


def own_vector(browser: Browser, model: str, runs: Path, seconds: float) -> tuple[float, float, str]:
    """Seconds to make a vector and to test it, and what the test holds."""
    browser.visit("make_vector")
    if model != "builtin:base":
        browser.choose("mk_model", model)
    browser.page.locator(".st-key-mk_name input").fill("journey")
    browser.page.keyboard.press("Tab")
    browser.page.wait_for_timeout(800)
    begun = time.monotonic()
    browser.page.get_by_role("button", name="Make it").click()
    browser.page.get_by_role("link", name="Its page").first.wait_for(timeout=300_000)
    made = time.monotonic() - begun
    browser.page.get_by_role("link", name="Its page").first.click()
    browser.page.get_by_text("Test it: which layer and dose").click()
    browser.page.wait_for_timeout(800)
    browser.page.get_by_role("button", name="Test it").click()
    tested = browser.ended("test of journey", seconds)
    run = next(entry for entry in Store(runs).list() if "-test-" in entry.run_id or entry.run_id.endswith("-test"))
    manifest = Store(runs).open(run.run_id).manifest
    directions = sum("random" in arm.name for arm in manifest.arms)
    asked = len(set(Store(runs).open(run.run_id).table(columns=["item"])["item"].to_pylist()))
    return made, tested, f"{asked} questions, {len(manifest.arms)} arms, {directions} of them random directions"


def main(
    model: Annotated[str, typer.Option(help="builtin:base or smollm2.")] = "builtin:base",
    repeats: Annotated[int, typer.Option(help="Times that Run is clicked.")] = 10,
    rounds: Annotated[int, typer.Option(help="Turns with and without a dashboard beside; 0 leaves it out.")] = 3,
    most: Annotated[float, typer.Option(help="Seconds that the test of a vector may take.")] = 1200,
    pictures: Annotated[Path | None, typer.Option(help="Folder for a picture of every step.")] = None,
) -> None:
    """Print the table, in an empty store."""
    from playwright.sync_api import sync_playwright

    folder = Path(tempfile.mkdtemp(prefix="steering-journey-"))
    with served(folder) as (url, _), sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        browser = Browser(url, chromium.new_context(viewport={"width": 1400, "height": 1000}).new_page())

        def picture(name: str) -> None:
            if pictures is not None:
                pictures.mkdir(parents=True, exist_ok=True)
                browser.page.screenshot(path=str(pictures / f"{name}.png"))

        def say(what: str, value: str) -> None:
            print(f"| {what} | {value} |", flush=True)

        print(f"| {model} | |\n|---|---|")
        first = own_text(browser, model)
        picture("own-text")
        say("click on Home to the first token", f"{first['first'] / 1000:.1f} s")
        say("click on Home to the end of both texts", f"{first['end'] / 1000:.1f} s, {first['tokens']} tokens")
        browser.page.wait_for_timeout(1500)
        times, rates = [], []
        for _ in range(repeats):
            found = browser.click(".st-key-pg_run button")
            times.append(found["first"])
            rates.append(rate(found))
            browser.page.wait_for_timeout(700)
        ordered = sorted(times)
        say(
            "click on Run to the first token, model in memory",
            f"median {statistics.median(times):.0f} ms, largest {ordered[-1]:.0f} ms, n = {len(times)}",
        )
        say("tokens per second from the click, both lanes", f"median {statistics.median(rates):.0f}")
        if rounds:
            say("the same beside a dashboard of latents", beside(browser, rounds))
            picture("beside")
        made, tested, holds = own_vector(browser, model, folder, most)
        browser.page.wait_for_timeout(6000)
        browser.page.mouse.wheel(0, 900)
        browser.page.wait_for_timeout(1500)
        picture("own-vector")
        say("Make it, to the vector's page", f"{made:.0f} s")
        say("Test it, to the result", f"{tested:.0f} s: {holds}")
        chromium.close()
    shutil.rmtree(folder, ignore_errors=True)


def beside(browser: Browser, rounds: int) -> str:
    """Tokens per second alone and beside the job of a dashboard, in turns, as a sentence."""
    where = browser.page.url
    alone, loaded = [], []
    for _ in range(rounds):
        alone.append(_rate(browser, where))
        other = browser.page.context.new_page()
        other.goto(f"{browser.url}/features")
        other.wait_for_selector(IDLE, timeout=60_000)
        other.wait_for_timeout(2500)
        if other.get_by_text("A dashboard of a built-in model").count():
            other.get_by_text("A dashboard of a built-in model").first.click()
            other.wait_for_timeout(800)
        other.locator(".st-key-ft_start button").first.click()
        other.wait_for_timeout(4000)
        other.close()
        loaded.append(_rate(browser, where))
        other = browser.page.context.new_page()
        other.goto(f"{browser.url}/jobs")
        row = other.locator('[class*="st-key-job_"]', has_text="Dashboard").first
        row.wait_for(timeout=20_000)
        other.wait_for_timeout(1500)
        if row.get_by_role("button", name="Cancel").count():
            row.get_by_role("button", name="Cancel").first.click()
            row.filter(has_text="cancelled").wait_for(timeout=30_000)
        other.close()
    share = statistics.median(b / a for a, b in zip(alone, loaded, strict=True))
    return (
        f"median {statistics.median(loaded):.0f} against {statistics.median(alone):.0f} alone, {share:.2f} of it in the same turn "
        f"({len(alone)} turns)"
    )


def _rate(browser: Browser, where: str) -> float:
    browser.page.goto(where)
    browser.page.wait_for_selector(IDLE, timeout=60_000)
    browser.page.wait_for_timeout(1200)
    browser.click(".st-key-pg_run button")  # what the page loads at first is not the writing
    browser.page.wait_for_timeout(1000)
    return rate(browser.click(".st-key-pg_run button"))


def rate(found: dict[str, Any]) -> float:
    """Tokens per second of both lanes, from the click on: on a small model the first token and the last may come in one frame."""
    return float(1000 * found["tokens"] / found["end"])


if __name__ == "__main__":
    typer.run(main)
