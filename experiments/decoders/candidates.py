"""Candidates: the texts that a decoder chooses from, and how their answers are told."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from steering.compile.text import character_places
from steering.engine.generation import Generation
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel
from steering.plan.plan import Plan


@dataclass(frozen=True)
class Answered:
    """What a text answers, by the task's grader."""

    text: str
    answer: str | None
    correct: bool


@dataclass(frozen=True)
class Asked:
    """A question as it is decoded."""

    prompt_ids: tuple[int, ...]
    plan: Plan
    seed: int
    answered: Callable[[Generation], Answered]
    same: Callable[[str, str], bool]
    """Whether two answers are the same, by the task's grader."""


@dataclass(frozen=True)
class Candidate:
    """One text. `score` is what the decoder chooses by, higher is better, None where it has none."""

    generation: Generation
    answered: Answered
    score: float | None
    spent: int
    """Tokens generated for it, those of discarded drafts included."""
    asked: bool = False
    """Whether it stated no answer and was asked for one."""

    @property
    def logprob(self) -> float:
        """Of the text that the model chose, in nats: tokens that were put into it have none."""
        return float(sum(x for x in self.generation.logprob if not math.isnan(x)))

    @property
    def per_token(self) -> float:
        """Mean log-probability of a token."""
        return self.logprob / max(1, sum(not math.isnan(x) for x in self.generation.logprob))


@dataclass(frozen=True)
class Decoded(Generation):
    """The chosen text, with all that it was chosen from."""

    spent: int = 0
    """Tokens generated for all candidates that the choice needed."""
    candidates: tuple[dict[str, Any], ...] = field(default=())
    """As they are stored: text, answer, correct, tokens, logprob, score, chosen, asked (for an answer that it did not state)."""


def decoded(candidates: Sequence[Candidate], chosen: int, scores: Sequence[float | None], spent: int) -> Decoded:
    """The decoded row: the chosen candidate's text, and what every candidate was worth to the choice."""
    kept = tuple(
        {
            "text": one.answered.text,
            "answer": one.answered.answer,
            "correct": one.answered.correct,
            "tokens": len(one.generation.token_ids),
            "logprob": one.logprob,
            "score": score,
            "chosen": number == chosen,
            "asked": one.asked,
        }
        for number, (one, score) in enumerate(zip(candidates, scores, strict=True))
    )
    return Decoded(
        **{name: getattr(candidates[chosen].generation, name) for name in Generation.__dataclass_fields__},
        spent=spent,
        candidates=kept,
    )


def votes(candidates: Sequence[Candidate], same: Callable[[str, str], bool]) -> list[list[int]]:
    """Candidates by answer, in order of appearance; those without an answer are in none."""
    groups: list[list[int]] = []
    for number, one in enumerate(candidates):
        answer = one.answered.answer
        if answer is None:
            continue
        for group in groups:
            if same(str(candidates[group[0]].answered.answer), answer):
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def best(numbers: Sequence[int], scores: Sequence[float | None]) -> int:
    """The first of `numbers` with the highest score; the first of all where none has one."""
    scored = [n for n in numbers if scores[n] is not None]
    return max(scored, key=lambda n: (scores[n], -n)) if scored else numbers[0]


def answer_place(model: LoadedModel, ids: Sequence[int], answer: str) -> tuple[int, int] | None:
    """First token and the one after the last of the answer where it stands last in a text; None where it does not stand there as it is."""
    text, places = character_places(model, ids)
    at = text.rfind(answer) if answer else -1
    if at < 0:
        return None
    inside = [n for n, (start, end) in enumerate(places) if start < at + len(answer) and end > at]
    return (inside[0], inside[-1] + 1) if inside else None


def own_seed(seed: int, *parts: int) -> int:
    """The random stream of one part of a row's work."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{parts}".encode()).digest()[:7], "big")


def greedy(settings: GenerationSettings) -> GenerationSettings:
    """The same number of tokens, greedy."""
    return GenerationSettings(settings.max_new_tokens)
