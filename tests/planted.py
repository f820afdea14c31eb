"""Models whose activations are known: at `blocks.0.hook_resid_pre` the residual stream of token t is row t of a given matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from steering.model.models import LoadedModel, wrap
from steering.model.sites import Site
from tests.tiny import tokenizer

EMBEDDING = Site(0, "resid_pre")


def planted(rows: Tensor) -> LoadedModel:
    """A model over `len(rows)` tokens; a one-token sequence (t,) read at `EMBEDDING` gives `rows[t]`."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(rows), hidden_size=rows.shape[1], num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=8, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(rows)
    return wrap(model, tokenizer(), "planted")


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))
