"""Trace views without the app: forced KL beside a run, files, pages, notebook objects, and the quickstart notebook."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import nbformat
import pyarrow.parquet as pq
import pytest
from nbclient import NotebookClient
from typer.testing import CliRunner

from experiments.commands.cli import app
from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.spec import EvalSpec, Generating
from experiments.store.runs import Arm, Run, Store, StoreError
from experiments.traces import TraceView, trace_html
from experiments.traces.data import divergence_of
from experiments.traces.forced_kl import backfill, read_kl, why_not, with_kl
from experiments.traces.notebook import CAP
from experiments.traces.page import POLICY, json_in_html
from experiments.traces.rows import as_jsonl, as_markdown, as_parquet
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import SteeringVector
from tests.experiments.fake_run import HOSTILE, make_fake_run

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"
VECTORS = Path(__file__).parents[2] / "steering" / "builtin" / "vectors"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two questions of the built-in task: the base model, and the base model with a vector added at the last prompt token."""
    vector = SteeringVector.load(VECTORS / "think-first.safetensors")
    plan = Plan((Intervention("add", vector, Span("last_prompt"), Dose(2.0, "vector")),))
    arms = (
        Arm(name="base", label="base", role="baseline", model="builtin:base", form="bare"),
        Arm(name="steered", label="steered", role="steered", model="builtin:base", form="bare", plan=plan.to_dict()),
    )
    spec = EvalSpec(name="traces", splits={"standard-test": 2}, arms=arms, generation=Generating(max_new_tokens=60))
    return run_evaluation(spec, Store(tmp_path_factory.mktemp("runs")), {vector.digest: vector})


def row_of(run: Run, arm: str) -> dict[str, Any]:
    return run.trace(run.table(["key"], arms=[arm]).to_pylist()[0]["key"])


def test_kl_is_computed_along_the_stored_text_and_kept_beside_the_run(run: Run) -> None:
    row = row_of(run, "steered")
    assert read_kl(run, row) is None
    found = backfill(run, row["key"])
    reading = read_kl(run, row)
    assert reading is not None
    assert found["off"] < 1e-4  # the forced reading is that of the generation
    assert reading["logprob"] == pytest.approx(row["logprob"], abs=1e-4)
    assert len(reading["divergence"]) == len(row["token_ids"])
    assert reading["divergence"][0] > 0.1  # the only edit is at the last prompt token, which predicts token 0
    assert all(value >= 0 for value in reading["divergence"])
    shown = TraceView.of(run, row["item"], ("base", "steered"))
    assert "kl" not in shown.rows[0]
    assert shown.rows[1]["kl"] == reading["divergence"]
    assert (run.folder / "kl" / f"{row['key']}.parquet").is_file()


def test_a_reading_that_is_damaged_or_of_other_tokens_is_not_used(run: Run) -> None:
    row = row_of(run, "steered")
    backfill(run, row["key"])
    other = {**row, "token_ids": [*row["token_ids"][:-1], 7]}
    with pytest.raises(StoreError, match="other tokens"):
        read_kl(run, other)
    path = run.folder / "kl" / f"{row['key']}.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="steer trace kl"):
        read_kl(run, row)
    assert "kl" not in with_kl(run, row)
    path.write_bytes(whole)


def test_rows_that_cannot_have_kl_say_why(run: Run) -> None:
    row = row_of(run, "base")
    assert why_not(run, row) == "this arm is unsteered"
    with pytest.raises(StoreError, match="unsteered"):
        backfill(run, row["key"])
    assert why_not(run, {**row_of(run, "steered"), "token_ids": []}) == "the row has no tokens"


