"""The join of two arms, the filters over it and the place where two texts part."""

from __future__ import annotations

from typing import Any

import pytest

from app.pairing import matching, neighbour, pair_rows
from experiments.traces.divergence import Divergence, part, part_by_text


def rows(*triples: tuple[str, int, bool]) -> list[dict[str, Any]]:
    return [{"item": item, "seed": seed, "order": ord(item[-1]), "correct": right} for item, seed, right in triples]


def test_rows_are_joined_on_item_and_seed_never_on_order() -> None:
    left = rows(("q-a", 0, False), ("q-b", 0, True), ("q-b", 1, True), ("q-c", 0, False))
    right = rows(("q-b", 1, False), ("q-d", 0, True), ("q-a", 0, True), ("q-b", 0, True))
    pairing = pair_rows(left, right)
    assert [(p.item, p.seed, p.left, p.right) for p in pairing.pairs] == [
        ("q-a", 0, 0, 2),
        ("q-b", 0, 1, 3),
        ("q-b", 1, 2, 0),
    ]
    assert [p.outcome for p in pairing.pairs] == ["helped", "both right", "hurt"]
    assert (pairing.left_only, pairing.right_only, pairing.repeated) == (1, 1, 0)
    assert pairing.counts == {"helped": 1, "hurt": 1, "both right": 1, "both wrong": 0}


def test_swapping_the_arms_swaps_helped_and_hurt() -> None:
    left, right = (
        rows(("a", 0, False), ("b", 0, True), ("c", 0, True)),
        rows(("a", 0, True), ("b", 0, False), ("c", 0, False)),
    )
    assert pair_rows(left, right).counts == {"helped": 1, "hurt": 2, "both right": 0, "both wrong": 0}
    assert pair_rows(right, left).counts == {"helped": 2, "hurt": 1, "both right": 0, "both wrong": 0}


def test_a_repeated_row_is_counted_and_the_first_is_used() -> None:
    pairing = pair_rows(rows(("a", 0, True), ("a", 0, False)), rows(("a", 0, True)))
    assert pairing.repeated == 1
    assert [p.outcome for p in pairing.pairs] == ["both right"]


def test_names_carry_the_seed_only_where_an_item_has_several() -> None:
    both = rows(("a", 0, True), ("b", 0, True), ("b", 7, True))
    assert list(pair_rows(both, both).names()) == ["a", "b (seed 0)", "b (seed 7)"]


def test_filters_and_neighbours_follow_the_order_of_the_split() -> None:
    left = rows(*((name, 0, False) for name in "abcde"))
    right = rows(*((name, 0, name in "bde") for name in "abcde"))
    names = pair_rows(left, right).names()
    helped = matching(names, "helped")
    assert helped == ["b", "d", "e"]
    assert matching(names, "all") == list("abcde")
    assert matching(names, "hurt") == []
    assert neighbour(names, helped, "b", 1) == "d"
    assert neighbour(names, helped, "c", 1) == "d"
    assert neighbour(names, helped, "c", -1) == "b"
    assert neighbour(names, helped, "e", 1) is None
    assert neighbour(names, [], "a", 1) is None


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([5, 6, 7], [5, 6, 7], Divergence("same", None)),
        ([5, 6, 7], [5, 8, 7], Divergence("token", 1)),
        ([5, 6], [5, 6, 7], Divergence("end", 2)),
        ([], [5], Divergence("end", 0)),
        ([], [], Divergence("same", None)),
    ],
)
def test_where_two_texts_part(left: list[int], right: list[int], expected: Divergence) -> None:
    assert part([1, 2], left, [1, 2], right) == expected
    assert part([1, 2], right, [1, 2], left) == expected


def test_comparable_up_to_and_including_the_first_different_token() -> None:
    divergence = part([1], [5, 6, 7], [1], [5, 8, 7])
    assert [divergence.comparable(index) for index in range(3)] == [True, True, False]
    assert all(part([1], [5], [1], [5]).comparable(index) for index in range(3))


def test_nothing_is_comparable_after_different_prompts() -> None:
    divergence = part([1, 2], [5], [1, 3], [5])
    assert divergence.kind == "prompt"
    assert not divergence.comparable(0)
    assert "prompts differ" in divergence.sentence


def test_texts_of_different_tokenisers_are_aligned_by_their_characters() -> None:
    same = part_by_text(["let ", "us"], ["le", "t us"])
    assert same.kind == "same"
    assert not same.comparable(0)
    found = part_by_text(["let ", "us ", "try"], ["le", "t us ", "g", "o"])
    assert found.places == (2, 2)
    assert not found.comparable(0)
    assert part_by_text(["ab"], ["a", "b", "c"]).places == (1, 2)
