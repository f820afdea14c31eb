"""Whether a response sounds positive, negative or neutral, by VADER (a lexicon with rules for English; offline, deterministic).

1. The compound score lies in [-1, 1]; from `threshold` on it is positive, from -`threshold` down negative, between them neutral. The
   default, 0.05, is the one of VADER's authors (Hutto & Gilbert, ICWSM 2014).
2. It adds up words: irony is not seen, a text without a word of the lexicon is neutral, and one in another language nearly always is.
3. A text without letters is unscorable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from steering.errors import BadInput

from .grade import NOTHING, Grade, Known, unscorable, verdict
from .whole import library, whole

SENTIMENTS = ("positive", "negative", "neutral")


@dataclass(frozen=True)
class SentimentGrader:
    """One of `SENTIMENTS`."""

    threshold: float = 0.05
    """Compound score from which on a text is positive; with a minus, from which down it is negative."""
    lenient: bool = False
    """Whether a text counts that stands in a thinking segment which ends the response."""
    name: str = "sentiment"

    def __post_init__(self) -> None:
        library(self.name, "vaderSentiment", "vaderSentiment")
        if not 0 < self.threshold < 1:
            raise BadInput(f"grader sentiment: threshold lies between 0 and 1, such as 0.05, not {self.threshold!r}.")

    @property
    def facts(self) -> dict[str, object]:
        return {
            "grader": self.name, "version": 1, "library": library(self.name, "vaderSentiment", "vaderSentiment"),
            "threshold": self.threshold, "lenient": self.lenient,
        }  # fmt: skip

    def grade(self, question: str, gold: str, text: str, known: Known = NOTHING) -> Grade:
        if gold not in SENTIMENTS:
            raise BadInput(f"The answer {gold[:80]!r} is none of {', '.join(SENTIMENTS)}.")
        return whole(self.name, text, known, self.lenient, lambda said: self._judged(gold, said))

    def _judged(self, gold: str, said: str) -> Grade:
        if not any(map(str.isalpha, said)):
            return unscorable(self.name, None, "the response has no letters")
        score = float(_analyser().polarity_scores(said)["compound"])
        found = "positive" if score >= self.threshold else "negative" if score <= -self.threshold else "neutral"
        return verdict(self.name, found, found == gold, f"compound score {score:+.2f}, threshold {self.threshold:g}")


@cache
def _analyser() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
