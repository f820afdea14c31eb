"""The autoencoders that come with the package: their names, the models that they read, and where they lie.

Listing them reads no weights and needs no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from steering.model.sources import BUILTIN_FOLDER, BUILTINS


@dataclass(frozen=True)
class Shipped:
    """One autoencoder: a folder as `load_dictionary` reads it."""

    model: str
    """Name of the model that it was trained on, as `load_model` takes it."""
    folder: Path
    dashboard: Path | None = None
    """Where its dashboard lies, of those that come with one."""


TEXT = BUILTIN_FOLDER / "smollm2-text"
SHIPPED = {
    **{name: Shipped(name, BUILTINS[name] / "sae") for name in ("builtin:base", "builtin:thinking")},
    "smollm2-text": Shipped("smollm2", TEXT / "sae", TEXT / "dashboard"),
}
"""By the name that stands wherever an autoencoder is asked for."""
