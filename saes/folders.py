"""Autoencoders in folders, as SAELens and other trainers write them.

1. What a folder holds is told by its files' names (`FOREIGN`, else SAELens). Configuration is read as JSON; weights as safetensors, as
   arrays of numbers, or by the weights-only reader; nothing in a folder is run.
2. Each trainer's own formula is kept: what its input is centred on, thresholds, top-k, gates. A form that has none here is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_lens import SAE
from sae_lens.constants import ACTIVATION_SCALER_CFG_FILENAME, SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from sae_lens.constants import SPARSIFY_WEIGHTS_FILENAME as SPARSIFY_WEIGHTS
from safetensors import SafetensorError

from steering.errors import BadInput, unknown

from .dictionary_learning import WEIGHTS as AE_PT
from .dictionary_learning import dictionary_learning_folder, dictionary_learning_site
from .gemma_scope import WEIGHTS as PARAMS_NPZ
from .gemma_scope import gemma_scope_folder, gemma_scope_site
from .latents import ARCHITECTURES
from .shipped import SHIPPED
from .sparsify import sparsify_folder, sparsify_site

CARD = "training.json"
BROKEN = (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError, SafetensorError)
"""What reading a damaged file raises."""

FOREIGN: dict[str, tuple[Callable[..., Any], Callable[[Path], str | None]]] = {
    SPARSIFY_WEIGHTS: (sparsify_folder, lambda folder: sparsify_site(folder.resolve().name)),
    AE_PT: (dictionary_learning_folder, dictionary_learning_site),
    PARAMS_NPZ: (gemma_scope_folder, gemma_scope_site),
}
"""The weights' files of other trainers: how they are read, and which site they name."""


@dataclass(frozen=True)
class Found:
    """An autoencoder as SAELens loads it, and what lies beside it."""

    name: str
    sae: Any
    hook: str | None
    """Where it was trained, in its own words."""
    scale: float | None = None
    """The training scale of its input, where it is stored."""
    folded: float | None = None
    """The scale that SAELens has folded already."""
    card: Mapping[str, Any] | None = None


def from_folder(folder: Path, name: str, converter: Callable[..., Any] | None) -> Found:
    """The autoencoder of a folder; `converter` reads one that another trainer wrote. Raises BadInput for what is not one, or is damaged."""
    own = (folder / SAE_WEIGHTS_FILENAME).is_file()
    file = None if own or converter else next((file for file in FOREIGN if (folder / file).is_file()), None)
    site = None
    if file is not None:
        converter, site = FOREIGN[file]
    elif converter is None:
        config = _json(folder / SAE_CFG_FILENAME, folder)
        if not own:
            raise BadInput(
                f"{folder} has none of {SAE_WEIGHTS_FILENAME} (SAELens), {', '.join(FOREIGN)}.{_pickled(folder)}"
            )
        _check_architecture(config, folder)
    try:
        sae = SAE.load_from_disk(
            folder, device="cpu", dtype="float32", **({"converter": converter} if converter else {})
        )
    except BadInput:
        raise
    except BROKEN as error:
        raise BadInput(f"{folder} is corrupt or cut short ({short(error)}); copy or write it again.") from error
    scaler = folder / ACTIVATION_SCALER_CFG_FILENAME
    scale = _json(scaler, folder).get("scaling_factor") if scaler.is_file() else None
    hook = site(folder) if site is not None else sae.cfg.metadata.hook_name
    return Found(name, sae, hook, scale or sae.cfg.metadata.norm_scaling_factor, card=_card(folder))


def _pickled(folder: Path) -> str:
    found = sorted(path.name for suffix in ("*.pt", "*.pth", "*.pkl", "*.bin") for path in folder.glob(suffix))
    return f" {found[0]} is pickled and could run code. Save it as safetensors." if found else ""


def _check_architecture(config: Mapping[str, Any], folder: Path) -> None:
    architecture = config.get("architecture", "standard")
    if architecture == "batchtopk":
        raise BadInput(
            f"{folder} is a training checkpoint; save_inference_model writes batchtopk as jumprelu, to be read."
        )
    if architecture not in ARCHITECTURES:
        raise unknown("architecture", architecture, ARCHITECTURES, where=str(folder / SAE_CFG_FILENAME))


def trained_on(source: str) -> str:
    """The model that an autoencoder's card names, without its weights being read: of one that comes with the package, or of a folder; empty
    where nothing says."""
    if source in SHIPPED:
        return SHIPPED[source].model
    folder = Path(source).expanduser()
    return str(_card(folder).get("model_id", "")) if folder.is_dir() else ""


def _card(folder: Path) -> dict[str, Any]:
    """What the training has written of itself: in the folder, or beside it where the folder is the `sae` of a training."""
    places = [folder / CARD, *([folder.parent / CARD] if folder.name == "sae" else [])]
    return next((_json(place, folder) for place in places if place.is_file()), {})


def _json(path: Path, folder: Path) -> dict[str, Any]:
    if not path.is_file():
        files = (SAE_CFG_FILENAME, *FOREIGN)
        inside = sorted({found.parent.name for file in files for found in folder.glob(f"*/{file}")})
        hint = f" It holds several autoencoders; name one of {', '.join(inside[:8])}." if inside else ""
        raise BadInput(f"{folder} has no {path.name}, so it is not the folder of an autoencoder.{hint}")
    try:
        content = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise BadInput(f"{path} is corrupt or cut short ({short(error)}); copy or write it again.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds a {type(content).__name__}; an object with keys and values is needed.")
    return content


def short(error: BaseException) -> str:
    return " ".join((str(error).strip() or type(error).__name__).split())[:200]
