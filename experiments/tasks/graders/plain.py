"""Graders that need no algebra: exact match, numeric match, multiple choice.

1. Exact match compares letters after trimming, without case and inner runs of white space unless asked for.
2. Numeric match reads both sides as decimal numbers, fractions, mixed numbers, powers of ten, number words or percentages, exactly; a unit
   that only one of them has says nothing. Asked how many times, it reads once, twice, thrice and four times as well. A tolerance is
   relative to the right answer.
3. Multiple choice reads one option letter: boxed, announced, concluded, or at the start. What a clause calls wrong is not chosen, and two
   letters are no answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from steering.errors import BadInput

from .final import ANNOUNCED, CONCLUDED, Final, graded, short_line
from .grade import NOTHING, Grade, Known, unscorable, verdict
from .quantity import Quantity, agree, quantity
from .shape import shape
from .spelling import TEXT, cleaned, in_scale, rational, times_spelled, undelimited

LARGEST = 1_400
"""Bits of the largest number that is read, and of the smallest one's inverse."""


@dataclass(frozen=True)
class ExactGrader:
    """The same letters. `whole`: the response itself is the answer, rather than its final answer; so is a response of one short line."""

    case: bool = False
    whole: bool = False
    lenient: bool = False
    """Whether an answer counts that stands in a thinking segment which ends the response."""
    name: str = "exact"

    @property
    def facts(self) -> dict[str, object]:
        facts = {"case": self.case, "whole": self.whole, "lenient": self.lenient}
        return {"grader": self.name, "version": 3, **facts}

    def grade(self, question: str, gold: str, text: str, known: Known = NOTHING) -> Grade:
        if not self.whole:
            return graded(self.name, text, known, self.lenient, lambda final: self._judged(gold, final, known))
        return self._judged(
            gold, Final(text.strip() or None, "the whole response" if text.strip() else "the response is empty")
        )

    def _judged(self, gold: str, final: Final, known: Known = NOTHING) -> Grade:
        line = short_line(final, known)
        answer, how = final.text, final.how
        if answer is None and line:
            answer, how = line, "the response is one short line"
        if answer is None:
            return unscorable(self.name, None, how)
        spellings = {self._spelled(answer), self._spelled(TEXT.sub(r"\1", undelimited(answer)))}
        if line:  # "15:45" ends with a number that is not the answer
            spellings.add(self._spelled(line))
        return verdict(self.name, answer, self._spelled(gold) in spellings, f"{how}; compared letter by letter")

    def _spelled(self, text: str) -> str:
        text = " ".join(text.split())
        return text if self.case else text.casefold()


@dataclass(frozen=True)
class NumericGrader:
    """The same number, or one within `tolerance` of the right one, relative to it."""

    tolerance: float = 0.0
    lenient: bool = False
    """Whether an answer counts that stands in a thinking segment which ends the response."""
    name: str = "numeric"

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise BadInput(
                f"A tolerance of {self.tolerance} is out of range; it is a share of the right answer, such as 0.01."
            )

    @property
    def facts(self) -> dict[str, object]:
        return {"grader": self.name, "version": 3, "tolerance": self.tolerance, "lenient": self.lenient}

    def grade(self, question: str, gold: str, text: str, known: Known = NOTHING) -> Grade:
        right = _measured(gold) or _measured(gold, letters=True)
        if right is None:
            raise BadInput(f"The answer {gold[:80]!r} is no number; grade this data set with `math` or `exact`.")
        return graded(self.name, text, known, self.lenient, lambda final: self._judged(question, right, final, known))

    def _judged(self, question: str, right: tuple[Fraction, Quantity], final: Final, known: Known) -> Grade:
        if final.text is None:  # "The letter occurs twice." states no number by its digits
            stated = (
                "" if known.complete is False or final.unclosed else final.closing or short_line(final, known) or ""
            )
            if (times := times_spelled(stated, question)) is None:
                return unscorable(self.name, None, final.how)
            final = replace(final, text=times, how="last statement")
        assert final.text is not None
        found = _measured(in_scale(final.text, question), letters=right[1].dimensions is not None)
        if found is None and (times := times_spelled(final.text, question)) is not None:
            found = _measured(times)
        if found is None:
            return unscorable(self.name, final.text, f"{final.how}; it is no number")
        if not agree(right[1], found[1]):
            return verdict(self.name, final.text, False, f"{final.how}; the units disagree")
        both = right[1].dimensions is not None and found[1].dimensions is not None
        value = found[0] * (found[1].factor / right[1].factor if both else 1)
        near = abs(value - right[0]) <= Fraction(self.tolerance) * abs(right[0])
        return verdict(self.name, final.text, near, f"{final.how}; compared as numbers")


def number(text: str) -> Fraction | None:
    """A number as it is written in an answer, exactly, without its unit; a percentage is a hundredth. None for anything else, and for
    numbers beyond about 400 digits."""
    found = _measured(text)
    return found[0] if found else None


def _measured(text: str, letters: bool = False) -> tuple[Fraction, Quantity] | None:
    """A number and its unit, which may be a single letter where `letters`. Percentages are numbers without one."""
    written = shape(cleaned(text))
    if written["kind"] != "leaf":
        return None
    measured = quantity(written["text"], letters)
    value = rational(measured.value)
    if value is None or max(value.numerator.bit_length(), value.denominator.bit_length()) > LARGEST:
        return None
    if measured.dimensions == (("percent", 1),):
        return value / 100, Quantity(measured.value)
    return value, measured


