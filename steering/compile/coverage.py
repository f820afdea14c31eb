"""From spans to positions of one row: what a span covers in a prompt, and token by token in what is generated after it.

1. `Coverage` answers for positions known in advance as one array, and follows generated tokens one at a time where the answer depends
   on them. It never looks ahead.
2. Text and regular expressions are looked up in the prompt as fed: character places come from decoding the ids, so nothing is
   tokenised a second time. A pattern that matches nothing is refused.
3. Padding has no position, so it cannot be covered.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import BadInput
from ..model.models import LoadedModel
from ..model.thinking import MARKERS, THINK, declared_markers, template_markers
from ..plan.span import Span

Follower = Generator[bool, int, None]
"""Sent one token at a time, answers whether a span covers it."""
_CLOSERS = " \t\r\n\"'”’)]}*_"
_ENDERS = ".!?;。！？"


@dataclass
class TokenFacts:
    """What spans ask of a tokenizer, remembered per token id."""

    model: LoadedModel
    _texts: dict[int, str] = field(default_factory=dict)
    _sequences: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def text(self, token: int) -> str:
        """What one id decodes to, special tokens spelled out."""
        if token not in self._texts:
            self._texts[token] = self.model.tokenizer.decode([token])
        return self._texts[token]

    def special(self, token: int) -> bool:
        return token in self.model.tokenizer.all_special_ids

    def ends_sentence(self, token: int) -> bool:
        """Ends in . ! ? or ; (closing quotes and brackets apart), or holds a line break."""
        text = self.text(token)
        return not self.special(token) and ("\n" in text or text.rstrip(_CLOSERS).endswith(tuple(_ENDERS)))

    def has_content(self, token: int) -> bool:
        """More than white space, sentence enders and closing quotes."""
        return not self.special(token) and bool(self.text(token).strip(_CLOSERS + _ENDERS))

    def sequence(self, wanted: str | tuple[int, ...]) -> tuple[int, ...]:
        """Ids of a token sequence given as ids or text. Raises BadInput for text that holds an unknown token."""
        if isinstance(wanted, tuple):
            vocabulary = len(self.model.tokenizer)
            if any(not 0 <= token < vocabulary for token in wanted):
                raise BadInput(
                    f"Token ids {wanted} are not all in the vocabulary of {self.model.id} (0 to {vocabulary - 1})."
                )
            return wanted
        if wanted not in self._sequences:
            ids = tuple(self.model.tokenizer(wanted, add_special_tokens=False)["input_ids"])
            if not ids or self._unreadable(wanted, ids):
                raise BadInput(
                    f"{wanted!r} is not text that the tokenizer of {self.model.id} knows; give token ids instead."
                )
            self._sequences[wanted] = ids
        return self._sequences[wanted]

    def _unreadable(self, text: str, ids: tuple[int, ...]) -> bool:
        """Whether part of `text` became an unknown token (which a tokenizer need not name)."""
        unknown = self.model.tokenizer.unk_token_id
        lost = [token for token in ids if self.special(token) and self.text(token) not in text]
        return bool(lost) or (unknown is not None and unknown in ids)

    def markers(self, span: Span) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Opening and closing marker of the thinking segment. Raises BadInput when the model has none and the span names none."""
        if span.tokens:
            opening, closing = span.tokens
            return self.sequence(opening), self.sequence(closing)
        vocabulary = self.model.tokenizer.get_vocab()
        tokens = [m for m in MARKERS if m.opening in vocabulary and m.closing in vocabulary]
        found = declared_markers(self.model) or tokens or template_markers(self.model.tokenizer)
        if not found:
            raise BadInput(
                f"{self.model.id} has no {THINK.opening} token; name the markers of its thinking segment, as in "
                f'{span.kind}:"<opening>","<closing>".'
            )
        return self.sequence(found[0].opening), self.sequence(found[0].closing)


def token_facts(model: LoadedModel) -> TokenFacts:
    """The facts of a model's tokenizer, made once per model."""
    return model.extra.setdefault("token_facts", TokenFacts(model))


def character_places(model: LoadedModel, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """The decoded text of `ids` and each token's (start, end) in it, white space at its edges left out."""
    facts = token_facts(model)
    pieces = [facts.text(token) for token in ids]
    text = model.tokenizer.decode(list(ids))
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    if "".join(pieces) != text:  # tokenizers that join by rule: measure by growing the text
        ends = [len(model.tokenizer.decode(list(ids[: i + 1]))) for i in range(len(ids))]
    places = []
    for index, end in enumerate(ends):
        start = ends[index - 1] if index else 0
        inside = text[start:end]
        left, right = len(inside) - len(inside.lstrip()), len(inside) - len(inside.rstrip())
        places.append((start + left, end - right) if inside.strip() else (start, end))
    return text, places


def _matches(model: LoadedModel, span: Span, ids: Sequence[int]) -> list[int]:
    text, places = character_places(model, ids)
    assert span.pattern is not None
    pattern = span.pattern if span.kind == "regex" else re.escape(span.pattern)
    found = [match.span() for match in re.finditer(pattern, text) if match.end() > match.start()]
    covered = [i for i, (low, high) in enumerate(places) if any(low < end and start < high for start, end in found)]
    if not covered:
        raise BadInput(
            f"Span {span} matches nothing in the prompt {text[:120]!r}; spans by text look in the prompt only."
        )
    return covered


def _fixed(model: LoadedModel, span: Span, ids: Sequence[int], total: int) -> np.ndarray:
    """Positions that a simple span covers whatever is generated, bool `[total]`."""
    prompt, covered = len(ids), np.zeros(total, bool)
    if span.kind == "all":
        covered[:] = True
    elif span.kind == "prompt":
        covered[:prompt] = True
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


def _follow(model: LoadedModel, span: Span, prompt_length: int) -> Follower:
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
        yield from _follow_thinking(facts, span)


def _follow_triggers(facts: TokenFacts, span: Span) -> Follower:
    wanted = [facts.sequence(tokens) for tokens in span.tokens]
    longest = max(map(len, wanted))
    recent: tuple[int, ...] = ()
    left, covered = 0, False
    while True:
        token = yield covered
        recent = (*recent, token)[-longest:]
        hit = any(recent[-len(sequence) :] == sequence for sequence in wanted)
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


def _follow_thinking(facts: TokenFacts, span: Span) -> Follower:
    opening, closing = facts.markers(span)
    recent: tuple[int, ...] = ()
    inside, covered = False, False
    while True:
        token = yield covered
        recent = (*recent, token)[-max(len(opening), len(closing)) :]
        if inside and recent[-len(closing) :] == closing:
            inside = False
            covered = False
        else:
            covered = inside
            if not inside and recent[-len(opening) :] == opening:
                inside = True
        covered = covered if span.kind == "inside_thinking" else not covered


class Coverage:
    """What one span covers in one row: `known` bool `[prompt + max_new_tokens]` (False where it depends on tokens to come)."""

    def __init__(self, model: LoadedModel, span: Span, prompt_ids: Sequence[int], max_new_tokens: int):
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


def continued(model: LoadedModel, span: Span, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> list[int]:
    """Positions that a span covers in a prompt with a given continuation. Raises BadInput as `Coverage`."""
    coverage = Coverage(model, span, prompt_ids, len(token_ids))
    covered = coverage.known.copy()
    if coverage.dynamic:
        for position, token in enumerate(token_ids, len(prompt_ids)):
            covered[position] = coverage.next(token)
    return np.flatnonzero(covered).tolist()
