"""Autoencoders of Gemma Scope: `params.npz`, as a SAELens loader.

1. z = x W_enc + b_enc, a = relu(z) where z > threshold, x̂ = a W_dec + b_dec: the input is not centred on the decoder's bias (Lieberum et
   al. 2024, arXiv 2408.05147).
2. Only arrays of numbers are read; an archive that holds objects is refused, and nothing of it is run.
3. The site is what the folders' names say (`gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71`); where they do not, it is asked for.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import sae_lens
import torch
from torch import Tensor

from steering.errors import BadInput

WEIGHTS = "params.npz"
_KINDS = {"res": "resid_post", "mlp": "mlp_out"}
_RELEASE = re.compile(r"gemma-scope-\w+-(?:pt|it)-(\w+)")
_LAYER = re.compile(r"layer_(\d+)")


def gemma_scope_site(folder: Path) -> str | None:
    """The site's name that a folder's path gives; None where it gives none.

    Raises BadInput for what reads no site: transcoders, embeddings, and the outputs of all heads together.
    """
    parts = folder.resolve().parts
    layer = next((match for part in reversed(parts) if (match := _LAYER.fullmatch(part))), None)
    release = next((match[1] for part in reversed(parts) if (match := _RELEASE.search(part))), None)
    if release not in (None, *_KINDS) or "embedding" in parts:
        raise BadInput(
            f"{folder} is of Gemma Scope's {release or 'embedding'} release, which reads no site of this workbench; res and mlp do."
        )
    return f"blocks.{layer[1]}.hook_{_KINDS[release]}" if layer and release else None


def gemma_scope_folder(
    path: str | Path, device: str = "cpu", cfg_overrides: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights in SAELens' names: a loader for `SAE.load_from_disk`. Raises BadInput where they are not there."""
    folder = Path(path)
    site, weights = gemma_scope_site(folder), _read(folder / WEIGHTS)
    latents, width = weights["W_dec"].shape
    facts = {
        "architecture": "jumprelu",
        "d_in": width,
        "d_sae": latents,
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "device": device,
        "metadata": {"sae_lens_version": sae_lens.__version__, "hook_name": site},
        **(cfg_overrides or {}),
        "dtype": "float32",
    }
    return facts, weights


def _read(file: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    try:
        with np.load(file, allow_pickle=False) as archive:
            names = {f"W_{key[2:]}" if key.startswith("w_") else key: key for key in archive.files}
            for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"):
                if name not in names:
                    raise BadInput(f"{file} has no {name}; it is no autoencoder of Gemma Scope, or is cut short.")
                array = archive[names[name]]
                if array.dtype.kind != "f":
                    raise BadInput(f"{file}: {name} is an array of {array.dtype}; floating-point numbers are needed.")
                found[name] = torch.from_numpy(np.array(array, np.float32))
    except BadInput:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        said = " ".join(str(error).split())[:150]
        raise BadInput(
            f"{file} is corrupt, cut short, or holds more than numbers ({said}); nothing of it was run. Copy it again."
        ) from error
    latents, width = found["W_dec"].shape if found["W_dec"].ndim == 2 else (-1, -1)
    wanted = {"W_enc": (width, latents), "b_enc": (latents,), "b_dec": (width,), "threshold": (latents,)}
    for name, shape in wanted.items():
        if tuple(found[name].shape) != shape:
            raise BadInput(
                f"{file}: {name} has shape {list(found[name].shape)}, which does not fit W_dec {list(found['W_dec'].shape)}."
            )
    return found
