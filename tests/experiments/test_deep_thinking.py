"""The deep-thinking ratio of texts: what is read, what stands beside it, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.studies.elicitation import deep_thinking
from experiments.studies.elicitation.deep_thinking import RULES, Settled, Text, nearest, pairs_of, settled, two_sided
from steering.extraction.settling import late_from, lens_divergence, settling_layers
from tests.tiny import tiny

PROMPT = (1, 9, 12)
TEXTS = [
    Text("a", PROMPT, (20, 31, 8, 40), True),
    Text("b", (1, 30), (7, 11), False),
    Text("c", (1, 5, 6), (33, 34, 35, 36, 37), True),
    Text("c", (1, 5, 6), (33, 34, 35, 36), False),
]


class Room:
    """A workroom of one tiny model that keeps nothing."""

    def model(self, name: str) -> Any:
        return tiny("llama")

    def part(self, name: str, facts: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        return make()


def test_orders_are_the_same_tokens_and_another_text_is_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    def noted(model: Any, texts: Any) -> Any:
        read.extend(texts)
        return lens_divergence(model, texts)

    monkeypatch.setattr(deep_thinking, "lens_divergence", noted)
    found = settled(Room(), "tiny", TEXTS, 0, 30, 0.02)  # type: ignore[arg-type]
    own, other, *orders = read
    assert {prompt for prompt, _ in read} == {PROMPT} and own[1] == TEXTS[0].ids
    assert other[1] == TEXTS[3].ids, "another question's of nearest length, which is cut to it"
    assert len(orders) == 30 and all(sorted(ids) == sorted(TEXTS[0].ids) for _, ids in orders)
    assert len({tuple(ids) for _, ids in orders}) > 5, "they are other orders"
    late = late_from(tiny("llama").n_layers)
    for n, rule in enumerate(RULES):
        layers = [settling_layers(one, 0.02)[n] >= late for one in lens_divergence(tiny("llama"), read)]
        assert found[rule].own.tolist() == layers[0].tolist() and found[rule].other.tolist() == layers[1].tolist()
        assert found[rule].shuffled.tolist() == [int(one.sum()) for one in layers[2:]]
    assert 0 < found["stays"].own.sum() + found["stays"].shuffled.sum() < 31 * 4, "some settle late and some do not"
    again = settled(Room(), "tiny", TEXTS, 0, 30, 0.02)  # type: ignore[arg-type]
    assert again["stays"].shuffled.tolist() == found["stays"].shuffled.tolist()
    longer = settled(Room(), "tiny", TEXTS, 2, 1, 0.02)["stays"]  # type: ignore[arg-type]
    assert len(longer.other) == 4 and longer.share(4) == longer.own[:4].mean(), "the shorter of the two sets the length"
    assert nearest(TEXTS[2:], 0) is None, "a question's other text is none of another question"


def test_pairs_are_of_nearest_length_and_no_text_is_in_two() -> None:
    lengths = [(10, True), (10, False), (11, False), (30, True), (29, False), (50, False)]
    texts = [Text(str(n), (1,), (5,) * length, right) for n, (length, right) in enumerate(lengths)]
    assert pairs_of(texts) == [(0, 1, 10), (3, 2, 11)], "right ones that are taken are not taken again"
    assert pairs_of([text for text in texts if text.right]) == []


def case(share: float, drawn: float, orders: int, tokens: int = 100, texts: int = 8) -> list[Settled]:
    """Texts with `share` deep tokens, and orders with about `drawn`."""
    own = np.arange(tokens) < share * tokens
    counts = [int(drawn * tokens) + n % 5 for n in range(orders)]
    return [Settled(own, own[: tokens // 2], np.array(counts)) for _ in range(texts)]


@pytest.mark.parametrize(
    ("share", "orders", "words"),
    [
        (0.6, 40, "more than in the same tokens"),
        (0.1, 40, "fewer than in the same tokens"),
        (0.32, 40, "not told from the same tokens"),
        (0.6, 20, "which 20 orders are too few to tell from the same tokens"),
    ],
)
def test_a_ratio_is_told_from_that_of_shuffled_tokens_by_its_rank_alone(share: float, orders: int, words: str) -> None:
    texts = [Text(str(n), (1,), (5,) * 100, n % 2 == 0) for n in range(8)]
    said = deep_thinking._sentence(texts, case(share, 0.3, orders))
    assert words in said and said.startswith(f"{100 * share:.1f} %") and "too few of one kind" in said
    line = deep_thinking._line("base", "stays", case(share, 0.3, orders))
    assert line[:4] == ("base", RULES["stays"], 8, 800)
    assert two_sided(0.6, np.full(40, 0.3)) == pytest.approx(2 / 41) and two_sided(0.3, np.full(40, 0.3)) == 1.0


def test_right_and_wrong_texts_are_compared_where_there_are_enough_of_both() -> None:
    texts = [Text(str(n), (1,), (5,) * 100, n < 8) for n in range(16)]
    own = [*case(0.5, 0.3, 40), *case(0.2, 0.3, 40)]
    line = deep_thinking._halves("base", "stays", texts, own)
    assert line[2] == line[4] == 8 and str(line[6]).startswith("+30.0 (0.0") and line[7] == 8
    assert "right minus wrong at equal length +30.0" in deep_thinking._sentence(texts, own)
    assert deep_thinking._halves("base", "stays", texts[:9], own[:9])[6:] == (None, None, None)


def test_texts_of_one_token_are_left_out_and_the_end_token_is_no_token_of_a_text() -> None:
    rows = [
        {"split": "test", "item": n, "prompt_ids": [1, 9], "token_ids": ids, "correct": True}
        for n, ids in (("a", [7, 2]), ("b", [7, 8, 2]), ("c", [7, 8, 9]))
    ]
    rows.append(rows[1] | {"split": "dev", "item": "d"})
    table = SimpleNamespace(to_pylist=lambda: rows)
    run = SimpleNamespace(table=lambda **given: table)
    arm = SimpleNamespace(model="tiny", name="base")
    found, bare = deep_thinking.texts_of(Room(), run, SimpleNamespace(split="test"), arm)  # type: ignore[arg-type]
    assert [(text.item, text.ids) for text in found] == [("b", (7, 8)), ("c", (7, 8, 9))] and bare == 1
