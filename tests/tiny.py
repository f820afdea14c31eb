"""Tiny randomly initialised models of many architectures, with a tokenizer built in code."""

from __future__ import annotations

import copy
from functools import cache

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from steering.model.models import LoadedModel, wrap
from tests.plans import D_HEAD, WIDTH, plan, vector

__all__ = ["CONFIGS", "D_HEAD", "VOCABULARY", "WIDTH", "WORDS", "plan", "tiny", "tokenizer", "vector", "with_sink"]

VOCABULARY = 61
_MODERN = dict(
    vocab_size=VOCABULARY,
    hidden_size=WIDTH,
    num_hidden_layers=3,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=24,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
CONFIGS = {
    "llama": lambda: LlamaConfig(**_MODERN),
    "qwen2": lambda: Qwen2Config(**_MODERN),
    "qwen3": lambda: Qwen3Config(**_MODERN, head_dim=8),
    "gpt2": lambda: GPT2Config(vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=3, n_head=2, n_positions=128, bos_token_id=1, eos_token_id=2),
    "gemma2": lambda: Gemma2Config(**_MODERN, head_dim=8, sliding_window=8, query_pre_attn_scalar=8),
    "gemma3": lambda: Gemma3TextConfig(**_MODERN, head_dim=8, sliding_window=8, query_pre_attn_scalar=8),
    "mistral": lambda: MistralConfig(**_MODERN, sliding_window=8),
    "gpt_neox": lambda: GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=128, bos_token_id=1, eos_token_id=2,
    ),
    "olmo2": lambda: Olmo2Config(**_MODERN),
    "phi3": lambda: Phi3Config(**_MODERN),
    "llama4": lambda: Llama4TextConfig(
        **_MODERN, head_dim=8, intermediate_size_mlp=24, moe_layers=[], attention_chunk_size=128, no_rope_layers=[1, 0, 1]
    ),
}  # fmt: skip


WORDS = [
    "<pad>",
    "<bos>",
    "<eos>",
    "<think>",
    "</think>",
    ";",
    "stop.",
    "wait",
    *(f"w{i}" for i in range(8, VOCABULARY)),
]


def tokenizer() -> PreTrainedTokenizerFast:
    words = WORDS
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", padding_side="left"
    )


@cache
def tiny(family: str) -> LoadedModel:
    """`tiny_anew`, shared: other programs' wrappers may have been left on it."""
    return tiny_anew(family)


def tiny_anew(family: str) -> LoadedModel:
    """A tiny model whose weights are scaled up, so that edits move its greedy choices."""
    torch.manual_seed(0)
    with torch.inference_mode(False), torch.no_grad():  # the first test to ask may be in inference mode
        model = AutoModelForCausalLM.from_config(CONFIGS[family]())
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8.0)
    return wrap(model.float(), tokenizer(), id=f"tiny-{family}")


def with_sink(family: str = "llama", size: float = 400.0) -> LoadedModel:
    """A tiny rotary model with an attention sink: after its first block, whatever stands at position 0 has one huge coordinate."""
    loaded = tiny(family)
    model = copy.deepcopy(loaded.model)  # the other one is shared

    def plant(
        module: object, args: tuple[object, ...], kwargs: dict[str, object], output: torch.Tensor
    ) -> torch.Tensor:
        cos, sin = kwargs["position_embeddings"]  # type: ignore[misc]
        first = (sin == 0).all(-1, keepdim=True)
        out = output.clone()
        out[..., :1] += size * first.to(out.dtype)
        return out

    model.model.layers[0].register_forward_hook(plant, with_kwargs=True)
    return wrap(model, loaded.tokenizer, id=f"tiny-{family}-with-sink")
