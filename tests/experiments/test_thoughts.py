"""Thoughts at every token: one pass equals reading each thought by itself, the policy's loss is REINFORCE's, and a training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit
from experiments.studies.elicitation.run import run_card
from experiments.studies.training.named import CARDS
from experiments.studies.training.rationale_reading import lesson
from experiments.studies.training.rationales import Thinking, begin, loss_of, parts, policy_loss, think
from experiments.studies.training.thoughts import Shape, arranged, extras, passed, sampled
from steering import load_model
from steering.errors import BadInput
from tests.experiments.test_weight_cards import BARE, QUIET

SHAPE = Shape(thought=3, ahead=3)
SMALL: dict[str, Any] = {"n": 6, "seeds": [0, 1], "updates": 2, "documents": 2, "thought": 2, "ahead": 2, "fresh": 8}


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model("builtin:base").model


@pytest.fixture(scope="module")
def added(model: Any) -> dict[str, torch.Tensor]:
    found = extras(model, 20)
    generator = torch.Generator().manual_seed(1)
    for name in ("start", "end", "head.outer"):
        found[name] = found[name] + 0.3 * torch.randn(found[name].shape, generator=generator)
    return found


def test_who_reads_whom() -> None:
    position, read = arranged(2, 2)
    assert position.tolist() == [0, 1, 1, 2, 2, 3]
    assert read.int().tolist() == [
        [1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 0, 1, 0, 1, 0], [1, 1, 0, 1, 0, 1],
    ]  # fmt: skip


@torch.no_grad()
def test_one_pass_equals_every_thought_read_by_itself(model: Any, added: dict[str, torch.Tensor]) -> None:
    ids, lengths = lesson(2, "test")
    thoughts = sampled(model, added, ids, SHAPE, torch.Generator().manual_seed(0))
    found = passed(model, added, ids, lengths, thoughts, SHAPE)
    embed = model.get_input_embeddings()
    for text in range(2):
        length = int(lengths[text])
        assert found.there[text, :, 0].sum() == length - 1 and not found.there[text, length - 2, 1]
        for token in (0, 5, length - 4):
            row, own = ids[text, : token + 1], thoughts[text, token]
            told = ids[text, token + 1 : token + 1 + SHAPE.ahead]
            alone = torch.cat([embed(row), added["start"][None], embed(own), added["end"][None], embed(told[:-1])])[
                None
            ]
            hidden = model.base_model(inputs_embeds=alone).last_hidden_state[0]
            plain = model.base_model(input_ids=ids[None, text, : token + SHAPE.ahead]).last_hidden_state[0, token:]
            logits = model.get_output_embeddings()
            thought = logits(hidden[token + 1 : token + 4]).log_softmax(-1)
            assert float(thought.gather(-1, own[:, None]).sum()) == pytest.approx(
                float(found.thought[text, token]), abs=2e-3
            )
            behind, before = hidden[token + 5 : token + 8], plain
            both = torch.cat([before, behind], -1)
            inner = (both @ added["head.inner"].T + added["head.bias"]).relu()
            weight = torch.sigmoid(inner @ added["head.outer"] + added["head.level"])[:, None]
            one, two = (logits(part).log_softmax(-1) for part in (before, behind))
            mixed = ((1 - weight) * one + weight * two).log_softmax(-1).gather(-1, told[:, None])[:, 0]
            assert torch.allclose(mixed, found.mixed[text, token], atol=2e-3)
            assert torch.allclose(one.gather(-1, told[:, None])[:, 0], found.plain[text, token], atol=2e-3)


def test_thoughts_are_drawn_from_what_the_model_predicts(model: Any, added: dict[str, torch.Tensor]) -> None:
    ids = lesson(1, "test")[0][:, :6].repeat(400, 1)
    drawn = sampled(model, added, ids, Shape(1, 1), torch.Generator().manual_seed(2))
    with torch.no_grad():
        row = torch.cat([model.get_input_embeddings()(ids[0]), added["start"][None]])[None]
        chances = model(inputs_embeds=row).logits[0, -1].softmax(-1)
    best = int(chances.argmax())
    share = float((drawn[:, 5, 0] == best).float().mean())
    assert abs(share - float(chances[best])) < 4 * (0.25 / 400) ** 0.5
    again = sampled(model, added, ids, Shape(1, 1), torch.Generator().manual_seed(2))
    assert torch.equal(drawn, again)


def test_only_thoughts_that_earn_more_than_the_others_are_learned_from() -> None:
    mixed = torch.tensor([[[-1.0]], [[-3.0]]])  # one token, two thoughts: they earn 1 above and 1 below their mean
    thought = torch.tensor([[-5.0], [-7.0]], requires_grad=True)
    loss = policy_loss(mixed, torch.ones(2, 1, 1), thought, 2)
    assert loss.item() == pytest.approx(-(1 * -5.0) / 2)
    loss.backward()
    assert thought.grad is not None and thought.grad[0] < 0 and thought.grad[1] == 0, (
        "the better thought becomes likelier"
    )


def test_a_rewarded_thought_becomes_likelier_and_a_training_goes_on_to_the_same_bits(model: Any) -> None:
    spec = Thinking("thoughts", updates=3, shape=Shape(2, 2), rate=1e-3)
    read = lambda n: lesson(2, f"train/{n}")  # noqa: E731
    whole = list(think(model, begin(model, 20), read, spec, every=1))
    onwards = list(think(model, whole[0], read, spec, every=1))
    assert [state.updates for state in onwards] == [2, 3]
    assert all(torch.equal(onwards[-1].weights[name], value) for name, value in whole[-1].weights.items())
    own, added = parts(dict(whole[-1].weights))
    assert own.keys() == dict(model.named_parameters()).keys() and {"start", "end", "head.outer"} <= added.keys()
    ids, lengths = read(0)
    loss, shown = loss_of(model, {n: v.clone() for n, v in added.items()}, ids, lengths, spec, 0)
    bare, also = loss_of(model, added, ids, lengths, Thinking("unrewarded", shape=Shape(2, 2)), 0)
    assert float(bare) == shown == also and float(loss) != shown
    with pytest.raises(BadInput, match="at least 2"):
        Thinking(passes=1)


def test_the_card_trains_tells_and_reads_what_is_stored(tmp_path: Path) -> None:
    findings = run_card(CARDS["rationale"], BARE, Store(tmp_path), given=SMALL, console=QUIET)
    table = findings.tables[0]
    assert [line[:2] for line in table.lines] == [
        ("rewarded thoughts", "with its thoughts"), ("rewarded thoughts", "with thoughts of other places"),
        ("rewarded thoughts", "without thoughts"), ("thoughts without reward", "with its thoughts"),
        ("thoughts without reward", "with thoughts of other places"), ("thoughts without reward", "without thoughts"),
        ("the texts alone", "without thoughts"),
    ]  # fmt: skip
    stored = {path: path.read_bytes() for path in tmp_path.glob(".elicitation/**/*") if path.is_file()}
    assert run_card(CARDS["rationale"], BARE, Store(tmp_path), given=SMALL, console=QUIET) == findings
    assert stored == {path: path.read_bytes() for path in tmp_path.glob(".elicitation/**/*") if path.is_file()}
    with pytest.raises(BadInput, match="'luck'.*card rationale: arms"):
        run_card(CARDS["rationale"], BARE, Store(tmp_path), given={"arms": ["luck"]}, console=QUIET)
    other = Elicit(base="builtin:careful-base", thinking=None)
    with pytest.raises(BadInput, match="leave --pair out"):
        run_card(CARDS["rationale"], other, Store(tmp_path), given=SMALL, console=Console(quiet=True))
