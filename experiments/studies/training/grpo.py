"""Weights trained by reinforcement: TRL's `GRPOTrainer`, with rollouts by the engine.

1. A rollout is the engine's: its draws depend on seed, update, question and sample alone, so that a training which was stopped goes on to
   the same numbers after its last checkpoint.
2. Which tokens bear the loss, the clipping, the KL term and the entropy bonus are TRL's own; of masks TRL knows the tokens of highest
   entropy, beside which stand the others, and as many drawn ones.
3. Per gradient step: reward, share of groups whose rewards are all equal, tokens per text, share of texts cut off, share of ratios clipped,
   entropy, KL against the base, norm of the gradient.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from steering.engine.generation import generate
from steering.engine.record import Generation, Row
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import LoadedModel, wrap

from ...store.files import write_whole
from .checkpoints import last_checkpoint
from .recipe import Recipe

Rewarding = Callable[[int, list[int], list[Generation]], list[float]]
"""Of the update, the numbers of the questions and their texts: what each text earns."""
KEPT = {
    "reward": "reward",
    "frac_reward_zero_std": "equal",
    "completions/mean_length": "tokens",
    "completions/clipped_ratio": "cut",
    "clip_ratio/region_mean": "clipped",
    "entropy": "entropy",
    "kl": "kl",
    "grad_norm": "gradient",
}
UNCLIPPED = 1e6
GROUPS = "groups.json"
EVERY = 4
"""Updates between checkpoints."""


def train_grpo(
    base: LoadedModel,
    pool: Sequence[tuple[int, ...]],
    rewarding: Rewarding,
    recipe: Recipe,
    folder: Path,
    report: Callable[[int, int], None] | None = None,
    kept: Sequence[int] = (),
) -> tuple[dict[int, dict[str, Tensor]], list[dict[str, Any]]]:
    """The weights after the last update, and after those that are `kept`, by the names of `state_dict`; and the curve by update. `pool`
    holds prompts as fed; checkpoints lie in `folder`, from which a training goes on. The base is left as it is.

    Raises BadInput for an empty pool, and where numbers become NaN or infinite.
    """
    if not pool:
        raise BadInput("There is no question to train on.")
    model = copy.deepcopy(base.model)
    model.train()
    args = _arguments(base, recipe, folder)
    rollouts = _Rollouts(base, list(pool), rewarding, recipe, folder)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        trainer = _Trainer(
            model=model,
            reward_funcs=_given,
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [str(number) for number in drawn(len(pool), recipe)]}),
            processing_class=copy.deepcopy(base.tokenizer),
            rollout_func=rollouts,
            callbacks=[_Report(recipe, folder, kept, report)],
        )
        trainer.recipe = recipe
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    found = {update: load_file(folder / f"kept-{update}.safetensors") for update in kept if update < recipe.updates}
    found[recipe.updates] = {
        name: value.detach().cpu().contiguous().clone() for name, value in trainer.model.named_parameters()
    }
    if bad := next((name for name, value in found[recipe.updates].items() if not torch.isfinite(value).all()), None):
        raise BadInput(f"{bad} holds numbers that are not finite after training; lower the rate ({recipe.rate:g}).")
    return found, curve_of(trainer.state.log_history, recipe, json.loads((folder / GROUPS).read_text()))


def curve_of(log: list[dict[str, Any]], recipe: Recipe, groups: dict[str, Any]) -> list[dict[str, Any]]:
    """Per update: what TRL logged of its gradient steps (the share clipped and the gradient as their mean, the rest of the first), the
    tokens generated and trained on, and the mean reward of each group with its question."""
    steps = [row for row in log if "entropy" in row]
    curve = []
    for update in range(recipe.updates):
        own = steps[update * recipe.reuse : (update + 1) * recipe.reuse]
        row: dict[str, Any] = {name: float(own[0][key]) for key, name in KEPT.items() if key in own[0]}
        for key in ("clip_ratio/region_mean", "grad_norm"):
            row[KEPT[key]] = float(np.mean([step[key] for step in own]))
        row["groups"] = 1 - row.pop("equal")
        row["generated"] = round(row["tokens"] * recipe.prompts * recipe.samples)
        row["trained"] = row["generated"] * recipe.reuse
        row["asked"] = groups[str(update)]
        curve.append(row)
    return curve


def drawn(size: int, recipe: Recipe) -> list[int]:
    """Numbers of the questions in the order in which they are asked, `updates * prompts` of them: the pool in random order, again and
    again."""
    order: list[int] = []
    for around in range(-(-recipe.updates * recipe.prompts // size)):
        order += torch.randperm(size, generator=torch.Generator().manual_seed(recipe.seed * 10**4 + around)).tolist()
    return order[: recipe.updates * recipe.prompts]


class _Rollouts:
    """What TRL calls for the texts of a batch."""

    def __init__(
        self, base: LoadedModel, pool: list[tuple[int, ...]], rewarding: Rewarding, recipe: Recipe, folder: Path
    ):
        self.base, self.pool, self.rewarding, self.recipe, self.folder = base, pool, rewarding, recipe, folder

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        numbers = [int(prompt) for prompt in prompts]
        update = trainer.state.global_step // self.recipe.reuse
        rows = [
            Row(self.pool[number], seed=_seed(self.recipe.seed, update, number, place))
            for place, number in enumerate(numbers)
        ]
        settings = GenerationSettings(self.recipe.tokens, temperature=self.recipe.temperature)
        policy = wrap(trainer.model, self.base.tokenizer, self.base.id, probe=False)
        texts = generate(policy, rows, settings, batch_size=256, detail="tokens")
        trainer.model.train()
        if any(text.finish == "nonfinite" for text in texts):
            raise BadInput(
                f"Update {update}: the model's numbers became NaN or infinite; lower the rate ({self.recipe.rate:g})."
            )
        rewards = self.rewarding(update, numbers, texts)
        self._note(update, numbers, rewards)
        return {
            "prompt_ids": [list(text.prompt_ids) for text in texts],
            "completion_ids": [list(text.token_ids) for text in texts],
            "logprobs": None,
            "earned": rewards,
        }

    def _note(self, update: int, numbers: list[int], rewards: list[float]) -> None:
        """Keep the mean reward of every group, in order: it is not among what TRL logs."""
        path, size = self.folder / GROUPS, self.recipe.samples
        told = json.loads(path.read_text()) if path.exists() else {}
        told[str(update)] = [
            [numbers[at], float(np.mean(rewards[at : at + size]))] for at in range(0, len(numbers), size)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(told).encode())


def _given(prompts: list[str], completions: list[str], earned: list[float], **_: Any) -> list[float]:
    return earned


class _Trainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's, with two more masks of tokens."""

    recipe: Recipe

    def get_high_entropy_mask(self, entropies: Tensor, mask: Tensor, threshold: float) -> Tensor:
        top: Tensor = super().get_high_entropy_mask(entropies, mask, threshold)
        if self.recipe.mask == "rest":
            return mask.bool() & ~top
        if self.recipe.mask == "random":
            return as_many(top, mask.bool(), _seed(self.recipe.seed, self.state.global_step))
        return top

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if self.recipe.control != "none":
            weights = token_weights(inputs["completion_mask"], self.recipe, self.max_completion_length)
            inputs = inputs | {"advantages": inputs["advantages"][:, None] * weights}
        loss: Tensor = super()._compute_loss(model, inputs)
        return loss


