"""A penalty on some tokens for as long as the present thought is young: suppression of words that switch thoughts, hedge or reflect.

`z_v - strength` for v in `ids` while `t < start + window`, where `start` is where the latest of these tokens was written (0 before the
first), t the number of tokens so far: the thought-switching penalty (TIP) of 2501.18585. Without a window it holds everywhere: soft
suppression, or hard with an infinite strength.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import BadInput


@dataclass(frozen=True)
class Penalty:
    """`strength` in nats is taken from the logits of `ids`; `window` in tokens, None for all of the text."""

    ids: tuple[int, ...]
    strength: float = math.inf
    window: int | None = None

    def __post_init__(self) -> None:
        if not self.ids:
            raise BadInput("A penalty without tokens changes nothing; name at least one.")
        if not self.strength > 0:
            raise BadInput(f"The penalty's strength is {self.strength}; give a positive number of nats.")
        if self.window is not None and self.window < 1:
            raise BadInput(
                f"The penalty's window is {self.window}; give at least 1 token, or none for all of the text."
            )

    def applies(self, tokens: Sequence[int]) -> bool:
        """Whether the next token after `tokens` (those generated so far) is penalised."""
        if self.window is None or len(tokens) < self.window:
            return True
        return any(token in self.ids for token in tokens[len(tokens) - self.window + 1 :])

    def applied(self, logits: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Logits `[rows, vocabulary]` after the penalty; `texts` are the tokens that each row has generated so far."""
        rows = [n for n, tokens in enumerate(texts) if self.applies(tokens)]
        if not rows:
            return logits
        found = logits.clone()
        at = torch.tensor(rows, device=logits.device)[:, None], torch.tensor(self.ids, device=logits.device)[None]
        found[at] = found[at] - self.strength
        return found
