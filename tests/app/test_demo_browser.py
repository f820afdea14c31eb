"""Both pages on a real demo run: opened in a browser, a token clicked, its numbers found, no fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.store.runs import Store
from experiments.studies import demo

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_results_and_compare_open_on_the_demo_run(
    tmp_path: Path, serve: Callable[[Path], str], open_page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "EXTRACTION_PROBLEMS", 32)  # the pages are looked at here, not what the vectors do
    monkeypatch.setattr(demo, "DIRECTIONS", 2)
    _, run, _ = demo.run_demo(Store(tmp_path), n=2, n_dev=2, n_behaviour=2, console=Console(quiet=True))
    root = tmp_path
    url, run_id = serve(root), run.manifest.run_id
    results = open_page(f"{url}/results?run={run_id}")
    body = results.show('[data-testid="stMain"]', "base, steered").inner_text()
    assert "Traceback" not in body
    assert results.faults == []
    row = run.table(arms=["steered"], split="standard-test").to_pylist()[0]
    address = f"{url}/compare?run={run_id}&cmp_split=standard-test&cmp_a=base_bare&cmp_b=steered&cmp_item={row['item']}"
    compare = open_page(address)
    position = len(row["prompt_ids"])
    compare.page.locator(f'.token[data-address="b{position}"]').click()
    compare.reach(f"cmp_tok=b{position}")
    compare.show('.panel [data-fact="position"]', str(position))

    def fact(name: str) -> str:
        return compare.page.locator(f'.panel [data-fact="{name}"]').inner_text()

    assert fact("token id") == str(row["token_ids"][0])
    assert float(fact("log-prob")) == pytest.approx(row["logprob"][0], abs=6e-5)
    assert float(fact("entropy")) == pytest.approx(row["entropy"][0], abs=6e-5)
    assert compare.faults == []
