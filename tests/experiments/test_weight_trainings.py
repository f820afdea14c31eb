"""Weights trained by reward and on texts: stopped trainings end with the same bytes, masks and rewards are what they say, and a planted
reward is learned."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from experiments.store.runs import Store
from experiments.studies.elicitation.asked import Elicit, Setting
from experiments.studies.elicitation.workroom import Workroom
from experiments.studies.training.contrastive import Contrasting, chosen_tokens, pairs_of, train_contrastive
from experiments.studies.training.grpo import as_many, drawn, parts_of, token_weights, train_grpo
from experiments.studies.training.questions import training_items
from experiments.studies.training.recipe import Recipe
from experiments.studies.training.rewards import Reward, rewarding
from experiments.studies.training.side_by_side import trainings
from experiments.studies.training.supervised import Lesson, Tuning, train_supervised
from experiments.studies.training.trained_models import Job, read_trained, trained_by_reward
from experiments.tasks.task import asked_ids
from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import LoadedModel

QUIET = Console(quiet=True)
BARE = Elicit(settings=(Setting(name="bare prompts", split="standard-test", form="bare"),), max_new_tokens=48)
LITTLE = Recipe(updates=6, prompts=2, samples=3, tokens=12, rate=5e-4)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Workroom:
    return Workroom(BARE, Store(tmp_path_factory.mktemp("weights")), QUIET)


def asking(room: Workroom, count: int = 4) -> tuple[list[Any], list[tuple[int, ...]]]:
    items = training_items(BARE, {}, count, "test")
    return items, [tuple(asked_ids(BARE.found, room.base, item, "bare")) for item in items]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def long(update: int, numbers: list[int], texts: list[Generation]) -> list[float]:
    """A reward that differs within most groups."""
    return [float(len(text.token_ids) > 3) + 0.01 * len(text.token_ids) for text in texts]


def test_a_training_that_was_stopped_ends_with_the_same_bytes(room: Workroom, tmp_path: Path) -> None:
    _, pool = asking(room)
    before = {name: value.clone() for name, value in room.base.model.named_parameters()}
    unbroken, curve = train_grpo(room.base, pool, long, LITTLE, tmp_path / "one", kept=(2,))

    def stop(update: int, _: int) -> None:
        if update == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_grpo(room.base, pool, long, LITTLE, tmp_path / "two", stop, kept=(2,))
    torn = tmp_path / "two" / "checkpoint-10"  # the process ended while the next one was written
    shutil.copytree(tmp_path / "two" / "checkpoint-8", torn)
    (torn / "trainer_state.json").write_text("{")
    told: list[int] = []
    resumed, again = train_grpo(room.base, pool, long, LITTLE, tmp_path / "two", lambda n, _: told.append(n), kept=(2,))
    assert told == [5, 6], "it goes on after the last whole checkpoint, that of update 4"
    assert curve == again and len(curve) == 6
    assert all(same(unbroken[update], resumed[update]) for update in (2, 6))
    assert not same(unbroken[6], before) and same(before, dict(room.base.model.named_parameters())), (
        "the base is as it was"
    )
    short, _ = train_grpo(room.base, pool, long, Recipe(**vars(LITTLE) | {"updates": 2}), tmp_path / "three")
    assert same(short[2], unbroken[2]), "the first updates do not depend on how many follow"


def test_without_a_difference_in_reward_nothing_is_trained(room: Workroom, tmp_path: Path) -> None:
    items, _ = asking(room)
    job = Job(tuple(items), "bare", Reward("nothing"), Recipe(**vars(LITTLE) | {"updates": 1}), "nothing")
    own = trained_by_reward(room, job)
    after = room.model(own.model).model
    assert same(dict(room.base.model.named_parameters()), dict(after.named_parameters()))
    assert own.curve[0]["groups"] == 0 and own.curve[0]["gradient"] == 0


def test_trainings_in_processes_of_their_own_end_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = training_items(BARE, {}, 4, "test")
    recipes = [Recipe(updates=1, prompts=2, samples=2, tokens=6, seed=seed) for seed in range(4)]
    jobs = [Job(tuple(items), "bare", Reward("random"), recipe, f"seed {recipe.seed}") for recipe in recipes]
    one, two = (Workroom(BARE, Store(tmp_path / name), QUIET) for name in ("one", "two"))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = [trained_by_reward(one, job) for job in jobs]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr("experiments.studies.training.side_by_side.os.cpu_count", lambda: 2)
    together = trainings(two, jobs)
    assert [own.models for own in alone] == [own.models for own in together]
    files = [sorted((tmp_path / name).rglob("grpo-*.json")) for name in ("one", "two")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]] and len(files[0]) == 4
    assert read_trained(files[0][0], (7,)) is None, "weights after an update that was not kept are trained anew"


def test_a_planted_reward_is_learned_by_weights(room: Workroom, tmp_path: Path) -> None:
    """The reward is a first word that opens a trace, which the base rarely writes."""
    _, pool = asking(room, 8)
    opens = {room.base.tokenizer.convert_tokens_to_ids(word) for word in ("let", "first", "hmm")}

    def reward(update: int, numbers: list[int], texts: list[Generation]) -> list[float]:
        return [float(text.token_ids[0] in opens) for text in texts]

    recipe = Recipe(updates=8, prompts=4, samples=16, tokens=2, rate=1e-3)
    _, curve = train_grpo(room.base, pool, reward, recipe, tmp_path)
    rewards = [row["reward"] for row in curve]
    assert rewards[0] < 0.5 and rewards[-1] > 0.9, rewards
    assert any(row["clipped"] > 0 for row in curve), "two steps per batch clip some ratios"


def test_nothing_is_clipped_in_the_only_step_of_a_batch(room: Workroom, tmp_path: Path) -> None:
    _, pool = asking(room)
    _, curve = train_grpo(room.base, pool, long, Recipe(**vars(LITTLE) | {"reuse": 1, "updates": 3}), tmp_path / "one")
    assert [row["clipped"] for row in curve] == [0, 0, 0]
    several = Recipe(**vars(LITTLE) | {"reuse": 3, "updates": 2, "rate": 5e-3, "kl": 0.01})
    _, curve = train_grpo(room.base, pool, long, several, tmp_path / "two")
    assert any(row["clipped"] > 0 for row in curve) and all(row["kl"] >= 0 and row["entropy"] > 0 for row in curve)
    _, curve = train_grpo(room.base, pool, long, Recipe(**vars(several) | {"clip": (0.0, 0.0)}), tmp_path / "three")
    assert [row["clipped"] for row in curve] == [0, 0], "without clipping nothing is clipped, however far weights go"


def test_an_update_that_is_read_in_parts_has_the_gradient_of_the_whole(
    room: Workroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pool = asking(room)
    recipe = Recipe(**vars(LITTLE) | {"updates": 2, "prompts": 2, "samples": 4})
    whole, curve = train_grpo(room.base, pool, long, recipe, tmp_path / "one")
    monkeypatch.setattr("experiments.studies.training.grpo.AT_ONCE", 3 * 4 * recipe.tokens * 192 * 2)
    parted, told = train_grpo(room.base, pool, long, recipe, tmp_path / "two")
    for name, value in whole[2].items():
        moved = (value - dict(room.base.model.named_parameters())[name].detach()).norm()
        assert float((parted[2][name] - value).norm()) <= 0.05 * float(moved) + 1e-7, name
    assert [row["reward"] for row in curve] == [row["reward"] for row in told]
    assert [row["gradient"] for row in curve] == pytest.approx([row["gradient"] for row in told], rel=1e-3)


def test_large_vocabularies_are_read_in_parts() -> None:
    assert parts_of(64, 200, 192) == 1
    assert parts_of(64, 200, 49152) == 4 and parts_of(64, 200, 151_936) == 16 and parts_of(6, 10**6, 10**5) == 6


def test_questions_are_asked_as_often_as_each_other() -> None:
    recipe = Recipe(updates=6, prompts=4, samples=2)
    order = drawn(8, recipe)
    assert len(order) == 24 and all(order.count(number) == 3 for number in range(8))
    assert sorted(order[:8]) == list(range(8)) and order[:8] != order[8:16]
    assert drawn(1, recipe) == [0] * 24
    assert drawn(8, Recipe(updates=3, prompts=4, samples=2)) == order[:12]


def test_as_many_tokens_are_drawn_as_are_chosen_among_those_that_are_there() -> None:
    among = torch.tensor([[True, True, True, False], [True, True, False, False]])
    top = torch.tensor([[True, False, False, False], [True, False, False, False]])
    draws = [as_many(top, among, seed) for seed in range(60)]
    assert all(int(own.sum()) == 2 and not (own & ~among).any() for own in draws)
    assert (torch.stack(draws).any(0) == among).all(), "every token can be drawn"
    assert torch.equal(as_many(top, among, 7), draws[7])


def test_the_masks_train_on_different_tokens(room: Workroom, tmp_path: Path) -> None:
    _, pool = asking(room)
    made = {
        mask: train_grpo(room.base, pool, long, Recipe(**vars(LITTLE) | {"updates": 2, "mask": mask}), tmp_path / mask)[
            0
        ][2]
        for mask in ("all", "top", "rest", "random")
    }
    names = list(made)
    assert not any(same(made[one], made[other]) for place, one in enumerate(names) for other in names[:place])


def test_the_first_token_has_a_weight_of_its_own_where_it_is_decoupled() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    coupled = token_weights(mask, Recipe(control="coupled"), 8)
    assert torch.allclose(coupled, 8 * torch.tensor([[0.25] * 4, [0.5, 0.5, 0, 0]]))
    apart = token_weights(mask, Recipe(control="decoupled", alpha=0.1), 8)
    assert torch.allclose(apart, 8 * torch.tensor([[0.1, 1 / 3, 1 / 3, 1 / 3], [0.1, 1, 0, 0]]))


def rows(texts: list[str], base: LoadedModel, finish: str = "eos") -> list[Any]:
    class Text:
        def __init__(self, text: str) -> None:
            self.token_ids = tuple(base.tokenizer.convert_tokens_to_ids(text.split()))
            self.finish = finish

    return [Text(text) for text in texts]


def test_rewards_are_what_they_say(room: Workroom) -> None:
    (item, *_), _ = asking(room)
    answer = item.gold
    wrong = str(next(c for c in item.data.candidates if str(c) != answer))
    texts = rows([f"answer {answer}", f"answer {wrong}", "answer answer", "let us"], room.base)
    numbers = [0] * 4

    def earned(reward: Reward, own: list[Any] = texts, update: int = 0) -> list[float]:
        return rewarding(room.base, BARE.found, [item], "bare", reward)(update, numbers, own)

    assert earned(Reward()) == [1, 0, 0, 0]
    assert earned(Reward("label", (wrong,))) == [0, 1, 0, 0]
    assert earned(Reward("format")) == [1, 1, 0, 0]
    assert earned(Reward("nothing")) == [0, 0, 0, 0]
    trace = rows(
        [f"answer {answer}", f"first try {answer} ; so answer {answer}", f"answer {wrong}", "let us"], room.base
    )
    assert earned(Reward("routed", thought=0.3), trace) == [1, 0.3, -1, -1]
    cut = rows([f"answer {answer}"] * 4, room.base, "length")
    assert earned(Reward(), cut) == earned(Reward("format"), cut) == [0] * 4
    drawn_rewards = [value for update in range(200) for value in earned(Reward("random", chance=0.3), update=update)]
    assert 0.25 < sum(drawn_rewards) / len(drawn_rewards) < 0.35
    assert earned(Reward("random"), update=5) == earned(Reward("random"), update=5)
    with pytest.raises(BadInput, match="0 labels for 1 questions"):
        earned(Reward("label"))


def test_pairs_are_of_questions_of_middle_difficulty() -> None:
    spec = Contrasting(low=0.25, high=0.75)
    verdicts = [
        [True] * 4,
        [False] * 4,
        [True, False, False, None],
        [True, False, False, False, False, False],
        [None, None],
    ]
    pairs = pairs_of(verdicts, spec)
    assert len(pairs) == 1
    ((question, right, wrong),) = pairs
    assert question == 2 and right == 0 and wrong in (1, 2)


@torch.no_grad()
def logprob(model: Any, text: Generation) -> float:
    """Of a whole text, in nats."""
    ids, start = torch.tensor([[*text.prompt_ids, *text.token_ids]]), len(text.prompt_ids)
    told = model(input_ids=ids).logits[0, start - 1 : -1].log_softmax(-1)
    return float(told.gather(-1, ids[0, start:, None]).sum())


def test_the_contrast_makes_right_texts_likelier_than_wrong_ones(room: Workroom) -> None:
    items, pool = asking(room, 8)
    sampled = [Row(ids, seed=number * 100 + draw) for number, ids in enumerate(pool) for draw in range(8)]
    texts = generate(room.base, sampled, GenerationSettings(24, temperature=1.0), detail="tokens")
    pairs = [(0, 1), (2, 3), (8, 9), (10, 11)]
    spec = Contrasting(steps=6, pairs=4, share=0.3)
    weights, curve = train_contrastive(room.base, texts, pairs, spec)
    assert curve[0]["margin"] == pytest.approx(0, abs=1e-4) and curve[0]["kl"] == pytest.approx(0, abs=1e-6), (
        "the adapter begins at nothing"
    )
    assert curve[-1]["margin"] > 0.5
    after = copy.deepcopy(room.base.model)
    after.load_state_dict(weights, strict=False)
    gained = [logprob(after, text) - logprob(room.base.model, text) for text in texts]
    assert sum(gained[right] - gained[wrong] for right, wrong in pairs) > 0, "read apart from what the training says"
    again, _ = train_contrastive(room.base, texts, pairs, spec)
    assert same(weights, again) and weights.keys() == dict(room.base.model.named_parameters()).keys()
    top, _, least = chosen_tokens(room.base, texts, spec)
    other, _, _ = chosen_tokens(room.base, texts, Contrasting(share=0.3, where="random"))
    count = sum(int(own.sum()) for own in other)
    assert sum(int(own.sum()) for own in top) >= count and least > 0
    assert any(not torch.equal(a, b) for a, b in zip(top, other, strict=True))


def test_only_what_follows_the_prompt_is_learnt(room: Workroom, tmp_path: Path) -> None:
    _, pool = asking(room)
    eos = int(room.base.tokenizer.eos_token_id)
    lesson = Lesson(pool[0], (*room.base.tokenizer.convert_tokens_to_ids(["answer", "7"]), eos))
    weights, curve = train_supervised(room.base, [lesson], Tuning(steps=12, batch=1), tmp_path / "one")
    ids = torch.tensor([[*lesson.prompt_ids, *lesson.token_ids]])
    with torch.no_grad():
        told = room.base.model(input_ids=ids).logits[0, len(lesson.prompt_ids) - 1 : -1].log_softmax(-1)
    loss = -float(told.gather(-1, torch.tensor(lesson.token_ids)[:, None]).mean())
    assert curve[0]["loss"] == pytest.approx(loss, abs=1e-3) and curve[-1]["loss"] < loss / 2
    assert len(curve) == 12 and all(row["trained"] == ids.shape[1] for row in curve)

    def stop(step: int, _: int) -> None:
        if step == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_supervised(room.base, [lesson], Tuning(steps=12, batch=1), tmp_path / "two", stop)
    resumed, again = train_supervised(room.base, [lesson], Tuning(steps=12, batch=1), tmp_path / "two")
    assert same(weights, resumed) and curve == again
