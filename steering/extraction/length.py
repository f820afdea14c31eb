"""How long a vector is whose method fixes only a direction (PCA, logistic regression).

1. `gap`: the vector reaches from the negatives' mean to the positives' along its direction, so that one vector norm of dose moves the
   average negative activation to where the average positive one is. It is comparable with a difference of means.
2. `unit`: length 1, as the published implementations return it.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..errors import BadInput, unknown

Length = Literal["gap", "unit"]
LENGTHS = ("gap", "unit")


def scaled(direction: Tensor, gap: float, length: Length) -> Tensor:
    """`direction` (unit, `[d_model]`) at the asked length; `gap` is how much further positives project on it than negatives."""
    if length not in LENGTHS:
        raise unknown("length", length, LENGTHS)
    if length == "gap" and not gap > 0:
        raise BadInput(
            f"Positives do not project further on this direction than negatives (gap {gap:.3g}), so it has no length; use length='unit'."
        )
    return direction * gap if length == "gap" else direction
