"""Which layers read a path's first token: planted layers are found, and what cannot be said is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.studies.elicitation.asked import Setting
from experiments.studies.elicitation.committing import Layers, beyond, by_random, committing, read, recovered, sentence
from steering.engine.generation import Row, generate
from steering.engine.predicted import next_logprobs
from steering.engine.sampling import GenerationSettings
from tests.tiny import tiny

SETTING = Setting(name="direct prompts", split="test", form="chat")


def planted(shares: list[float], random: float, size: float = 0.4, questions: int = 12) -> list[Layers]:
    """Questions in which these shares of the difference are handed on after each layer, and `random` of it by random tokens."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(questions):
        apart = size * (1 + 0.2 * rng.random())
        found.append(
            Layers(apart, apart * (1 - np.array(shares)), apart * (1 - random - 0.1 * rng.random((20, len(shares)))))
        )
    return found


def said(layers: list[Layers]) -> str:
    return sentence(layers, [recovered(layers, n) for n in range(len(layers[0].patched))])


def test_the_layer_by_which_half_is_read_is_found() -> None:
    layers = planted([1.0, 0.9, 0.2, 0.0], 0.1)
    own = [recovered(layers, n) for n in range(4)]
    assert [one.value for one in own] == pytest.approx([1.0, 0.9, 0.2, 0.0]) and beyond(layers, own) == [1, 2]
    assert "is 1 of 4, the last 2 (0.90" in said(layers) and "layer 3 commits" in said(layers)
    assert "hardly anything" not in said(layers) and "hardly anything" in said(planted([1.0, 0.9, 0.2, 0.0], 0.1, 1e-4))
    drawn = by_random(layers, 1)
    assert len(drawn) == 20 and ((0.1 <= drawn) & (drawn <= 0.2)).all()


@pytest.mark.parametrize(("shares", "random"), [([0.9, 0.8, 0.1, 0.0], 0.95), ([0.4, 0.3, 0.1, 0.0], 0.0)])
def test_no_layer_is_told_where_random_tokens_do_as_much_or_less_than_half_is_handed_on(
    shares: list[float], random: float
) -> None:
    assert "no layer is told" in said(planted(shares, random)) and "commits" not in said(planted(shares, random))


def test_nothing_is_said_of_two_first_tokens_that_make_no_difference() -> None:
    same = [Layers(0.0, np.zeros(3), np.zeros((2, 3))) for _ in range(6)]
    assert "not said, for the gap from baseline to reference may be zero" in said(same)


def test_a_prompt_is_read_along_the_greedy_path_of_the_other_first_token() -> None:
    model, prompt = tiny("llama"), (1, 9, 17, 33)
    found = read(model, prompt, 2, 5, 6, (20, 21), 7)
    ranked = next_logprobs(model, [Row(prompt)])[0].topk(3).indices.tolist()
    assert found is not None and found["first"] == [model.tokenizer.decode([token]) for token in (ranked[0], ranked[2])]
    for name in ("path", "cue"):
        one = found[name]
        assert len(one["patched"]) == model.n_layers and np.shape(one["random"]) == (6, model.n_layers)
        assert 0 < one["apart"] and one["patched"][-1] == pytest.approx(one["apart"], rel=1e-4), "none reads the last"
        assert [row[-1] for row in one["random"]] == pytest.approx([one["apart"]] * 6, rel=1e-4)
        assert one["patched"][0] != pytest.approx(one["random"][0][0], rel=1e-3)
    assert read(model, prompt, 2, 5, 6, (20, 21), 7) == found
    path = generate(model, [Row(prompt, begun=(ranked[2],))], GenerationSettings(5))[0].token_ids
    assert (len(found["told"]) == 2) == (len([token for token in path[1:] if token not in model.eos_ids]) > 1)
    ended = next(
        n for n, token in enumerate(next_logprobs(model, [Row(prompt)])[0].argsort(descending=True)) if token == 2
    )
    assert read(model, prompt, ended, 5, 6, (20,), 7) is None, "a path that ends at once says nothing behind it"


def test_too_few_questions_with_another_path_are_said() -> None:
    silent: dict[str, Any] = {"score": None, "answer": None}
    rows = [
        {"split": "test", "item": str(n), "prompt_ids": [1, 9], "candidates": [{"score": 0.5, "answer": "3"}, silent]}
        for n in range(6)
    ]
    run = SimpleNamespace(table=lambda **given: SimpleNamespace(to_pylist=lambda: rows))
    tables, words = committing(SimpleNamespace(), run, SETTING, 5, 8, 20, "w9")  # type: ignore[arg-type]
    assert (
        tables == [] and len(words) == 1 and words[0].startswith("direct prompts: 0 of 5 questions have another path")
    )
