"""Hugging Face `generate`, one call per configuration and batch of prompts; a plain forward hook adds the vector when steering."""

from __future__ import annotations

from typing import Any

import torch


def left_padded(prompts: list[list[int]], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.long, device=device)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt, device=device)
        mask[row, width - len(prompt) :] = 1
    return ids, mask


def cut(tokens: list[int], ends: set[int]) -> list[int]:
    """Up to and including the first end token."""
    for index, token in enumerate(tokens):
        if token in ends:
            return tokens[: index + 1]
    return tokens


def batches(prompts: list[list[int]], size: int) -> list[list[int]]:
    """Indices of prompts, sorted by length so that batches pad little."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    return [order[i : i + size] for i in range(0, len(order), size)]


def run_with(model: Any, workload: dict[str, Any], steered: Any) -> list[list[int]]:
    """Every configuration in turn; `steered(model, configuration, span)` is a context in which the model is steered."""
    ends = set(workload["end_ids"])
    results = []
    for configuration in workload["configurations"] or [None]:
        found: dict[int, list[int]] = {}
        for batch in batches(workload["prompts"], workload["batch"]):
            ids, mask = left_padded([workload["prompts"][i] for i in batch], model.device)
            with torch.inference_mode(), steered(model, configuration, workload["span"]):
                out = model.generate(
                    input_ids=ids, attention_mask=mask, max_new_tokens=workload["new_tokens"], do_sample=False,
                    eos_token_id=sorted(ends) or -1, pad_token_id=0,
                )  # fmt: skip
            for row, index in enumerate(batch):
                found[index] = cut(out[row, ids.shape[1] :].tolist(), ends)
        results += [found[i] for i in range(len(workload["prompts"]))]
    return results


class hooked:
    """Adds a vector to a layer's output, at every token or at generated ones only (a forward pass over one column)."""

    def __init__(self, model: Any, configuration: dict[str, Any] | None, span: str):
        self.model, self.configuration, self.span = model, configuration, span

    def __enter__(self) -> None:
        self.handle = None
        if self.configuration is None:
            return
        v = torch.randn(
            self.model.config.hidden_size, generator=torch.Generator().manual_seed(self.configuration["seed"])
        )
        delta = (v / v.norm() * self.configuration["scale"]).to(self.model.device)

        def hook(module: Any, args: Any, output: Any) -> Any:
            hidden = output if isinstance(output, torch.Tensor) else output[0]
            if hidden.shape[1] > 1 and self.span == "generated":
                return output
            return hidden + delta if isinstance(output, torch.Tensor) else (hidden + delta, *output[1:])

        self.handle = self.model.model.layers[self.configuration["layer"]].register_forward_hook(hook)

    def __exit__(self, *_: Any) -> None:
        if self.handle is not None:
            self.handle.remove()


def load(folder: str) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    if torch.cuda.is_available():
        model.to("cuda")
    return lambda workload: run_with(model, workload, hooked)
