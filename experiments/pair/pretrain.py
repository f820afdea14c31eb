"""Pretraining of a built-in base model: from scratch, or from where another one stands (`Preset.begins_at`).

1. The corpus is generated (`corpus.py`); nothing is read from disk but a checkpoint.
2. A run resumes from its last checkpoint and continues the same corpus at the same learning rate; Ctrl-C writes one first.
3. Progress is shown as a rich bar and appended to `curve.jsonl` (tokens, loss).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from steering.model.sources import find_source

from .corpus import MIXTURES, Batch, packed_batch
from .presets import Preset
from .vocabulary import BOS, EOS, ID, PAD, VOCABULARY_SIZE, build_tokenizer


def new_model(preset: Preset) -> Qwen2ForCausalLM:
    """The model that pretraining begins with: the weights of `preset.begins_at`, or freshly initialised ones that depend only on
    `preset.seed`. Raises BadInput where there is no such model."""
    if preset.begins_at is not None:
        return Qwen2ForCausalLM.from_pretrained(find_source(preset.begins_at).checkpoint(), dtype=torch.float32)
    torch.manual_seed(preset.seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=preset.width,
        num_hidden_layers=preset.layers,
        num_attention_heads=preset.heads,
        num_key_value_heads=preset.heads,
        intermediate_size=preset.mlp_width,
        max_position_embeddings=preset.context,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=ID[BOS],
        eos_token_id=ID[EOS],
        pad_token_id=ID[PAD],
    )
    return Qwen2ForCausalLM(config)


def packed_loss(model: Qwen2ForCausalLM, batch: Batch) -> Tensor:
    """Weighted mean next-token cross-entropy in nats over a packed batch; documents are blind to each other."""
    ids, documents = torch.from_numpy(batch.ids), torch.from_numpy(batch.documents)
    length = ids.shape[1]
    same = documents[:, None, :, None] == documents[:, None, None, :]
    mask = same & torch.ones(length, length, dtype=torch.bool).tril()
    logits = model(
        input_ids=ids, position_ids=torch.from_numpy(batch.positions), attention_mask=mask, use_cache=False
    ).logits
    weights = torch.from_numpy(batch.weights)[:, 1:].flatten()
    losses = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses * weights).sum() / weights.sum()


def optimiser(model: Qwen2ForCausalLM, rate: float) -> torch.optim.AdamW:
    """AdamW at a learning rate, with decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def lr_scale(progress: float, warmup: float = 0.02, decay_from: float = 0.75, floor: float = 0.02) -> float:
    """Learning-rate multiplier at a fraction of the run: linear warm-up, plateau, linear decay."""
    if progress < warmup:
        return progress / warmup
    if progress < decay_from:
        return 1.0
    return 1.0 + (floor - 1.0) * (progress - decay_from) / (1.0 - decay_from)


def update(
    model: Qwen2ForCausalLM,
    opt: torch.optim.AdamW,
    batch: Batch,
    rate: float,
    loss_of: Callable[[Qwen2ForCausalLM, Batch], Tensor] = packed_loss,
) -> tuple[float, int]:
    """One step at a learning rate, gradients clipped to norm 1. Returns the loss before it, in nats, and the tokens of the batch."""
    for group in opt.param_groups:
        group["lr"] = rate
    loss = loss_of(model, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    opt.zero_grad()
    return loss.item(), int((batch.documents > 0).sum())


def pretrain(preset: Preset, folder: Path, name: str = "base") -> Path:
    """Train until `preset.tokens` are seen; returns the folder of the finished Hugging Face checkpoint (`folder/name`).

    Progress is measured in tokens, so a run may be resumed with a larger budget: the schedule is stretched from there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = new_model(preset)
    opt = optimiser(model, preset.lr)
    state_file, curve = folder / "state.pt", folder / "curve.jsonl"
    step = tokens = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        opt.load_state_dict(state["optimiser"])
        step, tokens = state["step"], state["tokens"]

    def save() -> None:
        partial = state_file.with_suffix(".tmp")
        torch.save(
            {"model": model.state_dict(), "optimiser": opt.state_dict(), "step": step, "tokens": tokens}, partial
        )
        partial.replace(state_file)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    last_save = time.monotonic()
    try:
        with Progress(*columns) as bar:
            task = bar.add_task("pretraining (k tokens)", total=preset.tokens // 1000, completed=tokens // 1000)
            while tokens < preset.tokens:
                mixture = MIXTURES[preset.mixture(tokens)]
                batch = packed_batch(preset.seed, step, preset.rows, preset.row_length, mixture)
                loss, read = update(model, opt, batch, preset.lr * lr_scale(tokens / preset.tokens))
                step, tokens = step + 1, tokens + read
                if step % 20 == 0:
                    with curve.open("a") as out:
                        out.write(json.dumps({"step": step, "tokens": tokens, "loss": round(loss, 4)}) + "\n")
                    bar.update(task, completed=tokens // 1000, description=f"pretraining (k tokens), loss {loss:.3f}")
                if time.monotonic() - last_save > 120:
                    save()
                    last_save = time.monotonic()
    finally:
        save()
    target = folder / name
    model.eval()
    model.save_pretrained(target)
    build_tokenizer(preset.context).save_pretrained(target)
    return target
