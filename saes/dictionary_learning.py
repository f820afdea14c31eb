"""Autoencoders of dictionary_learning (saprmarks): `config.json` and `ae.pt`, as a SAELens loader.

1. The formula is the class's own (`dictionary_learning/dictionary.py`), with b the decoder's bias and z the pre-activation:
   AutoEncoder z = W_enc (x - b) + b_enc, relu(z); GatedAutoEncoder the same z without b_enc, [z + b_gate > 0] relu(exp(r) z + b_mag);
   AutoEncoderTopK the k largest of relu(z); BatchTopKSAE and MatryoshkaBatchTopKSAE relu(z) above one threshold; JumpReluAutoEncoder
   relu(W_enc x + b_enc) above thresholds, and AutoEncoderNew relu(W_enc x + b_enc) with no bias in decoding, neither of which centres x.
2. `ae.pt` is read by the weights-only reader and holds tensors, or it is refused and not run.
3. The site is what `trainer.submodule_name` and `trainer.layer` say of it together with `buffer.io`; where they name none it is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sae_lens
import torch
from torch import Tensor

from steering.errors import BadInput, unknown
from steering.vector.interchange.pickles import as_tensor, load_plain

WEIGHTS, CONFIG = "ae.pt", "config.json"
_CLASSES = {
    "AutoEncoder": "standard",
    "AutoEncoderNew": "standard",
    "GatedAutoEncoder": "gated",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "jumprelu",
    "MatryoshkaBatchTopKSAE": "jumprelu",
    "JumpReluAutoEncoder": "jumprelu",
}
"""Their names for SAELens' architectures."""
_NOT_CENTRED = ("AutoEncoderNew", "JumpReluAutoEncoder")
_NAMES = {
    "W_enc": ("W_enc", "encoder.weight"),
    "W_dec": ("W_dec", "decoder.weight"),
    "b_dec": ("b_dec", "bias", "decoder_bias"),
    "b_enc": ("b_enc", "encoder.bias"),
    "b_gate": ("gate_bias",),
    "b_mag": ("mag_bias",),
    "r_mag": ("r_mag",),
    "threshold": ("threshold",),
}
"""SAELens' names of the weights, and those of the classes."""
_NEEDED = {
    "standard": ("b_enc", "b_dec"),
    "gated": ("b_gate", "b_mag", "r_mag", "b_dec"),
    "topk": ("b_enc", "b_dec"),
    "jumprelu": ("b_enc", "b_dec", "threshold"),
}
_SUBMODULE = re.compile(r"(resid_pre|resid_post|attn_out|mlp_out|attention_out)(?:_layer)?_?(\d+)?")


def dictionary_learning_site(folder: Path) -> str | None:
    """The site's name that the configuration gives; None where it gives none. Raises BadInput for a configuration that is no object."""
    config = _config(folder)
    trainer, buffer = config["trainer"], config.get("buffer") or {}
    match = _SUBMODULE.fullmatch(str(trainer.get("submodule_name") or ""))
    layer = trainer.get("layer")
    if match is None or buffer.get("io", "out") != "out" or layer is None or not str(layer).isdigit():
        return None
    if match[2] is not None and int(match[2]) != int(layer):
        raise BadInput(f"{folder / CONFIG} says layer {layer} and submodule {match[0]}; one of them is wrong.")
    return f"blocks.{int(layer)}.hook_{match[1].replace('attention', 'attn')}"


def dictionary_learning_folder(
    path: str | Path, device: str = "cpu", cfg_overrides: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights in SAELens' names: a loader for `SAE.load_from_disk`. Raises BadInput for a class without a formula
    here, and for a file that does not hold that class's weights."""
    folder = Path(path)
    config = _config(folder)
    kind = str(config["trainer"].get("dict_class") or "")
    if kind not in _CLASSES:
        raise unknown("class of autoencoder", kind, _CLASSES, where=str(folder / CONFIG))
    if (config.get("buffer") or {}).get("io") == "in_and_out":
        raise BadInput(
            f"{folder} is a transcoder (buffer.io is in_and_out): its latents do not decode to what they read."
        )
    stored = load_plain(folder / WEIGHTS)
    if not isinstance(stored, Mapping):
        raise BadInput(f"{folder / WEIGHTS} holds a {type(stored).__name__}; the weights of {kind} by name are needed.")
    architecture = _CLASSES[kind]
    weights = _weights(folder, kind, stored)
    latents, width = weights["W_dec"].shape
    facts = {
        "architecture": architecture,
        "d_in": width,
        "d_sae": latents,
        "apply_b_dec_to_input": kind not in _NOT_CENTRED,
        "normalize_activations": "none",
        "device": device,
        "metadata": {"sae_lens_version": sae_lens.__version__, "hook_name": dictionary_learning_site(folder)},
        **({"k": _k(folder, config, stored), "rescale_acts_by_decoder_norm": False} if architecture == "topk" else {}),
        **(cfg_overrides or {}),
        "dtype": "float32",
    }
    return facts, weights


def _weights(folder: Path, kind: str, stored: Mapping[str, Any]) -> dict[str, Tensor]:
    architecture = _CLASSES[kind]
    found: dict[str, Tensor] = {}
    for name in ("W_enc", "W_dec", *_NEEDED[architecture]):
        own = next((own for own in _NAMES[name] if own in stored), None)
        if own is None and name == "b_dec" and kind == "AutoEncoderNew":
            continue  # its decoding adds none
        if own is None:
            raise BadInput(f"{folder / WEIGHTS} has no {' or '.join(_NAMES[name])}, which {kind} needs.")
        value = as_tensor(stored[own], f"{folder / WEIGHTS}: {own}")
        # nn.Linear keeps [out, in]; W_enc and W_dec are written as they are multiplied.
        found[name] = (value.T if own.endswith(".weight") else value).contiguous()
    shape = found["W_dec"].shape
    if len(shape) != 2 or found["W_enc"].shape != shape[::-1]:
        raise BadInput(
            f"{folder / WEIGHTS}: encoder {list(found['W_enc'].shape)} and decoder {list(shape)} do not fit each other."
        )
    if kind == "AutoEncoderNew":
        found["b_dec"] = torch.zeros(shape[1])
    if "threshold" in found:
        threshold = found["threshold"]
        if threshold.ndim == 0 and float(threshold) < 0:
            raise BadInput(
                f"{folder / WEIGHTS} was saved before its threshold was measured, so it cannot be read token by token."
            )
        found["threshold"] = threshold.expand(shape[0]).contiguous()
    return found


def _k(folder: Path, config: Mapping[str, Any], stored: Mapping[str, Any]) -> int:
    said, own = stored.get("k"), config["trainer"].get("k")
    k = own if said is None else as_tensor(said, f"{folder / WEIGHTS}: k").item() if isinstance(said, Tensor) else said
    if not isinstance(k, int | float) or k != int(k) or k < 1:
        raise BadInput(f"{folder} does not say how many latents are kept per token (k); it says {k!r}.")
    return int(k)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text())
        config["trainer"]["dict_class"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} is not here, or is no configuration of dictionary_learning (trainer.dict_class is missing); copy it, too."
        ) from error
    return dict(config)
