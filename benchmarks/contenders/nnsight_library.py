"""nnsight's `generate`, one call per configuration and batch of prompts, the layer's output edited at every step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from huggingface import batches, cut, left_padded


def load(folder: str) -> Any:
    from nnsight import TransformersModel

    model = TransformersModel(folder, task="text-generation", dispatch=True)

    def run(workload: dict[str, Any]) -> list[list[int]]:
        ends, results, new = set(workload["end_ids"]), [], workload["new_tokens"]
        for configuration in workload["configurations"] or [None]:
            found: dict[int, list[int]] = {}
            for batch in batches(workload["prompts"], workload["batch"]):
                ids, mask = left_padded([workload["prompts"][i] for i in batch], "cpu")
                given = {"input_ids": ids, "attention_mask": mask}
                if configuration is None:
                    with (
                        torch.inference_mode(),
                        model.generate(given, max_new_tokens=new, do_sample=False, eos_token_id=-1) as tracer,
                    ):
                        out = tracer.result.save()
                else:
                    v = torch.randn(
                        model.config.hidden_size, generator=torch.Generator().manual_seed(configuration["seed"])
                    )
                    delta, layer = v / v.norm() * configuration["scale"], model.model.layers[configuration["layer"]]
                    everywhere = workload["span"] == "all"
                    with (
                        torch.inference_mode(),
                        model.generate(given, max_new_tokens=new, do_sample=False, eos_token_id=-1) as tracer,
                    ):
                        for step in tracer.iter[:new]:
                            if everywhere or step > 0:
                                layer.output = layer.output + delta
                        out = tracer.result.save()
                for row, index in enumerate(batch):
                    found[index] = cut(out[row, ids.shape[1] :].tolist(), ends)
            results += [found[i] for i in range(len(workload["prompts"]))]
        return results

    return run
