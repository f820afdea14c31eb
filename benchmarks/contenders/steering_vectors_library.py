"""The steering-vectors library on Hugging Face `generate`. It steers every token of every forward pass, so the span is `all`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from huggingface import run_with


def steered(model: Any, configuration: dict[str, Any] | None, span: str) -> Any:
    from steering_vectors import SteeringVector

    if configuration is None:
        return contextlib.nullcontext()
    if span != "all":
        raise ValueError("steering-vectors cannot steer generated tokens only")
    v = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(configuration["seed"]))
    vector = SteeringVector(layer_activations={configuration["layer"]: v / v.norm()}, layer_type="decoder_block")
    return vector.apply(model, multiplier=configuration["scale"])


def load(folder: str) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    return lambda workload: run_with(model, workload, steered)
