"""Whether a text has run into a loop, as greedy and oversteered ones do.

Source: Holtzman et al. 2020 (1904.09751, section 4.3): a phrase of at least two tokens, three times or more at the end of a text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

LEAST, TIMES = 2, 3
"""Tokens of the phrase, and how often it stands at the end, at the least."""
LONGEST = 64
"""Tokens of the longest phrase that is looked for."""


@dataclass(frozen=True)
class Loop:
    """A phrase that ends a text, over and over."""

    phrase: tuple[int, ...]
    """Token ids, as the text ends with them."""
    times: int

    @property
    def sentence(self) -> str:
        """What is to be said beside the text."""
        return f"ends in a loop: its last {len(self.phrase)} tokens stand there {self.times} times in a row"


def loop_of(token_ids: Sequence[int], end: Collection[int] = ()) -> Loop | None:
    """The loop that a text ends in; None where it ends in none. `end`: ids that end a text and are no part of it. Of several phrases that
    tell the same loop, the shortest."""
    ids = list(token_ids)
    while ids and ids[-1] in end:
        ids.pop()
    for length in range(LEAST, min(LONGEST, len(ids) // TIMES) + 1):
        phrase, times = ids[-length:], 1
        while ids[len(ids) - (times + 1) * length : len(ids) - times * length] == phrase:
            times += 1
        if times >= TIMES:
            return Loop(tuple(phrase), times)
    return None
