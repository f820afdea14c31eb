"""Width and layers of a model, read from its configuration without loading it: what a vector must fit.

1. Built-in models, folders, models in the Hugging Face cache, GGUF files and what `steer get` has fetched are known; of others nothing
   is said, and nothing is downloaded.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import steering
from steering.errors import BadInput
from steering.model.cached import is_whole
from steering.model.gguf_header import header_values
from steering.model.named import NAMED, named_place

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


def whereabouts(model: str) -> str:
    """What is to be said of a model that is not in memory, by where it is: before a run, in a few words."""
    if shape_of(model) is not None or model.startswith("delta:"):
        return "loads the model first"
    if model in NAMED:
        return f"not on this machine yet: steer get {model}"
    if model.startswith(("/", ".", "~", "builtin:")) or model.endswith(".gguf"):
        return "there is no model of this name or in this place"
    return "model not on this machine: Run downloads it"


def _gguf(model: str) -> Path | None:
    """The GGUF file that a model is, where it is one and is here."""
    path = Path(model).expanduser()
    if model in NAMED:
        place = named_place(model)
        path = place / Path(NAMED[model].file).name if is_whole(place) else path
    return path if path.suffix == ".gguf" and path.is_file() else None


def _shape_in(path: Path) -> Shape | None:
    """What the header of a GGUF file says."""
    names = (".embedding_length", ".block_count", ".context_length")
    try:
        found = header_values(path, names)
    except BadInput:
        return None
    width, layers, context = (next((v for k, v in found.items() if k.endswith(name)), None) for name in names)
    return None if width is None or layers is None else Shape(int(width), int(layers), context)


@lru_cache(maxsize=64)
def _of_file(path: Path, changed: int) -> Shape | None:
    return _shape_in(path)


def shape_of(model: str) -> Shape | None:
    """The shape of a model that is on this machine."""
    file = _gguf(model)
    return _shape(model) if file is None else _of_file(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _shape(model: str) -> Shape | None:
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
