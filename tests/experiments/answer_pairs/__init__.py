"""Pairs of answers by topic: `(right answer, answer, whether they are the same)`, whoever compares them.

1. "The same" is as a careful human marks it without the question: a unit that only one of the two has says nothing, two
   units that disagree do.
2. Pairs that a human could mark either way are not here.
"""

from __future__ import annotations

from . import brackets, forms, mixed, numbers, several, units, words

TOPICS: dict[str, list[tuple[str, str, bool]]] = {
    "numbers": numbers.PAIRS,
    "units, currency, percentages": units.PAIRS,
    "brackets, sets, matrices": brackets.PAIRS,
    "several answers": several.PAIRS,
    "closed forms, equations": forms.PAIRS,
    "words, choices": words.PAIRS,
    "mixed, written afterwards": mixed.PAIRS,
}
