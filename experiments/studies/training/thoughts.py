"""A thought at every token of a text (Quiet-STaR, 2403.09629), all of a text in one pass.

1. Behind every token a thought begins: a start vector, `n` sampled tokens, an end vector; then the text's own next tokens are predicted
   once more, `m` of them, each having read the thought. A thought reads the text up to its token and itself, no other thought.
2. One pass reads the text and one block per place in a thought, each block holding that place of every token's thought; the mask says who
   reads whom. Thoughts are sampled place by place, all tokens at once.
3. A small head weighs the two predictions: `softmax((1 - w) log p_plain + w log p_thought)`, w from the two activations.

Start and end are vectors that are fed, not words, so that no word of the vocabulary changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """Of a pass."""

    thought: int
    """Sampled tokens of a thought."""
    ahead: int
    """The text's tokens that are predicted behind it."""

    @property
    def blocks(self) -> int:
        """Places behind every token: start, thought, end, and all but the last predicted token, which is read by nothing."""
        return self.thought + 2 + self.ahead - 1


@dataclass(frozen=True, eq=False)
class Passed:
    """What a pass gives, of texts `[texts, tokens]`: log-probabilities of the text's own next tokens `[texts, tokens, ahead]`, and whether
    there is such a token."""

    plain: Tensor
    """Without a thought."""
    mixed: Tensor
    """With the thought, weighed by the head."""
    thought: Tensor
    """Log-probability of the thought itself, `[texts, tokens]`."""
    weight: Tensor
    """The head's, `[texts, tokens, ahead]`."""
    there: Tensor
    best: Tensor
    """The likeliest next token with the thought, `[texts, tokens]`."""


def extras(model: Any, like: int) -> dict[str, Tensor]:
    """What training adds to a model: start and end, both beginning as the vector of the word `like`, and a head that begins with a weight
    of about 0.12."""
    width = model.get_input_embeddings().weight.shape[1]
    word = model.get_input_embeddings().weight[like].detach().clone()
    generator = torch.Generator().manual_seed(0)
    return {
        "start": word, "end": word.clone(), "head.inner": torch.randn(width, 2 * width, generator=generator) * (2 * width) ** -0.5,
        "head.bias": torch.zeros(width), "head.outer": torch.zeros(width), "head.level": torch.tensor([-2.0]),
    }  # fmt: skip


def arranged(tokens: int, blocks: int) -> tuple[Tensor, Tensor]:
    """Positions `[tokens * (1 + blocks)]`, and who reads whom `[same, same]` (true: it is read)."""
    token = torch.arange(tokens).repeat(1 + blocks)
    block = torch.arange(1 + blocks).repeat_interleave(tokens)
    position = token + block
    text = (block == 0)[None, :] & (token[None, :] <= token[:, None])
    own = (block > 0)[None, :] & (token[None, :] == token[:, None]) & (block[None, :] <= block[:, None])
    return position, text | own


def sampled(model: Any, added: Weights, ids: Tensor, shape: Shape, generator: torch.Generator) -> Tensor:
    """Thoughts `[texts, tokens, thought]` behind every token of `ids [texts, tokens]`, at temperature 1."""
    texts, tokens = ids.shape
    thoughts = ids.new_zeros(texts, tokens, shape.thought)
    with torch.no_grad():
        for place in range(shape.thought):
            hidden = _read(model, added, ids, thoughts[:, :, :place], place + 1)
            chances = _logits(model, hidden[:, -tokens:]).softmax(-1).reshape(texts * tokens, -1)
            thoughts[:, :, place] = torch.multinomial(chances, 1, generator=generator).reshape(texts, tokens)
    return thoughts


def passed(model: Any, added: Weights, ids: Tensor, lengths: Tensor, thoughts: Tensor, shape: Shape) -> Passed:
    """Read texts `[texts, tokens]`, of which the first `lengths` tokens each are text, with these thoughts."""
    texts, tokens = ids.shape
    behind = torch.stack([_ahead(ids, step) for step in range(1, shape.ahead)], -1) if shape.ahead > 1 else None
    hidden = _read(model, added, ids, thoughts, shape.blocks, behind)
    blocks = hidden.reshape(texts, 1 + shape.blocks, tokens, -1)
    told = torch.stack([_ahead(ids, step) for step in range(1, shape.ahead + 1)], -1)
    place = torch.arange(tokens, device=ids.device)
    there = torch.stack([place[None] + step < lengths[:, None] for step in range(1, shape.ahead + 1)], -1)
    plain_hidden = torch.stack([_ahead(blocks[:, 0], step) for step in range(shape.ahead)], 2)
    thought_hidden = blocks[:, shape.thought + 2 : shape.thought + 2 + shape.ahead].transpose(1, 2)
    plain, other = (_logits(model, one).log_softmax(-1) for one in (plain_hidden, thought_hidden))
    weight = _weight(added, plain_hidden, thought_hidden)
    mixed = ((1 - weight[..., None]) * plain + weight[..., None] * other).log_softmax(-1)
    chosen = told[..., None]
    written = _logits(model, blocks[:, 1 : shape.thought + 1]).log_softmax(-1)
    own = written.gather(-1, thoughts.transpose(1, 2)[..., None])[..., 0].sum(1)
    return Passed(
        plain.gather(-1, chosen)[..., 0], mixed.gather(-1, chosen)[..., 0], own, weight, there, mixed[:, :, 0].argmax(-1)
    )  # fmt: skip


def _ahead(values: Tensor, step: int) -> Tensor:
    """Every token's value `step` tokens on, `[texts, tokens, ...]`; what lies behind the end is the last one's."""
    place = (torch.arange(values.shape[1], device=values.device) + step).clamp(max=values.shape[1] - 1)
    return values[:, place]


def _read(
    model: Any, added: Weights, ids: Tensor, thoughts: Tensor, blocks: int, behind: Tensor | None = None
) -> Tensor:
    """Activations before the unembedding, `[texts, tokens * (1 + blocks), width]`."""
    texts, tokens = ids.shape
    embed = model.get_input_embeddings()
    parts = [embed(ids), added["start"].expand(texts, tokens, -1)]
    parts += [embed(thoughts[:, :, place]) for place in range(thoughts.shape[2])]
    if len(parts) <= blocks:
        parts.append(added["end"].expand(texts, tokens, -1))
    parts += [] if behind is None else [embed(behind[:, :, place]) for place in range(behind.shape[2])]
    position, read = arranged(tokens, blocks)
    mask = torch.zeros(read.shape).masked_fill(~read, torch.finfo(torch.float32).min)
    found: Tensor = model.base_model(
        inputs_embeds=torch.cat(parts[: 1 + blocks], 1),
        position_ids=position.to(ids.device)[None].expand(texts, -1),
        attention_mask=mask.to(ids.device)[None, None].expand(texts, 1, -1, -1),
        use_cache=False,
    ).last_hidden_state
    return found


def _logits(model: Any, hidden: Tensor) -> Tensor:
    found: Tensor = model.get_output_embeddings()(hidden)
    return found.float()


def _weight(added: Weights, plain: Tensor, other: Tensor) -> Tensor:
    inner = functional.linear(torch.cat([plain, other], -1), added["head.inner"], added["head.bias"]).relu()
    return torch.sigmoid(inner @ added["head.outer"] + added["head.level"])
