"""Loops at the end of a text: found by any length of phrase, and not where a text only comes back to a word."""

from __future__ import annotations

import random

import pytest

from steering.engine.repetition import LONGEST, Loop, loop_of


@pytest.mark.parametrize(
    ("ids", "phrase", "times"),
    [
        ([1, 2, 3, 4, 3, 4, 3, 4], (3, 4), 3),
        ([7, 5, 5, 5, 5, 5, 5], (5, 5), 3),
        ([9, *[1, 2, 3] * 5], (1, 2, 3), 5),
        ([*range(100), *[*range(200, 200 + LONGEST)] * 3], tuple(range(200, 200 + LONGEST)), 3),
    ],
)
def test_a_phrase_three_times_at_the_end_is_a_loop(ids: list[int], phrase: tuple[int, ...], times: int) -> None:
    assert loop_of(ids) == Loop(phrase, times)
    assert str(times) in Loop(phrase, times).sentence


@pytest.mark.parametrize(
    "ids",
    [
        [],
        [1],
        [1, 2, 1, 2],
        [3, 4, 3, 4, 3, 4, 9],
        [5, 5, 5, 5, 5],
        [1, 2, 3, 1, 2, 4, 1, 2, 3],
        [*range(LONGEST + 1)] * 3,
    ],
)
def test_two_times_or_not_at_the_end_or_a_longer_phrase_is_none(ids: list[int]) -> None:
    assert loop_of(ids) is None


def test_what_ends_a_text_is_no_part_of_it() -> None:
    looping = [1, 2, 1, 2, 1, 2]
    assert loop_of([*looping, 0]) is None and loop_of([*looping, 0], {0}) == Loop((1, 2), 3)


def test_it_agrees_with_the_definition_on_drawn_texts() -> None:
    rng, found = random.Random(0), 0
    for _ in range(3000):
        ids = [rng.randrange(2) for _ in range(rng.randrange(14))]
        every = [n for n in range(2, len(ids) // 3 + 1) if ids[-n:] * 3 == ids[-3 * n :]]
        loop = loop_of(ids)
        assert (loop is None) == (not every) and (loop is None or len(loop.phrase) == min(every))
        found += loop is not None
    assert 100 < found < 2800
