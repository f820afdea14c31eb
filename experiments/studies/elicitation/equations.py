r"""Equations that natural text states, recomputed exactly, and numbers that come from nowhere.

1. An equation is a chain such as `12 * 3 = 36` or `2 + 3 + 4 = 5 + 4 = 9`, at least one side of which computes: numbers, brackets and
   + - * / with their usual spellings (x, ×, ÷, \times, \frac{a}{b}). It is right where neighbouring sides are equal as fractions; a side
   that is one number with decimals is right as the rounded value too. Sides with letters, powers or units are no equations here.
2. A number comes from nowhere where it stands neither in the question nor in a step before, and is not the result of an equation of its own
   step. Numbers that count steps or lines do not count, and number words of the question are known.
3. A step that states an equation is coherent where its equations are right and no number that they compute with comes from nowhere.

A weaker judge than the grammar of the built-in task: it reads what is written as an equation and nothing else, a number that is known from
the world (60 minutes) comes from nowhere to it, and a number of the question may be put to a wrong use.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

NUMBER = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,15})(?:\.\d{1,15})?|(?<![\w.])\.\d{1,15})%?"
_TOKEN = re.compile(rf"(?P<number>{NUMBER})|(?P<sign>[-+*/()=])|(?P<space>\s+)|(?P<other>\D)")
_COUNTS = re.compile(r"(?im)^[ \t*#>]*\d{1,2}[.):](?=\s)|^[ \t]*[-*](?=\s)|\bstep[ \t]+\d{1,2}\b")
_LONGEST = 200
"""Characters of one side of an equation that is read."""
_SPELLED = (
    (re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\\(?:times|cdot)\b|[×·∗]|(?<=\d)\s*x\s*(?=\d)|(?<=\s)x(?=\s\d)"), "*"),
    (re.compile(r"\\div\b|÷"), "/"),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[()\[\]%$]|\\(?:left|right)\b|[$€£]"), lambda found: "%" if found[0] == r"\%" else ""),
)
_WORDS = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
        "twenty half twice double triple quarter dozen".split(),
        map(Fraction, [*range(21), 2, 2, 2, 3, 4, 12]),
        strict=True,
    )
)


@dataclass(frozen=True)
class Stated:
    """An equation: whether it is right, and the numbers that it computes with and arrives at."""

    right: bool
    operands: tuple[Fraction, ...]
    results: tuple[Fraction, ...]


@dataclass(frozen=True)
class Claims:
    """What a step says in numbers: its equations, and its other numbers."""

    equations: tuple[Stated, ...]
    mentioned: tuple[Fraction, ...]

    @property
    def numbers(self) -> frozenset[Fraction]:
        """All of them, which later steps may use."""
        return frozenset(self.mentioned).union(*(own.operands + own.results for own in self.equations))

    def from_nowhere(self, known: frozenset[Fraction]) -> list[Fraction]:
        """Numbers that are not known and are no results of its own."""
        own = known.union(*(one.results for one in self.equations))
        said = [*self.mentioned, *(number for one in self.equations for number in one.operands)]
        return [number for number in dict.fromkeys(said) if number not in own]


def claims_of(text: str) -> Claims:
    """What a step says."""
    text = spelled(_COUNTS.sub(" ", text))
    found: list[Stated] = []
    rest, at = [], 0
    for start, end in _runs(text):
        equations = _stated(_balanced(text[start:end]).split("="))
        if equations:
            found += equations
            rest.append(text[at:start])
            at = end
    return Claims(tuple(found), tuple(dict.fromkeys(_numbers(" ".join([*rest, text[at:]])))))


def _runs(text: str) -> list[tuple[int, int]]:
    """Where numbers and signs stand in a row that can be read by itself: begun and ended by a number or bracket, with nothing beside it
    that belongs to it."""
    runs: list[list[re.Match[str]]] = [[]]
    continues: set[int] = set()
    """Runs beside which a number stands with nothing between (`1 1/2`), which are not read."""
    brackets: set[int] = set()
    """Runs that begin with a bracket behind a number: products, unless the equation stands in the bracket."""
    for token in _TOKEN.finditer(text):
        if token["space"]:
            if "\n" in token[0]:
                runs.append([])
            continue
        behind = runs[-1][-1] if runs[-1] else None
        if token["other"]:
            runs.append([])
        elif behind is not None and (behind["number"] or behind[0] == ")") and (token["number"] or token[0] == "("):
            if token["number"] or token.start() == behind.end():
                continues.update((len(runs) - 1, len(runs)))
            elif token[0] == "(":
                brackets.add(len(runs))
            runs.append([])
        if not token["other"]:
            runs[-1].append(token)
    found = []
    for place, run in enumerate(runs):
        signs = [token[0] for token in run]
        if "=" not in signs or place in continues or (place in brackets and ")" in signs[: signs.index("=")]):
            continue
        start, end = run[0].start(), run[-1].end()
        opens = run[0][0] == "-" and not re.search(r"[\w)^]\s*$", text[max(0, start - 9) : start])
        whole = (run[0]["number"] or run[0][0] in "(=" or opens) and (run[-1]["number"] or run[-1][0] == ")")
        touched = re.search(r"[\w.^]$|\^\s*$", text[max(0, start - 9) : start]) or re.match(
            r"[\w(]|\s*\^|\.\d", text[end:]
        )
        if whole and not touched:
            found.append((start if run[0][0] != "=" else run[1].start(), end))
    return found


def _balanced(text: str) -> str:
    """A run without a bracket that stands around the whole of it and more."""
    text = text.strip()
    for _ in range(text.count("(")):
        sides = text.split("=")
        if text.startswith("(") and sides[0].count("(") > sides[0].count(")"):
            text = text[1:].strip()
    for _ in range(text.count(")")):
        sides = text.split("=")
        if text.endswith(")") and sides[-1].count(")") > sides[-1].count("("):
            text = text[:-1].strip()
    return text


def known_of(question: str) -> frozenset[Fraction]:
    """The numbers of a question, those in words too."""
    words = re.findall(r"[a-z]+", question.lower())
    return frozenset(_numbers(spelled(question))) | {_WORDS[word] for word in words if word in _WORDS}


def supported(question: frozenset[Fraction], before: Sequence[Claims], later: Claims) -> bool | None:
    """Whether a step is coherent behind the steps before it; None where it states no equation."""
    if not later.equations:
        return None
    known, fine = question.union(*(step.numbers for step in before)), True
    for own in later.equations:
        fine = fine and own.right and all(number in known for number in own.operands)
        known = known | set(own.results)
    return fine


def spelled(text: str) -> str:
    """A text with one spelling of each sign of arithmetic."""
    for pattern, by in _SPELLED:
        text = pattern.sub(by, text)
    return text


def _stated(sides: Sequence[str]) -> list[Stated]:
    """The equations between neighbouring sides, those between two plain numbers left out. Operands are what the first side that computes
    computes with; numbers of all other sides follow from it."""
    values = [_value(side) for side in sides]
    plain = [re.fullmatch(rf"\s*-?\s*{NUMBER}\s*", side) is not None for side in sides]
    first = plain.index(False) if False in plain else -1
    found = []
    for at in range(len(sides) - 1):
        one, two = values[at], values[at + 1]
        if one is None or two is None or (plain[at] and plain[at + 1]):
            continue
        operands = [number for n in (at, at + 1) if n == first for number in _numbers(sides[n])]
        results = [number for n in (at, at + 1) if n != first for number in _numbers(sides[n])]
        right = one == two or any(plain[n] and _rounds(values[2 * at + 1 - n], sides[n]) for n in (at, at + 1))
        found.append(Stated(right, tuple(operands), tuple(results)))
    return found


def _rounds(exact: Fraction | None, written: str) -> bool:
    """Whether a number with decimals is the exact value, rounded to as many."""
    number = re.search(NUMBER, written)
    if exact is None or number is None or "." not in number[0]:
        return False
    half = Fraction(1, 2 * 10 ** len(number[0].rstrip("%").partition(".")[2]))
    value = _value(written)
    return value is not None and abs(value - exact) <= (half / 100 if number[0].endswith("%") else half)


def _numbers(text: str) -> list[Fraction]:
    return [Fraction(word.rstrip("%").replace(",", "")) for word in re.findall(rf"(?<![\w.]){NUMBER}", text)]


def _value(text: str) -> Fraction | None:
    """The value of one side; None where it is no arithmetic, or divides by zero, or is too long."""
    numbers: list[Fraction] = []
    if len(text) > _LONGEST:
        return None

    def name(found: re.Match[str]) -> str:
        value = Fraction(found[0].rstrip("%").replace(",", ""))
        numbers.append(value / 100 if found[0].endswith("%") else value)
        return f"n{len(numbers) - 1}"

    try:
        return _read(ast.parse(re.sub(NUMBER, name, text).strip(), mode="eval").body, numbers)
    except (SyntaxError, ZeroDivisionError):
        return None


def _read(node: ast.AST, numbers: Sequence[Fraction]) -> Fraction:
    if isinstance(node, ast.BinOp):
        one, two = _read(node.left, numbers), _read(node.right, numbers)
        if isinstance(node.op, ast.Add | ast.Sub):
            return one + two if isinstance(node.op, ast.Add) else one - two
        return one * two if isinstance(node.op, ast.Mult) else one / two
    if isinstance(node, ast.UnaryOp):
        return -_read(node.operand, numbers)
    if not isinstance(node, ast.Name):
        raise SyntaxError
    return numbers[int(node.id[1:])]
