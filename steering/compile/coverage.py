"""From spans to positions of one row: what a span covers in a prompt, and token by token in what is generated after it.

1. `Coverage` answers for positions known in advance as one array, and follows generated tokens one at a time where the answer depends
   on them. It never looks ahead.
2. Text is looked for in what the ids decode to (`text`), so that it is found however tokens cut it. In the prompt a pattern that matches
   nothing is refused; a text that is followed covers the first token at which an occurrence is complete.
3. Padding has no position, so it cannot be covered.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence

import numpy as np

from ..errors import BadInput
from ..model.reader import Reads
from ..model.sinks import body, sinks_of
from ..plan.span import Span
from .text import TokenFacts, Written, character_places, expression, finders, markers, token_facts

Follower = Generator[bool, int, None]
"""Sent one token at a time, answers whether a span covers it."""


def _matches(model: Reads, span: Span, ids: Sequence[int]) -> list[int]:
    text, places = character_places(model, ids)
    assert span.pattern is not None
    if span.kind == "regex":
        found = [match.span() for match in re.finditer(span.pattern, text) if match.end() > match.start()]
    else:
        found = [match.span(1) for match in expression(span.pattern, "".join(span.flags)).finditer(text)]
    covered = [i for i, (low, high) in enumerate(places) if any(low < end and start < high for start, end in found)]
    if not covered:
        raise BadInput(
            f"Span {span} matches nothing in the prompt {text[:120]!r}; spans by text look in the prompt only."
        )
    return covered


def _fixed(model: Reads, span: Span, ids: Sequence[int], total: int) -> np.ndarray:
    """Positions that a simple span covers whatever is generated, bool `[total]`."""
    prompt, covered = len(ids), np.zeros(total, bool)
    if span.kind == "all":
        covered[body(model, ids).start :] = True
    elif span.kind == "prompt":
        covered[body(model, ids).start : prompt] = True
    elif span.kind == "sinks":
        covered[: body(model, ids).start] = True
    elif span.kind == "last_prompt":
        covered[prompt - 1] = True
    elif span.kind == "generated":
        covered[prompt:] = True
    elif span.kind == "first_n":
        covered[prompt : prompt + (span.n or 0)] = True
    elif span.kind == "after_n":
        covered[prompt + (span.n or 0) :] = True
    elif span.kind == "window":
        covered[prompt + (span.n or 0) : prompt + (span.m or 0)] = True
    elif span.kind == "position":
        for position in span.positions:
            if not -prompt <= position < prompt:
                raise BadInput(f"Span {span}: the prompt has {prompt} tokens, so position {position} is not in it.")
            covered[position if position >= 0 else prompt + position] = True
    else:
        covered[_matches(model, span, ids)] = True
    return covered


def _follow(model: Reads, span: Span, prompt_length: int) -> Follower:
    """A generator that is sent one token at a time and answers whether the span covers it."""
    facts = token_facts(model)
    if span.kind == "specials":
        covered = False
        while True:
            token = yield covered
            covered = facts.special(token)
    elif span.kind in ("at", "after"):
        yield from _follow_triggers(facts, span)
    elif span.kind == "sentence_starts":
        yield from _follow_sentences(facts, prompt_length)
    else:
        sinks = len(sinks_of(model).positions) if span.kind == "outside_thinking" else 0
        yield from _follow_thinking(facts, span, sinks)


def _follow_triggers(facts: TokenFacts, span: Span) -> Follower:
    wanted, written = finders(facts, span), Written(facts)
    left, covered = 0, False
    while True:
        token = yield covered
        piece = written.push(token)
        hit = any([finder.feed(token, piece) is not None for finder in wanted])
        covered = hit if span.kind == "at" else left > 0
        left = (span.n or 0) if hit else max(left - 1, 0)


def _follow_sentences(facts: TokenFacts, prompt_length: int) -> Follower:
    pending, before, last, position, covered = True, "", "", 0, False
    while True:
        token = yield covered
        text = facts.text(token)
        if position == prompt_length:
            pending = True
        covered = False
        if facts.has_content(token):
            decimal = text[:1].isdigit() and last == "." and before[-1:].isdigit()
            covered, pending = pending and not decimal, False
        if facts.ends_sentence(token):
            pending = True
        before, last, position = last, text, position + 1


def _follow_thinking(facts: TokenFacts, span: Span, sinks: int) -> Follower:
    """`sinks`: leading positions that are never covered."""
    (opening, closing), written = markers(facts, span), Written(facts)
    inside, covered, position = False, False, -1
    while True:
        token = yield covered
        position += 1
        before, turned, finder = inside, False, closing if inside else opening
        rest = finder.feed(token, written.push(token))
        while rest is not None:  # a token may hold the end of one marker and the next one
            inside, turned = not inside, True
            finder = closing if inside else opening
            finder.clear()
            rest = finder.feed(None, rest) if rest else None
        covered = before and not turned
        covered = covered if span.kind == "inside_thinking" else not covered and position >= sinks


class Coverage:
    """What one span covers in one row: `known` bool `[prompt + max_new_tokens]` (False where it depends on tokens to come)."""

    def __init__(self, model: Reads, span: Span, prompt_ids: Sequence[int], max_new_tokens: int):
        self.span, self.dynamic = span, span.dynamic
        self._total, self._position = len(prompt_ids) + max_new_tokens, 0
        self._fixed: dict[int, np.ndarray] = {}
        self._followers: dict[int, Follower] = {}
        for atom in span.atoms:
            if atom.dynamic:
                follower = _follow(model, atom, len(prompt_ids))
                next(follower)
                self._followers[id(atom)] = follower
            else:
                self._fixed[id(atom)] = _fixed(model, atom, prompt_ids, self._total)
        if self.dynamic:
            self.known = np.zeros(self._total, bool)
            for position, token in enumerate(prompt_ids):
                self.known[position] = self.next(token)
        else:
            self.known = self._whole(span)

    def _whole(self, span: Span) -> np.ndarray:
        if not span.parts:
            return self._fixed[id(span)]
        left, right = map(self._whole, span.parts)
        return left | right if span.kind == "union" else left & right if span.kind == "intersection" else left & ~right

    def next(self, token: int) -> bool:
        """Whether the next position is covered, given the token there. Only for dynamic spans, once per token, in order."""
        answers = {key: follower.send(token) for key, follower in self._followers.items()}
        position, self._position = self._position, self._position + 1

        def value(span: Span) -> bool:
            if not span.parts:
                return bool(answers[id(span)] if id(span) in answers else self._fixed[id(span)][position])
            left, right = map(value, span.parts)
            return (
                left or right
                if span.kind == "union"
                else left and right
                if span.kind == "intersection"
                else left and not right
            )

        return value(self.span)


def continued(model: Reads, span: Span, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> list[int]:
    """Positions that a span covers in a prompt with a given continuation. Raises BadInput as `Coverage`."""
    coverage = Coverage(model, span, prompt_ids, len(token_ids))
    covered = coverage.known.copy()
    if coverage.dynamic:
        for position, token in enumerate(token_ids, len(prompt_ids)):
            covered[position] = coverage.next(token)
    return np.flatnonzero(covered).tolist()
