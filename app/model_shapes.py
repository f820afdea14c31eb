"""Width and layers of a model, read from its configuration without loading it: what a vector must fit.

1. Built-in models, folders and models in the Hugging Face cache are known; of others nothing is said, and nothing is downloaded.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import steering

BUILT_IN = Path(steering.__file__).parent / "builtin"


@dataclass(frozen=True)
class Shape:
    """`d_model`, number of layers, and longest sequence in tokens (None where the configuration says nothing)."""

    width: int
    layers: int
    context: int | None


def model_file(model: str, name: str) -> Path | None:
    """Where a file of a model would lie on this machine; None for a model that is not here."""
    if model.startswith("builtin:"):
        return BUILT_IN / model.partition(":")[2] / name
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser() / name
    if model.count("/") != 1:
        return None
    with suppress(Exception):
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model, name)
        return Path(found) if isinstance(found, str) else None
    return None


@lru_cache(maxsize=64)
def shape_of(model: str) -> Shape | None:
    """The shape of a model that is on this machine."""
    path = model_file(model, "config.json")
    if path is None or not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config = {**config, **(config.get("text_config") or {})}
        width = config.get("hidden_size") or config["n_embd"]
        layers = config.get("num_hidden_layers") or config["n_layer"]
        context = config.get("max_position_embeddings") or config.get("n_positions")
        return Shape(int(width), int(layers), int(context) if context else None)
    except (OSError, ValueError, KeyError, TypeError):
        return None
