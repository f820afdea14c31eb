"""The Playground and the Jobs page without a browser, and what they are made from.

1. Neither page ever shows a traceback: empty store, stored run, a job that runs, a job that failed, a link that cannot be read.
2. What "Copy as" says gives the same tokens as the app, by the command line and as a run that is stored.
3. Files that a reader gives are taken only when they are what they say.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from streamlit.testing.v1 import AppTest

from app import stack
from app.jobs.board import Board, replace_board
from app.jobs.job import Job
from app.stack import Card
from app.unknown_words import fed_of
from app.vector_files import offered
from experiments.live.edits import Edit
from experiments.live.request import STEERED, UNSTEERED, LiveRequest
from experiments.live.saving import save_live
from experiments.store.runs import Store
from tests.experiments.command_line import command
from tests.experiments.fake_run import HOSTILE, make_fake_run

ROOT = Path(__file__).resolve().parents[2]
THINK_FIRST = next(v.digest for v in offered("nowhere").values() if v.path.name == "think-first.safetensors")
Patch = pytest.MonkeyPatch


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board("tests.app.fake_engine:Engine", tmp_path / "ledger")
    replace_board(made)
    yield made
    replace_board(None)
    made.close()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    make_fake_run(folder, 4)
    return folder


def show(page: str, runs: Path, monkeypatch: Patch, **query: str) -> AppTest:
    monkeypatch.setenv("STEERING_RUNS", str(runs))
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    return app.switch_page(f"app_pages/{page}.py").run()


def said(app: AppTest) -> str:
    kinds = ("markdown", "caption", "text", "info", "warning", "error", "subheader", "code")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind)).replace("\\", "")


def live(app: AppTest) -> dict[str, Any]:
    """What the live component was given."""
    return [json.loads(e.proto.mixed.json or e.proto.json) for e in app.get("bidi_component")][-1]


def request(**more: Any) -> LiveRequest:
    vector = offered("none")[THINK_FIRST]
    edit = Edit(
        vector=vector.digest,
        vector_name=vector.name,
        site=vector.site.name,
        span="last_prompt",
        amount=1.0,
        unit="vector",
    )
    return LiveRequest(
        **{"item": "standard-test/00000", "edits": (edit,), "files": {vector.digest: str(vector.path)}, **more}
    )


def running(board: Board) -> Job:
    job = board.get(board.submit_generation({"prompt": "a 400 slow", "max_new_tokens": 400}, "slow one", "somebody"))
    assert job
    wait(lambda: job.state == "running")
    return job


def failed(board: Board) -> Job:
    job = board.get(board.submit_generation({"prompt": "a memory"}, f"broken {HOSTILE[0]}", "somebody"))
    assert job
    wait(lambda: job.over)
    return job


def wait(ready: Any) -> None:
    end = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.01)


# ---- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["playground", "jobs"])
@pytest.mark.parametrize("kind", ["empty", "stored"])
@pytest.mark.parametrize("work", [None, running, failed])
def test_the_pages_stand_over_every_state(
    page: str, kind: str, work: Any, board: Board, stored: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    job = work(board) if work else None
    query = {"pg_job": job.id} if job and page == "playground" else {}
    app = show(page, stored if kind == "stored" else tmp_path / "none", monkeypatch, **query)
    assert not app.exception
    assert len(app.subheader) == 1
    text = said(app)
    for markup in HOSTILE:
        assert markup not in "".join(e.value for k in ("markdown", "caption", "error") for e in getattr(app, k))
    if page == "jobs":
        assert ("Nothing has run yet" in text) == (job is None)
        if work is running:
            assert "slow one" in text
            assert "from another browser" in text
            assert app.button(key=f"cancel_{job.id}").disabled
        if work is failed:
            assert "not enough memory" in text
            assert "MemoryError" in app.code[-1].value
    elif job is None:
        assert ("steer demo" in text) == (kind == "empty")
        if kind == "stored":
            assert live(app)["events"][-1]["kind"] == "receipt"
    else:
        assert live(app)["url"] == f"/steer/jobs/{job.id}"
        assert live(app)["yours"] is False
        assert live(app)["ended"] is (work is failed)


def test_run_queues_what_the_fields_say_and_the_link_names_it(board: Board, tmp_path: Path, monkeypatch: Patch) -> None:
    app = show("playground", tmp_path, monkeypatch, pg_number="7", pg_form="think", pg_tokens="33")
    assert not app.exception
    app.button(key="pg_run").click().run()
    assert not app.exception
    (job,) = board.jobs()
    assert (job.request["item"], job.request["form"], job.request["max_new_tokens"]) == (
        "standard-test/00007",
        "think",
        33,
    )
    assert [edit["vector"] for edit in job.request["edits"]] == [THINK_FIRST]
    assert live(app)["yours"] is True
    link = {key: value if isinstance(value, str) else value[0] for key, value in app.query_params.items()}
    assert link["pg_job"] == job.id
    assert (link["pg_number"], link["pg_form"], link["pg_tokens"]) == ("7", "think", "33")
    again = show("playground", tmp_path, monkeypatch, **link)
    assert live(again)["id"] == job.id
    assert stack.read(link["pg_stack"]) == [Card(vector=THINK_FIRST)]


def test_a_link_to_a_job_alone_fills_the_fields_with_what_it_asked(
    board: Board, tmp_path: Path, monkeypatch: Patch
) -> None:
    asked = request(item="hard-test/00012", form="think", max_new_tokens=44, thinking="builtin:thinking")
    job = board.submit_generation(asked.model_dump(), "opened", "somebody")
    app = show("playground", tmp_path, monkeypatch, pg_job=job)
    assert not app.exception
    assert live(app)["id"] == job
    app.button(key="pg_run").click().run()
    again = board.jobs()[0]
    assert again.id != job
    assert LiveRequest.model_validate(again.request) == asked


def test_copies_and_link_say_what_the_form_says_now(board: Board, tmp_path: Path, monkeypatch: Patch) -> None:
    app = show("playground", tmp_path, monkeypatch)
    strength = next(s for s in app.slider if s.label == "Strength")
    strength.set_value(2.0).run()
    app.number_input(key="pg_number").set_value(3).run()
    app.slider(key="pg_tokens").set_value(55).run()
    texts = [code.value for code in app.code]
    assert sum("2.0v" in text for text in texts) == 3, "the command, the spec and the code"
    assert any(
        "amount: 2.0" in text and "standard-test/00003" in text and "max_new_tokens: 55" in text for text in texts
    )
    link = {key: value if isinstance(value, str) else value[0] for key, value in app.query_params.items()}
    assert [card.strength for card in stack.read(link["pg_stack"])] == [2.0]
    assert (link["pg_number"], link["pg_tokens"]) == ("3", "55")


def test_a_link_names_every_field_also_those_at_their_defaults(board: Board, stored: Path, monkeypatch: Patch) -> None:
    app = show("playground", stored, monkeypatch)
    app.number_input(key="pg_number").set_value(0).run()
    while removable := [b for b in app.button if b.label == "Remove"]:
        removable[0].click().run()
    link = {key: value if isinstance(value, str) else value[0] for key, value in app.query_params.items()}
    assert (link["pg_number"], link["pg_stack"]) == ("0", "[]")
    again = show("playground", stored, monkeypatch, **link)
    assert again.number_input(key="pg_number").value == 0
    assert [b for b in again.button if b.label == "Remove"] == []


def test_a_prompt_that_a_link_cannot_hold_is_left_out_and_that_is_said(
    board: Board, tmp_path: Path, monkeypatch: Patch
) -> None:
    app = show("playground", tmp_path, monkeypatch, pg_kind="own prompt", pg_stack="[]")
    app.text_area(key="pg_prompt").set_value("start 1 ; " * 300).run()
    assert "pg_prompt" not in app.query_params
    assert "link leaves this prompt out" in said(app)
    assert any("start 1 ; " * 299 in code.value for code in app.code)


def test_a_prompt_is_shown_in_tokens_as_it_is_fed(board: Board, tmp_path: Path, monkeypatch: Patch) -> None:
    app = show("playground", tmp_path, monkeypatch, pg_kind="own prompt")
    app.text_area(key="pg_prompt").set_value("start 3 ; hello *there* ?").run()
    (fed,) = [m.value for m in app.markdown if "tokens as fed" in m.value]
    assert "7 tokens as fed" in fed.replace("\\", "") and "2 of them unknown" in fed
    assert fed.count(":gray-background") == 5 and fed.count(":red-background") == 2, (
        "the beginning token is one of them"
    )
    assert ":gray-background[:small[start]]" in fed and "\\*there\\*" in fed, "text stays text"
    app.text_area(key="pg_prompt").set_value("start 3 ; " * 200).run()
    (fed,) = [m.value for m in app.markdown if "tokens as fed" in m.value]
    assert "481 more" in fed and fed.count("-background") == 120
    assert fed_of("no/such-model", "text") is None


@pytest.mark.parametrize(("text", "piece"), [("What is the capital of France?", "'France?'"), ("你好", "'你好'")])
def test_text_that_the_model_does_not_know_is_said_before_it_runs(
    board: Board, tmp_path: Path, monkeypatch: Patch, text: str, piece: str
) -> None:
    app = show("playground", tmp_path, monkeypatch, pg_kind="own prompt")
    app.text_area(key="pg_prompt").set_value(text).run()
    assert not app.exception
    (warning,) = [w.value.replace("\\", "") for w in app.warning]
    assert piece in warning and "unknown token" in warning and "builtin:base does not know" in warning
    assert board.jobs() == []
    app.text_area(key="pg_prompt").set_value("start 3 ; + 4 ; ?").run()
    assert not app.warning


def test_a_receipt_and_a_stored_run_warn_of_what_the_model_did_not_know(tmp_path: Path, monkeypatch: Patch) -> None:
    from experiments.live.run import Engine

    events = list(
        Engine().run(request(item=None, prompt="start 3 ; hello", max_new_tokens=4).model_dump(), lambda: False)
    )
    kinds = [event["kind"] for event in events]
    lanes, receipt = events[kinds.index("lanes")], events[-2]
    assert kinds.index("lanes") < kinds.index("token")
    assert lanes["warnings"] == receipt["warnings"]
    assert "'hello'" in receipt["warnings"][0]
    run = save_live(Store(tmp_path), events[-1], receipt, request().files)
    assert run.manifest.facts["warnings"] == receipt["warnings"]
    monkeypatch.setenv("STEERING_RUNS", str(tmp_path))
    shown = (
        AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
        .run()
        .switch_page("app_pages/results.py")
        .run()
    )
    assert "hello" in shown.warning[0].value
    from experiments.report import write_report

    write_report(run, tmp_path / "report", ["html"])
    assert "does not know" in (tmp_path / "report" / "report.html").read_text()
    known = list(Engine().run(request(max_new_tokens=4).model_dump(), lambda: False))
    assert known[-2]["warnings"] == []


def test_interventions_are_added_and_removed(board: Board, tmp_path: Path, monkeypatch: Patch) -> None:
    app = show("playground", tmp_path, monkeypatch)
    app.button(key="pg_add").click().run()
    assert not app.exception
    assert len([b for b in app.button if b.label == "Remove"]) == 2
    for _ in range(2):
        next(b for b in app.button if b.label == "Remove").click().run()
    assert not app.exception
    app.button(key="pg_run").click().run()
    assert board.jobs()[0].request["edits"] == ()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"pg_stack": "[["}, "interventions of this link cannot be read"),
        (
            {"pg_stack": '[["add","0000000000000000",-1,1,"vector","last_prompt",0]]'},
            "vector 0000000000000000, which is not here",
        ),
        ({"pg_stack": f'[["add","{THINK_FIRST}",-1,1,"vector","lst_prompt",0]]'}, "lst_prompt"),
        ({"pg_temp": "nan"}, "temperature nan"),
        ({"pg_split": "<b>x</b>"}, "split <b>x</b>"),
        ({"pg_job": "gone"}, "not kept by this server any more"),
    ],
)
def test_what_a_link_cannot_mean_is_named(
    query: dict[str, str], words: str, board: Board, tmp_path: Path, monkeypatch: Patch
) -> None:
    app = show("playground", tmp_path, monkeypatch, **query)
    assert not app.exception
    assert words in said(app)


def test_an_empty_prompt_and_a_vector_of_another_width_are_refused_before_a_run(
    board: Board, tmp_path: Path, monkeypatch: Patch
) -> None:
    app = show("playground", tmp_path, monkeypatch, pg_kind="own prompt")
    assert "prompt is empty" in said(app)
    app.button(key="pg_run").click().run()
    assert "Give at least one word" in said(app)
    assert board.jobs() == []
    narrow = tmp_path / "model"
    narrow.mkdir()
    (narrow / "config.json").write_text('{"hidden_size": 64, "num_hidden_layers": 2}')
    app = show("playground", tmp_path, monkeypatch, pg_model=str(narrow))
    assert "has width 128" in said(app)
    assert app.button(key="pg_run").disabled


# ---- the request and what is written from it ---------------------------------------------------------------------------


def test_a_request_refuses_what_cannot_run() -> None:
    wrong: list[dict[str, Any]] = [
        {"item": None},
        {"prompt": "both"},
        {"item": "standard-test/x"},
        {"form": "loud"},
        {"max_new_tokens": 0},
        {"top_k": 3},
        {"files": {}},
    ]
    for fields in wrong:
        with pytest.raises(ValidationError):
            request(**fields)


def test_the_command_line_the_yaml_and_the_code_give_the_tokens_of_the_app(
    tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.live.run import Engine

    asked = request(temperature=0.8, top_k=20, seed=3, max_new_tokens=60)
    events = list(Engine().run(asked.model_dump(), lambda: False))
    texts = {event["lane"]: event["text"] for event in events if event["kind"] == "end"}
    result = events[-1]
    words = shlex.split(asked.as_command())
    assert words[0] == "steer"
    code, out, err = command(monkeypatch, capsys)(*words[1:], "--json")
    assert code == 0, err
    assert [document["text"] for document in json.loads(out)] == [texts[0], texts[1]]
    (tmp_path / "spec.yaml").write_text(asked.as_yaml())
    from experiments.evaluation.evaluate import run_evaluation
    from experiments.evaluation.spec_files import load_spec

    spec, vectors = load_spec(tmp_path / "spec.yaml", [], None)
    run = run_evaluation(spec, Store(tmp_path / "yaml"), vectors)
    rows = {row["arm"]: row["token_ids"] for row in result["rows"]}
    assert {row["arm"]: row["token_ids"] for row in run.table().to_pylist()} == rows
    scope: dict[str, Any] = {}
    exec(asked.as_python(), scope)
    made = scope["generate"](scope["model"], scope["rows"], scope["GenerationSettings"](60, 0.8, 20))
    assert [list(row.token_ids) for row in made] == [rows[UNSTEERED], rows[STEERED]]
    saved = save_live(Store(tmp_path / "app"), result, events[-2], asked.files)
    assert saved.manifest.run_id == run.manifest.run_id
    assert saved.table().to_pylist() == run.table().to_pylist()
    assert saved.manifest.status == "complete"
