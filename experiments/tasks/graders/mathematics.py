r"""Mathematical answers, compared as shapes of values, in a process of its own.

1. The final answer is found as `final.py` says; answers in the same spelling are the same without further ado, and plain numbers are
   compared as fractions.
2. Everything else goes to a worker (`worker.py`, `equality.py`), under a timeout and a memory limit. What cannot be compared is unscorable.
3. Units that disagree make answers differ; a unit that only one of them has says nothing (`quantity.py`). A percentage is a hundredth, or
   its number where the other answer is a number above one without a unit. The base of a numeral is part of it: 204_5 is not 204_6.
4. Words (`\text{even}`, a name) are right only when they are the same words; option letters may stand in brackets (`words.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from .final import ANNOUNCED, LONGEST, Final, graded
from .grade import NOTHING, Grade, Known, unscorable, verdict
from .isolation import shared
from .quantity import Quantity, agree, quantity
from .shape import Shape, has_dots, leaves, shape
from .spelling import cleaned, in_scale, plain, rational
from .words import as_words, letter, phrase, same_words, states

VERSION = 2
"""Raised when a verdict may change; part of what identifies graded rows."""
_BASE = re.compile(r"^[0-9A-Za-z]+_\{?(\d+)\}?$")
_OPTION = re.compile(r"\\?(?:text\{)?\(([A-J])\)")
_LETTERED = re.compile(r"\\?(?:text\w*\{)?\(?([A-J])\)")
_RESIDUE = re.compile(
    r"(?:.*\\equiv(?![a-z]))?\s*([-+]?\d{1,40})\s*\(?\\[pb]?mod(?![a-z])\s*\{?\s*(\d{1,40})\s*\}?\)?$", re.S
)
_COMMA = re.compile(r"[-+]?\d+,(?:\d{1,2}|\d{4,})")


@dataclass(frozen=True)
class MathGrader:
    """Comparison in isolation. `timeout` in seconds per comparison, `memory` in MiB."""

    timeout: float = 5.0
    memory: int = 1024
    lenient: bool = False
    """Whether an answer counts that stands in a thinking segment which ends the response."""
    name: str = "math"

    @property
    def facts(self) -> dict[str, object]:
        import importlib.metadata as versions

        reader = versions.version("math-verify")
        return {"grader": self.name, "version": VERSION, "math-verify": reader, "lenient": self.lenient}

    def grade(self, question: str, gold: str, text: str, known: Known = NOTHING) -> Grade:
        """The verdict on a response."""
        return graded(self.name, text, known, self.lenient, lambda final: self._judged(question, gold, final))

    def _judged(self, question: str, gold: str, final: Final) -> Grade:
        words = as_words(gold)
        if words and final.how not in ("boxed", "after ####") and (final.sentence or final.closing):
            said = next((s for s in (final.sentence, final.closing) if s and states(s, words, ANNOUNCED)), None)
            answer = words if said else final.text or final.closing[-80:]
            how = f"{final.how}; compared as words with the closing sentence"
            return verdict(self.name, answer, said is not None, how)
        if final.text is None:
            return unscorable(self.name, None, final.how)
        return self.compare(gold, in_scale(final.text, question), final.how)

    def compare(self, gold: str, answer: str, how: str = "given") -> Grade:
        """The verdict on an answer that was already found."""
        longest = max(len(gold), len(answer))
        if longest > LONGEST:
            return unscorable(self.name, answer, f"{how}; at most {LONGEST} characters are compared, not {longest}")
        ours, theirs = plain(gold), plain(answer)
        if not theirs:
            return unscorable(self.name, answer, f"the answer ({how}) is empty")
        if ours == theirs:
            return verdict(self.name, answer, True, f"{how}; the same letters")
        option = letter(gold)
        lettered = re.search(r"\\text|\(", gold) or (gold.strip().isupper() and _LETTERED.match(answer.strip()))
        if option and lettered:
            found = letter(answer) or (
                m.group(1).lower() if (m := _OPTION.match(answer) or _LETTERED.match(answer)) else None
            )
            return verdict(self.name, answer, found == option, f"{how}; compared as option letters")
        if (words := as_words(gold)) is not None:
            return verdict(self.name, answer, same_words(answer, words), f"{how}; compared as words")
        bases = _BASE.match(ours), _BASE.match(theirs)
        if bases[0] and bases[1] and bases[0].group(1) != bases[1].group(1):
            return verdict(self.name, answer, False, f"{how}; numerals of different bases")
        meant, found_meant = phrase(cleaned(gold)), phrase(cleaned(answer))
        if meant == found_meant:
            return verdict(self.name, answer, True, f"{how}; the same letters")
        if bases[1] and not bases[0] and re.fullmatch(r"\d+", ours) and 2 <= int(bases[1][1]) <= 36:
            value = _numeral(theirs.partition("_")[0], int(bases[1][1]))
            return verdict(self.name, answer, value == int(ours), f"{how}; compared as numbers")
        return self._expressions(meant, found_meant, answer, how)

    def _expressions(self, gold: str, found: str, answer: str, how: str) -> Grade:
        """The verdict on two cleaned answers that are mathematics."""
        dots = has_dots(gold), has_dots(found)
        if all(dots):
            return unscorable(self.name, answer, f"{how}; lists with dots are compared by their letters alone")
        if any(dots):
            return verdict(self.name, answer, False, f"{how}; one of the answers is a list with dots")
        residues = _RESIDUE.match(gold), _RESIDUE.match(found)
        if residues[1]:
            moduli = [r[2] if r else None for r in residues]
            if moduli[0] and moduli[0] != moduli[1]:
                return verdict(self.name, answer, False, f"{how}; residues of different moduli")
            gold, found = residues[0][1] if residues[0] else gold, residues[1][1]
            if moduli[0] and (int(gold) - int(found)) % int(moduli[0]) == 0:
                return verdict(self.name, answer, True, f"{how}; compared as residues")
        exact = rational(gold)
        if exact is not None and _COMMA.fullmatch(found) and rational(found.replace(",", ".")) == exact:
            return verdict(self.name, answer, True, f"{how}; compared as numbers, with a decimal comma")
        sides = _measured(shape(gold), shape(found))
        if isinstance(sides, str):
            return verdict(self.name, answer, False, f"{how}; {sides}")
        ours, theirs = sides
        if ours["kind"] == theirs["kind"] == "leaf":
            numbers = rational(ours["text"]), rational(theirs["text"])
            if numbers[0] is not None and numbers[1] is not None and not _rounding(ours, theirs):
                names = ours.get("name"), theirs.get("name")
                same = numbers[0] == numbers[1] and (None in names or names[0] == names[1])
                return verdict(self.name, answer, same, f"{how}; compared as numbers")
        return self._asked(ours, theirs, answer, how)

    def _asked(self, gold: Shape, found: Shape, answer: str, how: str) -> Grade:
        reply = shared(self.timeout, self.memory).ask({"gold": gold, "answer": found})
        if "killed" in reply:
            limit = (
                f"took longer than {self.timeout:g} s"
                if reply["killed"] in ("SIGALRM", "worker")
                else f"ended by {reply['killed']}"
            )
            return unscorable(self.name, answer, f"{how}; the comparison {limit}")
        if "error" in reply:
            return unscorable(self.name, answer, f"{how}; it could not be compared: {reply['error']}")
        if not reply["read"]:
            return unscorable(self.name, answer, f"{how}; it is not read as mathematics")
        if not reply["gold_read"]:
            return unscorable(self.name, answer, f"{how}; the right answer is not read as mathematics")
        return verdict(self.name, answer, bool(reply["equal"]), f"{how}; compared as expressions")


def _numeral(digits: str, base: int) -> int | None:
    """The number that digits of a base write; None for digits that the base does not have."""
    try:
        return int(digits, base)
    except ValueError:
        return None


def _rounding(one: Shape, two: Shape) -> bool:
    """Whether one of two numbers may be a rounding of the other: a decimal beside a fraction."""
    return ("." in one["text"]) != ("." in two["text"])


def _measured(gold: Shape, answer: Shape) -> tuple[Shape, Shape] | str:
    """Both shapes without their units, in the same unit; or why the units make them differ."""
    sides = leaves(gold), leaves(answer)
    ours, theirs = ([quantity(leaf["text"]) for leaf in side] for side in sides)
    for these, those, texts in ((ours, theirs, sides[0]), (theirs, ours, sides[1])):
        if any(q.dimensions for q in those):
            these[:] = [quantity(leaf["text"], letters=True) for leaf in texts]
    first, second = (next((q for q in side if q.dimensions), None) for side in (ours, theirs))
    percent = (("percent", 1),)
    for q in (*ours, *theirs):
        of = first if any(q is one for one in ours) else second
        if of is not None and q.dimensions is not None and (q.dimensions, q.factor) != (of.dimensions, of.factor):
            return (gold, answer) if q.dimensions != percent else "the values of one answer have different units"
    if first and second and not agree(first, second):
        return "the units disagree"
    if first and second and first.factor != second.factor:
        theirs = [Quantity(_scaled(q.value, second.factor / first.factor)) for q in theirs]
    shares = [of is not None and of.dimensions == percent for of in (first, second)]
    if shares[0] != shares[1]:
        share, other = (ours, theirs) if shares[0] else (theirs, ours)
        numbers = [(rational(a.value), rational(b.value)) for a, b in zip(share, other, strict=False)]
        as_written = all(a is not None and a == b and abs(a) > 1 for a, b in numbers)
        if not as_written:
            share[:] = [Quantity(_scaled(q.value, Fraction(1, 100)) if q.dimensions else q.value) for q in share]
    return _without(gold, iter(ours)), _without(answer, iter(theirs))


def _scaled(value: str, by: Fraction) -> str:
    number = rational(value)
    if number is not None:
        return _written(number * by)
    return rf"\frac{{{by.numerator}}}{{{by.denominator}}}({value})"


def _written(number: Fraction) -> str:
    sign = "-" if number < 0 else ""
    top = abs(number.numerator)
    return f"{sign}{top}" if number.denominator == 1 else rf"{sign}\frac{{{top}}}{{{number.denominator}}}"


def _without(old: Shape, values: object) -> Shape:
    """A shape with the values of its leaves replaced, in order."""
    if old["kind"] == "leaf":
        return {**old, "text": next(values).value}  # type: ignore[call-overload]
    if old["kind"] == "matrix":
        return {**old, "rows": [[_without(cell, values) for cell in row] for row in old["rows"]]}
    return {**old, "items": [_without(item, values) for item in old["items"]]}
