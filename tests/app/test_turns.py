"""A conversation in the Playground: what is fed is what the command line feeds, one turn can be steered alone, and it goes on."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from streamlit.testing.v1 import AppTest

from app import turn_fields
from app.jobs.board import Board
from experiments.live.edits import Edit
from experiments.live.request import STEERED, UNSTEERED, LiveRequest
from experiments.live.run import Engine
from experiments.live.saving import save_live
from experiments.store.runs import Store
from experiments.tasks.task import resolve_task
from experiments.tasks.turn import Turn
from steering.errors import BadInput
from steering.model.models import load_model
from steering.plan.span import Span
from tests.app.test_playground import board, show
from tests.chat_model import save_chat_model
from tests.experiments.command_line import command
from tests.tiny import vector

__all__ = ["board"]
Patch = pytest.MonkeyPatch
SAID = (("system", "Be brief."), ("user", "What is 2+2?"), ("assistant", "4"), ("user", "And 3+3?"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with a chat template, and a vector."""
    place = tmp_path_factory.mktemp("chat")
    save_chat_model(place / "model")
    vector(1).save(place / "v.safetensors")
    return place


def request(folder: Path, span: str = "generated", **more: Any) -> LiveRequest:
    own = vector(1)
    edit = Edit(vector=own.digest, vector_name=own.name, site=own.site.name, span=span, amount=0.5, unit="vector")
    given = {
        "turns": tuple(Turn(role=role, content=text) for role, text in SAID),  # type: ignore[arg-type]
        "model": str(folder / "model"), "edits": (edit,), "files": {own.digest: str(folder / "v.safetensors")}, "max_new_tokens": 6,
    }  # fmt: skip
    return LiveRequest(**{**given, **more})


def rows(found: list[dict[str, Any]], arm: str) -> list[dict[str, Any]]:
    return [row for row in found[-1]["rows"] if row["arm"] == arm]


@pytest.mark.parametrize("switch", [None, False])
def test_the_app_the_command_line_the_spec_and_the_code_feed_the_same(
    switch: bool | None, folder: Path, tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = request(folder, switch=switch)
    found = list(Engine().run(asked.model_dump(), lambda: False))
    model = load_model(str(folder / "model"))
    options = {} if switch is None else {"enable_thinking": switch}
    told = [{"role": role, "content": text} for role, text in SAID]
    want = model.tokenizer.apply_chat_template(
        told, tokenize=True, add_generation_prompt=True, return_dict=False, **options
    )
    assert rows(found, UNSTEERED)[0]["prompt_ids"] == list(want)
    code, out, err = command(monkeypatch, capsys)(*shlex.split(asked.as_command())[1:], "--json")
    assert code == 0, err
    texts = [rows(found, arm)[0]["text"] for arm in (UNSTEERED, STEERED)]
    assert [document["text"] for document in json.loads(out)] == texts
    scope: dict[str, Any] = {}
    exec(asked.as_python(), scope)
    made = scope["generate"](scope["model"], scope["rows"], scope["GenerationSettings"](6))
    assert [list(row.token_ids) for row in made] == [rows(found, arm)[0]["token_ids"] for arm in (UNSTEERED, STEERED)]
    from experiments.evaluation.evaluate import run_evaluation
    from experiments.evaluation.spec_files import load_spec

    (tmp_path / "spec.yaml").write_text(asked.as_yaml())
    spec, vectors = load_spec(tmp_path / "spec.yaml", [], None)
    run = run_evaluation(spec, Store(tmp_path / "yaml"), vectors)
    receipt = next(event for event in found if event["kind"] == "receipt")
    saved = save_live(Store(tmp_path / "app"), found[-1], receipt, asked.files)
    assert saved.table().to_pylist() == run.table().to_pylist()
    assert not saved.table().to_pylist()[0]["scorable"]


def test_one_turn_is_steered_alone(folder: Path) -> None:
    spans = turn_fields.spans_of(SAID)
    (span,) = [span for span, name in spans.items() if name.startswith("turn 2")]
    Span.parse(span)
    (row,) = rows(list(Engine().run(request(folder, span).model_dump(), lambda: False)), STEERED)
    edited = "".join(row["prompt_tokens"][place] for place, size in enumerate(row["edit_ratio"]) if size > 0)
    assert edited == "What is 2+2?"
    names = turn_fields.spans_of((("user", "yes"), ("assistant", "yes it is"), ("user", "x" * 401), ("user", "")))
    assert names == {
        'text:"yes"': "turn 1, user, and wherever its text stands", 'text:"yes it is"': "turn 2, assistant",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prompt": "too"}, "one of them"),
        ({"turns": (Turn(role="assistant", content="hm"),)}, "needs a user's turn"),
        ({"turns": (Turn(role="user", content="a"), Turn(role="system", content="b"))}, "comes first"),
        ({"turns": (Turn(role="user", content=" "),)}, "says nothing"),
        ({"turns": (), "prompt": "a", "switch": True}, "belongs to a conversation"),
    ],
)
def test_what_is_no_conversation_is_refused_without_a_model(folder: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        request(folder, **more)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"turns": "hello"}, "a list of"),
        ({"turns": [{"role": "robot", "content": "a"}]}, r"task.turns.role"),
        ({"turns": [{"role": "user", "content": "a"}], "thinking": "maybe"}, "true or false"),
        ({"turns": [{"role": "user", "content": "a"}], "more": 1}, "more"),
    ],
)
def test_a_spec_that_is_no_conversation_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        resolve_task({"dataset": "conversation", **spec})


