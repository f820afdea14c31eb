"""What a GGUF file says or holds of its model, and transformers would leave out of it.

1. Tensors that would be left out, other numbers in the configuration, and scaled rotary factors of a kind that is not known are refused.
   Llama 3's rotary factors, which transformers does not read, are put into the configuration.
2. A number of the file that nobody here reads is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers.integrations import GGUF_CONFIG_MAPPING
from transformers.integrations.gguf import GGUF_CONFIG_ARCHS

from ..errors import BadInput, listed
from .gguf_files import StrictReader, text_of

_SAME = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "attention.sliding_window": "sliding_window",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "rope.dimension_count": "turned",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
    "logit_scale": "logit_scale",
    "residual_scale": "residual_multiplier",
    "embedding_scale": "embedding_multiplier",
    "attention.scale": "attention_multiplier",
}
"""Keys of a file that change what its model computes, and what transformers calls them. `rope.scaling` is looked at apart."""
_HARMLESS = frozenset(
    {
        *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.finetuned"),
        *(
            "rope.scaling.attn_factor",
            "rope.scaling.yarn_log_multiplier",
            "vocab_size",
            "tensor_data_layout",
            "attention.causal",
        ),
    }
)
"""Keys that say nothing more: scaling is refused by its type."""
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What llama.cpp's converter takes for Llama 3.1 to 3.3 (`convert_hf_to_gguf.py`)."""


def refuse_differences(path: Path, reader: StrictReader, architecture: str, config: Any) -> None:
    """Raises BadInput where the file gives the model numbers that `config` lacks; puts the rotary factors of Llama 3 into it."""
    ropes, facts = _ropes(config), config.to_dict()
    width, heads = facts.get("head_dim") or 0, facts.get("num_attention_heads") or 0
    width = width or (int(facts.get("hidden_size") or 0) // heads if heads else 0)
    turned = next((float(rope["partial_rotary_factor"]) for rope in ropes if rope.get("partial_rotary_factor")), 1.0)
    computed: dict[str, list[Any]] = {
        "head_dim": [width],
        "rope_theta": [rope.get("rope_theta") for rope in ropes],
        "turned": [int(width * turned)],
    }
    for key, name in _SAME.items():
        said = _number(reader, f"{architecture}.{key}")
        read = computed.get(name, [facts.get(name)])
        if said is None or isinstance(said, list) or (said == 0 and read == [None]):
            continue
        if key == "attention.sliding_window" and said >= (facts.get("max_position_embeddings") or math.inf):
            continue  # it never slides
        if not any(isinstance(value, int | float) and math.isclose(said, value, rel_tol=1e-5) for value in read):
            shown = " or ".join(map(str, read))
            raise BadInput(
                f"{path} says {key} {said:g}, and transformers reads its model with {shown}: another model. Give the model's own folder "
                "instead."
            )
    scaling = text_of(reader, f"{architecture}.rope.scaling.type")
    if scaling not in ("", "none") and all(rope.get("rope_type", "default") == "default" for rope in ropes):
        raise BadInput(
            f"{path} scales its rotary factors ({scaling}), which transformers does not read from GGUF. Give the model's own folder "
            "instead."
        )
    factors = {
        tensor.name: np.array(tensor.data, np.float64) for tensor in reader.tensors if tensor.name.startswith("rope_")
    }
    if factors:
        scaled = (
            factors.get("rope_freqs.weight") if architecture == "llama" and len(factors) == len(ropes) == 1 else None
        )
        if scaled is None or not _is_llama3(scaled, float(ropes[0]["rope_theta"])):
            raise BadInput(
                f"{path} scales its rotary factors ({', '.join(factors)}) in a way that is not known here. Give the model's own folder "
                "instead."
            )
        config.rope_parameters = {**ropes[0], "rope_type": "llama3", "factor": float(scaled.max()), **_LLAMA3}


def _ropes(config: Any) -> list[dict[str, Any]]:
    """The rotary parameters of a configuration: one set, or one per kind of attention."""
    found = dict(getattr(config, "rope_parameters", None) or {})
    several = [dict(value) for value in found.values() if isinstance(value, dict)]
    return several or [{"rope_theta": getattr(config, "rope_theta", None), **found}]


def unread(reader: StrictReader, architecture: str, config: Any) -> list[str]:
    """A sentence on the numbers of a file that neither transformers reads nor this module compares."""
    known = {key for family in (architecture, config.model_type) for key in GGUF_CONFIG_MAPPING.get(family, {})}
    keys = [key.removeprefix(f"{architecture}.") for key in reader.fields if key.startswith(f"{architecture}.")]
    left = [key for key in keys if key not in known and key not in _SAME and key not in _HARMLESS]
    if not left or architecture in GGUF_CONFIG_ARCHS:
        return []
    return [f"transformers does not read {', '.join(left)}; whether the model needs it is not known here."]


def _number(reader: StrictReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None or field.types[0] == gguf.GGUFValueType.STRING else field.contents()


def _is_llama3(scaled: np.ndarray, theta: float) -> bool:
    """Whether what divides the frequencies is Llama 3's rule, with the largest as its factor."""
    wavelength = 2 * math.pi * theta ** (np.arange(len(scaled)) / len(scaled))
    low, high, context = (
        _LLAMA3[name] for name in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    factor = scaled.max()
    smooth = (context / wavelength - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    rule = np.where(wavelength < context / high, 1.0, np.where(wavelength > context / low, factor, between))
    return bool(np.allclose(scaled, rule, rtol=1e-5))


def refuse_gaps(path: Path, model: Any, found: Mapping[str, Any], elements: Mapping[str, int]) -> None:
    """Raises BadInput for weights that the file lacks or that were left out of the model, and for NaN."""
    if missing := sorted(found["missing_keys"]):
        raise BadInput(f"{path} lacks weights of its model: {listed(missing, 4)}.")
    tied = {"output.weight"} if getattr(model.config, "tie_word_embeddings", False) else set()
    read = sum(
        n for name, n in elements.items() if name not in tied and not name.startswith("rope_") and ".nextn." not in name
    )
    own = sum(p.numel() for p in model.parameters())
    if read != own:
        raise BadInput(
            f"{path} holds {read:,} numbers, and transformers makes a model of {own:,} from it: parts of it would be left out."
        )
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise BadInput(f"{path} is corrupt: {name} holds NaN or infinity. Copy the file again.")
