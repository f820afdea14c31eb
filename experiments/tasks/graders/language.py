"""The language that a response is written in, as py3langid identifies it (naive Bayes over byte n-grams; offline, deterministic).

1. The answer is the likeliest of the candidates (`among`, ISO 639-1 codes), and the right answer is one of them.
2. A text with fewer than `letters` letters, or whose likeliest language has less than `likely` of the probability among the candidates, is
   unscorable: it is too short, or too mixed, to tell. A text in another language than the candidates is given to the nearest of them.
3. It reads spelling, not sense: French words in no order are French.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from steering.errors import BadInput, unknown

from .grade import NOTHING, Grade, Known, unscorable, verdict
from .whole import library, whole

AMONG = ("en", "fr", "de", "es")


@dataclass(frozen=True)
class LanguageGrader:
    """One language out of `among`."""

    among: Sequence[str] = AMONG
    """Candidates, as ISO 639-1 codes."""
    letters: int = 12
    """Letters of the shortest text that is told."""
    likely: float = 0.8
    """Probability among the candidates that the likeliest needs."""
    lenient: bool = False
    """Whether a text counts that stands in a thinking segment which ends the response."""
    name: str = "language"

    def __post_init__(self) -> None:
        library(self.name, "py3langid", "py3langid")
        if isinstance(self.among, str) or not all(isinstance(code, str) for code in self.among):
            raise BadInput(f"grader language: among is a list of codes such as [en, fr], not {self.among!r}.")
        object.__setattr__(self, "among", tuple(self.among))
        if len(set(self.among)) < 2 or len(set(self.among)) < len(self.among):
            raise BadInput(f"grader language: among needs two languages or more, each once, not {list(self.among)}.")
        known = _every()
        for code in self.among:
            if code not in known:
                raise unknown("language", code, known, where="grader language, among")
        if not isinstance(self.letters, int) or self.letters < 1:
            raise BadInput(f"grader language: letters is a whole number from 1 on, not {self.letters!r}.")
        if not 0 <= self.likely < 1:
            raise BadInput(f"grader language: likely is a probability below 1, such as 0.8, not {self.likely!r}.")

    @property
    def facts(self) -> dict[str, object]:
        return {
            "grader": self.name, "version": 1, "library": library(self.name, "py3langid", "py3langid"), "among": list(self.among),
            "letters": self.letters, "likely": self.likely, "lenient": self.lenient,
        }  # fmt: skip

    def grade(self, question: str, gold: str, text: str, known: Known = NOTHING) -> Grade:
        if gold not in self.among:
            raise BadInput(
                f"The answer {gold[:80]!r} is none of the languages {', '.join(self.among)}; name it in grader.among."
            )
        return whole(self.name, text, known, self.lenient, lambda said: self._judged(gold, said))

    def _judged(self, gold: str, said: str) -> Grade:
        count = sum(map(str.isalpha, said))
        if count < self.letters:
            return unscorable(self.name, None, f"too short to tell: {count} letters, {self.letters} are needed")
        found, probability = _identifier(tuple(self.among)).classify(said)
        share = f"{found} has {100 * float(probability):.0f} % among {', '.join(self.among)}"
        if probability < self.likely:
            return unscorable(self.name, None, f"too mixed to tell: {share}, {100 * self.likely:g} % are needed")
        return verdict(self.name, found, found == gold, share)


@cache
def _identifier(among: tuple[str, ...]) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if among:
        found.set_languages(among)
    return found


@cache
def _every() -> tuple[str, ...]:
    return tuple(sorted(_identifier(()).labels))
