"""TransformerLens' bridge: its own `generate`, one call per configuration and batch of prompts, with a hook on the layer's output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from huggingface import batches, cut, left_padded


def load(folder: str) -> Any:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM, AutoTokenizer

    bridge = TransformerBridge.boot_transformers(
        folder,
        hf_model=AutoModelForCausalLM.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        device="cpu",
    )

    def run(workload: dict[str, Any]) -> list[list[int]]:
        ends, results = set(workload["end_ids"]), []
        for configuration in workload["configurations"] or [None]:
            hooks: list[Any] = []
            if configuration is not None:
                v = torch.randn(bridge.cfg.d_model, generator=torch.Generator().manual_seed(configuration["seed"]))
                delta = v / v.norm() * configuration["scale"]

                def add(tensor: torch.Tensor, hook: Any, delta: torch.Tensor = delta) -> torch.Tensor:
                    return tensor if tensor.shape[1] > 1 and workload["span"] == "generated" else tensor + delta

                hooks = [(f"blocks.{configuration['layer']}.hook_resid_post", add)]
            found: dict[int, list[int]] = {}
            for batch in batches(workload["prompts"], workload["batch"]):
                ids, mask = left_padded([workload["prompts"][i] for i in batch], "cpu")
                with torch.inference_mode(), bridge.hooks(fwd_hooks=hooks):
                    out = bridge.hf_generate(
                        ids, attention_mask=mask, max_new_tokens=workload["new_tokens"], do_sample=False, return_type="tokens",
                        eos_token_id=sorted(ends) or -1,
                    )  # fmt: skip
                for row, index in enumerate(batch):
                    found[index] = cut(out[row, ids.shape[1] :].tolist(), ends)
            results += [found[i] for i in range(len(workload["prompts"]))]
        return results

    return run
