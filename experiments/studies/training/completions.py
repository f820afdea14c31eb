"""Rewards whose texts are cut or completed before they are trained on.

1. `likelihood` (VeriFree, 2505.21493): the model's own answer is cut off and the reference put in its place; the reward R is the
   probability of the reference behind the text. With the text's advantage R - b (b leave-one-out) on what the model wrote and R on the
   reference, the gradient is that of E[R]: `(R - b) grad log p(text) + R grad log p(reference | text)`.
2. `brier` (RLCR, 2507.16806): behind a text that ended the model is asked how sure it is, and writes one word of a scale, q. The reward is
   `right - (q - right)^2`; one that did not end, or says no word of the scale, earns -1.
3. `step` (SRL, 2510.25992): a text is the next step behind the steps of another's text; the reward is `2 M / T` of matching tokens, -1 for
   one that does not end a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from steering.compile.text import token_facts
from steering.engine.forced import unsteered_logprob
from steering.engine.generation import generate
from steering.engine.record import Generation, Row
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel

from ...decoders.candidates import answer_place
from ...tasks.items import Item
from ...tasks.task import Task
from ..elicitation.steps import steps_of
from .questions import graded
from .recipe import Recipe
from .rewards import Reward, check_labels
from .rollouts import BATCH, Completed, Completing, left_out_means, stream
from .scales import scale_of

FAILED = -1.0


def completing(
    model: LoadedModel, task: Task, items: Sequence[Item], form: str, reward: Reward, recipe: Recipe
) -> Completing:
    """What becomes of the texts of an update. Raises BadInput for labels that are not one per item, and for a tokenizer that has no scale
    of single tokens."""
    if reward.name.startswith("brier"):
        return _sure(model, task, list(items), form, reward, recipe)
    check_labels(reward, items)
    if reward.name == "step":
        return _step(model, reward)
    return _likelihood(model, task, list(items), form, reward, recipe)


def _likelihood(
    model: LoadedModel, task: Task, items: list[Item], form: str, reward: Reward, recipe: Recipe
) -> Completing:
    grade, both = graded(model, task, items, form), reward.name == "likelihood"

    def complete(policy: LoadedModel, update: int, numbers: list[int], texts: list[Generation]) -> list[Completed]:
        found: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for place, (number, text) in enumerate(zip(numbers, texts, strict=True)):
            verdict = grade(number, text)
            own = None if verdict is None else verdict.answer
            cut = before_answer(model, text, own, reward.labels[number])
            if cut is not None:
                found[place] = cut
        forced = [((*texts[place].prompt_ids, *before), after) for place, (before, after) in found.items()]
        rewards = np.zeros(len(texts))
        for place, read in zip(found, unsteered_logprob(policy, forced) if forced else (), strict=True):
            rewards[place] = np.exp(sum(read))
        advantages = rewards - left_out_means(rewards.tolist(), recipe.samples)
        completed = []
        for place, text in enumerate(texts):
            before, after = found.get(place, (tuple(text.token_ids), ()))
            weights = (*[float(advantages[place])] * len(before), *[float(rewards[place])] * len(after))
            learnt = (*[True] * len(before), *[both] * len(after))
            completed.append(Completed((*before, *after), float(rewards[place]), learnt, weights))
        return completed

    return complete


def before_answer(
    model: LoadedModel, text: Generation, answer: str | None, reference: str
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """What a text says before its answer, and the reference in the answer's place with the end behind it; None for a text that did not end,
    or whose answer does not stand in it."""
    ids = tuple(token for token in text.token_ids if token not in model.eos_ids)
    place = answer_place(model, ids, answer) if answer is not None else None
    if place is None:
        return None
    written = token_facts(model).text(ids[place[0]])
    blank = written[: len(written) - len(written.lstrip())]
    own = model.tokenizer(blank + reference, add_special_tokens=False)["input_ids"]
    return ids[: place[0]], (*own, int(model.tokenizer.eos_token_id))


def _sure(model: LoadedModel, task: Task, items: list[Item], form: str, reward: Reward, recipe: Recipe) -> Completing:
    grade, scale = graded(model, task, items, form), scale_of(model, task)

    def complete(policy: LoadedModel, update: int, numbers: list[int], texts: list[Generation]) -> list[Completed]:
        verdicts = [grade(number, text) for number, text in zip(numbers, texts, strict=True)]
        right = [float(found is not None and found.correct) for found in verdicts]
        ended = [place for place, found in enumerate(verdicts) if found is not None]
        rows = [
            Row(
                (*texts[place].prompt_ids, *texts[place].token_ids, *scale.cue_ids),
                seed=stream(recipe.seed, update, numbers[place], place, 1),
            )
            for place in ended
        ]
        asked = generate(
            policy, rows, GenerationSettings(1, temperature=recipe.temperature), batch_size=BATCH, detail="tokens"
        )
        held = _against(right, ended, reward, stream(recipe.seed, update))
        completed = [Completed(tuple(text.token_ids), FAILED) for text in texts]
        for place, told in zip(ended, asked, strict=True):
            level = tuple(told.token_ids)
            own = tuple(texts[place].token_ids)
            sure = scale.value(level[0])
            earned = FAILED if sure is None else _earned(reward, right[place], sure, held[place])
            learnt = (*[True] * len(own), *[False] * len(scale.cue_ids), *[True] * len(level))
            completed[place] = Completed((*own, *scale.cue_ids, *level), earned, learnt)
        return completed

    return complete


def _earned(reward: Reward, right: float, sure: float, held: float) -> float:
    return (0.0 if reward.name == "brier-alone" else right) - (sure - held) ** 2


def _against(right: Sequence[float], ended: Sequence[int], reward: Reward, seed: int) -> dict[int, float]:
    """The verdict that every stated confidence is held against: the text's own, or that of another text of the update."""
    others = list(ended)
    if reward.name == "brier-shuffled":
        others = [ended[n] for n in np.random.default_rng(seed).permutation(len(ended))]
    return {place: right[other] for place, other in zip(ended, others, strict=True)}


def _step(model: LoadedModel, reward: Reward) -> Completing:
    expected = [tuple(int(token) for token in label.split()) for label in reward.labels]

    def complete(policy: LoadedModel, update: int, numbers: list[int], texts: list[Generation]) -> list[Completed]:
        return [
            _stepped(model, tuple(text.token_ids), expected[number])
            for number, text in zip(numbers, texts, strict=True)
        ]

    return complete


def _stepped(model: LoadedModel, ids: tuple[int, ...], expected: tuple[int, ...]) -> Completed:
    body = tuple(token for token in ids if token not in model.eos_ids)
    if not body:
        return Completed(ids, FAILED)
    first = steps_of(model, body)[0]
    whole = first.end == len(body)
    if whole and body == ids and not token_facts(model).ends_sentence(body[-1]):
        return Completed(ids, FAILED)
    step = ids if whole else ids[: first.end]
    return Completed(step, likeness(body[: first.end], expected))


def likeness(one: Sequence[int], other: Sequence[int]) -> float:
    """`2 M / T`: twice the matching tokens over all tokens of both (Ratcliff and Obershelp's matching blocks)."""
    return SequenceMatcher(None, list(one), list(other), autojunk=False).ratio()
