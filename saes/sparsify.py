"""Autoencoders of EleutherAI's sparsify: `cfg.json` and `sae.safetensors`, as a SAELens loader.

1. z = TopK_k(relu(W_enc (x - b_dec) + b_enc)), x̂ = z W_dec + b_dec, whatever the decoder's norm (sparsify's `SparseCoder.encode`).
   SAELens' own loaders centre the input only where `normalize_decoder` is off, and expect `W_dec` transposed; both are read here as
   sparsify writes them.
2. Forms that this formula does not cover (transcoders, skip connections, signed or grouped activations) are refused by name.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import sae_lens
from sae_lens.constants import SAE_CFG_FILENAME, SPARSIFY_WEIGHTS_FILENAME
from sae_lens.loading.pretrained_sae_loaders import load_safetensors_weights
from torch import Tensor

from steering.errors import BadInput

_UNSUPPORTED = {"transcode": False, "skip_connection": False, "signed": False, "activation": "topk"}
_LAYER = re.compile(r"(?:model\.|transformer\.)?(?:layers|h)[._](\d+)")


def sparsify_site(folder: str) -> str | None:
    """The site's name for a folder named after a decoder layer, such as layers.10 (its output); None for any other."""
    match = _LAYER.fullmatch(folder)
    return f"blocks.{match[1]}.hook_resid_post" if match else None


def sparsify_folder(
    path: str | Path, device: str = "cpu", cfg_overrides: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights in SAELens' names: a loader for `SAE.load_from_disk`. Raises BadInput for a form that is not top-k."""
    path = Path(path)
    config = json.loads((path / SAE_CFG_FILENAME).read_text())
    for key, value in _UNSUPPORTED.items():
        if config.get(key, value) != value:
            raise BadInput(f"{path} has {key} {config[key]!r}; only sparsify's plain top-k autoencoders are read.")
    dtype = (cfg_overrides or {}).get("dtype", "float32")
    stored = load_safetensors_weights(path / SPARSIFY_WEIGHTS_FILENAME, device=device, dtype=dtype)
    weights = {
        "W_enc": stored["encoder.weight"].T.contiguous(),
        "b_enc": stored["encoder.bias"],
        "W_dec": stored["W_dec"] if "W_dec" in stored else stored["decoder.weight"].T.contiguous(),
        "b_dec": stored["b_dec"],
    }
    latents, width = weights["W_dec"].shape
    facts = {
        "architecture": "topk",
        "d_in": width,
        "d_sae": latents,
        "k": int(config["k"]),
        "rescale_acts_by_decoder_norm": False,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "device": device,
        "metadata": {"sae_lens_version": sae_lens.__version__, "hook_name": sparsify_site(path.name)},
        **(cfg_overrides or {}),
        "dtype": dtype,
    }
    return facts, weights