def test_a_link_holds_the_conversation_and_run_asks_it(board: Board, tmp_path: Path, monkeypatch: Patch) -> None:
    told = turn_fields.write(SAID)
    assert turn_fields.read(told) == list(SAID)
    app = show("playground", tmp_path, monkeypatch, pg_kind="conversation", pg_turns=told, pg_switch="off")
    assert not app.exception
    assert [area.value for area in app.text_area if area.key.startswith("pg_says_")] == [text for _, text in SAID]
    app.button(key="pg_run").click().run()
    job = board.get(app.session_state["pg_job"])
    assert job is not None and not app.exception
    assert [(turn["role"], turn["content"]) for turn in job.request["turns"]] == list(SAID)
    assert job.request["switch"] is False and job.request["prompt"] is None
    assert json.loads("".join(app.query_params["pg_turns"])) == [list(turn) for turn in SAID]
    again = show("playground", tmp_path, monkeypatch, pg_job=job.id)
    assert [area.value for area in again.text_area if area.key.startswith("pg_says_")] == [text for _, text in SAID]


@pytest.mark.parametrize("told", ["no json", '[["robot","a"]]', '[["user"]]', '{"a":1}'])
def test_a_link_whose_conversation_cannot_be_read_says_so(
    told: str, board: Board, tmp_path: Path, monkeypatch: Patch
) -> None:
    app = show("playground", tmp_path, monkeypatch, pg_kind="conversation", pg_turns=told)
    assert not app.exception and "cannot be read" in app.warning[0].value


def _with(app: AppTest) -> list[tuple[str, str]]:
    state = app.session_state
    return [(state[f"pg_role_{number}"], state[f"pg_says_{number}"]) for number in state["pg_turn_numbers"]]


def test_turns_are_added_removed_and_written_anew(board: Board, tmp_path: Path, monkeypatch: Patch) -> None:
    app = show("playground", tmp_path, monkeypatch, pg_kind="conversation", pg_turns=turn_fields.write(SAID))
    app.button(key="pg_turn_add").click().run()
    assert _with(app) == [*SAID, ("assistant", "")]
    app.button(key=f"pg_drop_{app.session_state['pg_turn_numbers'][-1]}").click().run()
    assert _with(app) == list(SAID)
    app.button(key=f"pg_anew_{app.session_state['pg_turn_numbers'][2]}").click().run()
    assert _with(app) == list(SAID[:2]) and not app.exception
    job = board.get(app.session_state["pg_job"])
    assert job is not None and len(job.request["turns"]) == 2
