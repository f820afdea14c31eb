"""The texts of an update of training by reward: the engine writes them, a reward is given, and what of them is trained on is said.

1. A draw depends on seed, update, question and sample alone.
2. A text may be completed before it is trained on: cut, or followed by tokens that the model is given (which bear no loss), that it writes
   in answer to them, or that are put in its mouth with a weight of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steering.engine.generation import generate
from steering.engine.record import Generation, Row
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import LoadedModel, wrap

from ...store.files import write_whole
from .recipe import Recipe

GROUPS = "groups.json"
BATCH = 256


@dataclass(frozen=True)
class Completed:
    """A text as it is trained on."""

    token_ids: tuple[int, ...]
    reward: float
    learnt: tuple[bool, ...] | None = None
    """Whether a token bears the loss; by default all do."""
    weights: tuple[float, ...] | None = None
    """Per token, in place of the text's advantage in its group."""

    def __post_init__(self) -> None:
        for name, given in (("learnt", self.learnt), ("weights", self.weights)):
            if given is not None and len(given) != len(self.token_ids):
                raise BadInput(f"{len(given)} {name} for {len(self.token_ids)} tokens; give one each.")


Rewarding = Callable[[int, list[int], list[Generation]], list[float]]
"""Of the update, the numbers of the questions and their texts: what each text earns."""
Completing = Callable[[LoadedModel, int, list[int], list[Generation]], list[Completed]]
"""Of the model as it is in this update, the update, the numbers of the questions and their texts, group after group."""


def plainly(rewarding: Rewarding) -> Completing:
    """Texts are trained on as they were written."""

    def complete(policy: LoadedModel, update: int, numbers: list[int], texts: list[Generation]) -> list[Completed]:
        earned = rewarding(update, numbers, texts)
        return [Completed(tuple(text.token_ids), reward) for text, reward in zip(texts, earned, strict=True)]

    return complete


def left_out_means(rewards: Sequence[float], samples: int) -> np.ndarray:
    """Per text the mean reward of the others of its group (the baseline of leave-one-out REINFORCE, 2402.14740)."""
    groups = np.asarray(rewards, dtype=float).reshape(-1, samples)
    return np.asarray(((groups.sum(1, keepdims=True) - groups) / (samples - 1)).reshape(-1))


class Rollouts:
    """What TRL calls for the texts of a batch."""

    def __init__(
        self, base: LoadedModel, pool: list[tuple[int, ...]], completing: Completing, recipe: Recipe, folder: Path
    ):
        self.base, self.pool, self.completing, self.recipe, self.folder = base, pool, completing, recipe, folder
        self.weighted: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[float, ...]] = {}
        """Weights of tokens, by prompt and text of the present update."""

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        numbers = [int(prompt) for prompt in prompts]
        update = trainer.state.global_step // self.recipe.reuse
        rows = [
            Row(self.pool[number], seed=stream(self.recipe.seed, update, number, place))
            for place, number in enumerate(numbers)
        ]
        settings = GenerationSettings(self.recipe.tokens, temperature=self.recipe.temperature)
        policy = wrap(trainer.model, self.base.tokenizer, self.base.id, probe=False)
        texts = generate(policy, rows, settings, batch_size=BATCH, detail="tokens")
        if any(text.finish == "nonfinite" for text in texts):
            raise BadInput(
                f"Update {update}: the model's numbers became NaN or infinite; lower the rate ({self.recipe.rate:g})."
            )
        completed = self.completing(policy, update, numbers, texts)
        trainer.model.train()
        self.weighted = {
            (text.prompt_ids, one.token_ids): one.weights
            for text, one in zip(texts, completed, strict=True)
            if one.weights is not None
        }
        self._note(update, numbers, texts, [one.reward for one in completed])
        found = {
            "prompt_ids": [list(text.prompt_ids) for text in texts],
            "completion_ids": [list(one.token_ids) for one in completed],
            "logprobs": None,
            "earned": [one.reward for one in completed],
        }
        if any(one.learnt is not None for one in completed):
            found["env_mask"] = [
                list(map(int, one.learnt)) if one.learnt is not None else [1] * len(one.token_ids) for one in completed
            ]
        return found

    def weights(self, inputs: dict[str, Any]) -> Tensor:
        """Weight of every token of a batch, `[texts, tokens]`: its own, or the advantage of its text."""
        advantages: Tensor = inputs["advantages"]
        found = advantages[:, None].repeat(1, inputs["completion_ids"].shape[1])
        for place in range(len(found)):
            prompt, text = (
                tuple(inputs[f"{part}_ids"][place][inputs[f"{part}_mask"][place].bool()].tolist())
                for part in ("prompt", "completion")
            )
            own = self.weighted.get((prompt, text))
            if own is not None:
                found[place, : len(own)] = torch.tensor(own, dtype=found.dtype, device=found.device)
        return found

    def _note(self, update: int, numbers: list[int], texts: list[Generation], rewards: list[float]) -> None:
        """Keep of every update the mean reward of each group, in order, and of the texts as they were written how many tokens they have and
        how many were cut off: it is not among what TRL logs, which sees them completed."""
        path, size = self.folder / GROUPS, self.recipe.samples
        told = json.loads(path.read_text()) if path.exists() else {}
        told[str(update)] = {
            "asked": [[numbers[at], float(np.mean(rewards[at : at + size]))] for at in range(0, len(numbers), size)],
            "generated": sum(len(text.token_ids) for text in texts),
            "cut": float(np.mean([text.finish == "length" for text in texts])),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(told).encode())


def stream(*facts: int) -> int:
    """The seed of a draw."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, facts)).encode()).digest()[:7])
