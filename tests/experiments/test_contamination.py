"""Contamination by partial prompts: planted memories are found, clean models are not, and measures equal naive ones."""

from __future__ import annotations

import random
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import LlamaConfig, LlamaForCausalLM

from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.completing import completions
from experiments.studies.elicitation.contamination import area, groups_of
from experiments.studies.elicitation.named import card_named
from experiments.studies.elicitation.prefixes import calculation, cut, cuts, exact, fresh, rouge_l, with_other_numbers
from experiments.studies.elicitation.run import run_card
from experiments.tasks.task import resolve_task
from steering.errors import BadInput
from steering.model.models import LoadedModel, wrap
from tests.tiny import VOCABULARY, tokenizer


def drawn(count: int, seed: int) -> list[str]:
    """Questions of twelve random words."""
    rng = random.Random(seed)
    return [" ".join(f"w{rng.randrange(8, VOCABULARY)}" for _ in range(12)) for _ in range(count)]


def trained(texts: list[str], steps: int = 250) -> LoadedModel:
    """A small model that has read the texts again and again."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, intermediate_size=128,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model, words = LlamaForCausalLM(config), tokenizer()
    ids = torch.tensor([words(text)["input_ids"] for text in texts])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return wrap(model.eval(), words, id="trained")


def test_a_planted_half_of_the_questions_is_told_from_the_other_half_and_of_a_clean_model_neither_is() -> None:
    questions = drawn(60, 1)
    seen = questions[:30]
    for texts, low, high in ((seen, 0.95, 1.0), (drawn(30, 2), 0.35, 0.65)):
        model = trained(texts)
        held = cuts(questions, 0.6)
        written = completions(model, held, 64)
        scores = np.array(
            [rouge_l(own.rest, text) for own, text in zip(held, written, strict=True) if own and text is not None]
        )
        assert len(scores) == len(questions)
        assert low <= roc_auc_score([1] * 30 + [0] * 30, scores) <= high
        size = area(scores[:30], scores[30:], 200)
        assert size is not None and (size[1] > 0.9 if texts is seen else size[1] < 0.5 < size[2])
        matches = [exact(own.rest, str(text)) for own, text in zip(held, written, strict=True) if own]
        assert sum(matches[30:]) == 0 and (sum(matches[:30]) > 20) == (texts is seen)


def test_rouge_is_that_of_a_naive_subsequence() -> None:
    @cache
    def naive(one: tuple[str, ...], two: tuple[str, ...]) -> int:
        if not one or not two:
            return 0
        return 1 + naive(one[1:], two[1:]) if one[0] == two[0] else max(naive(one[1:], two), naive(one, two[1:]))

    rng = random.Random(0)
    for _ in range(200):
        one, two = (tuple(rng.choice("abcd") for _ in range(rng.randint(1, 9))) for _ in range(2))
        kept = two[: len(one)]
        assert rouge_l(" ".join(one), " ".join(two)) == pytest.approx(2 * naive(one, kept) / (len(one) + len(kept)))
    assert rouge_l("a b", "") == 0.0 and rouge_l("a b", "a b c d") == 1.0
    assert exact(" a b", "a  b c") and not exact("a b", "a") and not exact("a b", "a bc")


def test_a_cut_leaves_something_on_either_side_and_loses_nothing() -> None:
    for text in ("one two three four five", "one two", "word", "ab", "  spaced  out  "):
        for share in (0.01, 0.4, 0.6, 0.99):
            own = cut(text, share)
            assert own is not None and own.prefix.strip() and own.rest.strip()
            assert (own.prefix + own.rest).strip() == text.strip()
    assert cut("a", 0.5) is None and cut("one two three four five", 0.6) == cut("one two three four five", 0.55)


def test_twins_differ_in_every_number_and_in_nothing_else() -> None:
    text = "Anna has 3 apples and 14 pears, and 3 more for 2.5 euros."
    twin = with_other_numbers(text, "salt")
    assert twin is not None and twin == with_other_numbers(text, "salt") and twin != with_other_numbers(text, "other")
    pairs = [
        (a, b)
        for a, b in zip(text.replace(".", " ").split(), twin.replace(".", " ").split(), strict=True)
        if any(c.isdigit() for c in a)
    ]
    assert all(a != b and len(a) == len(b) for a, b in pairs) and len({b for a, b in pairs if a == "3"}) == 1
    assert with_other_numbers("no number", "salt") is None


def test_random_calculations_have_the_value_that_is_said_of_them() -> None:
    rng = random.Random(3)
    for steps in range(6):
        text, value = calculation(rng, steps)
        named = "".join(f"Fraction({word})" if word.isdigit() else word for word in text.replace("^", "**").split())
        assert eval(named, {"Fraction": Fraction}) == value


def test_fresh_questions_are_none_of_those_that_are_asked() -> None:
    for name, split in (("find-start", "standard-test"), ("short:story", "test")):
        task = resolve_task(name)
        own, _, beside = groups_of(task, Setting(name="x", split=split, form=task.forms[0]), 12)
        assert not {*own.texts} & {*beside.texts} and len(beside.texts) == 12 and beside.name == "newly drawn problems"
    assert fresh(resolve_task("one-step-problems"), "test", 3)[0] == "random calculations"


def test_what_cannot_be_cut_is_refused_before_a_model_is_loaded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    card = card_named("contamination")
    with pytest.raises(BadInput, match="cuts nothing"):
        run_card(card, Elicit(), Store(tmp_path), given={"n": 2, "shares": [1.0]})
    one = Elicit(
        task={"dataset": "one-question", "prompt": "rules + 1 ; goal 3 start 2 4 ?"}, think="bare",
        settings=(Setting(name="x", split="prompt", form="bare"),),
    )  # fmt: skip
    with pytest.raises(BadInput, match="no questions apart from its prompts"):
        run_card(card, one, Store(tmp_path), given={"n": 1})
