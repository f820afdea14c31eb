"""What is done from a token of a text: what it keeps, whom it steers, and that the command line, the spec and the code write the same."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.stack import Card
from app.token_actions import acted, from_here, until_here, with_token
from app.vector_files import offered
from experiments.live.edits import Edit
from experiments.live.outcomes import outcomes
from experiments.live.request import STEERED, UNSTEERED, LiveRequest
from experiments.live.run import Engine
from experiments.live.saving import save_live
from experiments.statistics import wilson
from experiments.store.runs import Store
from steering.plan.span import Span
from tests.experiments.command_line import command

VECTOR = next(v for v in offered("nowhere").values() if v.path.name == "think-first.safetensors")
Event = dict[str, Any]


def request(span: str = "last_prompt", amount: float = 1.0, **more: Any) -> LiveRequest:
    edit = Edit(
        vector=VECTOR.digest, vector_name=VECTOR.name, site=VECTOR.site.name, span=span, amount=amount, unit="vector"
    )
    given = {"item": "standard-test/00000", "edits": (edit,), "files": {VECTOR.digest: str(VECTOR.path)}}
    return LiveRequest(**{**given, **more})


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def events(engine: Engine, asked: LiveRequest) -> list[Event]:
    return list(engine.run(asked.model_dump(), lambda: False))


def rows(found: list[Event], arm: str) -> list[Event]:
    return [row for row in found[-1]["rows"] if row["arm"] == arm]


# ---- spans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "place", "found"),
    [
        ("generated", 3, "after_n:2"),
        ("last_prompt", 3, "window:2:3"),
        ("last_prompt", 0, "last_prompt"),
        ("all", 1, "all & after_n:0"),
        ('text:"goal" - sinks', 2, "window:1:2"),
    ],
)
def test_steering_from_here_edits_from_the_token_before(span: str, place: int, found: str) -> None:
    assert from_here(span, place) == found
    Span.parse(found)


@pytest.mark.parametrize(
    ("span", "place", "found"),
    [
        ("generated", 3, "first_n:2"),
        ("generated", 1, None),
        ("generated", 0, None),
        ("last_prompt", 3, "last_prompt"),
        ("last_prompt", 0, None),
        ("all", 3, "all - after_n:2"),
        ("all", 0, "all - (last_prompt | generated)"),
    ],
)
def test_stopping_here_leaves_what_was_steered_before(span: str, place: int, found: str | None) -> None:
    assert until_here(span, place) == found
    if found:
        Span.parse(found)


def test_a_token_joins_a_span() -> None:
    assert with_token("last_prompt", 3, 10) == "last_prompt | position:3"
    assert with_token("last_prompt", 12, 10) == "last_prompt | window:2:3"


# ---- actions ----------------------------------------------------------------------------------------------------------


def told(prompt: int, ids: list[int]) -> list[Event]:
    lanes = [{"prompt": ["x"] * prompt}, {"prompt": ["x"] * prompt}]
    return [{"kind": "lanes", "lanes": lanes}, *({"kind": "token", "lane": 1, "id": i} for i in ids)]


def test_actions_say_what_the_form_is_set_to() -> None:
    found, card = told(4, [7, 8, 9]), Card(vector=VECTOR.digest, span="generated")
    act = {"lane": 1, "position": 5}
    fields, cards, said = acted({**act, "do": "swap", "token": 33}, found, [card])
    assert (fields["pg_begun"], fields["pg_samples"], cards, said) == ("7,33", 1, [card], "")
    fields, _, _ = acted({**act, "do": "resample"}, found, [card])
    assert (fields["pg_begun"], fields["pg_samples"], fields["pg_warm"]) == ("7", 8, 1.0)
    _, cards, _ = acted({**act, "do": "from"}, found, [card])
    assert [one.span for one in cards] == ["after_n:0"]
    _, cards, _ = acted({**act, "do": "until"}, found, [card])
    assert cards == []
    fields, cards, _ = acted({**act, "do": "span"}, found, [card])
    assert not fields and cards[0].span == "generated | window:1:2"


def test_what_cannot_be_done_is_said() -> None:
    found = told(4, [7])
    for do in ("from", "span"):
        fields, cards, said = acted({"lane": 1, "position": 4, "do": do}, found, [])
        assert not fields and not cards and "intervention" in said
    assert acted({"lane": 1, "position": 1, "do": "resample"}, found, [])[2] == "Choose a token of the response."


# ---- what runs ---------------------------------------------------------------------------------------------------------


def test_a_text_that_goes_on_from_its_own_tokens_is_the_same_text(engine: Engine) -> None:
    for span, arm in (("last_prompt", STEERED), ("generated", STEERED), ("last_prompt", UNSTEERED)):
        (whole,) = rows(events(engine, request(span, 0.3)), arm)
        half = len(whole["token_ids"]) // 2
        again = events(engine, request(span, 0.3, begun=tuple(whole["token_ids"][:half])))
        (row,) = rows(again, arm)
        assert row["token_ids"] == whole["token_ids"] and row["edits_planned"] == whole["edits_planned"]
        assert row["logprob"] == pytest.approx(whole["logprob"], abs=2e-4)
        given = [event for event in again if event.get("begun") and event["lane"] == (arm == STEERED)]
        assert [event["id"] for event in given] == whole["token_ids"][:half]


def test_another_token_in_its_place_is_gone_on_from(engine: Engine) -> None:
    found = events(engine, request())
    third = [event for event in found if event["kind"] == "token" and event["lane"] == 1][2]
    other = next(token for token, _, _ in third["top"] if token != third["id"])
    assert third["top"][0][0] == third["id"] and len(third["top"]) == 5
    begun = (*rows(found, STEERED)[0]["token_ids"][:2], other)
    (row,) = rows(events(engine, request(begun=begun)), STEERED)
    assert tuple(row["token_ids"][:3]) == begun and len(row["token_ids"]) > 3


def test_steering_from_a_token_on_leaves_what_was_before_it_alone(engine: Engine) -> None:
    (plain,) = rows(events(engine, request("generated", 0.2, form="think")), UNSTEERED)
    begun = tuple(plain["token_ids"][:6])
    found = events(engine, request(from_here("generated", 6), 0.2, form="think", begun=begun))
    (row,) = rows(found, STEERED)
    edited = [place for place, size in enumerate(row["edit_ratio"]) if size > 0]
    assert edited[0] == len(row["prompt_ids"]) + 5
    assert rows(found, UNSTEERED)[0]["token_ids"] == plain["token_ids"]


def test_draws_are_counted_with_their_interval_and_stored_as_a_run(engine: Engine, tmp_path: Path) -> None:
    asked = request(temperature=1.0, samples=8, seed=5)
    found = events(engine, asked)
    counted = next(event for event in found if event["kind"] == "outcomes")["lanes"]
    for lane, arm in zip(counted, (UNSTEERED, STEERED), strict=True):
        own = rows(found, arm)
        right = sum(bool(row["correct"]) for row in own)
        share = wilson(right, 8)
        missing = sum(not row["scorable"] for row in own)
        assert lane["right"] == {"count": right, "of": 8, "low": share.low, "high": share.high, "ungraded": missing}
        assert sum(count for _, count in lane["said"]) == lane["texts"] == 8
        assert lane["distinct"] == len({tuple(row["token_ids"]) for row in own}) > 1
    receipt = next(event for event in found if event["kind"] == "receipt")
    assert receipt["ok"] and receipt["texts"] == 8 and receipt["fired"] == receipt["planned"] == 8
    run = save_live(Store(tmp_path), found[-1], receipt, asked.files)
    assert len(run.table()) == 16 and run.manifest.seeds == 8


def test_draws_of_an_own_prompt_are_told_by_how_they_go_on(engine: Engine) -> None:
    asked = request(item=None, prompt="rules + 1 ; goal 3", samples=3, temperature=1.0, max_new_tokens=6, begun=(5,))
    lane = next(event for event in events(engine, asked) if event["kind"] == "outcomes")["lanes"][0]
    assert lane["right"] is None and sum(count for _, count in lane["said"]) == 3


def test_the_command_line_the_spec_and_the_code_go_on_from_the_same_tokens(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = tuple(rows(events(engine, request()), STEERED)[0]["token_ids"][:4])
    asked = request(begun=begun, samples=3, temperature=0.9, seed=2, max_new_tokens=40)
    found = events(engine, asked)
    texts = [row["text"] for arm in (UNSTEERED, STEERED) for row in rows(found, arm)]
    words = shlex.split(asked.as_command())
    code, out, err = command(monkeypatch, capsys)(*words[1:], "--json")
    assert code == 0, err
    assert [document["text"] for document in json.loads(out)] == texts
    scope: dict[str, Any] = {}
    exec(asked.as_python(), scope)
    made = scope["generate"](scope["model"], scope["rows"], scope["GenerationSettings"](40, 0.9))
    ids = [row["token_ids"] for arm in (UNSTEERED, STEERED) for row in rows(found, arm)]
    assert [list(row.token_ids) for row in made] == ids
    from experiments.evaluation.evaluate import run_evaluation
    from experiments.evaluation.spec_files import load_spec

    (tmp_path / "spec.yaml").write_text(asked.as_yaml())
    spec, vectors = load_spec(tmp_path / "spec.yaml", [], None)
    run = run_evaluation(spec, Store(tmp_path / "yaml"), vectors)
    receipt = next(event for event in found if event["kind"] == "receipt")
    saved = save_live(Store(tmp_path / "app"), found[-1], receipt, asked.files)
    assert saved.manifest.run_id == run.manifest.run_id
    assert saved.table().to_pylist() == run.table().to_pylist()


def test_what_cannot_be_gone_on_from_is_refused_before_a_model_runs(engine: Engine) -> None:
    with pytest.raises(ValidationError, match="temperature above 0"):
        request(samples=2)
    with pytest.raises(ValidationError, match="give a larger one"):
        request(begun=(5, 5, 5), max_new_tokens=3)
    from steering.errors import BadInput

    ended = rows(events(engine, request(max_new_tokens=200)), UNSTEERED)[0]["token_ids"]
    with pytest.raises(BadInput, match="has ended"):
        events(engine, request(begun=tuple(ended)))


def test_the_command_refuses_what_are_no_ids(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = command(monkeypatch, capsys)
    code, _, err = run("generate", "--prompt", "a", "--begun", "1,x")
    assert code != 0 and "ids of tokens" in err
    code, _, err = run("generate", "--prompt", "a", "--seed", "1", "--seed", "2")
    assert code != 0 and "--temperature above 0" in err


@pytest.mark.parametrize("begun", ["135", "-1", "5000"])
def test_ids_that_are_no_tokens_are_refused(
    begun: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = command(monkeypatch, capsys)("generate", "--prompt", "rules + 1", f"--begun={begun}")
    assert code == 2 and "its tokenizer has ids 0 to 133" in " ".join(err.split())
    code, _, err = command(monkeypatch, capsys)("generate", "--prompt", "rules + 1", "--begun", "")
    assert code == 2 and "ids of tokens" in err


def test_a_text_without_a_grade_is_counted_as_not_right() -> None:
    row = {"token_ids": [1], "tokens": ["a"], "finish": "eos", "answer": "5", "scorable": True, "correct": True}
    cut = {
        **row,
        "token_ids": [2],
        "tokens": ["b"],
        "finish": "length",
        "answer": None,
        "scorable": False,
        "correct": False,
    }
    found = outcomes([row, row, cut, cut], 0)
    share = wilson(2, 4)
    assert found["right"] == {"count": 2, "of": 4, "low": share.low, "high": share.high, "ungraded": 2}
    assert found["said"] == [("5", 2), ("b", 2)] and (found["distinct"], found["ended"]) == (2, 2)


def test_rows_that_go_on_from_other_tokens_are_other_rows(engine: Engine) -> None:
    first, other = (rows(events(engine, request(begun=(token,), max_new_tokens=3)), UNSTEERED)[0] for token in (18, 19))
    assert first["key"] != other["key"] and first["prompt_ids"] == other["prompt_ids"]
