"""Whether a model's weights fit into the memory of where they go, said before they are read.

1. Sizes come from the headers of safetensors files, or from the configuration alone; no weights are read.
2. What does not fit is refused with what is needed, what is free and what to pass instead. Activations and caches come on top.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM

from ..errors import BadInput
from .weight_files import safe_files

QUANTIZED = {"8bit": 1.0, "4bit": 0.5}
"""Bytes per parameter."""


def parameters_of(place: Path | str, config: Any) -> int:
    """Number of parameters of a checkpoint: from its files' headers where they lie in a folder, else from its configuration."""
    files = safe_files(place) if isinstance(place, Path) else []
    if files:
        return sum(_elements(path) for path in files)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in model.parameters())


def free_bytes(device: str) -> int:
    """Memory that is free for a device: of the machine, or of the GPU."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return int(psutil.virtual_memory().available)


def refuse_too_large(
    name: str, parameters: int, dtype: str, device: str | None, device_map: Any = None, quantization: str | None = None
) -> None:
    """Raises BadInput when weights cannot fit. `dtype`: name of a precision. Layers that `device_map` spreads have all GPUs and the machine
    to lie in."""
    size = QUANTIZED.get(quantization or "", float(getattr(torch, dtype).itemsize))
    needed = math.ceil(parameters * size)
    devices = ["cpu"]
    if device_map is not None:
        devices += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        place, free = "the devices", sum(map(free_bytes, devices))
    else:
        # Weights are read into the machine's memory first, and moved then.
        devices += [device] if device not in (None, "cpu") and torch.device(device).type == "cuda" else []
        free, place = min((free_bytes(d), d) for d in devices)
    if needed <= free:
        return
    smaller = f"a smaller dtype (bfloat16 needs {_gib(parameters * 2)})" if size > 2 else "a smaller model"
    spread = "" if device_map is not None else ", or device_map='auto' to spread its layers over the devices there are"
    raise BadInput(
        f"{name} has {parameters:,} parameters, which need {_gib(needed)} in {quantization or dtype}, and {_gib(free)} of "
        f"{place} memory are free. Pass {smaller}{spread}, or free some memory."
    )


def _elements(path: Path) -> int:
    try:
        with safe_open(path, "pt") as handle:
            return sum(math.prod(handle.get_slice(key).get_shape()) for key in handle.keys())
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path} is corrupt or cut short ({error}). Copy the file again.") from error


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**28 else f"{count / 2**20:.1f} MiB"
