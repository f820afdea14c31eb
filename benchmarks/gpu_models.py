"""Random models of common shapes, made on the device, and who writes texts with them: `generate` with a plain hook, and a naive loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from steering.model.models import LoadedModel, wrap
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector

from .contenders.huggingface import left_padded

SHAPES: dict[str, dict[str, int]] = {
    "tiny": dict(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96, vocab_size=300
    ),
    "1.5B": dict(
        hidden_size=1536, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2, intermediate_size=8960, vocab_size=151_936
    ),
    "8B": dict(
        hidden_size=4096, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8, intermediate_size=12_288, vocab_size=151_936
    ),
}  # fmt: skip


def model_of(shape: str, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """A random model, made on the device."""
    facts, before = SHAPES[shape], torch.get_default_dtype()
    config = Qwen2Config(
        **facts, max_position_embeddings=4096, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    core = Tokenizer(models.WordLevel({f"t{i}": i for i in range(facts["vocab_size"])}, unk_token="t0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="t0", bos_token="t1", eos_token="t2")
    loaded = wrap(model, tokenizer, f"random {shape}")
    loaded.__dict__["eos_ids"] = frozenset()  # every row has the same length
    return loaded


def vector_of(loaded: LoadedModel, seed: int, layer: int) -> SteeringVector:
    """A unit vector at a layer."""
    v = torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(seed))
    return SteeringVector(f"v{seed}", Site(layer), v / v.norm(), Provenance("random", "none"))


def adding(loaded: LoadedModel, seed: int, layer: int, size: float = 4.0) -> Plan:
    """One vector added at every generated token."""
    return Plan((Intervention("add", vector_of(loaded, seed, layer), Span("generated"), Dose(size, "raw")),))


@contextmanager
def hook(loaded: LoadedModel, delta: Tensor | None, layer: int) -> Iterator[None]:
    """A plain forward hook that adds `delta` at generated tokens."""
    if delta is None:
        yield
        return

    def add(module: Any, given: Any, output: Any) -> Any:
        hidden = output if isinstance(output, Tensor) else output[0]
        if hidden.shape[1] > 1:
            return output
        return hidden + delta if isinstance(output, Tensor) else (hidden + delta, *output[1:])

    handle = loaded.model.model.layers[layer].register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def hooked(
    loaded: LoadedModel, asked: Sequence[Sequence[int]], new_tokens: int, seed: int | None, layer: int
) -> list[list[int]]:
    """`generate` with a plain hook, the whole batch at once."""
    ids, mask = left_padded([list(prompt) for prompt in asked], loaded.device)
    delta = None if seed is None else (4.0 * vector_of(loaded, seed, layer).direction).to(loaded.device, loaded.dtype)
    with torch.inference_mode(), hook(loaded, delta, layer):
        out = loaded.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
        )
    return [row[ids.shape[1] :].tolist() for row in out]


def naive(
    loaded: LoadedModel, asked: Sequence[Sequence[int]], new_tokens: int, seed: int | None, layer: int
) -> list[list[int]]:
    """The oracle: one row at a time, the whole prefix in every step, no cache, an edit added by slicing."""
    found = []
    delta = None if seed is None else (4.0 * vector_of(loaded, seed, layer).direction).to(loaded.device, loaded.dtype)
    for prompt in asked:
        ids = list(prompt)

        def add(module: Any, given: Any, output: Any, start: int = len(ids)) -> Any:
            hidden = (output if isinstance(output, Tensor) else output[0]).clone()
            hidden[:, start:] += delta
            return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

        handle = None if delta is None else loaded.model.model.layers[layer].register_forward_hook(add)
        try:
            with torch.inference_mode():
                for _ in range(new_tokens):
                    ids.append(int(loaded.model(torch.tensor([ids], device=loaded.device)).logits[0, -1].argmax()))
        finally:
            if handle is not None:
                handle.remove()
        found.append(ids[len(prompt) :])
    return found
