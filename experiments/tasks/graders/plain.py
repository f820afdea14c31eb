"""Graders that need no algebra: exact match, numeric match, multiple choice.

1. Exact match compares letters after trimming, without case and inner runs of white space unless asked for.
2. Numeric match reads both sides as decimal numbers, fractions or percentages, exactly; a tolerance is relative to the right answer.
3. Multiple choice reads one option letter: boxed, announced, in brackets, or at the start. Two letters are no answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from steering.errors import BadInput

from .final import final_answer
from .grade import Grade, unscorable, verdict
from .mathematics import cleaned

_DECIMAL = re.compile(r"([-+]?)(\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE]([-+]?\d{1,2}))?")
_FRACTION = re.compile(r"([-+]?)\s*(?:\\frac\{(\d{1,400})\}\{(\d{1,400})\}|(\d{1,400})\s*/\s*(\d{1,400}))")


@dataclass(frozen=True)
class ExactGrader:
    """The same letters. `whole`: the response itself is the answer, rather than its final answer."""

    case: bool = False
    whole: bool = False
    name: str = "exact"

    @property
    def facts(self) -> dict[str, object]:
        return {"grader": self.name, "version": 1, "case": self.case, "whole": self.whole}

    def grade(self, question: str, gold: str, text: str) -> Grade:
        if self.whole:
            answer, how = text.strip() or None, "the whole response"
        else:
            final = final_answer(text)
            answer, how = final.text, final.how
        if answer is None:
            return unscorable(self.name, None, how if not self.whole else "the response is empty")
        return verdict(
            self.name, answer, self._spelled(answer) == self._spelled(gold), f"{how}; compared letter by letter"
        )

    def _spelled(self, text: str) -> str:
        text = " ".join(text.split())
        return text if self.case else text.casefold()


@dataclass(frozen=True)
class NumericGrader:
    """The same number, or one within `tolerance` of the right one, relative to it."""

    tolerance: float = 0.0
    name: str = "numeric"

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise BadInput(
                f"A tolerance of {self.tolerance} is out of range; it is a share of the right answer, such as 0.01."
            )

    @property
    def facts(self) -> dict[str, object]:
        return {"grader": self.name, "version": 1, "tolerance": self.tolerance}

    def grade(self, question: str, gold: str, text: str) -> Grade:
        right = number(gold)
        if right is None:
            raise BadInput(f"The answer {gold[:80]!r} is no number; grade this data set with `math` or `exact`.")
        final = final_answer(text)
        if final.text is None:
            return unscorable(self.name, None, final.how)
        found = number(final.text)
        if found is None:
            return unscorable(self.name, final.text, f"{final.how}; it is no number")
        near = abs(found - right) <= Fraction(self.tolerance) * abs(right)
        return verdict(self.name, final.text, near, f"{final.how}; compared as numbers")


def number(text: str) -> Fraction | None:
    """A decimal number, fraction or percentage, exactly; None for anything else. Exponents have at most two digits."""
    body = cleaned(text)
    body = re.sub(r"(?<=\d),(?=\d{3})", "", body).replace("\\%", "%").replace(" ", "")
    scale = Fraction(1)
    if body.endswith("%"):
        body, scale = body[:-1], Fraction(1, 100)
    ratio = _FRACTION.fullmatch(body)
    if ratio:
        top, bottom = (ratio[2], ratio[3]) if ratio[2] else (ratio[4], ratio[5])
        if int(bottom) == 0:
            return None
        return scale * Fraction(int(top), int(bottom)) * (-1 if ratio[1] == "-" else 1)
    decimal = _DECIMAL.fullmatch(body)
    return scale * Fraction(decimal.group()) if decimal else None


@dataclass(frozen=True)
class ChoiceGrader:
    """One option letter out of `letters`."""

    letters: str = "ABCDE"
    name: str = "choice"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]{2,26}", self.letters):
            raise BadInput(f"The letters of a multiple choice are capitals such as ABCD, not {self.letters!r}.")

    @property
    def facts(self) -> dict[str, object]:
        return {"grader": self.name, "version": 1, "letters": self.letters}

    def grade(self, question: str, gold: str, text: str) -> Grade:
        right = self._letter(gold, gold=True)
        if right is None:
            raise BadInput(f"The answer {gold[:80]!r} is none of the letters {self.letters}.")
        found = self._found(text)
        if found is None:
            return unscorable(self.name, None, "no single option letter was given")
        return verdict(self.name, found, found == right, "compared as option letters")

    def _found(self, text: str) -> str | None:
        final = final_answer(text)
        if final.text is not None and (letter := self._letter(final.text)):
            return letter
        stripped = text.strip()
        opening = re.match(rf"\(?([{self.letters}])(?:[).:,]|\s*$|\n)", stripped)
        if opening:
            return opening.group(1)
        bracketed = set(re.findall(rf"\(([{self.letters}])\)", final.sentence or final.closing or stripped[-400:]))
        return bracketed.pop() if len(bracketed) == 1 else None

    def _letter(self, text: str, gold: bool = False) -> str | None:
        body = re.sub(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r"\1", text.strip())
        body = body.strip("$ .*_`")
        match = re.match(rf"(?i)(?:option|choice|answer)?\s*\(?([{self.letters}])\)?(?=$|[\s.:,)])", body)
        if not match or (not gold and re.match(r"[aAI]\s+[a-z]", body)):
            return None
        others = {m.upper() for m in re.findall(rf"(?<![A-Za-z])\(?([{self.letters}])\)?(?![A-Za-z])", body)}
        return match.group(1).upper() if others <= {match.group(1).upper()} or gold else None
