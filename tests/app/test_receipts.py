"""What a receipt says: red where a check failed, amber where the edit, the vector or the text is not what a reader would take it for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.live import run
from experiments.live.edits import Edit
from experiments.live.request import LiveRequest
from experiments.live.run import Engine
from experiments.live.saving import MARK, save_live
from experiments.store.runs import Store, StoreError
from steering.engine.generation import Row, generate
from steering.engine.predicted import greedily_written
from steering.engine.sampling import GenerationSettings
from steering.model.models import load_model
from steering.model.prompts import encode_prompt
from steering.model.sites import Site
from steering.vector.vectors import Provenance, SteeringVector
from tests.app.test_playground import request


def receipt_of(asked: LiveRequest) -> dict[str, Any]:
    return list(Engine().run(asked.model_dump(), lambda: False))[-2]


def with_edit(asked: LiveRequest, **change: Any) -> LiveRequest:
    return asked.model_copy(update={"edits": (asked.edits[0].model_copy(update=change),)})


def of_vector(path: Path, model: str, span: str = "last_prompt", amount: float = 1.0) -> LiveRequest:
    """A request that adds a vector which says that it is from that model."""
    direction = torch.randn(128, generator=torch.Generator().manual_seed(0))
    vector = SteeringVector("drawn", Site(1), direction, Provenance("test", model, model_id=model))
    vector.save(path)
    edit = Edit(
        vector=vector.digest,
        vector_name="drawn",
        site="blocks.1.hook_resid_post",
        span=span,
        amount=amount,
        unit="vector",
    )
    return LiveRequest(item="standard-test/00000", edits=(edit,), files={vector.digest: str(path)}, max_new_tokens=12)


def test_nothing_is_warned_of_where_edit_vector_and_text_are_as_they_should_be() -> None:
    receipt = receipt_of(request(max_new_tokens=100))
    assert receipt["ok"] is True and receipt["warnings"] == []


def test_an_edit_beyond_ten_times_the_activation_is_amber() -> None:
    receipt = receipt_of(with_edit(request(max_new_tokens=12), amount=80.0))
    assert receipt["max"] > 10 and any("times the activation" in text for text in receipt["warnings"]), receipt


def test_a_vector_of_another_model_is_amber(tmp_path: Path) -> None:
    receipt = receipt_of(of_vector(tmp_path / "v.safetensors", "somebody/else"))
    assert any("somebody/else" in text for text in receipt["warnings"]), receipt


def test_a_text_that_ends_in_a_loop_is_amber_and_names_its_lane() -> None:
    asked = request(max_new_tokens=60)
    for amount in (4.0, 8.0, 16.0, -8.0):
        for span in ("generated", "all"):
            said = receipt_of(with_edit(asked, amount=amount, span=span))["warnings"]
            if any("ends in a loop" in text and "lane" in text for text in said):
                return
    pytest.fail("no dose makes the text repeat itself")


def test_the_receipt_is_red_when_a_check_fails_and_then_is_stored_only_with_its_mark(tmp_path: Path) -> None:
    asked = request(max_new_tokens=100)
    late = asked.model_copy(update={"edits": (asked.edits[0].model_copy(update={"span": "after_n:90"}),)})
    events = list(Engine().run(late.model_dump(), lambda: False))
    receipt = events[-2]
    assert receipt["ok"] is False
    assert "no edit was made" in receipt["problems"][0]
    with pytest.raises(StoreError, match="receipt"):
        save_live(Store(tmp_path), events[-1], receipt, late.files)
    run = save_live(Store(tmp_path), events[-1], receipt, late.files, marked=True)
    assert MARK in run.manifest.name
    assert run.manifest.facts["receipt"]["ok"] is False
    assert run.manifest.run_id.endswith("-failed")


def test_a_generation_that_was_stopped_is_not_stored(tmp_path: Path) -> None:
    asked, seen = request(max_new_tokens=60, prompt=None), []
    for event in Engine().run(asked.model_dump(), lambda: len(seen) > 8):
        seen.append(event)
    assert [event["finish"] for event in seen if event["kind"] == "end"][-1] == "cancelled"
    with pytest.raises(StoreError, match="stopped"):
        save_live(Store(tmp_path), seen[-1], seen[-2], asked.files)


def test_a_greedy_text_is_replayed_by_reading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the text was written again")

    monkeypatch.setattr(run, "generate", refuse)
    for more in ({}, {"item": None, "prompt": "start 3 9 goal"}, {"begun": (19, 10)}):
        assert receipt_of(request(max_new_tokens=24, **more))["replay"] == "identical"


@pytest.mark.parametrize("more", [{}, {"temperature": 0.7}], ids=["greedy", "sampled"])
def test_a_model_that_is_not_as_it_was_is_found_out(more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Something stays in the model behind the steered text: the replay writes another text, and the receipt is red."""
    engine, written = Engine(), run._Live._replay
    handles: list[Any] = []

    def spoiled(live: Any) -> str:
        model = live.model(live.lanes[0])
        push = torch.randn(model.d_model, generator=torch.Generator().manual_seed(3))
        handles.append(model.layout.layers[2].register_forward_hook(lambda m, a, out: out + 40 * push))
        return written(live)

    monkeypatch.setattr(run._Live, "_replay", spoiled)
    try:
        receipt = list(engine.run(request(max_new_tokens=40, **more).model_dump(), lambda: False))[-2]
    finally:
        for handle in handles:
            handle.remove()
    assert receipt["replay"] == "differs" and receipt["ok"] is False and receipt["hooks"] == 1


def test_a_token_that_is_not_the_likeliest_is_seen() -> None:
    model = load_model("builtin:base")
    row = Row(encode_prompt(model, "rules + 15 ; * 9 ; goal 31 start 42 91 9 ?"))
    (one,) = generate(model, [row], GenerationSettings(30))
    assert len(one.token_ids) > 2 and greedily_written(model, row, one.token_ids)
    second = one.top_ids[5 * 1 + 1]
    assert not greedily_written(model, row, (one.token_ids[0], second, *one.token_ids[2:]))
    begun = Row(row.prompt_ids, begun=(one.token_ids[0], second))
    (after,) = generate(model, [begun], GenerationSettings(30))
    assert greedily_written(model, begun, after.token_ids) and not greedily_written(model, row, after.token_ids)
    assert not greedily_written(model, row, ())
