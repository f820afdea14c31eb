"""Critique fine-tuning on one question (S5): do critiques of many answers to one question draw out what reward training does?

1. The question is one that the base answers right about as often as wrong; candidates are its own sampled responses to it, each followed by
   a critique of the exact verifier, in three styles.
2. Beside it, with as many learnt tokens: right solutions of the same question; critiques of a response with another answer; plain text of
   the corpus, which holds neither.
3. The base's pretraining holds no critiques: candidate and critique are put together from words that it knows.

Source: 2506.03295.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from pydantic import Field

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput, unknown

from ...pair.problem import Problem
from ...pair.trace import drill_document, recital
from ...pair.verifier import verify
from ...pair.vocabulary import encode
from ...tasks.items import Item
from ...tasks.task import asked_ids
from ..elicitation.asked import Elicit
from ..elicitation.card import Card
from ..elicitation.findings import Point, Table
from ..elicitation.workroom import Workroom
from .critiques import STYLE_NAMES, critique, solutions
from .questions import graded, training_items
from .rewarded import Grown, SeededOptions, graded_everywhere
from .side_by_side import text_trainings
from .supervised import Lesson, Tuning
from .trained_models import TextJob

ARMS = {
    "critique": "critiques of one question",
    "solution": "solutions of one question",
    "shuffled": "critiques of another answer",
    "text": "plain text of the corpus",
}
AGAINST = (("critique", "solution"), ("critique", "shuffled"), ("critique", "text"))


class CritiqueOptions(SeededOptions):
    arms: tuple[str, ...] = Field(default=tuple(ARMS), min_length=1)
    """Which texts are learned."""
    candidates: int = Field(default=100, ge=2)
    """Responses that are sampled to the question."""
    choose: int = Field(default=24, ge=1)
    """Training questions among which it is chosen."""
    steps: int = Field(default=30, ge=1)
    """Gradient steps of the critique arm; the others have as many learnt tokens."""
    batch: int = Field(default=16, ge=1)
    """Texts per step of the optimiser."""
    rate: float = Field(default=5e-4, gt=0)
    """Adam's highest step."""


def run(room: Workroom, options: CritiqueOptions) -> tuple[list[Point], list[Table], list[str]]:
    first = room.asked.settings[0]
    grown, made, found = grown_of(room, options)
    points, tables, said, _ = graded_everywhere(room, "critique", grown, options, AGAINST)
    lines = [_loss_line(arm, made[arm], [one for one in grown if one.group == arm]) for arm in made]
    tables.append(
        Table(
            title="Texts that were trained on",
            heads=(
                "what",
                "different texts",
                "learnt tokens of a text, mean",
                "steps",
                "loss, first to last, nats per token",
            ),
            lines=tuple(lines),
            notes=("Mean over seeds. The loss is on what follows the prompt.",),
        )
    )
    right = 100 * float(np.mean(found["right"]))
    said.append(
        f"{first.name}: the question is training question {found['question']} of {options.choose}; {len(found['responses'])} different "
        f"responses of {options.candidates} that were sampled, {right:.0f} % of those that ended right."
    )
    return points, tables, said


def grown_of(room: Workroom, options: CritiqueOptions) -> tuple[list[Grown], dict[str, list[Lesson]], dict[str, Any]]:
    """The trainings of every arm and seed, their texts, and the question with its responses."""
    first = room.asked.settings[0]
    items = training_items(room.asked, {}, options.pool, "critique")[: options.choose]
    found = room.part("critique-candidates", _facts(items, options), lambda: _candidates(room, items, options))
    item = items[found["question"]]
    problem: Problem = item.data
    prompt = tuple(asked_ids(room.asked.found, room.base, item, first.form))
    responses: list[list[str]] = found["responses"]
    made = {arm: _lessons(arm, room, problem, prompt, responses) for arm in options.arms}
    goal = options.steps * options.batch * _length(_lessons("critique", room, problem, prompt, responses))
    jobs: list[tuple[str, TextJob]] = []
    for arm, lessons in made.items():
        steps = max(1, round(goal / (options.batch * _length(lessons))))
        for seed in options.seeds:
            tuning = Tuning(steps, options.batch, options.rate, seed)
            jobs.append((arm, TextJob(tuple(lessons), tuning, f"{ARMS[arm]}, seed {seed}")))
    owns = text_trainings(room, [job for _, job in jobs])
    grown = [
        Grown(arm, ARMS[arm], job.tuning.seed, own, "steered" if arm == "critique" else "control")
        for (arm, job), own in zip(jobs, owns, strict=True)
    ]
    return grown, made, found


