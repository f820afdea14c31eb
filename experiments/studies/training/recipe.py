"""How weights are trained by reinforcement: a recipe is everything that a training depends on beside the base and its questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from steering.errors import BadInput, unknown

MASKS = ("all", "top", "rest", "random")
SCALES = ("none", "group")
CONTROLS = ("none", "coupled", "decoupled")


@dataclass(frozen=True)
class Recipe:
    """GRPO (2402.03300) without a length in the divisor (2503.20783). Raises BadInput."""

    updates: int = 12
    """Batches of rollouts."""
    prompts: int = 8
    """Groups per batch; one question that is trained on alone fills them all."""
    samples: int = 8
    """Texts per group."""
    reuse: int = 2
    """Gradient steps per batch of rollouts. With one the ratio is 1 and nothing is ever clipped."""
    rate: float = 2e-4
    """Adam's step."""
    tokens: int = 200
    """Longest text."""
    temperature: float = 1.0
    clip: tuple[float, float] = (0.2, 0.28)
    """Below and above 1; `(0, 0)` stands for no clipping at all."""
    scale: Literal["none", "group"] = "none"
    """Whether an advantage is divided by its group's deviation."""
    kl: float = 0.0
    """Weight of the KL term against the base (k3)."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""
    mask: Literal["all", "top", "rest", "random"] = "all"
    """Which tokens the policy's loss is over: all, those of highest entropy in the batch, the rest, or as many drawn ones (2506.01939)."""
    share: float = 0.2
    """Of the tokens that `top` and `random` keep, and `rest` leaves out."""
    control: Literal["none", "coupled", "decoupled"] = "none"
    """How the first token, which chooses the mode, is weighed against the rest of its text (2505.13379): `coupled` gives every token of a
    text of T the weight 1/T; `decoupled` gives the first `alpha` and the others 1/(T-1) each."""
    alpha: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mask not in MASKS:
            raise unknown("mask", self.mask, MASKS)
        if self.scale not in SCALES:
            raise unknown("scale", self.scale, SCALES)
        if self.control not in CONTROLS:
            raise unknown("control", self.control, CONTROLS)
        for name in ("updates", "prompts", "reuse", "rate", "tokens", "temperature", "alpha"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} {getattr(self, name)} must be above 0.")
        if self.samples < 2:
            raise BadInput(f"samples {self.samples}: a group needs at least 2 texts, whose rewards are compared.")
        if not 0 < self.share < 1:
            raise BadInput(f"share {self.share:g}: give a share of the tokens above 0 and below 1, such as 0.2.")
        if self.clip != (0, 0) and not (0 < self.clip[0] < 1 and self.clip[1] > 0):
            raise BadInput(f"clip {self.clip}: give two shares above 0, the first below 1, such as 0.2 and 0.28.")

    @property
    def steps(self) -> int:
        """Gradient steps in all."""
        return self.updates * self.reuse