def test_the_commands_compute_kl_and_write_a_page(run: Run, tmp_path: Path) -> None:
    row, runs = row_of(run, "steered"), str(run.folder.parent)
    done = CliRunner().invoke(app, ["trace", "kl", run.manifest.run_id, row["key"], "--runs", runs, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tokens"] == len(row["token_ids"])
    page = tmp_path / "trace.html"
    done = CliRunner().invoke(app, ["trace", "page", run.manifest.run_id, row["item"], "-o", str(page), "--runs", runs])
    assert done.exit_code == 0, done.output
    assert "KL along the steered trace" in page.read_text(encoding="utf-8")


def test_a_page_loads_nothing_and_holds_no_raw_text_of_a_row(tmp_path: Path) -> None:
    view = TraceView.of(make_fake_run(tmp_path, 4, hostile=True), "standard-test-000", ("base_bare", "steered"))
    page = trace_html(view.rows, view.arms)
    assert POLICY in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)", page)
    assert HOSTILE[0] not in page
    assert HOSTILE[1] not in page
    assert page.count("</script>") == 2


def test_json_in_a_script_element_ends_nothing() -> None:
    text = json_in_html({"a": "</script><!--<script>&\u2028"})
    assert "<" not in text
    assert json.loads(text) == {"a": "</script><!--<script>&\u2028"}


def test_outputs_of_a_notebook_have_ids_of_their_own_and_are_capped(tmp_path: Path) -> None:
    view = TraceView.of(make_fake_run(tmp_path, 4), "standard-test-000", ("base_bare", "steered"))
    ids = [set(re.findall(r'id="([^"]+)"', view._repr_html_())) for _ in range(2)]
    assert not ids[0] & ids[1]
    row = dict(view.rows[1])
    for name in ("token_ids", "tokens", "logprob", "entropy"):
        row[name] = list(row[name]) * 1000
    for name in ("top_ids", "top_tokens", "top_logprob"):
        row[name] = list(row[name]) * 1000
    row["edit_ratio"] = list(row["edit_ratio"]) + [0.0] * (len(row["token_ids"]) - len(view.rows[1]["token_ids"]))
    long = TraceView((row,), (view.arms[1],))
    shown = long._repr_html_()
    assert f"The first {CAP:,} of" in shown
    assert shown.count("<span title=") == CAP
    assert long.to_html(tmp_path / "long.html").stat().st_size > len(shown)


def test_rows_as_files(tmp_path: Path) -> None:
    view = TraceView.of(make_fake_run(tmp_path, 4), "standard-test-000", ("base_bare", "steered"))
    back = pq.read_table(io.BytesIO(as_parquet(view.rows))).to_pylist()
    lines = [json.loads(line) for line in as_jsonl(view.rows).splitlines()]
    for row, one, two in zip(view.rows, back, lines, strict=True):
        assert one["token_ids"] == two["token_ids"] == row["token_ids"]
        assert one["tokens"] == two["tokens"] == row["tokens"]
    assert "◆" in view.to_markdown()


def test_an_excerpt_fences_what_was_stored(tmp_path: Path) -> None:
    view = TraceView.of(make_fake_run(tmp_path, 4), "standard-test-000", ("base_bare", "steered"))
    row = {**view.rows[1], "tokens": ["```", *list(view.rows[1]["tokens"])[1:]]}
    arms = [{**view.arms[1], "label": "[x](http://y) <b>"}]
    text = as_markdown([row], arms, divergence_of([row]).sentence, [None])
    assert "\n````text\n" in text
    assert "\\[x\\]" in text
    assert "\\<b\\>" in text


@pytest.mark.slow
def test_the_quickstart_notebook_runs_clean_in_half_a_minute() -> None:
    notebook = nbformat.read(NOTEBOOK, 4)
    begin = time.monotonic()
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    took = time.monotonic() - begin
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    told = "".join(o.get("text", "") for o in outputs)
    assert "1 of 1 planned edits" in told
    assert re.search(r"base: .*wrong", told)
    assert re.search(r"steered: .*right", told)
    assert any("mountTrace" in "".join(o.get("data", {}).get("text/html", "")) for o in outputs)
    assert took < 60  # about 10 s on an idle machine
