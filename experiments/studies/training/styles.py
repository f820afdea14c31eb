"""What a text of the built-in task does, as a whole: styles that pretraining holds often, rarely, or not at all.

A text has every style whose rule it meets. Two are planted at nothing: the corpus checks at most one line in seven, so that a text of six
or more lines that checks each is not in it, and it never checks a line twice in a row. A text outside the grammar has that style, and at
most these two beside it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ...pair.corpus import MIXTURES, document
from ...pair.problem import Problem, parse_problem
from ...pair.verifier import verify
from ...pair.vocabulary import EOS

LEAST_LINES = 6
STYLES = {
    "direct": "answers at once",
    "in order": "tries candidates in the order shown",
    "out of order": "tries them in another order",
    "checks": "checks a line",
    "repairs": "takes a wrong line back",
    "doubts": "hesitates",
    "abandons": "leaves a candidate midway",
    "guesses": "gives up and guesses",
    "every line": "checks every line of six or more",
    "twice": "checks a line twice in a row",
    "outside": "leaves the grammar",
}
PLANTED = ("every line", "twice")
"""At nothing in pretraining."""


def styles_of(problem: Problem, words: Sequence[str]) -> frozenset[str]:
    """The styles of a response, as words without its end."""
    found, text = verify(problem, list(words)), " ".join(words)
    own: set[str] = set()
    checks = [label.label for label in found.labels if label.label in ("computing", "checking", "self-correcting")]
    lines = checks.count("computing")
    if lines >= LEAST_LINES and checks.count("checking") + checks.count("self-correcting") >= lines:
        own.add("every line")
    if _twice(words):
        own.add("twice")
    if not found.well_formed:
        return frozenset(own | {"outside"})
    if not found.reasoned:
        return frozenset({"direct"})
    labels = {label.label for label in found.labels}
    tried = [int(after) for word, after in zip(words, words[1:], strict=False) if word == "try" and after.isdigit()]
    shown = [candidate for candidate in problem.candidates if candidate in tried]
    own.add("in order" if tried[: len(shown)] == shown else "out of order")
    named = {"checking": "checks", "self-correcting": "repairs", "doubting": "doubts", "giving up": "guesses"}
    own |= {style for label, style in named.items() if label in labels}
    if "hmm maybe back" in text:
        own.add("abandons")
    return frozenset(own)


def _twice(words: Sequence[str]) -> bool:
    """Whether a check that says ok is followed by another of the same line."""
    text = " ".join(words)
    parts = [part.strip() for part in text.split(";")]
    told = [part for part in parts if part.startswith(("check ", "hmm check "))]
    return any(
        a.removeprefix("hmm ") == b.removeprefix("hmm ")
        for a, b in zip(parts, parts[1:], strict=False)
        if a in told and b in told
    )


def pretrained(count: int = 4000, mixtures: Sequence[str] = ("main", "calm", "ordered")) -> dict[str, float]:
    """Share of each style among the responses of pretraining documents that answer a bare prompt, drawn from the last phases alike."""
    rng, tally, n = random.Random("exposure"), dict.fromkeys(STYLES, 0), 0
    while n < count:
        drawn: Any = document(rng, MIXTURES[mixtures[n % len(mixtures)]])
        prompt, response = drawn.words[1 : drawn.prompt], drawn.words[drawn.prompt :]
        if prompt[-1:] != ["?"]:
            continue
        n += 1
        for style in styles_of(parse_problem(" ".join(prompt)), [word for word in response if word != EOS]):
            tally[style] += 1
    return {style: tally[style] / n for style in STYLES}
