"""What an intervention can do, and the units that each operation takes: plain tables, read without a model library."""

from __future__ import annotations

OPERATIONS: dict[str, tuple[str, ...]] = {
    "add": ("raw", "vector", "residual"),
    "ablate": (),
    "clamp": ("raw", "vector", "residual"),
    "cap": ("raw", "vector", "residual"),
    "floor": ("raw", "vector", "residual"),
    "rotate": ("degrees",),
    "scale": ("factor",),
}
"""Operations on directions and the dose units they take; ablate takes no dose."""
LATENT_OPERATIONS: dict[str, tuple[str, ...]] = {
    "add": ("raw", "peak"),
    "ablate": (),
    "mean": (),
    "clamp": ("raw", "peak"),
    "cap": ("raw", "peak"),
    "floor": ("raw", "peak"),
    "scale": ("factor",),
    "raise": ("factor",),
}
"""Operations on latents and the dose units they take."""
ALL_OPERATIONS = tuple({**OPERATIONS, **LATENT_OPERATIONS})
SETS_PROJECTION = ("ablate", "clamp")
