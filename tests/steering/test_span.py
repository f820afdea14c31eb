"""Spans: text forms, coverage against the oracle, and refusals."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering.compile.coverage import Coverage, character_places
from steering.errors import BadInput
from steering.plan.span import Span
from tests.naive import spans_position
from tests.tiny import VOCABULARY, tiny

ATOMS = st.sampled_from(
    [
        "all", "prompt", "last_prompt", "generated", "first_n:2", "after_n:1", "window:1:3", "position:0,-1", 'at:";"', "after:5,6+7:2",
        "sentence_starts", "inside_thinking", 'outside_thinking:"wait",";"', "specials",
    ]
)  # fmt: skip
SPANS = st.recursive(
    ATOMS,
    lambda inner: st.tuples(inner, st.sampled_from("|&-"), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(text=SPANS)
def test_a_span_reads_back_from_its_text(text: str) -> None:
    span = Span.parse(text)
    assert Span.parse(str(span)) == span


@settings(max_examples=150, deadline=None)
@given(text=SPANS, seed=st.integers(0, 10**6), new=st.integers(1, 8))
def test_coverage_followed_token_by_token_is_what_the_finished_sequence_shows(text: str, seed: int, new: int) -> None:
    model, span, rng = tiny("llama"), Span.parse(text), random.Random(seed)
    prompt = (1, *(rng.choice([3, 4, 5, 6, 7, 20, 21]) for _ in range(rng.randint(0, 6))))
    generated = [rng.choice([2, 3, 4, 5, 6, 7, 20, rng.randrange(8, VOCABULARY)]) for _ in range(new)]
    coverage = Coverage(model, span, prompt, new)
    followed = [*coverage.known[: len(prompt)]]
    followed += [coverage.next(t) for t in generated] if coverage.dynamic else [*coverage.known[len(prompt) :]]
    ids = [*prompt, *generated]
    assert [bool(f) for f in followed] == [spans_position(span, i, ids, len(prompt), model) for i in range(len(ids))]


def test_ands_bind_tighter_than_ors() -> None:
    assert Span.parse("prompt | generated & specials") == Span("prompt") | (Span("generated") & Span("specials"))
    assert Span.parse("all - prompt - specials") == (Span("all") - Span("prompt")) - Span("specials")


def test_text_is_found_where_the_prompt_has_it() -> None:
    model = tiny("llama")
    prompt = (1, 20, 7, 5, 7, 21)
    assert Coverage(model, Span.parse('text:"wait"'), prompt, 2).known.nonzero()[0].tolist() == [2, 4]
    assert Coverage(model, Span.parse('regex:"wait ;"'), prompt, 2).known.nonzero()[0].tolist() == [2, 3]
    text, places = character_places(model, prompt)
    assert [text[a:b] for a, b in places][1:] == ["w20", "wait", ";", "wait", "w21"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("generatd", "Did you mean 'generated'"),
        ("first_n:0", "cover no token"),
        ("window:4:4", "cover no token"),
        ("position", "at least one prompt position"),
        ("text:wait", "double quotes"),
        ('regex:"("', "not a regular expression"),
        ("at", "needs tokens"),
        ("after:5:0", "cover no token"),
        ("prompt:3", "takes no n"),
        ('inside_thinking:"<a>"', "opening and a closing marker"),
        ("(prompt | generated", "closing bracket is missing"),
        ("prompt &", "missing at the end"),
        ("prompt generated", "does not belong there"),
        ("", "is empty"),
        ("prompt | ; x", "cannot be read"),
    ],
)
def test_a_span_that_cannot_be_read_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Span.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('text:"nowhere"', "matches nothing in the prompt"),
        ("position:9", "position 9 is not in it"),
        ('at:"no-such-word"', "not text that the tokenizer"),
        ("at:999", "not all in the vocabulary"),
    ],
)
def test_a_span_that_covers_nothing_in_this_prompt_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Coverage(tiny("llama"), Span.parse(text), (1, 20, 21), 4)
