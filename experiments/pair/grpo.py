"""The thinking model: the base after GRPO (TRL's `GRPOTrainer`) with outcome reward only.

1. The reward is 1 when the stated answer is right and the text ended, else 0: nothing rewards reasoning, format or length.
2. Prompts are bare and drawn from training rule chains of all difficulties, so persistence on long problems can be rewarded too.
3. A run resumes from its last checkpoint; the reward curve is kept as `grpo.jsonl`.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from steering.model.reader import load_tokenizer

from .presets import Preset
from .problem import HARD, STANDARD, draw_problem, parse_problem
from .verifier import verify
from .vocabulary import EOS, PAD


def outcome_reward(
    prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any
) -> list[float]:
    """1.0 for a right answer, else 0.0. A completion cut off at the limit states no answer and scores 0."""
    rewards = []
    for prompt, completion in zip(prompts, completions, strict=True):
        words = [w for w in completion.split() if w not in (EOS, PAD)]
        rewards.append(float(verify(parse_problem(prompt), words).correct))
    return rewards


def grpo_prompts(preset: Preset) -> Dataset:
    """One bare prompt per group of every step."""
    rng = random.Random(f"grpo/{preset.seed}")
    problems = [
        draw_problem(rng, HARD if rng.random() < preset.hard_share else STANDARD, "train")
        for _ in range(preset.grpo_steps * preset.grpo_prompts)
    ]
    return Dataset.from_dict({"prompt": [p.prompt("bare") for p in problems]})


class _Curve(TrainerCallback):
    def __init__(self, path: Path):
        self.path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        keep = ("reward", "completions/mean_length", "completions/clipped_ratio", "entropy", "grad_norm")
        if logs and "reward" in logs:
            with self.path.open("a") as out:
                out.write(
                    json.dumps({"step": state.global_step, **{k: round(logs[k], 4) for k in keep if k in logs}}) + "\n"
                )


def train_thinking(preset: Preset, base: Path, folder: Path) -> Path:
    """Run GRPO from the checkpoint `base`; returns `folder/thinking`."""
    tokenizer = load_tokenizer(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    batch = preset.grpo_prompts * preset.grpo_samples
    config = GRPOConfig(
        output_dir=str(folder / "grpo"),
        use_cpu=True,
        bf16=False,
        seed=preset.seed,
        learning_rate=preset.grpo_lr,
        lr_scheduler_type="linear",
        warmup_steps=3,
        max_steps=preset.grpo_steps,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=1,
        num_generations=preset.grpo_samples,
        num_iterations=preset.grpo_reuse,
        max_completion_length=preset.completion,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        beta=0.0,
        loss_type="dr_grpo",
        scale_rewards="none",
        epsilon_high=0.28,
        weight_decay=0.0,
        max_grad_norm=1.0,
        shuffle_dataset=False,
        logging_steps=1,
        save_steps=10,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=False,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=outcome_reward,
        args=config,
        train_dataset=grpo_prompts(preset),
        processing_class=tokenizer,
        callbacks=[_Curve(folder / "grpo.jsonl")],
    )
    checkpoints = sorted((folder / "grpo").glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=bool(checkpoints))
    target = folder / "thinking"
    trainer.model.eval()
    trainer.model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target
