"""Titles and scores of a taxonomy by a judging model (2510.07364, App. B), where one is configured.

1. A category is named from its sentences of largest pre-activation and as many drawn from it: a title and a description of the function
   that they share. Every answer is JSON, checked before it counts.
2. *Consistency*: shown title and description, the judge says which of a batch of sentences belong; a fifth of a batch does. The mean
   over categories of the F1. *Completeness*: the mean fit of sentences to their own category, 0 to 10, over 10. *Independence*: the share
   of category pairs rated below 5 of 10 for doing the same thing. The prompts are this project's own words for what the paper describes.
3. Draws are by seed. What a judge says is its opinion: the card names it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probes.endpoint import Endpoint, Unusable

TOP, DRAWN = 100, 100
"""Sentences that a title is made from."""
PER_CATEGORY, BATCH, POSITIVE = 100, 50, 0.2
"""Sentences judged for consistency, how many at a time, and the share of them that is the category's."""
RATED = 200
"""Sentences rated for completeness."""
SAME = 5
"""Rating from which on two categories count as doing the same."""


@dataclass(frozen=True)
class Named:
    """A category as the judge names it."""

    title: str
    description: str

    def __str__(self) -> str:
        return f"{self.title}: {self.description}"


@dataclass(frozen=True)
class Judged:
    """A taxonomy as judged; scores in [0, 1]."""

    names: tuple[Named, ...]
    consistency: float
    completeness: float
    independence: float


def judged(
    endpoint: Endpoint, sentences: Sequence[str], categories: np.ndarray, strength: np.ndarray, k: int, seed: int = 0
) -> Judged:
    """Name and score `k` categories of `sentences [n]`, by `categories [n]` and the pre-activation of each in its own (`strength [n]`).

    Raises probes.endpoint.EndpointError when the judge gives no usable answer.
    """
    rng = np.random.default_rng(seed)
    names = []
    for c in range(k):
        own = np.flatnonzero(categories == c)
        if not len(own):
            names.append(Named("unused", "no sentence falls into it"))
            continue
        top = own[np.argsort(-strength[own])][:TOP]
        drawn = rng.permutation(own)[:DRAWN]
        names.append(_name(endpoint, [sentences[i] for i in top], [sentences[i] for i in drawn]))
    used = [c for c in range(k) if (categories == c).any()]
    f1 = [_f1(endpoint, names[c], c, sentences, categories, rng) for c in used]
    rated = rng.permutation(len(sentences))[:RATED]
    fits = _fits(endpoint, [(sentences[i], names[categories[i]]) for i in rated])
    pairs = list(itertools.combinations(used, 2))
    apart = [_rating(endpoint, _pair(names[a], names[b])) < SAME for a, b in pairs]
    return Judged(tuple(names), float(np.mean(f1)), float(np.mean(fits)) / 10, float(np.mean(apart)) if pairs else 0.0)


def _ask(endpoint: Endpoint, task: str, shown: str, read: Callable[[Any], Any]) -> Any:
    def parse(answer: str) -> Any:
        found = re.search(r"[\[{].*[\]}]", answer, re.DOTALL)
        if found is None:
            raise Unusable(f"it holds no JSON, but begins {answer.strip()[:80]!r}.")
        try:
            return read(json.loads(found[0]))
        except (ValueError, KeyError, TypeError) as error:
            raise Unusable(f"the JSON is not as asked for ({error!r}).") from error

    messages = [{"role": "system", "content": task}, {"role": "user", "content": shown}]
    return endpoint.ask(
        messages, parse, what="judgement", remedy="Answer with the JSON that was asked for, and nothing else."
    )


def _name(endpoint: Endpoint, top: Sequence[str], drawn: Sequence[str]) -> Named:
    task = (
        "Sentences from reasoning traces were grouped by what they do, not by what they are about. Say what the sentences of one group "
        'have in common. Answer as JSON: {"title": one concept in a few words, without slashes and brackets, "description": three or four '
        "sentences: what the function is, what belongs to it, and what does not}."
    )
    shown = "Most typical:\n" + "\n".join(top) + "\n\nDrawn at random from the group:\n" + "\n".join(drawn)

    def read(found: Any) -> Named:
        title, description = str(found["title"]).strip(), str(found["description"]).strip()
        if not title or not description or re.search(r"[/()]", title):
            raise Unusable(
                "title and description must not be empty, and the title must name one concept without slash or bracket."
            )
        return Named(title, description)

    return _ask(endpoint, task, shown, read)


def _f1(
    endpoint: Endpoint,
    name: Named,
    category: int,
    sentences: Sequence[str],
    categories: np.ndarray,
    rng: np.random.Generator,
) -> float:
    inside, outside = (
        rng.permutation(np.flatnonzero(mask)) for mask in (categories == category, categories != category)
    )
    n = min(PER_CATEGORY, len(sentences))
    mine = min(len(inside), max(1, round(POSITIVE * n)))
    shown = rng.permutation(np.concatenate([inside[:mine], outside[: n - mine]]))
    task = (
        "A category of sentences is described. For each numbered sentence decide whether it does what the category describes; go by "
        'its function, not its topic. Answer as a JSON list, one entry per sentence: {"id": number, "belongs": true or false}.'
    )
    said = np.zeros(len(shown), bool)
    for start in range(0, len(shown), BATCH):
        part = shown[start : start + BATCH]
        listed = "\n".join(f"{i}. {sentences[j]}" for i, j in enumerate(part))

        def read(found: Any, size: int = len(part)) -> list[bool]:
            answers = {int(entry["id"]): entry["belongs"] for entry in found}
            if set(answers) != set(range(size)) or not all(isinstance(v, bool) for v in answers.values()):
                raise Unusable(f"there must be one entry with true or false for each of the numbers 0 to {size - 1}.")
            return [answers[i] for i in range(size)]

        said[start : start + len(part)] = _ask(endpoint, task, f"Category. {name}\n\n{listed}", read)
    truth = categories[shown] == category
    hits = int((said & truth).sum())
    return 2 * hits / (int(said.sum()) + int(truth.sum())) if hits else 0.0


def _fits(endpoint: Endpoint, pairs: Sequence[tuple[str, Named]]) -> list[float]:
    task = (
        "Each numbered sentence is shown with the category it was put into. Rate how well it fits, from 0 (not at all) to 10 (perfectly). "
        'Answer as a JSON list, one entry per sentence: {"id": number, "score": number}.'
    )
    found: list[float] = []
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        listed = "\n".join(f"{i}. {sentence}\n   Category. {name}" for i, (sentence, name) in enumerate(part))

        def read(answer: Any, size: int = len(part)) -> list[float]:
            scores = {int(entry["id"]): float(entry["score"]) for entry in answer}
            if set(scores) != set(range(size)) or not all(0 <= s <= 10 for s in scores.values()):
                raise Unusable(f"there must be one score from 0 to 10 for each of the numbers 0 to {size - 1}.")
            return [scores[i] for i in range(size)]

        found += _ask(endpoint, task, listed, read)
    return found


def _pair(one: Named, other: Named) -> str:
    return f"First. {one}\n\nSecond. {other}"


def _rating(endpoint: Endpoint, shown: str) -> float:
    task = (
        "Two categories of reasoning sentences are described. Rate how much they do the same thing, from 0 (different functions) over 5 "
        '(related, but distinct) to 10 (the same function). Answer as JSON: {"score": number}.'
    )

    def read(found: Any) -> float:
        score = float(found["score"])
        if not 0 <= score <= 10:
            raise Unusable("the score must lie from 0 to 10.")
        return score

    return _ask(endpoint, task, shown, read)
