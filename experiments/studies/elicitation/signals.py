"""What can be read at every token of the thinking model's texts: how far the two predictions lie apart, and what the base knows of it.

Texts are the thinking model's own, greedy, read by both models (teacher forcing); positions are those that predict a token of the response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.hybrid import Readout
from steering.hybrid.decisions import divergence
from steering.model.capture import capture
from steering.model.models import LoadedModel

TEXTS = 8
"""Texts that are read together."""
TOPS = (1, 2, 5, 20)


@dataclass(frozen=True, eq=False)
class Signals:
    """Per position of all texts, `[positions]`."""

    text: np.ndarray
    """Which text."""
    place: np.ndarray
    """Tokens of the response before it."""
    length: np.ndarray
    """Tokens of the text's response."""
    apart: np.ndarray
    """Jensen-Shannon divergence, nats."""
    entropy: np.ndarray
    """Of the base, nats."""
    differs: np.ndarray
    """Whether the two greedy tokens differ."""
    rank: np.ndarray
    """Rank of the thinking model's greedy token under the base, from 1."""
    trigger: np.ndarray
    """The readout's probability that the models differ, from the base's activation."""
    starts: np.ndarray
    """Whether a sentence begins here."""
    texts: tuple[tuple[int, ...], ...]
    """The responses' ids."""

    @property
    def n(self) -> int:
        return len(self.text)

    def threshold(self, values: np.ndarray, share: float) -> float:
        """The value above which `share` of the positions lie, as nearly as ties allow without exceeding it."""
        order = np.sort(values)[::-1]
        return float(order[min(int(share * len(order)), len(order) - 1)])


@torch.inference_mode()
def read_signals(
    base: LoadedModel, thinking: LoadedModel, prompts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], trigger: Readout,
    ends_sentence: Sequence[bool], max_new_tokens: int,
) -> Signals:  # fmt: skip
    """Of texts that the thinking model writes greedily after its prompts; `prompts` are the base's ids and the thinking model's.
    `ends_sentence` says of every token id whether it ends a sentence."""
    rows = [Row(theirs) for _, theirs in prompts]
    written = generate(thinking, rows, GenerationSettings(max_new_tokens), batch_size=64, detail="tokens")
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("text", "place", "length", "apart", "entropy", "differs", "rank", "trigger", "starts")
    }
    for start in range(0, len(rows), TEXTS):
        for number in range(start, min(start + TEXTS, len(rows))):
            mine, theirs = prompts[number]
            body = written[number].token_ids
            n = len(body)
            one, two = (
                _logits(model, (*prompt, *body))[-n - 1 : -1] for model, prompt in ((base, mine), (thinking, theirs))
            )
            (read,) = capture(base, [(*mine, *body)], [trigger.site], batch_size=1)
            hidden = read.values[trigger.site][0, len(mine) - 1 : len(mine) - 1 + n]
            chosen = two.argmax(-1)
            logp = one.log_softmax(-1)
            before = [False, *(ends_sentence[token] for token in body[:-1])]
            before[0] = True
            parts["text"].append(np.full(n, number))
            parts["place"].append(np.arange(n))
            parts["length"].append(np.full(n, n))
            parts["apart"].append(divergence(one, two).numpy())
            parts["entropy"].append((-(logp.exp() * logp.clamp_min(-1e4)).sum(-1)).numpy())
            parts["differs"].append((one.argmax(-1) != chosen).numpy())
            parts["rank"].append(1 + (one > one.gather(1, chosen[:, None])).sum(-1).numpy())
            parts["trigger"].append(trigger.probability(hidden).float().cpu().numpy())
            parts["starts"].append(np.array(before))
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return Signals(**joined, texts=tuple(tuple(w.token_ids) for w in written))


def _logits(model: LoadedModel, ids: tuple[int, ...]) -> torch.Tensor:
    """`[tokens, vocabulary]` float32, on the CPU."""
    found = model.model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0]
    return found.float().cpu()
