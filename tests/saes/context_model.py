"""A model whose residual stream is known: at `blocks.0.hook_resid_post` a position holds its token, the token before it, and its place."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from sae_lens import StandardSAE, StandardSAEConfig
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from saes.dictionary import Dictionary
from steering.model.models import LoadedModel, wrap
from steering.model.sites import Site

SITE = Site(0)


class _Before(nn.Module):
    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, hidden: Tensor) -> Tensor:
        n = self.vocabulary
        out = hidden.clone()
        out[:, 1:, n : 2 * n] = hidden[:, :-1, :n]
        return out


class _ContextModel(nn.Module):
    def __init__(self, vocabulary: int):
        super().__init__()
        width = 2 * vocabulary + 1
        self.config = SimpleNamespace(num_hidden_layers=1, hidden_size=width, max_position_embeddings=256)
        self.embedding = nn.Parameter(torch.eye(vocabulary, width))
        self.layers = nn.ModuleList([_Before(vocabulary)])

    def forward(self, input_ids: Tensor, **_: Any) -> None:
        hidden = self.embedding[input_ids].clone()
        hidden[..., -1] = torch.arange(input_ids.shape[1]) / 100
        self.layers[0](hidden)


def context_model(tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """Token t at place p after token s reads as one-hot(t), one-hot(s), p / 100; the vocabulary is the tokenizer's."""
    return wrap(_ContextModel(len(tokenizer)), tokenizer, "context", probe=False)


def reader(model: LoadedModel, rows: Sequence[tuple[dict[int, float], dict[int, float], float, float]]) -> Dictionary:
    """A dictionary with one latent per row: weights by token, weights by the token before, weight of p / 100, bias."""
    width, n = model.d_model, len(model.tokenizer)
    sae = StandardSAE(StandardSAEConfig(d_in=width, d_sae=len(rows), device="cpu"))
    encoder = torch.zeros(width, len(rows))
    for latent, (own, before, place, _) in enumerate(rows):
        for token, weight in own.items():
            encoder[token, latent] = weight
        for token, weight in before.items():
            encoder[n + token, latent] = weight
        encoder[-1, latent] = place
    with torch.no_grad():
        sae.W_enc.copy_(encoder)
        sae.b_enc.copy_(torch.tensor([bias for *_, bias in rows]))
        sae.b_dec.zero_()
        sae.W_dec.copy_(torch.eye(len(rows), width))
    return Dictionary("planted", sae, SITE)