def _facts(items: list[Item], options: CritiqueOptions) -> dict[str, Any]:
    return {"items": [item.id for item in items], "candidates": options.candidates, "tokens": options.tokens}


def _candidates(room: Workroom, items: list[Item], options: CritiqueOptions) -> dict[str, Any]:
    """The question whose sampled answers are right nearest to half of the time, ties going to the first, and its different responses."""
    base, task, form = room.base, room.asked.found, room.asked.settings[0].form
    grade, shares, every = graded(base, task, items, form), [], []
    for number, item in enumerate(items):
        ids = tuple(asked_ids(task, base, item, form))
        rows = [Row(ids, seed=1 + number * 10**3 + draw) for draw in range(options.candidates)]
        texts = generate(
            base, rows, GenerationSettings(options.tokens, temperature=1.0), batch_size=256, detail="tokens"
        )
        ended = [(text, found) for text in texts if (found := grade(number, text)) is not None]
        right = [found.correct for _, found in ended]
        shares.append(abs(float(np.mean(right)) - 0.5) if right else 1.0)
        words = [
            base.tokenizer.convert_ids_to_tokens([t for t in text.token_ids if t not in base.eos_ids])
            for text, _ in ended
        ]
        every.append((sorted({" ".join(own) for own in words}), right))
    chosen = int(np.argmin(shares))
    return {"question": chosen, "responses": [text.split() for text in every[chosen][0]], "right": every[chosen][1]}


def _lessons(
    arm: str, room: Workroom, problem: Problem, prompt: tuple[int, ...], responses: list[list[str]]
) -> list[Lesson]:
    eos = int(room.base.tokenizer.eos_token_id)

    def lesson(before: tuple[int, ...], words: list[str]) -> Lesson:
        return Lesson(before, (*encode(words), eos))

    if arm == "solution":
        return [
            lesson(prompt, list(words))
            for words in sorted({tuple(own) for own in solutions(problem, len(responses), 0)})
        ]
    if arm == "text":
        rng = random.Random("plain text")
        texts = [
            drill_document(rng) if place % 2 else [*problem.prompt().split()[:-1], "drill", *recital(problem, rng)]
            for place in range(3 * len(responses))
        ]
        return [lesson((int(room.base.tokenizer.bos_token_id),), words) for words in texts]
    told = [(response, critique(problem, response, style)) for response in responses for style in STYLE_NAMES]
    if arm == "shuffled":
        told = [
            (response, critique(problem, _other(problem, responses, place), style))
            for place, response in enumerate(responses)
            for style in STYLE_NAMES
        ]
    return [lesson((*prompt, *encode([*response, ";"])), words) for response, words in told]


def _other(problem: Problem, responses: list[list[str]], place: int) -> list[str]:
    """The next response that states another answer; the next one where all state the same."""
    behind = [*responses[place + 1 :], *responses[:place]] or responses
    own = verify(problem, responses[place]).answer
    return next((other for other in behind if verify(problem, other).answer != own), behind[0])


def _length(lessons: list[Lesson]) -> float:
    return float(np.mean([len(one.token_ids) for one in lessons]))


def _loss_line(arm: str, lessons: list[Lesson], grown: list[Grown]) -> tuple[Any, ...]:
    losses = [[row["loss"] for row in one.own.curve] for one in grown]
    return (
        ARMS[arm],
        len(lessons),
        f"{_length(lessons):.0f}",
        len(losses[0]),
        f"{np.mean([own[0] for own in losses]):.2f} to {np.mean([own[-1] for own in losses]):.2f}",
    )


def refuse(asked: Elicit, options: CritiqueOptions) -> None:
    for arm in options.arms:
        if arm not in ARMS:
            raise unknown("arm", arm, ARMS, where="card critique: arms")
    if not asked.builtin:
        raise BadInput(
            "card critique: critiques are written by the exact verifier of the built-in task; another task has none. Leave --task out."
        )
    if len(set(options.seeds)) < len(options.seeds):
        raise BadInput("card critique: a seed stands twice in seeds.")


CARD = Card(
    name="critique",
    title="Critique fine-tuning on one question",
    systems=("S5",),
    papers=("2506.03295", "2505.11628"),
    measures="what critiques of many answers to one question train, in every setting and on an untouched ability",
    control="solutions of the question, critiques of another answer, plain text, all of as many learnt tokens",
    quick=CritiqueOptions(n=200),
    full=CritiqueOptions(n=400, seeds=(0, 1, 2, 3, 4), steps=120, candidates=400),
    run=run,
    refuse=refuse,
)
