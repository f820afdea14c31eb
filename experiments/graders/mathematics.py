r"""Mathematical answers, compared by math-verify in a process of its own.

1. The final answer is found as `final.py` says; answers that are the same letters after `plain` are the same without further ado.
2. Everything else is compared as expressions by math-verify, under a timeout and a memory limit. What cannot be compared is unscorable.
3. Units, degrees, currency and thousands separators are not part of an answer. The base of a numeral is: 204_5 is not 204_6.
4. Words (`\text{even}`, a name) are right only when they are the same words; option letters may stand in brackets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .final import LONGEST, Final, graded
from .grade import NOTHING, Grade, Known, unscorable, verdict
from .isolation import shared

VERSION = 1
"""Raised when a verdict may change; part of what identifies graded rows."""
_SPACING = re.compile(r"\\[!,;:> ]|\\q?quad\b|\\displaystyle\b|[\s~\u200b\u200c\u200d\u2060\ufeff\u00a0]+")
_UNIT = (
    r"(?:degrees?|deg|inch(?:es)?|cm|mm|km|meters?|metres?|feet|foot|ft|cents?|dollars?|miles?|hours?|minutes?|seconds?|units?|points?|"
    r"square|cubic|per|sq|kg|grams?|pounds?|mph|m|in|s|h|g|days?|years?|ways?|people|students?)"
)
_UNITS = re.compile(
    rf"(?<=[\d}})a-z])(?:\\(?:text|mbox|textrm|mathrm|rm)\{{\s*(?:{_UNIT}[\s.]*)+\}})(?:\^\{{?[23]\}}?)?", re.I
)
_BARE_UNITS = re.compile(rf"^(-?\$?[\d,]*\.?\d+)(?:(?:\s|\\,|~)+{_UNIT}\b\.?)+$", re.I)
_TEXT = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|mathbf|bold|rm|bf)\{([^{}]*)\}")
_BASE = re.compile(r"^[0-9A-Za-z]+_\{?(\d+)\}?$")
_COLUMN = re.compile(r"(?:\\left)?\(([^()]*,[^()]*?)(?:\\right)?\)")
_WORD = re.compile(r"[A-Za-z][A-Za-z '\-]{1,60}")


def cleaned(answer: str) -> str:
    """An answer without delimiters, units, currency, separators and layout, as it goes to math-verify."""
    text = answer.strip()
    text = re.sub(r"^(?:\\\(|\\\[|\${1,2})|(?:\\\)|\\\]|\${1,2})$", "", text).strip()
    text = (
        text.replace("\\!", "")
        .replace("\\$", "")
        .replace("$", "")
        .replace("−", "-")
        .replace("–", "-")
        .replace("×", r"\times ")
    )
    text = re.sub(r"\\[dt]frac\b", r"\\frac", text)
    text = re.sub(r"[\u200b\u200c\u200d\u2060\ufeff]", "", text)
    text = re.sub(r"(?:\^\{?\\circ\}?|\\degree|°)", "", text)
    text = _UNITS.sub("", text)
    text = _BARE_UNITS.sub(r"\1", text)
    text = (
        re.sub(r"(?<=\d),(?:\\!)?\s?(?=\d{3}(?:\D|$))", "", text)
        if re.fullmatch(r"[^,]*\d{1,3}(?:,\s?\d{3})+[^,]*", text)
        else text
    )
    text = re.sub(r"(?<!\\)sqrt\s?\(([^()]{1,200})\)", r"\\sqrt{\1}", text)
    text = re.sub(
        "\u221a\\s?(?:\\(([^()]{1,200})\\)|(\\d{1,40}))", lambda m: rf"\sqrt{{{m.group(1) or m.group(2)}}}", text
    )
    text = re.sub(r"\u03c0|(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi ", text).replace("\u221e", r"\infty ")
    text = text.replace("\u222a", r" \cup ").replace("\u00f7", "/")
    mixed = re.fullmatch(r"(-?\d{1,12}) (\d{1,12})/(\d{1,12})", text.strip())
    text = rf"{mixed[1]}\frac{{{mixed[2]}}}{{{mixed[3]}}}" if mixed else text
    return text.strip().rstrip(".;,").strip()


def plain(answer: str) -> str:
    """A spelling that harmless differences of layout do not change."""
    text = cleaned(answer)
    text = _TEXT.sub(r"\1", text)
    text = re.sub(r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])", "", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{", text)
    text = re.sub(r"\\sqrt\s*(\d)", r"\\sqrt{\1}", text)
    text = _SPACING.sub("", text)
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", text)
    return text.lower()


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"\\[a-zA-Z]+", " ", text).lower())


def _holds(words: list[str], asked: list[str]) -> bool:
    """Whether the words asked for stand among others, none of which denies them."""
    places = range(len(words) - len(asked) + 1)
    return any(words[i : i + len(asked)] == asked for i in places) and not {"not", "neither", "cannot"} & set(words)


def _letter(text: str) -> str | None:
    """The option letter that an answer is, without brackets."""
    found = re.fullmatch(r"\(?([a-j])\)?", plain(text))
    return found.group(1) if found else None


@dataclass(frozen=True)
class MathGrader:
    """math-verify in isolation. `timeout` in seconds per comparison, `memory` in MiB."""

    timeout: float = 5.0
    memory: int = 1024
    lenient: bool = False
    """Whether an answer counts that stands in a thinking segment which ends the response."""
    name: str = "math"

    @property
    def facts(self) -> dict[str, object]:
        import importlib.metadata as versions

        return {"grader": self.name, "version": VERSION, "math-verify": versions.version("math-verify")}

    def grade(self, question: str, gold: str, text: str, known: Known = NOTHING) -> Grade:
        """The verdict on a response."""
        return graded(self.name, text, known, self.lenient, lambda final: self._judged(gold, final))

    def _judged(self, gold: str, final: Final) -> Grade:
        words = _TEXT.sub(r"\1", gold).strip() if "\\text" in gold and not _letter(gold) else ""
        if _WORD.fullmatch(words) and final.how != "boxed" and (final.sentence or final.closing):
            said = next((s for s in (final.sentence, final.closing) if _holds(_words(s), _words(words))), None)
            answer = words if said else final.text or final.closing[-80:]
            return verdict(
                self.name, answer, said is not None, f"{final.how}; compared as words with the closing sentence"
            )
        if final.text is None:
            return unscorable(self.name, None, final.how)
        return self.compare(gold, final.text, final.how)

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
        letter = _letter(gold)
        if letter and re.search(r"\\text|\(", gold):
            found = _letter(answer) or (
                m.group(1).lower() if (m := re.match(r"\\?(?:text\{)?\(([A-J])\)", answer)) else None
            )
            return verdict(self.name, answer, found == letter, f"{how}; compared as option letters")
        if _WORD.fullmatch(_TEXT.sub(r"\1", gold).strip()) and "\\text" in gold:
            asked = _words(_TEXT.sub(r"\1", gold))
            same = _words(_TEXT.sub(r"\1", answer)) == asked
            return verdict(self.name, answer, same, f"{how}; compared as words")
        bases = _BASE.match(ours), _BASE.match(theirs)
        if bases[0] and bases[1] and bases[0].group(1) != bases[1].group(1):
            return verdict(self.name, answer, False, f"{how}; numerals of different bases")
        if gold.count("matrix") == 2 and "&" not in gold and (row := _COLUMN.fullmatch(cleaned(answer))):
            answer = r"\begin{pmatrix}" + row.group(1).replace(",", r" \\ ") + r"\end{pmatrix}"
        reply = shared(self.timeout, self.memory).ask({"gold": cleaned(gold), "answer": cleaned(answer)})
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
        return verdict(self.name, answer, bool(reply["equal"]), f"{how}; compared as expressions")
