r"""The value that a sentence states.

1. Sentences end at a full stop, at a line's end, or with the text; what is left of a text that breaks off is no sentence. A formula is
   never cut, and a display formula belongs to the line before it. Dollars before amounts of money delimit no formula.
2. The value is what the last "is", "are", "has", ... or `=` leads to: a formula between dollars or brackets (right of its last `=`), or a
   run of numbers, letters and signs in plain text. What follows a "which" or "when" is looked at last.
3. A sentence without such a verb states its last formula, or its last number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_DISPLAY = re.compile(r"\$\$(.{1,1500}?)\$\$|\\\[(.{1,1500}?)\\\]|\\\((.{1,1500}?)\\\)", re.S)
_INLINE = re.compile(r"(?:[^$\\\n]|\\[^\n]){1,1500}")
_PROSE = re.compile(r"\\[A-Za-z]+\s*(?:\{[^{}]*\})?|[A-Za-z]{3,}")
LONGEST = 400
"""Characters of the longest value in plain text."""
TRIED = 200
"""Verbs and signs at the end of a sentence that are looked at."""
_NUMBER = re.compile(r"-?\$?-?\d[\d,]{0,60}(?:\.\d{1,60})?(?:\s?/\s?\d{1,40})?\s?%?|-?\.\d{1,40}")
_VERB = re.compile(
    r"\b(?:is|are|was|equals?|has|have|had|gives?|gets?|be|becomes?|yields?|obtain|costs?|earns?|sum to|simplifies to|or|"
    r"approximately|about)\b"
    r"[ \t]*:?|[=\u2248:]",
    re.I,
)
_FILLER = re.compile(
    r"(?:\s|\*\*|:|\b(?:only|about|approximately|exactly|equal|to|given|by|therefore|thus|also|simply|indeed|just|now|the|an?|point|interval|"
    r"set|option|choice|number|value|fraction|there|be|is|are|in|interval notation)\b)*",
    re.I,
)
_RUN = re.compile(
    r"(?:sqrt|\bpi\b|\binfinity\b|\binf\b|(?:cot|sin|cos|tan|log|ln)(?![a-z])|\bU\b|(?<![A-Za-z])[A-Za-z](?![A-Za-z])|\d|[\u03c0\u221a\u221e\u00b0\u222a\u00d7\u00f7\u2212\u2264\u2265\u00b2\u00b3]"
    r"|\.(?=\d)|[-+*/^()=\[\]{}|%!<>_\u2248]|,(?=\s?[-\d(\u221e\u03c0\u221a\\])|\\[A-Za-z]+|\\[{}$%!,]|\$(?=\d)|[ ])+"
)
_TAIL = re.compile(
    r",? (?:which|since|because|where|when|whenever|assuming|for which|if|as required|provided|that are|after|among)\b",
    re.I,
)
_ARTICLE = re.compile(r"(?<=[\d)}%]) +a$")
_SCALE = re.compile(r"(?i)\s*(?:hundred|thousand|million|billion|trillion|dozen)\b")
_REASON = re.compile(r",? (?:since|because|where|when|whenever|assuming|as required|provided)\b", re.I)
_CONDITION = re.compile(r"\W*(?:if|when|since|after|given|because|as|assuming)\b", re.I)
_SUM = re.compile(r"[\d)%][\d\s.,$)%A-Za-z/]{0,40}=\s?\$?-?\d")
"""An equality of numbers in plain text."""
_COMPUTED = re.compile(r"\s*\$?\d[\d,.]*%?(?:\s+[A-Za-z]+){1,3}\s*[-+*/\u00d7\u00f7]\s[^,;=]{1,80}=")
_FUNCTIONS = ("sin", "cos", "tan", "cot", "log", "exp", "lim", "max", "min", "mod", "gcd", "lcm", "sqrt", "and")
_END = re.compile(r"[.;!?](?=\s|$|[A-Z][a-z])|\n+")


@dataclass(frozen=True)
class Formula:
    """A formula between delimiters: its characters, end exclusive, and what stands between the delimiters."""

    start: int
    end: int
    inner: str


def formulas(text: str) -> list[Formula]:
    """The formulas of a text, in order. A dollar before an amount of money opens none: `$50 - $35 = $15` has no formula."""
    found: list[Formula] = []
    at = 0
    display = {m.start(): m for m in _DISPLAY.finditer(text)}
    for match in re.finditer(r"\\.|\$\$?|\\", text, re.S):
        start = match.start()
        if start < at:
            continue
        if whole := display.get(start):
            found.append(Formula(start, whole.end(), str(next(g for g in whole.groups() if g)).strip()))
            at = whole.end()
        elif match.group() == "$":
            inner = _INLINE.match(text, start + 1)
            if inner and text[inner.end() : inner.end() + 1] == "$" and _delimits(text, inner.group(), inner.end()):
                found.append(Formula(start, inner.end() + 1, inner.group().strip()))
                at = inner.end() + 1
    return found


def _delimits(text: str, inner: str, closing: int) -> bool:
    """Whether the dollars around a piece of one line are those of a formula rather than of two amounts."""
    after = text[closing + 1 : closing + 2]
    amount = inner[:1].isdigit() or inner[:1] == "."
    if after.isdigit() and (amount or inner[-1:] in " -+(=,/"):
        return False
    if inner[-1:].isspace() and not inner[:1].isspace():
        return False
    words = [w for w in _PROSE.findall(inner) if not w.startswith("\\") and w not in _FUNCTIONS]
    return not (amount and words)


def sentences(text: str, finished: bool) -> list[str]:
    """The complete sentences of a text, in order; the last piece only where the text is finished."""
    spans = [(f.start, f.end) for f in formulas(text)]
    found, start, at = [], 0, 0
    for match in _END.finditer(text):
        while at < len(spans) and spans[at][1] <= match.start():
            at += 1
        if at < len(spans) and spans[at][0] <= match.start():
            continue
        rest = text[match.end() : match.end() + 4].lstrip()
        if (
            match.group().startswith("\n")
            and rest.startswith(("\\[", "$$"))
            and not text[start : match.start()].rstrip().endswith(".")
        ):
            continue
        piece = text[start : match.start()].strip()
        if piece:
            found.append(piece)
        start = match.end()
    rest = text[start:].strip()
    return [*found, rest] if rest and finished else found


def says(sentence: str, leading: bool = False, words: bool = False) -> str | None:
    """The value that a sentence states; None where it states none. `leading`: it begins with it. `words`: six may be one."""
    if leading and not _COMPUTED.match(sentence):
        value = _expression(sentence, 0, formulas(sentence))
        if value:
            return value
    value = stated(sentence)
    if value:
        return value
    written = formulas(sentence)
    if written:
        return right_side(written[-1].inner)
    numbers = list(_NUMBER.finditer(sentence))
    if numbers:
        scale = _SCALE.match(sentence, numbers[-1].end())
        return numbers[-1].group().strip() + (f" {scale.group().strip()}" if scale else "")
    bare = sentence.strip(" .*_`")
    return bare if words and 0 < len(bare.split()) <= 6 else None


def stated(sentence: str) -> str | None:
    """The value that a verb or an equality of a sentence leads to, what follows a "which" last, unless that is the computation."""
    cut = None if _CONDITION.match(sentence) else _TAIL.search(sentence)
    if cut and not _REASON.match(sentence, cut.start()) and "=" not in sentence[: cut.start()]:
        cut = None if _SUM.search(sentence, cut.start()) else cut
    return (_stated(sentence[: cut.start()]) if cut else None) or _stated(sentence)


def _stated(part: str) -> str | None:
    spans = formulas(part)
    found: list[tuple[int, str]] = [(f.start, right_side(f.inner)) for f in spans if _equals(f.inner)]
    for match in reversed(list(_VERB.finditer(part))[-TRIED:]):
        if found and match.start() < found[-1][0]:
            break
        if not any(f.start <= match.start() < f.end for f in spans):
            value = _expression(part, match.end(), spans)
            if value:
                found.append((match.start(), value))
                break
    return found[-1][1] if found else None


def _expression(text: str, at: int, written: Sequence[Formula]) -> str | None:
    """The formula, or the run of plain mathematics, that begins at a place, after words that say nothing."""
    filler = _FILLER.match(text, at, at + LONGEST)
    start = filler.end() if filler else at
    formula = next((f for f in written if f.start == start), None)
    if formula:
        return right_side(formula.inner)
    run = _RUN.match(text, start, start + LONGEST)
    if run and run.end() == start + LONGEST:
        return None
    value = _ARTICLE.sub("", run.group().strip(" ,=").rstrip(" /")) if run else ""
    scale = _SCALE.match(text, run.end()) if run and re.fullmatch(r"\$?[\d,.]+", value) else None
    if run and scale and text[: run.end()].rstrip().endswith(value):
        return f"{value} {scale.group().strip()}"
    # A letter by itself, or an article, is no value; an option letter in brackets is.
    if re.search(r"[\d\u03c0\u221e]|\\[A-Za-z]", value) or re.fullmatch(r"\([A-J]\)|\[[A-J]\]|[B-HJ-Z]", value):
        return right_side(value)
    return None


def _equals(formula: str) -> bool:
    return "\\begin" not in formula and bool(re.search(r"(?<![<>!\\])=", formula))


def right_side(formula: str) -> str:
    """What stands right of the last `=` of a chain of equalities; of `x = 3`, and of a formula without `=`, the whole."""
    formula = formula.strip().rstrip(".,")
    if not _equals(formula):
        return formula
    left, _, right = formula.rpartition("=")
    if not right.strip() or re.fullmatch(r"\s*[a-zA-Z]\s*", left):
        return formula
    return right.strip()
