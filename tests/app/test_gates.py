"""Gates of the Playground's form: the same request in the address, the plan, the command, the YAML file and the Python code, and a receipt
that says what the gate let through."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app import stack
from app.stack import Card
from app.vector_files import offered
from experiments.evaluation.evaluate import run_evaluation
from experiments.evaluation.spec_files import load_spec
from experiments.live.receipt import NEVER
from experiments.live.request import STEERED, LiveRequest
from experiments.live.run import Engine
from experiments.store.runs import Store
from steering.errors import BadInput
from tests.experiments.command_line import Steer, command

steer = pytest.fixture(command)
VECTORS = offered("none")
CHECKING = next(d for d, v in VECTORS.items() if v.name == "checking")
OTHER = next(d for d, v in VECTORS.items() if v.name.startswith("think-first"))
CARDS = {
    "own": Card(vector=CHECKING, span="generated", gate="projection", threshold=-3.0),
    "below": Card(vector=CHECKING, span="generated", gate="cosine", threshold=0.1, below=True),
    "entropy": Card(vector=CHECKING, span="generated", gate="entropy", threshold=0.05),
    "another": Card(vector=OTHER, span="generated", gate="projection", threshold=0.0, gate_vector=CHECKING),
}


def asked(card: Card, **more: Any) -> LiveRequest:
    edit = card.edit(VECTORS)
    files = {digest: str(VECTORS[digest].path) for digest in edit.vectors}
    return LiveRequest(
        **{
            "item": "standard-test/00000",
            "form": "think",
            "edits": (edit,),
            "files": files,
            "max_new_tokens": 40,
            **more,
        }
    )


def lanes(request: LiveRequest) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    events = list(Engine().run(request.model_dump(), lambda: False))
    return [event["text"] for event in events if event["kind"] == "end"], events[-2], events[-1]


@pytest.mark.parametrize("name", CARDS)
def test_a_gated_card_is_the_same_everywhere(name: str, steer: Steer, tmp_path: Path) -> None:
    card = CARDS[name]
    assert stack.read(str(stack.write([card, Card(vector=CHECKING)]))) == [card, Card(vector=CHECKING)]
    request = asked(card)
    assert stack.card_of(request.edits[0].facts(), VECTORS) == card
    texts, receipt, result = lanes(request)
    assert receipt["ok"] and receipt["gated"] and 0 < receipt["fired"] < receipt["planned"], receipt
    words = shlex.split(request.as_command())
    code, out, error = steer(*words[1:], "--json")
    assert code == 0, error
    assert [document["text"] for document in json.loads(out)] == texts
    (tmp_path / "spec.yaml").write_text(request.as_yaml())
    spec, vectors = load_spec(tmp_path / "spec.yaml", [], None)
    rows = {
        row["arm"]: row["token_ids"]
        for row in run_evaluation(spec, Store(tmp_path / "runs"), vectors).table().to_pylist()
    }
    assert rows == {row["arm"]: row["token_ids"] for row in result["rows"]}
    scope: dict[str, Any] = {}
    exec(request.as_python(), scope)
    made = scope["generate"](scope["model"], scope["rows"], scope["GenerationSettings"](40))
    assert list(made[-1].token_ids) == rows[STEERED]


def test_a_gate_that_never_opens_is_amber_and_the_text_the_unsteered_one() -> None:
    texts, receipt, _ = lanes(asked(replace(CARDS["own"], threshold=1e6)))
    assert receipt["ok"] and receipt["fired"] == 0 and NEVER in receipt["warnings"] and texts[0] == texts[1]


def test_what_a_gate_cannot_be_is_refused() -> None:
    for gate in ('"luck",1,0,""', '"entropy",1e999,0,""', '"entropy",1'):
        link = f'[["add","%s",-1,1,"vector","generated",0,{gate}]]'
        with pytest.raises(BadInput):
            stack.read(link % CHECKING)
    with pytest.raises(BadInput, match="gate"):
        replace(CARDS["another"], gate_vector="0" * 16).edit(VECTORS)
    with pytest.raises(BadInput, match="covers others too"):
        replace(CARDS["entropy"], span="all").edit(VECTORS)
    with pytest.raises(BadInput, match="lies behind the edit"):
        replace(CARDS["another"], layer=0).edit(VECTORS)
    with pytest.raises(ValueError, match="needs a"):
        LiveRequest(
            prompt="a",
            edits=({**asked(CARDS["own"]).edits[0].model_dump(), "gate": {"kind": "cosine", "threshold": 0}},),
        )  # type: ignore[arg-type]