def token_weights(mask: Tensor, recipe: Recipe, longest: int) -> Tensor:
    """Weight of every token's advantage, `[texts, tokens]`, so that the loss is the mean over texts of weighted sums over tokens; TRL
    divides by texts times the longest text."""
    length = mask.sum(1, keepdim=True).clamp(min=1).float()
    weights = mask.float() / length
    if recipe.control == "decoupled":
        weights = mask.float() / (length - 1).clamp(min=1)
        weights[:, 0] = recipe.alpha * mask[:, 0]
    return weights * longest


def as_many(top: Tensor, among: Tensor, seed: int) -> Tensor:
    """As many drawn tokens of `among` as `top` has; all boolean, `[texts, tokens]`."""
    places = among.reshape(-1).nonzero()[:, 0].cpu()
    chosen = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))[: int(top.sum())]
    found = torch.zeros(among.numel(), dtype=torch.bool)
    found[places[chosen]] = True
    return found.reshape(among.shape).to(among.device)


class _Report(TrainerCallback):  # type: ignore[misc]
    def __init__(
        self, recipe: Recipe, folder: Path, kept: Sequence[int], report: Callable[[int, int], None] | None
    ) -> None:
        self.recipe, self.folder, self.kept, self.report = recipe, folder, kept, report

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        update, rest = divmod(state.global_step, self.recipe.reuse)
        if rest:
            return
        if update in self.kept and update < self.recipe.updates:
            weights = {name: value.detach().cpu().contiguous() for name, value in model.named_parameters()}
            save_file(weights, self.folder / f"kept-{update}.safetensors")
        if self.report is not None:
            self.report(update, self.recipe.updates)


def _arguments(base: LoadedModel, recipe: Recipe, folder: Path) -> GRPOConfig:
    texts = recipe.prompts * recipe.samples
    return GRPOConfig(
        output_dir=str(folder),
        use_cpu=base.device.type == "cpu",
        bf16=False,
        seed=recipe.seed,
        learning_rate=recipe.rate,
        lr_scheduler_type="constant",
        max_steps=recipe.steps,
        per_device_train_batch_size=texts,
        gradient_accumulation_steps=1,
        num_generations=recipe.samples,
        num_iterations=recipe.reuse,
        max_completion_length=recipe.tokens,
        temperature=recipe.temperature,
        beta=recipe.kl,
        entropy_coef=recipe.entropy,
        top_entropy_quantile=1.0 if recipe.mask == "all" else recipe.share,
        loss_type="dr_grpo",
        scale_rewards=recipe.scale,
        epsilon=recipe.clip[0] if recipe.clip[0] else UNCLIPPED,
        epsilon_high=recipe.clip[1] if recipe.clip[1] else UNCLIPPED,
        weight_decay=0.0,
        max_grad_norm=1.0,
        shuffle_dataset=False,
        logging_steps=1,
        save_steps=EVERY * recipe.reuse,
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="steps",
        log_completions=False,
    )


class quiet:
    """Without what TRL and transformers say of themselves while they train."""

    def __enter__(self) -> None:
        os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
        self.levels = {name: logging.getLogger(name).level for name in ("trl", "transformers", "accelerate")}
        for name in self.levels:
            logging.getLogger(name).setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for name, level in self.levels.items():
            logging.getLogger(name).setLevel(level)


def _seed(*facts: int) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, facts)).encode()).digest()[:7])
