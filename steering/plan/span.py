"""Spans: which token positions an intervention covers.

1. A span names positions of real tokens, counted from 0 at the first one fed (the BOS, where there is one); never padding.
2. Every span is causal: whether a generated position is covered depends only on the tokens up to and including it, so a row can be
   steered while it is being written. Text and regular expressions are therefore looked up in the prompt only.
3. Spans combine: `a | b` (either), `a & b` (both), `a - b` (a without b). A span reads back from its text form.
4. An edit at a position changes the prediction of the token after it: `last_prompt` steers the choice of the first generated token,
   `generated` steers every later one, and `at:"\\n\\n"` steers what follows a blank line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ..errors import BadInput, unknown

ATOMS: dict[str, str] = {
    "all": "",
    "prompt": "",
    "last_prompt": "",
    "generated": "",
    "first_n": "n",
    "after_n": "n",
    "window": "window",
    "position": "positions",
    "text": "pattern",
    "regex": "pattern",
    "at": "tokens",
    "after": "tokens n",
    "sentence_starts": "",
    "inside_thinking": "markers",
    "outside_thinking": "markers",
    "specials": "",
    "sinks": "",
}
"""Span kinds and the arguments they take."""
DYNAMIC = ("at", "after", "sentence_starts", "inside_thinking", "outside_thinking", "specials")
"""Kinds whose generated positions depend on the tokens generated."""
FLAGS = "iw"
"""What may follow a quoted text: ignore case; a whole word."""
COMBINATIONS = {"|": "union", "&": "intersection", "-": "difference"}
SYMBOLS = {kind: symbol for symbol, kind in COMBINATIONS.items()}


@dataclass(frozen=True)
class Span:
    """A set of positions.

    `first_n`: the first n generated tokens; `after_n`: those after the first n; `window`: generated tokens n to m - 1; `position`: prompt
    positions, negative from its end; `text`, `regex`: every match in the prompt; `at`: the token at which one of `tokens` is
    complete; `after`: the n tokens after such an occurrence; `sentence_starts`: the first token after one that ends a sentence (and the
    first generated token); `inside_thinking`: after the opening marker up to the closing one, `outside_thinking`: the rest (the two
    `tokens` are the markers, by default the model's own, as `<think>` and `</think>`); `specials`: BOS, EOS and the like; `sinks`:
    the model's attention sinks, which `all`, `prompt` and `outside_thinking` leave out (`all | sinks` takes them in).
    """

    kind: str
    n: int | None = None
    m: int | None = None
    positions: tuple[int, ...] = ()
    pattern: str | None = None
    tokens: tuple[str | tuple[int, ...], ...] = ()
    """What is looked for: ids, or text, which is found in the decoded text however tokens cut it."""
    flags: tuple[str, ...] = ()
    """Of each of `tokens`, or of the pattern: `i` ignores case, `w` wants a whole word, `iw` both; empty where none has any."""
    parts: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        self._settle_flags()
        if self.kind in SYMBOLS:
            if len(self.parts) != 2:
                raise BadInput(f"A {self.kind} combines two spans, not {len(self.parts)}.")
            return
        if self.kind not in ATOMS:
            raise unknown("span", self.kind, ATOMS)
        takes = ATOMS[self.kind]
        if "n" not in takes.split() and takes != "window" and self.n is not None:
            raise BadInput(f"Span {self.kind} takes no n (got {self.n}); use first_n:{self.n}.")
        if self.kind in ("first_n", "after") and (self.n is None or self.n < 1):
            raise BadInput(f"Span {self.kind} needs n of at least 1, not {self.n}: it would cover no token.")
        if self.kind == "after_n" and (self.n is None or self.n < 0):
            raise BadInput(f"Span after_n needs n of at least 0, not {self.n}.")
        if takes == "window" and (self.n is None or self.m is None or not 0 <= self.n < self.m):
            raise BadInput(
                f"Span window needs 0 <= start < end, as in window:4:12, not {self.n}:{self.m}: it would cover no token."
            )
        if takes == "positions" and not self.positions:
            raise BadInput("Span position needs at least one prompt position, as in position:0,-1.")
        if takes == "pattern":
            if not self.pattern:
                raise BadInput(f'Span {self.kind} needs a pattern, as in {self.kind}:"wait".')
            if self.kind == "regex":
                try:
                    re.compile(self.pattern)
                except re.error as error:
                    raise BadInput(
                        f"Span regex:{json.dumps(self.pattern)} is not a regular expression: {error}."
                    ) from error
        if takes == "markers" and len(self.tokens) not in (0, 2):
            raise BadInput(
                f'Span {self.kind} takes an opening and a closing marker, as in {self.kind}:"<think>","</think>".'
            )
        if takes.startswith("tokens") and (not self.tokens or not all(self.tokens)):
            raise BadInput(
                f'Span {self.kind} needs tokens, as ids or quoted text: {self.kind}:13 or {self.kind}:"wait".'
            )

    def _settle_flags(self) -> None:
        """Flags in one form. Raises BadInput for one that is not known, or stands after ids or a regular expression."""
        texts = self.tokens if self.tokens else (self.pattern,) if self.pattern is not None else ()
        given = self.flags or ("",) * len(texts)
        if len(given) != len(texts):
            raise BadInput(f"Span {self.kind} has {len(texts)} texts and flags for {len(given)}.")
        for text, flags in zip(texts, given, strict=True):
            if not set(flags) <= set(FLAGS):
                raise BadInput(
                    f"Span {self.kind}: {flags!r} after {text!r} is not understood; write i to ignore case, w for a whole word, or iw."
                )
            if flags and self.kind == "regex":
                raise BadInput(f"Span regex takes no {flags} after it; write (?i) or \\b in the expression.")
            if flags and not isinstance(text, str):
                raise BadInput(f"Span {self.kind}: {flags!r} goes with quoted text, not with ids.")
        settled = tuple("".join(sorted(set(flags))) for flags in given)
        object.__setattr__(self, "flags", settled if any(settled) else ())

    @property
    def atoms(self) -> tuple[Span, ...]:
        """The simple spans that this one is made of."""
        return tuple(a for part in self.parts for a in part.atoms) if self.parts else (self,)

    @property
    def generated_only(self) -> bool:
        """Whether it covers generated tokens alone, by its form."""
        if self.kind == "intersection":
            return any(part.generated_only for part in self.parts)
        if self.kind == "union":
            return all(part.generated_only for part in self.parts)
        if self.kind == "difference":
            return self.parts[0].generated_only
        return self.kind in ("generated", "first_n", "after_n", "window")

    @property
    def dynamic(self) -> bool:
        """Whether its generated positions depend on the tokens generated."""
        return any(atom.kind in DYNAMIC for atom in self.atoms)

    def __or__(self, other: Span) -> Span:
        return Span("union", parts=(self, other))

    def __and__(self, other: Span) -> Span:
        return Span("intersection", parts=(self, other))

    def __sub__(self, other: Span) -> Span:
        return Span("difference", parts=(self, other))

    def __str__(self) -> str:
        if self.kind in SYMBOLS:
            left, right = (f"({p})" if p.parts else str(p) for p in self.parts)
            return f"{left} {SYMBOLS[self.kind]} {right}"
        if self.pattern is not None:
            return f"{self.kind}:{json.dumps(self.pattern)}{''.join(self.flags)}"
        if self.positions:
            return f"position:{','.join(map(str, self.positions))}"
        words = [self.kind]
        if self.tokens:
            flags = self.flags or ("",) * len(self.tokens)
            texts = (
                json.dumps(t) + own if isinstance(t, str) else "+".join(map(str, t))
                for t, own in zip(self.tokens, flags, strict=True)
            )
            words.append(",".join(texts))
        return ":".join([*words, *(str(v) for v in (self.n, self.m) if v is not None)])

    @staticmethod
    def parse(text: str | Span) -> Span:
        """Span from its text form: `generated`, `first_n:8`, `at:"\\n\\n"`, `after:13+5,"wait"iw:3`, `(prompt | first_n:4) - specials`.

        `&` binds tighter than `|` and `-`, which go from left to right. Raises BadInput where it does not parse.
        """
        if isinstance(text, Span):
            return text
        return _Parser(text).whole()


_TOKEN = re.compile(r'\s*([()|&-]|[a-z_]+(?::(?:"(?:[^"\\]|\\.)*"|[^\s()|&"])*)?)')


class _Parser:
    def __init__(self, text: str):
        self.text, self.words, at = text, [], 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise BadInput(f"Span {text!r} cannot be read from {text[at:].strip()[:20]!r} on.")
            self.words.append(match[1])
            at = match.end()
        self.words.reverse()

    def whole(self) -> Span:
        if not self.words:
            raise BadInput("The span is empty; name one, such as generated.")
        span = self.sums()
        if self.words:
            raise BadInput(f"Span {self.text!r}: {self.words[-1]!r} does not belong there.")
        return span

    def sums(self) -> Span:
        span = self.products()
        while self.words and self.words[-1] in "|-":
            span = Span(COMBINATIONS[self.words.pop()], parts=(span, self.products()))
        return span

    def products(self) -> Span:
        span = self.single()
        while self.words and self.words[-1] == "&":
            self.words.pop()
            span = Span("intersection", parts=(span, self.single()))
        return span

    def single(self) -> Span:
        if not self.words or self.words[-1] in "|&-)":
            raise BadInput(
                f"Span {self.text!r}: a span is missing{f' before {self.words[-1]!r}' if self.words else ' at the end'}."
            )
        word = self.words.pop()
        if word != "(":
            return _atom(word)
        span = self.sums()
        if not self.words or self.words.pop() != ")":
            raise BadInput(f"Span {self.text!r}: a closing bracket is missing.")
        return span


def _atom(word: str) -> Span:
    kind, _, rest = word.partition(":")
    if kind not in ATOMS:
        raise unknown("span", kind, ATOMS)
    takes = ATOMS[kind]
    if not rest:
        return Span(kind)
    if takes == "pattern":
        pattern, flags = _flagged(rest, word)
        return Span(kind, pattern=pattern, flags=(flags,))
    if takes == "positions":
        return Span(kind, positions=tuple(_number(p, word) for p in rest.split(",")))
    if takes == "window":
        low, _, high = rest.partition(":")
        return Span(kind, _number(low, word), _number(high, word))
    if takes.startswith("tokens") or takes == "markers":
        pieces = re.findall(r'"(?:[^"\\]|\\.)*"[a-z]*|[^,:"]+|:', rest)
        colon = pieces.index(":") if ":" in pieces else len(pieces)
        if ",".join(pieces[:colon]) + "".join(pieces[colon:]) != rest:
            raise BadInput(f"Span {word}: write texts in double quotes or ids, with commas between them.")
        found = [
            _flagged(p, word) if p.startswith('"') else (tuple(_number(i, word) for i in p.split("+")), "")
            for p in pieces[:colon]
        ]
        n = _number("".join(pieces[colon + 1 :]), word) if colon < len(pieces) else (1 if kind == "after" else None)
        return Span(kind, n, tokens=tuple(wanted for wanted, _ in found), flags=tuple(flags for _, flags in found))
    return Span(kind, _number(rest, word))


def _flagged(text: str, where: str) -> tuple[str, str]:
    """Quoted text and the letters after it."""
    quoted = text.rstrip("abcdefghijklmnopqrstuvwxyz") if text.startswith('"') else text
    return _quoted(quoted, where), text[len(quoted) :]


def _quoted(text: str, where: str) -> str:
    try:
        value: Any = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, str):
        raise BadInput(f"Span {where}: write the text in double quotes.")
    return value


def _number(text: str, where: str) -> int:
    if not re.fullmatch(r"-?\d+", text.strip()):
        raise BadInput(f"Span {where!r}: {text!r} must be a whole number, as in first_n:8.")
    return int(text)
