"""A tiny random Llama in a folder, with the words and the chat template that a test gives it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.experiments.test_prompting import QWEN3, model


def save_chat_model(place: Path, template: str | None = QWEN3) -> Path:
    """Model and tokenizer; without a chat template where `template` is None."""
    tokenizer = model(template, None, False).tokenizer
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=24, max_position_embeddings=512, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place
