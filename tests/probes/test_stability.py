"""Resampling from the boundary of a labelled span."""

from __future__ import annotations

import pytest

from probes.labels import BehaviourLabel
from probes.stability import Boundary, in_text, stability, wilson
from steering.errors import BadInput
from tests.tiny import tiny


def boundary(start: int = 2, label: str = "low") -> Boundary:
    return Boundary((1, 9), (12, 13, 14, 15), BehaviourLabel(start, 4, label, "exact", 1.0, "tokens"))


def test_the_cut_is_before_the_span_and_every_sample_counts() -> None:
    seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def parity(before: tuple[int, ...], continuation: tuple[int, ...]) -> str | None:
        seen.append((before, continuation))
        return None if not continuation else "low" if continuation[0] < 30 else "high"

    (found,) = stability(tiny("llama"), [boundary()], parity, n=40, max_new_tokens=3)
    assert {before for before, _ in seen} == {(12, 13)} and len(seen) == 40
    assert len({c for _, c in seen}) > 5, "every sample has a seed of its own"
    low = sum(bool(c) and c[0] < 30 for _, c in seen)
    assert 0 < low < 40 and (found.kept, found.n, found.share.value) == (low, 40, low / 40)
    assert found.found["low"] == low and sum(found.found.values()) == 40
    assert found.share.low < low / 40 < found.share.high
    seen.clear()
    assert stability(tiny("llama"), [boundary()], parity, n=40, max_new_tokens=3)[0] == found


def test_boundaries_do_not_mix() -> None:
    first = stability(tiny("llama"), [boundary()], lambda b, c: "low" if c and c[0] < 30 else "high", n=10)
    both = stability(
        tiny("llama"), [boundary(), boundary(0, "high")], lambda b, c: "low" if c and c[0] < 30 else "high", n=10
    )
    assert both[0] == first[0] and both[1].label == "high" and both[1].n == 10


def test_a_labeller_of_texts_is_asked_about_the_first_sentence_after_the_cut() -> None:
    model = tiny("llama")

    def labeller(text: str) -> list[BehaviourLabel]:
        at = text.index("w20")
        return [BehaviourLabel(0, at, "before", "t", 0.5), BehaviourLabel(at, len(text), "after", "t", 0.5)]

    first = in_text(model, labeller)
    assert first((12, 13), (20, 21)) == "after" and first((12, 20), (21, 22)) == "after"
    assert first((12, 13), (14, 20)) == "before" and first((12,), ()) is None


def test_wilson_of_a_hand_computed_case() -> None:
    found = wilson(8, 10)
    assert (found.value, round(found.low, 3), round(found.high, 3)) == (0.8, 0.490, 0.943)


def test_what_cannot_be_resampled_is_refused() -> None:
    with pytest.raises(BadInput, match="temperature above 0"):
        stability(tiny("llama"), [boundary()], lambda b, c: None, temperature=0)
    with pytest.raises(BadInput, match="in tokens"):
        Boundary((1,), (2, 3), BehaviourLabel(0, 1, "a", "d", 0.5))
    with pytest.raises(BadInput, match="begins at token 5"):
        Boundary((1,), (2, 3), BehaviourLabel(5, 6, "a", "d", 0.5, "tokens"))
