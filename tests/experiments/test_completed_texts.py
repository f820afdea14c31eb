"""Texts that are cut or completed before they are trained on: what of them is trained on, with which weights, and what they earn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.workroom import Workroom
from experiments.studies.training.completions import completing, likeness
from experiments.studies.training.grpo import train_grpo
from experiments.studies.training.questions import training_items
from experiments.studies.training.recipe import Recipe
from experiments.studies.training.reference import dealt_anew
from experiments.studies.training.rewards import Reward
from experiments.studies.training.rollouts import Completed, Rollouts, left_out_means
from experiments.studies.training.scales import SURE, Scale, scale_of
from experiments.studies.training.supervised import Lesson, Tuning
from experiments.studies.training.trained_models import Job, TextJob, trained_by_reward, trained_on_texts
from experiments.tasks.task import asked_ids
from steering.engine.forced import unsteered_logprob
from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput

BARE = Elicit(settings=(Setting(name="bare prompts", split="standard-test", form="bare"),), max_new_tokens=48)
RECIPE = Recipe(updates=2, prompts=1, samples=4, tokens=24)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Workroom:
    return Workroom(BARE, Store(tmp_path_factory.mktemp("completed")), Console(quiet=True))


def written(room: Workroom, texts: list[str], finish: str = "eos") -> tuple[Any, list[Any]]:
    """A question, and texts to it as if the engine had written them."""
    (item, *_) = training_items(BARE, {}, 1, "test")
    prompt, end = tuple(asked_ids(BARE.found, room.base, item, "bare")), (int(room.base.tokenizer.eos_token_id),)
    (own,) = generate(room.base, [Row(prompt)], GenerationSettings(4), detail="tokens")
    ids = [tuple(room.base.tokenizer.convert_tokens_to_ids(text.split())) for text in texts]
    return item, [
        Generation(**vars(own) | {"token_ids": one + (end if finish == "eos" else ()), "finish": finish}) for one in ids
    ]


def done(room: Workroom, item: Any, texts: list[Any], reward: Reward, update: int = 0) -> list[Completed]:
    return completing(room.base, BARE.found, [item], "bare", reward, RECIPE)(room.base, update, [0] * len(texts), texts)


def test_the_reference_stands_in_the_place_of_the_answer_and_its_probability_is_the_reward(room: Workroom) -> None:
    item, texts = written(room, ["answer 3", "let us try 4 ; so answer 7", "answer answer", "answer 5 5"])
    own = done(room, item, texts, Reward("likelihood", (item.gold,)))
    tokenizer, prompt = room.base.tokenizer, texts[0].prompt_ids
    gold = (*tokenizer.convert_tokens_to_ids([item.gold]), int(tokenizer.eos_token_id))
    head = tuple(tokenizer.convert_tokens_to_ids("let us try 4 ; so answer".split()))
    assert own[1].token_ids == (*head, *gold)
    (told,) = unsteered_logprob(room.base, [((*prompt, *head), gold)])
    assert own[1].reward == pytest.approx(math.exp(sum(told)), rel=1e-5) and own[1].reward > 0
    assert own[2].token_ids == texts[2].token_ids and own[2].reward == 0, "it states no answer"
    means = left_out_means([one.reward for one in own], 4)
    assert means[1] == pytest.approx(sum(own[n].reward for n in (0, 2, 3)) / 3)
    assert own[1].weights is not None and own[2].weights is not None
    assert own[1].weights == pytest.approx((*[own[1].reward - means[1]] * len(head), own[1].reward, own[1].reward))
    assert own[2].weights == pytest.approx([-means[2]] * len(texts[2].token_ids))
    assert own[1].learnt == (True,) * len(own[1].token_ids)
    alone = done(room, item, texts, Reward("likelihood-alone", (item.gold,)))
    assert alone[1].learnt == (*[True] * len(head), False, False) and alone[1].reward == own[1].reward
    _, cut = written(room, ["answer 3"] * 4, "length")
    assert [one.reward for one in done(room, item, cut, Reward("likelihood", (item.gold,)))] == [0] * 4
    with pytest.raises(BadInput, match="0 labels for 1 questions"):
        done(room, item, texts, Reward("likelihood"))


def test_every_token_of_a_batch_has_its_own_weight_or_the_advantage_of_its_text(room: Workroom, tmp_path: Path) -> None:
    given = {((5, 6), (7, 8, 9)): (0.1, 0.2, 0.3)}
    rollouts = Rollouts(room.base, [(5, 6)], lambda *_: [], RECIPE, tmp_path)
    rollouts.weighted = given
    inputs = {
        "advantages": torch.tensor([2.0, -1.0]),
        "prompt_ids": torch.tensor([[0, 5, 6], [0, 0, 6]]), "prompt_mask": torch.tensor([[0, 1, 1], [0, 0, 1]]),
        "completion_ids": torch.tensor([[7, 8, 9, 0], [7, 8, 9, 0]]), "completion_mask": torch.tensor([[1, 1, 1, 0]] * 2),
    }  # fmt: skip
    found = rollouts.weights(inputs)
    assert torch.allclose(found, torch.tensor([[0.1, 0.2, 0.3, 2.0], [-1.0] * 4]))
    with pytest.raises(BadInput, match="2 weights for 1 tokens"):
        Completed((1,), 0.0, weights=(1.0, 2.0))


def test_the_likelihood_of_references_rises_and_that_of_others_answers_does_not_help(
    room: Workroom, tmp_path: Path
) -> None:
    items = training_items(BARE, {}, 4, "test")
    pool = [tuple(asked_ids(BARE.found, room.base, item, "bare")) for item in items]
    recipe = Recipe(updates=10, prompts=4, samples=8, tokens=6, rate=1e-3)
    reward = Reward("likelihood", tuple(item.gold for item in items))
    completes = completing(room.base, BARE.found, items, "bare", reward, recipe)
    _, curve = train_grpo(room.base, pool, None, recipe, tmp_path, completing=completes)
    assert curve[-1]["reward"] > curve[0]["reward"] + 0.2, [row["reward"] for row in curve]
    with pytest.raises(BadInput, match="one of the two"):
        train_grpo(room.base, pool, None, recipe, tmp_path)


def test_what_a_stated_confidence_earns(room: Workroom) -> None:
    item, texts = written(room, ["PLACE"] * 4)
    _, texts = written(room, [f"answer {item.gold}", "answer 3", f"answer {item.gold}", "answer 4"])
    scale = scale_of(room.base, BARE.found)
    for name in ("brier", "brier-alone"):
        for text, one in zip(texts, done(room, item, texts, Reward(name)), strict=True):  # type: ignore[arg-type]
            right = float(text.token_ids[1] == room.base.tokenizer.convert_tokens_to_ids(item.gold))
            assert one.token_ids[:-1] == (*text.token_ids, *scale.cue_ids)
            assert one.learnt == (*[True] * len(text.token_ids), *[False] * len(scale.cue_ids), True)
            sure = scale.value(one.token_ids[-1])
            told = -1 if sure is None else (right if name == "brier" else 0) - (sure - right) ** 2
            assert one.reward == pytest.approx(told)
    _, cut = written(room, [f"answer {item.gold}"] * 4, "length")
    assert done(room, item, cut, Reward("brier")) == [Completed(text.token_ids, -1) for text in cut]


def test_a_scale_is_of_single_tokens(room: Workroom) -> None:
    scale = scale_of(room.base, BARE.found)
    assert room.base.tokenizer.convert_ids_to_tokens(list(scale.level_ids)) == [str(n) for n in range(5, 100, 10)]
    assert [scale.value(token) for token in scale.level_ids] == pytest.approx(SURE) and scale.value(0) is None
    _, (text, *_) = written(room, ["answer 3"])
    shares, whole = scale.stated(room.base, [(*text.prompt_ids, *text.token_ids)])
    assert shares.sum() == pytest.approx(1) and 0 < whole[0] < 1


def test_confidence_is_learned_by_its_reward(tmp_path: Path) -> None:
    """One question whose only answer is wrong: sure is what it learns not to be."""
    room = Workroom(BARE, Store(tmp_path), Console(quiet=True))
    scale = scale_of(room.base, BARE.found)
    items = training_items(BARE, {}, 4, "test")
    prompts = [tuple(asked_ids(BARE.found, room.base, item, "bare")) for item in items]
    end = int(room.base.tokenizer.eos_token_id)
    wrong = tuple(room.base.tokenizer.convert_tokens_to_ids(["answer", "answer"]))
    lessons = [
        Lesson((*prompt, *wrong, end, *scale.cue_ids), (level,)) for prompt in prompts for level in scale.level_ids
    ]
    lessons += [Lesson(prompt, (*wrong, end)) for prompt in prompts] * 5
    start = trained_on_texts(room, TextJob(tuple(lessons), Tuning(40, 16, 1e-3), "wrong, and a random level"))
    recipe = Recipe(updates=7, prompts=4, samples=8, tokens=8, rate=3e-4)
    own = trained_by_reward(room, Job(tuple(items), "bare", Reward("brier-alone"), recipe, "confidence", start=start))

    def stated(name: str) -> float:
        shares, _ = scale.stated(room.model(name), [(*prompt, *wrong, end) for prompt in prompts])
        return float((shares @ torch.tensor(SURE).double().numpy()).mean())

    assert 0.35 < stated(start.model) < 0.65 and stated(own.model) < 0.2
    assert own.before == start.curve and sum(row["trained"] for row in own.before) > 0, (
        "what it went on from has its cost"
    )


def test_the_next_step_is_held_against_the_given_one(room: Workroom) -> None:
    assert likeness((1, 2, 3), (1, 2, 3)) == 1 and likeness((1, 2), (3, 4)) == 0
    assert likeness((1, 2, 3), (1, 9, 3)) == pytest.approx(2 * 2 / 6)
    item, texts = written(room, ["let us try 4 ; 4 + 3 = 7 ;", "let us try 5 ;", "so answer 4", ";"])
    ids = room.base.tokenizer.convert_tokens_to_ids("let us try 4 ;".split())
    reward = Reward("step", (" ".join(map(str, ids)),))
    own = done(room, item, texts, reward)
    assert own[0] == Completed(tuple(ids), 1.0), "behind the first step nothing is trained on"
    assert own[1].reward == pytest.approx(0.8) and own[1].token_ids == texts[1].token_ids
    _, cut = written(room, ["let us try 4", "let us try 4 ; 4", "let us try 4 ;", ""], "length")
    told = done(room, item, cut, reward)
    assert [one.reward for one in told] == pytest.approx([-1, 1, 1, -1]), "a step that does not end is none"


def test_references_are_dealt_to_other_questions() -> None:
    answers = [str(n) for n in range(30)]
    dealt = dealt_anew(answers)
    assert sorted(dealt) == sorted(answers) and not any(a == b for a, b in zip(answers, dealt, strict=True))


def test_a_scale_needs_tokens_of_its_own(room: Workroom) -> None:
    class Task:
        name = "other"

    with pytest.raises(BadInput, match="builtin:base does not know the words"):
        scale_of(room.base, Task())  # type: ignore[arg-type]
    assert Scale((1,), (2, 3)).value(3) == SURE[1]
