"""repeng's ControlModel on Hugging Face `generate`. It steers every token of every forward pass, so the span is `all`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from huggingface import run_with


def load(folder: str) -> Any:
    from repeng import ControlModel, ControlVector
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    width = plain.config.hidden_size

    @contextlib.contextmanager
    def steered(model: Any, configuration: dict[str, Any] | None, span: str) -> Iterator[None]:
        if configuration is None:
            yield
            return
        if span != "all":
            raise ValueError("repeng cannot steer generated tokens only")
        v = torch.randn(width, generator=torch.Generator().manual_seed(configuration["seed"]))
        direction = (v / v.norm()).numpy()
        wrapped = ControlModel(plain, [configuration["layer"]])
        layer = plain.model.layers[configuration["layer"]]
        layer.attention_type = layer.block.attention_type  # read by transformers, not passed on by repeng 0.4.0
        wrapped.set_control(ControlVector("qwen2", {configuration["layer"]: direction}), configuration["scale"])
        try:
            yield
        finally:
            wrapped.unwrap()

    return lambda workload: run_with(plain, workload, steered)
