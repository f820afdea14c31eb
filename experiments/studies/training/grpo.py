"""Weights trained by reinforcement: TRL's `GRPOTrainer`, with rollouts by the engine.

1. A rollout is the engine's (`rollouts`): a training which was stopped goes on to the same numbers after its last checkpoint.
2. Predictions of a large vocabulary are not held for all texts of an update at once (`AT_ONCE`). A mask by entropy takes its share of what
   is held at once.
3. Which tokens bear the loss, the clipping, the KL term and the entropy bonus are TRL's own; of masks TRL knows the tokens of highest
   entropy, beside which stand the others, and as many drawn ones.
4. Texts of an update are read in groups of like length (`by_length`). Activations of a small model are kept, those of a larger one
   computed again.
5. Per gradient step: reward, share of groups whose rewards are all equal, tokens per text, share of texts cut off, share of ratios clipped,
   entropy, KL against the base, norm of the gradient.
"""

from __future__ import annotations

import copy
import json
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

from steering.errors import BadInput
from steering.model.models import LoadedModel

from ...evaluation.executors import is_small
from .by_length import read_by_length
from .checkpoints import last_checkpoint
from .quiet import quiet
from .recipe import Recipe
from .rollouts import GROUPS, Completing, Rewarding, Rollouts, plainly, stream

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
AT_ONCE = 2**31
"""Bytes of predictions that are held at once: an update whose texts have more is read in equal parts, their gradients summed."""
EVERY = 4
"""Updates between checkpoints."""


def train_grpo(
    base: LoadedModel,
    pool: Sequence[tuple[int, ...]],
    rewarding: Rewarding | None,
    recipe: Recipe,
    folder: Path,
    report: Callable[[int, int], None] | None = None,
    kept: Sequence[int] = (),
    completing: Completing | None = None,
) -> tuple[dict[int, dict[str, Tensor]], list[dict[str, Any]]]:
    """The weights after the last update, and after those that are `kept`, by the names of `state_dict`; and the curve by update. `pool`
    holds prompts as fed; checkpoints lie in `folder`, from which a training goes on. The base is left as it is. `completing`, in place of
    `rewarding`, also says what of the texts is trained on.

    Raises BadInput for an empty pool, and where numbers become NaN or infinite.
    """
    if not pool:
        raise BadInput("There is no question to train on.")
    if (rewarding is None) == (completing is None):
        raise BadInput("Give a reward, or what completes texts and rewards them: one of the two.")
    model = copy.deepcopy(base.model)
    model.train()
    completes = completing if rewarding is None else plainly(rewarding)
    assert completes is not None
    rollouts = Rollouts(base, list(pool), completes, recipe, folder)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        trainer = _Trainer(
            model=model,
            reward_funcs=_given,
            args=_arguments(base, recipe, folder),
            train_dataset=Dataset.from_dict({"prompt": [str(number) for number in drawn(len(pool), recipe)]}),
            processing_class=copy.deepcopy(base.tokenizer),
            rollout_func=rollouts,
            callbacks=[_Report(recipe, folder, kept, report)],
        )
        trainer.recipe, trainer.rollouts = recipe, rollouts
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
    tokens trained on, and what was noted of the texts: tokens, the share cut off, and the mean reward of each group with its question."""
    steps = [row for row in log if "entropy" in row]
    curve = []
    for update in range(recipe.updates):
        own = steps[update * recipe.reuse : (update + 1) * recipe.reuse]
        row: dict[str, Any] = {name: float(own[0][key]) for key, name in KEPT.items() if key in own[0]}
        for key in ("clip_ratio/region_mean", "grad_norm"):
            row[KEPT[key]] = float(np.mean([step[key] for step in own]))
        row["groups"] = 1 - row.pop("equal")
        row["trained"] = round(row["tokens"] * recipe.prompts * recipe.samples) * recipe.reuse
        row |= groups[str(update)]
        row["tokens"] = row["generated"] / (recipe.prompts * recipe.samples)
        curve.append(row)
    return curve


def drawn(size: int, recipe: Recipe) -> list[int]:
    """Numbers of the questions in the order in which they are asked, `updates * prompts` of them: the pool in random order, again and
    again."""
    order: list[int] = []
    for around in range(-(-recipe.updates * recipe.prompts // size)):
        order += torch.randperm(size, generator=torch.Generator().manual_seed(recipe.seed * 10**4 + around)).tolist()
    return order[: recipe.updates * recipe.prompts]


def _given(prompts: list[str], completions: list[str], earned: list[float], **_: Any) -> list[float]:
    return earned


class _Trainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's, with two more masks of tokens, and weights of tokens."""

    recipe: Recipe
    rollouts: Rollouts

    def get_high_entropy_mask(self, entropies: Tensor, mask: Tensor, threshold: float) -> Tensor:
        top: Tensor = super().get_high_entropy_mask(entropies, mask, threshold)
        if self.recipe.mask == "rest":
            return mask.bool() & ~top
        if self.recipe.mask == "random":
            return as_many(top, mask.bool(), stream(self.recipe.seed, self.state.global_step))
        return top

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **images: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        reads = super()._get_per_token_logps_and_entropies
        if compute_aux_loss or any(value is not None for value in images.values()):
            whole: tuple[Tensor, Tensor | None, Tensor | None] = reads(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                compute_aux_loss,
                **images,
            )
            return whole

        def group(model: Any, ids: Tensor, mask: Tensor, kept: int) -> tuple[Tensor, Tensor | None]:
            logps, entropies, _ = reads(model, ids, mask, kept, compute_entropy=compute_entropy)
            return logps, entropies

        return *read_by_length(group, model, input_ids, attention_mask, logits_to_keep, batch_size), None

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if self.recipe.control != "none":
            weights = token_weights(inputs["completion_mask"], self.recipe, self.max_completion_length)
            inputs = inputs | {"advantages": inputs["advantages"][:, None] * weights}
        if self.rollouts.weighted:
            inputs = inputs | {"advantages": self.rollouts.weights(inputs)}
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


def parts_of(texts: int, tokens: int, words: int) -> int:
    """Into how many equal parts the texts of an update are cut. Predictions are held as logits, log-probabilities and their gradient, in
    float32."""
    size = 3 * 4 * tokens * words
    return next(
        parts
        for parts in range(1, texts + 1)
        if texts % parts == 0 and (parts == texts or texts // parts * size <= AT_ONCE)
    )


def _arguments(base: LoadedModel, recipe: Recipe, folder: Path) -> GRPOConfig:
    texts = recipe.prompts * recipe.samples
    parts = parts_of(texts, recipe.tokens, base.model.config.get_text_config().vocab_size)
    return GRPOConfig(
        output_dir=str(folder),
        use_cpu=base.device.type == "cpu",
        bf16=False,
        activation_checkpointing=not is_small(base),
        seed=recipe.seed,
        learning_rate=recipe.rate,
        lr_scheduler_type="constant",
        max_steps=recipe.steps,
        per_device_train_batch_size=texts // parts,
        gradient_accumulation_steps=parts,
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
