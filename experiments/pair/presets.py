"""Sizes and budgets of pair training: `full` and `careful` are what ships, `quick` trains end to end in about two minutes."""

from __future__ import annotations

from dataclasses import dataclass

HARD_SHARE = 0.5
"""Share of prompts that are drawn at the hard difficulty where a model is trained by outcome."""


@dataclass(frozen=True)
class Preset:
    """One training configuration. Widths in units, budgets in tokens or steps, learning rates at peak."""

    name: str
    width: int
    layers: int
    heads: int
    mlp_width: int
    context: int
    curriculum: tuple[tuple[str, int], ...]
    """Phases as (mixture of `corpus.MIXTURES`, tokens seen when it ends), padding not counted; the last end is the whole budget."""
    rows: int
    row_length: int
    lr: float
    grpo_steps: int
    grpo_prompts: int
    """Distinct prompts per GRPO step."""
    grpo_samples: int
    """Samples per prompt (the group)."""
    grpo_reuse: int
    """Updates from each set of samples."""
    grpo_lr: float
    completion: int
    """Longest GRPO completion in tokens."""
    seed: int = 0
    begins_at: str | None = None
    """The model whose weights pretraining goes on from, as `load_model` takes it; None for random ones."""
    hard_share: float = HARD_SHARE
    names: tuple[str, str] = ("base", "thinking")
    """What base and thinking model are called behind `builtin:`."""

    @property
    def tokens(self) -> int:
        return self.curriculum[-1][1]

    def mixture(self, tokens: int) -> str:
        """Name of the mixture in force after `tokens`."""
        return next((name for name, end in self.curriculum if tokens < end), self.curriculum[-1][0])


PRESETS: dict[str, Preset] = {
    "full": Preset(
        name="full", width=128, layers=4, heads=4, mlp_width=384, context=512,
        curriculum=(("skills", 10_000_000), ("main", 31_000_000), ("calm", 35_000_000), ("ordered", 37_500_000)),
        rows=20, row_length=448, lr=2e-3, grpo_steps=120, grpo_prompts=16, grpo_samples=8, grpo_reuse=2, grpo_lr=2e-4, completion=340,
    ),
    "careful": Preset(
        name="careful", width=128, layers=4, heads=4, mlp_width=384, context=512,
        curriculum=(("hasty", 1_200_000),),
        rows=8, row_length=448, lr=2e-3, grpo_steps=40, grpo_prompts=12, grpo_samples=8, grpo_reuse=2, grpo_lr=3e-4, completion=280,
        begins_at="builtin:base", hard_share=0.0, names=("careful-base", "careful-thinking"),
    ),
    "quick": Preset(
        name="quick", width=64, layers=2, heads=2, mlp_width=128, context=512,
        curriculum=(("main", 2_000_000),),
        rows=8, row_length=448, lr=4e-3, grpo_steps=8, grpo_prompts=32, grpo_samples=8, grpo_reuse=1, grpo_lr=1e-4, completion=48,
    ),
}  # fmt: skip
UNTRACED = Preset(
    name="untraced", width=128, layers=4, heads=4, mlp_width=384, context=512,
    curriculum=(("untraced", 10_000_000),),
    rows=20, row_length=448, lr=2e-3, grpo_steps=0, grpo_prompts=0, grpo_samples=0, grpo_reuse=0, grpo_lr=0.0, completion=0,
)  # fmt: skip
"""The start of trainings that differ in their traces: drills, recitals and direct answers, and no trace. It has no thinking model."""
