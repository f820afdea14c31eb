"""Weights trained on given texts: TRL's `SFTTrainer`, its loss on the words after the prompt alone."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from steering.errors import BadInput
from steering.model.models import LoadedModel

from ...evaluation.executors import is_small
from .checkpoints import last_checkpoint
from .quiet import quiet


@dataclass(frozen=True)
class Tuning:
    """How weights are trained on texts. Raises BadInput."""

    steps: int = 24
    batch: int = 16
    """Texts per step."""
    rate: float = 5e-4
    """Adam's highest step; it rises over the first tenth of the steps and falls as a cosine (2506.03295)."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rate"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} {getattr(self, name)} must be above 0.")


@dataclass(frozen=True)
class Lesson:
    """A prompt as fed, and what is learnt after it, with its end token."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]


EVERY = 10
"""Steps between checkpoints."""


def train_supervised(
    base: LoadedModel,
    lessons: Sequence[Lesson],
    tuning: Tuning,
    folder: Path,
    report: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """The weights, by the names of `named_parameters`, and the curve by step: loss in nats per learnt token, tokens read. Checkpoints lie
    in `folder`, from which a training goes on. The base is left as it is.

    Raises BadInput without lessons, and where numbers become NaN or infinite.
    """
    if not lessons:
        raise BadInput("There is no text to train on.")
    rows = [
        {
            "input_ids": [*one.prompt_ids, *one.token_ids],
            "completion_mask": [0] * len(one.prompt_ids) + [1] * len(one.token_ids),
        }
        for one in lessons
    ]
    model = copy.deepcopy(base.model)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        trainer = SFTTrainer(
            model=model,
            args=_arguments(base, tuning, folder, max(len(row["input_ids"]) for row in rows)),
            train_dataset=Dataset.from_list(rows),
            processing_class=copy.deepcopy(base.tokenizer),
            callbacks=[_Report(tuning, report)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    seen = 0.0
    curve = []
    for row in trainer.state.log_history:
        if "loss" in row:
            read = float(row["num_tokens"])
            before = seen if read > seen else 0.0  # TRL counts anew where a training goes on
            curve.append({"loss": float(row["loss"]), "trained": round(read - before), "generated": 0})
            seen = read
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in trainer.model.named_parameters()}
    if bad := next((name for name, value in weights.items() if not torch.isfinite(value).all()), None):
        raise BadInput(f"{bad} holds numbers that are not finite after training; lower the rate ({tuning.rate:g}).")
    return weights, curve


class _Report(TrainerCallback):  # type: ignore[misc]
    def __init__(self, tuning: Tuning, report: Callable[[int, int], None] | None) -> None:
        self.tuning, self.report = tuning, report

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.report is not None:
            self.report(state.global_step, self.tuning.steps)


def _arguments(base: LoadedModel, tuning: Tuning, folder: Path, longest: int) -> SFTConfig:
    return SFTConfig(
        output_dir=str(folder),
        use_cpu=base.device.type == "cpu",
        bf16=False,
        activation_checkpointing=not is_small(base),
        seed=tuning.seed,
        learning_rate=tuning.rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, tuning.steps // 10),
        max_steps=tuning.steps,
        per_device_train_batch_size=tuning.batch,
        max_length=longest,
        completion_only_loss=True,
        weight_decay=0.0,
        logging_steps=1,
        save_steps=EVERY,
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
    )