@dataclass(frozen=True)
class ChoiceGrader:
    """One option letter out of `letters`."""

    letters: str = "ABCDE"
    lenient: bool = False
    """Whether an answer counts that stands in a thinking segment which ends the response."""
    name: str = "choice"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]{2,26}", self.letters):
            raise BadInput(f"The letters of a multiple choice are capitals such as ABCD, not {self.letters!r}.")

    @property
    def facts(self) -> dict[str, object]:
        return {"grader": self.name, "version": 2, "letters": self.letters, "lenient": self.lenient}

    def grade(self, question: str, gold: str, text: str, known: Known = NOTHING) -> Grade:
        right = self._alone(gold) or self._leading(gold)
        if right is None:
            raise BadInput(f"The answer {gold[:80]!r} is none of the letters {self.letters}.")
        return graded(self.name, text, known, self.lenient, lambda final: self._judged(right, final))

    def _judged(self, right: str, final: Final) -> Grade:
        found = self._found(final)
        if found is None:
            return unscorable(self.name, None, "no single option letter was given")
        return verdict(self.name, found, found == right, "compared as option letters")

    def _found(self, final: Final) -> str | None:
        if final.how in ("boxed", "after ####") and final.text is not None:
            chosen = self._chosen(final.text)
            return (
                self._alone(final.text)
                or (self._leading(final.text) if len(chosen) < 2 else None)
                or self._one(final.text)
            )
        body = final.body.strip()
        sentence = final.sentence or final.closing
        announced = list(ANNOUNCED.finditer(sentence))
        if announced:
            rest = sentence[announced[-1].end() :]
            return self._alone(rest) or self._one(rest)
        if final.sentence and (one := self._one(sentence)):
            return one
        last = body.splitlines()[-1] if body else ""
        if CONCLUDED.search(last) and (one := self._one(last)):
            return one
        lines = [m for line in body.splitlines() if (m := self._leading(line))]
        first = body.splitlines()[0] if body else ""
        if lines and len(set(lines)) == 1 and self._leading(first) and len(self._chosen(first)) < 2:
            return self._one(first) or (None if _WRONG.search(first) else lines[0])
        return self._alone(body) or self._one(sentence or body[-400:])

    def _alone(self, text: str) -> str | None:
        """The letter that a text is, whatever stands around it."""
        bare = _plain(text)
        found = re.fullmatch(rf"(?i)(?:option|choice|answer)?[\s:]*[(\[]?([{self.letters}])[)\]]?", bare)
        return found[1].upper() if found else None

    def _leading(self, text: str) -> str | None:
        """The letter that a text begins with, as options are lettered: `(B) Paris`, `B. Paris`, `B: Paris`."""
        found = re.match(rf"[(\[]?([{self.letters}])(?:[)\]]|[.:](?=\s|$)|\s*$)", _plain(text))
        return found[1] if found else None

    def _one(self, text: str) -> str | None:
        """The only letter that a text chooses."""
        found = self._chosen(text)
        return found.pop() if len(found) == 1 else None

    def _chosen(self, text: str) -> set[str]:
        """The letters that a text speaks of and does not call wrong; those that it calls right, where it does."""
        said: set[str] = set()
        right: set[str] = set()
        wrong: set[str] = set()
        bare = _plain(text)
        chosen = _REASON.sub("", bare)
        for clause in _CLAUSE.split(chosen if self._named(chosen) else bare):
            found = set(self._named(clause))
            (wrong if _WRONG.search(clause) else right if _RIGHT.search(clause) else said).update(found)
        return (right or said) - wrong

    def _named(self, clause: str) -> list[str]:
        """The option letters of a clause: capitals that are no article and no "I", and any letter in brackets or called an option."""
        named = re.findall(
            rf"(?i)(?:\b(?:option|choice|answer|letter)s?\s+[(\[]?|[(\[])([{self.letters}])(?![A-Za-z])", clause
        )
        bare = re.finditer(
            rf"(?<![A-Za-z'\[(])([{self.letters}])(?![A-Za-z'])(?!\s+[a-z]+)|(?<![A-Za-z'\[(])([{self.letters}])(?=\s+(?:{_AFTER})\b)",
            clause,
        )
        return [n.upper() for n in named] + [
            m[1] or m[2] for m in bare if (m[1] or m[2]) != "I" or clause.strip() == "I"
        ]


_AFTER = "is|was|are|because|since|as|seems|must|would|fits|works|and|or|cannot|can|has|gives|matches|but"
_REASON = re.compile(r"(?i)\b(?:because|since)\b[^.;\n]*")
_CLAUSE = re.compile(
    r",(?!\s*(?:and\s+|or\s+)?[(\[]?[A-Z][)\]]?\s*(?:,|and\b|or\b|$|\.))|;|\.(?=\s|$)|\b(?:but|while|whereas|[Ss]o|therefore|hence|thus|rather)\b|\n"
)
_WRONG = re.compile(
    r"(?i)\b(?:wrong|incorrect|false|not|isn't|aren't|cannot|can't|neither|nor|eliminate[ds]?|"
    r"rul(?:e|ed|es|ing) out|excluded?|reject(?:ed)?|impossible)\b"
)
_RIGHT = re.compile(r"(?i)\b(?:right|correct|true|best|answer|choose|chosen|pick|select|must be|only)\b")


def _plain(text: str) -> str:
    """A text without the marks around a letter."""
    bare = re.sub(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}|[*_`$]", lambda m: m[1] or "", text)
    return bare.strip().rstrip(".").strip()
