"""What is timed: models of several sizes and the rows that each contender generates from them.

Weights are random but for SmolLM2's: speed does not depend on what they say. Texts end at one of many end tokens, so that lengths vary as
real ones do.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from steering.model.models import load_model
from steering.model.named import named_file

SIZES: dict[str, dict[str, int]] = {
    "1M": dict(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=384,
        vocab_size=2048,
    ),
    "30M": dict(
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=1536,
        vocab_size=8192,
    ),
    "150M": dict(
        hidden_size=768,
        num_hidden_layers=20,
        num_attention_heads=12,
        num_key_value_heads=4,
        intermediate_size=2304,
        vocab_size=16384,
    ),
    "SmolLM2": dict(
        hidden_size=576,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        vocab_size=49152,
    ),
    "360M": dict(
        hidden_size=960,
        num_hidden_layers=32,
        num_attention_heads=15,
        num_key_value_heads=5,
        intermediate_size=2560,
        vocab_size=49152,
    ),
}
LLAMA = ("SmolLM2", "360M")
"""Sizes of the Llama architecture; the others are Qwen2's. SmolLM2 has its own weights (`steer get smollm2`), 360M random ones."""
GGUF = "model.gguf"
"""What llama.cpp reads, beside the checkpoint, where there is such a file."""
BOS, EOS = 1, 2


@dataclass(frozen=True)
class Configuration:
    """One way of steering: a unit vector times `scale`, added to the output of a layer."""

    layer: int
    scale: float
    seed: int = 0


@dataclass(frozen=True)
class Workload:
    """Prompts, each under every configuration (none: unsteered), and how many may run together."""

    prompts: tuple[tuple[int, ...], ...]
    configurations: tuple[Configuration, ...]
    new_tokens: int
    batch: int
    span: str = "generated"
    """What is steered: `generated`, or `all` for peers that cannot tell prompt and generated tokens apart."""
    end_ids: tuple[int, ...] = ()
    """Tokens that end a row; with none, every row runs to `new_tokens`."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def direction(width: int, seed: int) -> list[float]:
    """The unit vector that a configuration adds, times its scale."""
    v = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    return (v / v.norm()).tolist()


def prompts(n: int, low: int, high: int, vocabulary: int, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    rng = random.Random(seed)
    return tuple((BOS, *(rng.randrange(3, vocabulary) for _ in range(rng.randint(low, high) - 1))) for _ in range(n))


def sweep_configurations(layers: int, n_layers_swept: int, n_scales: int) -> tuple[Configuration, ...]:
    """Layers spread over the model times scales spread around zero."""
    chosen = [round((i + 1) * (layers - 1) / (n_layers_swept + 1)) for i in range(n_layers_swept)]
    return tuple(
        Configuration(layer, 4.0 * (s + 1) / n_scales * (-1) ** s, seed=layer)
        for layer in chosen
        for s in range(n_scales)
    )


def end_ids(vocabulary: int, share: float, seed: int = 0) -> tuple[int, ...]:
    """A share of the vocabulary that ends a row, so that greedy texts of a random model have varied lengths."""
    return tuple(sorted(random.Random(seed).sample(range(3, vocabulary), max(1, int(share * vocabulary)))))


def save_model(size: str, folder: Path) -> Path:
    """A model and its tokenizer (word-level for random ones), as an ordinary checkpoint folder in float32."""
    target = folder / size
    if (target / "config.json").exists():
        return target
    if size == "SmolLM2":
        return _save_named("smollm2", target)
    torch.manual_seed(0)
    kinds = (LlamaConfig, LlamaForCausalLM) if size in LLAMA else (Qwen2Config, Qwen2ForCausalLM)
    config = kinds[0](
        **SIZES[size],
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=0,
    )
    model = kinds[1](config)
    with torch.no_grad():  # sharper than the default initialisation, so that greedy texts wander
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.mul_(3.0)
    model.save_pretrained(target)
    vocabulary = SIZES[size]["vocab_size"]
    core = Tokenizer(models.WordLevel({f"t{i}": i for i in range(vocabulary)}, unk_token="t0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="t0", bos_token="t1", eos_token="t2", padding_side="left"
    ).save_pretrained(target)
    return target


def _save_named(name: str, target: Path) -> Path:
    """A model that is known by name, dequantised, with the file that it came from beside it."""
    loaded = load_model(name)
    loaded.model.save_pretrained(target)
    loaded.tokenizer.save_pretrained(target)
    (target / GGUF).symlink_to(named_file(name))
    return target
