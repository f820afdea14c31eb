"""Every page over every kind of store, without a browser.

1. No page ever shows a traceback: empty store, whole run, hostile run, broken manifest, broken shard, run without rows.
2. Each of these has its own message with the next step.
3. A link with a value that does not exist says which, and what is shown instead.
4. The process of the pages imports neither torch nor the core.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.launch import command, environment
from experiments.store.runs import Store
from experiments.traces.forced_kl import write_kl
from tests.experiments.fake_run import HOSTILE, make_fake_run, make_manifest

Patch = pytest.MonkeyPatch
ROOT = Path(__file__).resolve().parents[2]
PAGES = {"results": "app_pages/results.py", "compare": "app_pages/compare.py"}


def show(page: str, runs: Path, monkeypatch: Patch, **query: str) -> AppTest:
    """The page after one script run."""
    monkeypatch.setenv("STEERING_RUNS", str(runs))
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    if PAGES[page]:
        app.switch_page(PAGES[page])
    return app.run()


def said(app: AppTest) -> str:
    """All messages and texts of the page, one per line."""
    kinds = ("markdown", "caption", "text", "info", "warning", "error", "subheader", "code")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind)).replace("\\", "")


def linked(app: AppTest, key: str) -> str:
    """What the address says for `key`."""
    value = app.query_params[key]
    return value if isinstance(value, str) else value[0]


def traces(app: AppTest) -> list[dict[str, Any]]:
    """What the trace component was given."""
    return [json.loads(e.proto.mixed.json or e.proto.json) for e in app.get("bidi_component")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    make_fake_run(folder)
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    make_fake_run(folder, hostile=True)
    return folder


each_page = pytest.mark.parametrize("page", list(PAGES))


@each_page
def test_an_empty_store_says_how_to_get_a_run(page: str, tmp_path: Path, monkeypatch: Patch) -> None:
    app = show(page, tmp_path / "none", monkeypatch)
    assert not app.exception
    assert "No runs yet." in said(app)
    assert "steer demo" in said(app)


@each_page
def test_a_whole_run_is_shown(page: str, whole: Path, monkeypatch: Patch) -> None:
    app = show(page, whole, monkeypatch)
    assert not app.exception
    assert not app.error
    assert not app.warning
    assert linked(app, "run") == "fake"


@each_page
def test_a_broken_manifest_is_named_with_its_remedy(page: str, tmp_path: Path, monkeypatch: Patch) -> None:
    (make_fake_run(tmp_path, 4).folder / "run.json").write_text('{"run_id": "fake", ')
    app = show(page, tmp_path, monkeypatch)
    assert not app.exception
    assert "cannot be read" in app.error[0].value
    assert "run.json" in said(app)
    assert "delete this file" in said(app).lower()


@each_page
def test_a_broken_shard_is_named_with_its_remedy(page: str, tmp_path: Path, monkeypatch: Patch) -> None:
    shard = make_fake_run(tmp_path, 4).shards()[0]
    shard.write_bytes(shard.read_bytes()[:-40])
    app = show(page, tmp_path, monkeypatch)
    assert not app.exception
    assert shard.name in app.error[0].value.replace("\\", "")
    assert "cannot be read" in app.warning[0].value


@each_page
def test_a_run_without_rows_says_so(page: str, tmp_path: Path, monkeypatch: Patch) -> None:
    Store(tmp_path).create(make_manifest())
    app = show(page, tmp_path, monkeypatch)
    assert not app.exception
    assert "stored" in app.info[-1].value
    assert "command again" in app.info[-1].value
    assert "not finished" in said(app)


@each_page
def test_a_link_to_an_unknown_run_shows_no_other_run(page: str, whole: Path, monkeypatch: Patch) -> None:
    app = show(page, whole, monkeypatch, run="<b>gone</b>")
    assert not app.exception
    assert app.selectbox(key="run").value is None
    assert "This link names run <b>gone</b>" in said(app)
    assert len(app.subheader) == 0
    app.selectbox(key="run").select("fake").run()
    assert not app.exception
    assert not app.warning
    assert len(app.subheader) == 1


@each_page
def test_hostile_text_never_reaches_markdown_as_markup(page: str, hostile: Path, monkeypatch: Patch) -> None:
    app = show(page, hostile, monkeypatch)
    assert not app.exception
    for kind in ("markdown", "caption", "info", "warning", "error"):
        for element in getattr(app, kind):
            assert not any(text in element.value for text in HOSTILE)
            assert not getattr(element, "allow_html", False)


def test_results_show_what_is_said_of_the_questions(tmp_path: Path, monkeypatch: Patch) -> None:
    make_fake_run(tmp_path, questions=["the 12 questions are 9 different ones"])
    assert "the 12 questions are 9 different ones" in said(show("results", tmp_path, monkeypatch))


def test_results_show_every_arm_with_n_interval_and_receipt(whole: Path, monkeypatch: Patch) -> None:
    app = show("results", whole, monkeypatch)
    alone, compared = app.dataframe[0].value, app.dataframe[1].value
    assert len(alone) == 6
    assert len(compared) == 5
    assert set(alone["n"]) == {12}
    assert all(" to " in cell for cell in alone["interval"])
    assert list(alone["receipt"]) == ["no edits", "no edits", "12/12 ✓", "12/12 ✓", "12/12 ✓", "no edits"]
    assert "Exploratory" in said(app)
    assert "Gap recovered" in said(app)


def test_a_receipt_that_does_not_match_is_an_error_on_both_pages(tmp_path: Path, monkeypatch: Patch) -> None:
    run = make_fake_run(tmp_path / "good", 4)
    rows = run.table().to_pylist()
    for row in rows:
        if row["arm"] == "steered":
            row["edits_fired"], row["edit_ratio"] = 0, [0.0] * len(row["edit_ratio"])
    Store(tmp_path / "bad").create(run.manifest).write(rows)
    app = show("results", tmp_path / "bad", monkeypatch)
    assert "fired 0 of 4 planned edits" in app.error[0].value
    lanes = traces(show("compare", tmp_path / "bad", monkeypatch))[0]["lanes"]
    assert [lane["receipt"]["ok"] for lane in lanes] == [True, False]
    assert lanes[1]["receipt"]["text"].startswith("fired 0/1 planned edits")


def test_compare_begins_with_baseline_and_steered_arm(whole: Path, monkeypatch: Patch) -> None:
    app = show("compare", whole, monkeypatch)
    assert (app.selectbox(key="cmp_a").value, app.selectbox(key="cmp_b").value) == ("base_bare", "steered")
    data = traces(app)[0]
    row = Store(whole).open("fake").table(arms=["steered"], split="standard-test", items=["standard-test-000"])
    stored = row.to_pylist()[0]
    assert data["lanes"][1]["tokens"] == stored["prompt_tokens"] + stored["tokens"]
    assert [i for i, size in enumerate(data["lanes"][1]["numbers"]["edit"]) if size] == [
        len(stored["prompt_tokens"]) - 1
    ]


def test_next_walks_through_the_filtered_questions(whole: Path, monkeypatch: Patch) -> None:
    app = show("compare", whole, monkeypatch, cmp_show="helped")
    store = Store(whole).open("fake")
    right = {a: store.table(arms=[a], split="standard-test")["correct"].to_pylist() for a in ("base_bare", "steered")}
    both = zip(right["base_bare"], right["steered"], strict=True)
    helped = [f"standard-test-{i:03d}" for i, (before, after) in enumerate(both) if after and not before]
    app.selectbox(key="cmp_item").select(helped[0]).run()
    seen = [helped[0]]
    while not app.button(key="cmp_after").disabled:
        app.button(key="cmp_after").click().run()
        assert not app.exception
        seen.append(app.selectbox(key="cmp_item").value)
    assert seen == helped


def test_a_link_restores_the_whole_view(whole: Path, monkeypatch: Patch) -> None:
    view = {
        "run": "fake",
        "cmp_split": "hard-test",
        "cmp_a": "random",
        "cmp_b": "thinking",
        "cmp_metric": "entropy",
        "cmp_item": "hard-test-007",
        "cmp_show": "all",
        "cmp_tok": "b3",
        "cmp_mode": "fork",
        "cmp_q": "edit>0",
    }
    app = show("compare", whole, monkeypatch, **view)
    assert not app.exception
    assert not app.warning
    assert {key: linked(app, key) for key in view} == view
    (data,) = traces(app)
    assert data["view"] == {"tok": "b3", "metric": "entropy", "mode": "fork", "q": "edit>0"}
    assert [lane["label"] for lane in data["lanes"]] == ["Base + random vector", "Thinking model"]


def test_a_link_to_a_filter_opens_its_first_question(whole: Path, monkeypatch: Patch) -> None:
    app = show("compare", whole, monkeypatch, cmp_a="base_bare", cmp_b="random", cmp_show="hurt")
    assert not app.exception
    first = traces(app)[0]["lanes"]
    assert [lane["verdict"]["mark"] for lane in first] in (["✓", "✗"], ["✓", "?"])


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("cmp_b", "arm9", "names right arm arm9"),
        ("cmp_split", "x*y", "names split x*y"),
        ("cmp_item", "standard-test-999", "names question standard-test-999"),
    ],
)
def test_a_stale_part_of_a_link_is_named(key: str, value: str, words: str, whole: Path, monkeypatch: Patch) -> None:
    app = show("compare", whole, monkeypatch, **{key: value})
    assert not app.exception
    assert words in app.warning[0].value.replace("\\", "")
    assert "Shown instead" in app.warning[0].value


def test_an_arm_without_rows_says_so(tmp_path: Path, monkeypatch: Patch) -> None:
    run = make_fake_run(tmp_path / "all", 4)
    rows = [row for row in run.table().to_pylist() if row["arm"] != "steered"]
    Store(tmp_path / "part").create(run.manifest).write(rows)
    app = show("compare", tmp_path / "part", monkeypatch)
    assert not app.exception
    assert "No rows of arm Base + reasoning vector" in said(app)
    assert not show("results", tmp_path / "part", monkeypatch).exception


def test_the_pages_import_no_torch() -> None:
    names = ("context", "library", "figures", "arm_table", "trace_section", "saving", "components.trace", "launch")
    modules = ", ".join(f"app.{name}" for name in names)
    script = f"import sys, {modules}; print(sorted(m for m in sys.modules if m in ('torch', 'transformers')))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_server_listens_on_this_machine_only_and_sends_nothing(tmp_path: Path) -> None:
    line = command(8765, open_browser=False)
    for flag in ("--server.address=127.0.0.1", "--browser.gatherUsageStats=false", "--server.fileWatcherType=none"):
        assert flag in line
    assert "--server.port=8765" in line
    assert "--server.headless=true" in line
    assert environment(tmp_path)["STEERING_RUNS"] == str(tmp_path.resolve())


def changed(root: Path, change: Any, **facts: Any) -> Path:
    """A store with the fake run, every row as `change` makes it; `facts` replace those of the manifest."""
    run = make_fake_run(root / "before", 4)
    manifest = run.manifest.model_copy(update={"facts": {**run.manifest.facts, **facts}})
    rows = [change(dict(row)) for row in run.table().to_pylist()]
    fresh = Store(root / "after").create(manifest)
    fresh.write(rows)
    fresh.set_status("complete")
    return root / "after"


def test_compare_shows_a_run_with_one_arm_by_itself(tmp_path: Path, monkeypatch: Patch) -> None:
    run = make_fake_run(tmp_path / "all", 4)
    alone = run.manifest.model_copy(update={"arms": run.manifest.arms[:1]})
    rows = [row for row in run.table().to_pylist() if row["arm"] == alone.arms[0].name]
    Store(tmp_path / "one").create(alone).write(rows)
    app = show("compare", tmp_path / "one", monkeypatch)
    assert not app.exception
    assert "single arm" in said(app)
    (data,) = traces(app)
    assert len(data["lanes"]) == 1
    assert app.button(key="cmp_after").disabled is False


def test_rows_without_tokens_are_shown_as_text(tmp_path: Path, monkeypatch: Patch) -> None:
    lists = ("prompt_ids", "token_ids", "prompt_tokens", "tokens", "logprob", "entropy", "top_ids", "top_tokens")
    empty = {name: [] for name in (*lists, "top_logprob", "edit_ratio", "labels")}
    runs = changed(tmp_path, lambda row: {**row, **empty, "edits_planned": 0, "edits_fired": 0})
    app = show("compare", runs, monkeypatch)
    assert not app.exception
    assert "stored as text" in said(app)
    (data,) = traces(app)
    assert all(lane["text"] for lane in data["lanes"])
    assert data["scales"] == {}


def test_arms_of_different_tokenisers_are_aligned_by_text_and_marked(tmp_path: Path, monkeypatch: Patch) -> None:
    runs = changed(tmp_path, lambda row: row, tokenizers={"base": "1" * 16, "thinking": "2" * 16})
    app = show("compare", runs, monkeypatch, cmp_b="thinking")
    assert not app.exception
    assert "different tokenisers" in said(app)
    assert traces(app)[0]["by_text"]
    same = show("compare", runs, monkeypatch, cmp_b="steered")
    assert not traces(same)[0]["by_text"]


def test_stale_parts_of_the_view_are_named(whole: Path, monkeypatch: Patch) -> None:
    app = show("compare", whole, monkeypatch, cmp_tok="b9999", cmp_metric="kl", cmp_mode="x*y")
    assert not app.exception
    words = app.warning[0].value.replace("\\", "")
    for part in (
        "token b9999",
        "KL along the steered trace: not computed yet",
        "mode x*y",
        "Shown instead: tint log-probability",
    ):
        assert part in words
    assert linked(app, "cmp_metric") == "logprob"
    assert "cmp_tok" not in app.query_params


def test_kl_is_offered_with_its_command_and_shown_where_it_is_stored(tmp_path: Path, monkeypatch: Patch) -> None:
    run = make_fake_run(tmp_path, 4)
    row = run.trace(run.table(["key"], arms=["steered"], split="standard-test").to_pylist()[0]["key"])
    app = show("compare", tmp_path, monkeypatch)
    assert f"steer trace kl fake {row['key']}" in said(app)
    n = len(row["token_ids"])
    write_kl(run, row, {"divergence": [0.5] * n, "logprob": [0.0] * n, "unsteered_logprob": [0.0] * n})
    app = show("compare", tmp_path, monkeypatch, cmp_metric="kl")
    assert not app.exception
    assert not app.warning
    assert "steer trace kl" not in said(app)
    assert traces(app)[0]["lanes"][1]["numbers"]["kl"] == [0.5] * n
    path = run.folder / "kl" / f"{row['key']}.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    app = show("compare", tmp_path, monkeypatch)
    assert not app.exception
    assert "KL is left out" in said(app)
