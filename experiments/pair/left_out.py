"""A corpus of so many documents of every family, and what is left of it without one family, or without as many documents drawn at random.

1. The corpus of a seed holds equally many documents of each of `corpus.FAMILIES`, on problems of standard size.
2. What is left is read in one order, over and over, until as many tokens are read in every arm: a document that others leave out changes
   nothing of the order of the rest.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from .corpus import FAMILIES, Document, family_document
from .problem import STANDARD

WHOLE = "whole"
DRAW = "draw-"
"""Before the number of a draw that leaves out documents at random."""
Held = tuple[int, str, Document]
"""Number in the corpus, family, document."""


def corpus_of(seed: int, each: int) -> list[Held]:
    """`each` documents of every family."""
    rng = random.Random(f"left-out/{seed}")
    return [
        (number, family, family_document(rng, family, STANDARD))
        for number, family in enumerate(family for family in FAMILIES for _ in range(each))
    ]


def without(corpus: Sequence[Held], left: str, seed: int) -> list[Held]:
    """The corpus without a family, without as many documents drawn at random (`draw-N`), or whole."""
    if left == WHOLE:
        return list(corpus)
    if left.startswith(DRAW):
        gone = set(random.Random(f"left-out/{seed}/{left}").sample(range(len(corpus)), len(corpus) // len(FAMILIES)))
        return [held for held in corpus if held[0] not in gone]
    return [held for held in corpus if held[1] != left]


def lessons(corpus: Sequence[Held], seed: int, updates: int, tokens: int) -> list[list[Document]]:
    """The documents of every update: in order, as many as fit into `tokens`, at least one."""
    stream = _endless(corpus, seed)
    made: list[list[Document]] = []
    waiting = next(stream)
    for _ in range(updates):
        own, room = [waiting], tokens - len(waiting.words)
        waiting = next(stream)
        while len(waiting.words) <= room:
            own.append(waiting)
            room -= len(waiting.words)
            waiting = next(stream)
        made.append(own)
    return made


def _endless(corpus: Sequence[Held], seed: int) -> Iterator[Document]:
    epoch = 0
    while True:
        yield from (held[2] for held in sorted(corpus, key=lambda held: _place(seed, epoch, held[0])))
        epoch += 1


def _place(seed: int, epoch: int, number: int) -> float:
    return random.Random(f"left-out/{seed}/{epoch}/{number}").random()
