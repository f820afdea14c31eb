"""The text that tokens make, and where in it what is looked for ends: however the tokens cut it.

1. Text is what decoding gives, special tokens spelled out; nothing is tokenised a second time. It grows token by token (`Written`): a token
   that ends inside a character has no text until the character is whole.
2. An occurrence is complete at the first token that holds its last character, whether that token begins inside it, ends with it or goes
   on after it (`Finder`). Occurrences may overlap.
3. Nothing looks ahead: whether a word ends with a token is decided by the text up to that token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from os.path import commonprefix

from ..errors import BadInput
from ..model.reader import Reads
from ..model.thinking import MARKERS, THINK, declared_markers, template_markers
from ..plan.span import Span

_CLOSERS = " \t\r\n\"'”’)]}*_"
_ENDERS = ".!?;。！？"
_BLANK = "\u2581"
"""How vocabularies write the blank that a token begins with, where decoding it alone leaves it out."""
REMEMBERED = 65_536
"""Texts of neighbouring tokens that are remembered."""
LONGEST_CHARACTER = 8
"""Tokens after which an unfinished character is taken as it is."""


@dataclass
class TokenFacts:
    """What spans ask of a tokenizer, remembered per token id."""

    model: Reads
    _texts: dict[tuple[int, ...], str] = field(default_factory=dict)
    _sequences: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def decoded(self, tokens: tuple[int, ...]) -> str:
        """What a few tokens decode to, special ones spelled out."""
        if tokens not in self._texts:
            if len(self._texts) >= REMEMBERED:
                self._texts.clear()
            self._texts[tokens] = self.model.tokenizer.decode(list(tokens)) if tokens else ""
        return self._texts[tokens]

    def text(self, token: int) -> str:
        """What one id decodes to, special tokens spelled out."""
        return self.decoded((token,))

    def joined(self, token: int, piece: str) -> bool:
        """Whether the blank before a token's `piece` is put there by decoding and belongs to neither of the two tokens."""
        if not piece.startswith(" ") or self.text(token).startswith(" "):
            return False
        return not str(self.model.tokenizer.convert_ids_to_tokens(token)).startswith(_BLANK)

    def special(self, token: int) -> bool:
        return token in self.model.tokenizer.all_special_ids

    def ends_sentence(self, token: int) -> bool:
        """Ends in . ! ? or ; (closing quotes and brackets apart), or holds a line break."""
        text = self.text(token)
        return not self.special(token) and ("\n" in text or text.rstrip(_CLOSERS).endswith(tuple(_ENDERS)))

    def has_content(self, token: int) -> bool:
        """More than white space, sentence enders and closing quotes."""
        return not self.special(token) and bool(self.text(token).strip(_CLOSERS + _ENDERS))

    def check_ids(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """The ids themselves. Raises BadInput for one outside the vocabulary."""
        vocabulary = len(self.model.tokenizer)
        if any(not 0 <= token < vocabulary for token in wanted):
            raise BadInput(
                f"Token ids {wanted} are not all in the vocabulary of {self.model.id} (0 to {vocabulary - 1})."
            )
        return wanted

    def check_text(self, wanted: str, flags: str) -> str:
        """The text itself. Raises BadInput for one that no tokens of the model make, in any case where case is ignored."""
        forms = [wanted, *([wanted.lower(), wanted.upper(), wanted.capitalize()] if "i" in flags else [])]
        if not any(self._readable(form) for form in forms):
            raise BadInput(
                f"{wanted!r} is not text that the tokenizer of {self.model.id} knows; give token ids instead."
            )
        return wanted

    def _readable(self, text: str) -> bool:
        """Whether no part of `text` becomes an unknown token (which a tokenizer need not name)."""
        if text not in self._sequences:
            self._sequences[text] = tuple(self.model.tokenizer(text, add_special_tokens=False)["input_ids"])
        ids, unknown = self._sequences[text], self.model.tokenizer.unk_token_id
        lost = [token for token in ids if self.special(token) and self.text(token) not in text]
        return bool(ids) and not lost and (unknown is None or unknown not in ids)


def token_facts(model: Reads) -> TokenFacts:
    """The facts of a model's tokenizer, made once per model."""
    return model.extra.setdefault("token_facts", TokenFacts(model))


class Written:
    """The text of a sequence that grows by one token at a time."""

    def __init__(self, facts: TokenFacts):
        self._facts = facts
        self._window: tuple[int, ...] = ()
        """The latest tokens: some whose text has been given, and those whose text is not whole yet."""
        self._given = 0

    def push(self, token: int) -> str:
        """The text that becomes whole with the next token; empty while a character is not finished."""
        window = (*self._window, token)
        before, now = self._facts.decoded(window[: self._given]), self._facts.decoded(window)
        if now.endswith("\ufffd") and len(window) - self._given < LONGEST_CHARACTER:
            self._window = window
            return ""
        kept = len(before) if now.startswith(before) else len(commonprefix([before, now]))
        self._window, self._given = window[self._given :], len(window) - self._given
        return now[kept:]

    @property
    def waiting(self) -> int:
        """Tokens whose text is not whole yet."""
        return len(self._window) - self._given


def expression(text: str, flags: str = "") -> re.Pattern[str]:
    """A pattern that matches empty where `text` begins, and has it as its first group. `i` ignores case; `w` wants no letter, digit or
    underscore next to it, where it begins or ends with one itself."""
    before = r"(?<!\w)" if "w" in flags and re.match(r"\w", text) else ""
    after = r"(?!\w)" if "w" in flags and re.search(r"\w\Z", text) else ""
    return re.compile(f"{before}(?=({re.escape(text)}){after})", re.IGNORECASE if "i" in flags else 0)


class Finder:
    """Looks for one text, or one sequence of ids, in tokens that come one at a time."""

    def __init__(self, facts: TokenFacts, wanted: str | tuple[int, ...], flags: str = ""):
        self._ids = facts.check_ids(wanted) if isinstance(wanted, tuple) else None
        self._pattern = expression(facts.check_text(wanted, flags), flags) if isinstance(wanted, str) else None
        self._reach = len(wanted) + 1
        self.clear()

    def clear(self) -> None:
        """Forget what came before."""
        self._recent: tuple[int, ...] = ()
        self._tail = ""

    def feed(self, token: int | None, piece: str) -> str | None:
        """The rest of `piece` after the first occurrence that ends in it (empty for ids); None where none does."""
        if self._ids is not None:
            if token is None:
                return None
            self._recent = (*self._recent, token)[-len(self._ids) :]
            return "" if self._recent == self._ids else None
        assert self._pattern is not None
        before, text = len(self._tail), self._tail + piece
        self._tail = text[-self._reach :]
        ends = (match.end(1) for match in self._pattern.finditer(text))
        first = next((end for end in ends if end > before), None)
        return None if first is None else text[first:]


def finders(facts: TokenFacts, span: Span) -> list[Finder]:
    """One for each of the tokens that a span names."""
    flags = span.flags or ("",) * len(span.tokens)
    return [Finder(facts, wanted, own) for wanted, own in zip(span.tokens, flags, strict=True)]


def markers(facts: TokenFacts, span: Span) -> tuple[Finder, Finder]:
    """Of the opening and the closing marker of the thinking segment. Raises BadInput when the model has none and the span names none."""
    if span.tokens:
        opening, closing = finders(facts, span)
        return opening, closing
    vocabulary = facts.model.tokenizer.get_vocab()
    tokens = [m for m in MARKERS if m.opening in vocabulary and m.closing in vocabulary]
    found = declared_markers(facts.model) or tokens or template_markers(facts.model.tokenizer)
    if not found:
        raise BadInput(
            f"{facts.model.id} has no {THINK.opening} token; name the markers of its thinking segment, as in "
            f'{span.kind}:"<opening>","<closing>".'
        )
    return Finder(facts, found[0].opening), Finder(facts, found[0].closing)


def character_places(model: Reads, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """The decoded text of `ids` and each token's (start, end) in it. A blank that decoding puts between two tokens belongs to neither;
    tokens that make one character together have its place."""
    facts = token_facts(model)
    written, text, places = Written(facts), "", []
    waiting = 0
    for token in ids:
        piece = written.push(token)
        waiting += 1
        if piece or not written.waiting:
            start = len(text) + (waiting == 1 and facts.joined(token, piece))
            text += piece
            places += [(start, len(text))] * waiting
            waiting = 0
    return text, [*places, *[(len(text), len(text))] * waiting]
