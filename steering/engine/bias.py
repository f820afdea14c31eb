"""A bias on the logits of some tokens at the positions of a span: the least that an edit at these positions can do to what comes next.

1. The prediction made from a covered position is changed: `last_prompt` biases the first generated token, `generated` every later one. So a
   bias and a plan of the same span act on the same predictions.
2. Only the choice of the token changes. Nothing enters the activations or the cache, and the recorded numbers stay those of the model.
3. Spans that depend on the tokens written are followed as plans follow them (`compile.coverage`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..compile.coverage import Coverage
from ..errors import BadInput
from ..plan.span import Span

if TYPE_CHECKING:
    from ..model.reader import Reads


@dataclass(frozen=True)
class Bias:
    """`nats` are added to the logits of `ids` in the predictions made from the positions that `span` covers."""

    ids: tuple[int, ...]
    nats: float
    span: Span

    def __post_init__(self) -> None:
        if not self.ids:
            raise BadInput("A bias without tokens changes nothing; name at least one.")
        if len(set(self.ids)) < len(self.ids):
            raise BadInput("A token is named twice in one bias; its nats would be added twice.")
        if not math.isfinite(self.nats):
            raise BadInput(f"The bias is {self.nats} nats; give a finite number.")

    def check(self, vocabulary: int, where: str = "") -> None:
        """Raises BadInput for ids that a model of `vocabulary` logits does not have."""
        if outside := [token for token in self.ids if not 0 <= token < vocabulary]:
            raise BadInput(f"{where}Id {outside[0]} of a bias is not in the vocabulary (0 to {vocabulary - 1}).")


class BiasedRow:
    """One row's bias: which of its positions are covered, token by token."""

    def __init__(self, bias: Bias, model: Reads, prompt_ids: Sequence[int], max_new_tokens: int):
        """Raises BadInput as `Coverage`, and for a span that covers no position of the row."""
        self.bias, self._coverage = bias, Coverage(model, bias.span, prompt_ids, max_new_tokens)
        self._covered = self._coverage.known.copy()
        if not self._covered.any() and not self._coverage.dynamic:
            raise BadInput(
                f"Span {bias.span} of a bias covers no position of a row of {len(prompt_ids)} prompt tokens and {max_new_tokens} new "
                f"tokens."
            )

    def follow(self, position: int, token: int) -> None:
        """Tell the row what was generated at `position`; in order."""
        if self._coverage.dynamic:
            self._covered[position] = self._coverage.next(token)

    def covers(self, position: int) -> bool:
        """Whether the prediction made from `position` is biased."""
        return bool(self._covered[position])

    def count(self, prompt: int, length: int) -> int:
        """Predictions that were biased of a row of `prompt` tokens that is `length` long."""
        return int(np.count_nonzero(self._covered[prompt - 1 : length - 1]))


def biased(logits: Tensor, biases: Sequence[Bias | None]) -> Tensor:
    """Logits `[rows, vocabulary]` with each row's bias added; None leaves a row alone."""
    if not any(biases):
        return logits
    found = logits.clone()
    for row, bias in enumerate(biases):
        if bias is not None:
            found[row, torch.tensor(bias.ids, device=logits.device)] += bias.nats
    return found
