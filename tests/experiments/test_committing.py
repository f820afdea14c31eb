"""Which layers read a path's first token: planted layers are found, and what cannot be said is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.studies.elicitation.asked import Setting
from experiments.studies.elicitation.committing import Layers, beyond, by_random, committing, read, recovered, sentence
from steering.engine.forced import unsteered_logprob
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
        drawn = random + 0.1 * rng.random((20, len(shares)))
        found.append(Layers(-apart, 0.0, apart * (np.array(shares) - 1), apart * (drawn - 1)))
    return found


def said(layers: list[Layers]) -> str:
    return sentence(layers, [recovered(layers, n) for n in range(len(layers[0].patched))])


def test_the_layer_by_which_half_is_read_is_found() -> None:
    layers = planted([1.0, 0.9, 0.2, 0.0], 0.1)
    own = [recovered(layers, n) for n in range(4)]
    assert [one.value for one in own] == pytest.approx([1.0, 0.9, 0.2, 0.0]) and beyond(layers, own) == [1, 2]
    assert "any random token: 1 to 2 of 4; layer 3 commits" in said(layers)
    assert "layer 1 commits" in said(planted([0.2, 0.1, 0.0, 0.0], 0.0)), "the first has read more than half"
    assert "hardly anything" not in said(layers) and "hardly anything" in said(planted([1.0, 0.9, 0.2, 0.0], 0.1, 1e-4))
    drawn = by_random(layers, 1)
    assert len(drawn) == 20 and ((0.1 <= drawn) & (drawn <= 0.2)).all()


def test_layers_where_random_tokens_do_as_much_are_not_told() -> None:
    assert "after no layer of 4" in said(planted([0.9, 0.8, 0.1, 0.0], 0.95))
    assert "which of layers 1 to 3 commits is not told" in said(planted([0.9, 0.8, 0.1, 0.0], 0.95))
    uneven = planted([1.0, 0.9, 0.9, 0.0], 0.1, questions=6) + planted([1.0, 0.1, 0.1, 0.0], 0.1, questions=6)
    assert "1 of 4; which of layers 2 to 4 commits is not told" in said(uneven), "the questions do not agree"


def test_nothing_is_said_of_two_first_tokens_that_make_no_difference() -> None:
    same = [Layers(-1.0, -1.0, np.full(3, -1.0), np.full((2, 3), -1.0)) for _ in range(6)]
    assert "not said, for the gap from baseline to reference may be zero" in said(same)


def test_a_prompt_is_read_along_the_greedy_path_of_the_other_first_token() -> None:
    model, prompt = tiny("llama"), (1, 9, 17, 33)
    found = read(model, prompt, 2, 5, 6, (20, 21), 7)
    ranked = next_logprobs(model, [Row(prompt)])[0].topk(3).indices.tolist()
    assert found is not None and found["first"] == [model.tokenizer.decode([token]) for token in (ranked[0], ranked[2])]
    for name in ("told", "path", "cue"):
        one = found[name]
        assert len(one["patched"]) == model.n_layers and np.shape(one["random"]) == (6, model.n_layers)
        assert one["patched"][-1] == pytest.approx(one["one"], rel=1e-4), "no layer reads what the last one writes"
        assert [row[-1] for row in one["random"]] == pytest.approx([one["one"]] * 6, rel=1e-4)
        assert one["patched"][0] != pytest.approx(one["random"][0][0], rel=1e-3)
        assert name == "told" or one["one"] < one["other"] == 0
    assert read(model, prompt, 2, 5, 6, (20, 21), 7) == found
    path = generate(model, [Row(prompt, begun=(ranked[2],))], GenerationSettings(5))[0].token_ids
    for key, token in (("one", ranked[0]), ("other", ranked[2])):
        (scored,) = unsteered_logprob(model, [((*prompt, token), path[1:])])
        assert found["told"][key] == pytest.approx(np.mean(scored[1:]), abs=1e-4), (
            "its own position's read-out is not in it"
        )
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
