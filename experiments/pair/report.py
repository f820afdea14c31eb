"""What the pair can do beyond greedy accuracy: is the ability there when the base is sampled, and which behaviours occur?

1. pass@k counts a sample only when its whole trace is verified: guessing one of a few candidates does not count.
2. The first-token probability of reasoning is the summed probability of the words that open a trace, at bare prompts.
3. Behaviour rates are exact: they come from the grammar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel, load_model
from steering.model.prompts import encode_prompt

from ..statistics import pass_at_k
from .problem import split_problems
from .verifier import verify
from .vocabulary import ID, REASONING_STARTS

MAX_NEW_TOKENS = 360


@torch.inference_mode()
def first_token_reasoning(model: LoadedModel, prompts: list[tuple[int, ...]]) -> np.ndarray:
    """Probability, per prompt, that the next token opens a reasoning trace."""
    starts = [ID[word] for word in REASONING_STARTS]
    found = []
    for ids in prompts:
        logits = model.model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1].float()
        found.append(float(logits.softmax(-1)[starts].sum()))
    return np.array(found)


def _told(on_rows: Callable[[int, int], None], total: int, done: int) -> None:
    on_rows(done, total)


def pair_facts(
    n: int = 200,
    samples: int = 32,
    k: int = 16,
    split: str = "standard-test",
    on_rows: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Trace-verified and answer-only pass@k of the base at temperature 1 on bare prompts, its first-token probability of reasoning, and
    behaviour counts of both models' traces. `n` problems, `samples` samples each."""
    facts: dict[str, Any] = {"split": split, "n": n, "samples": samples, "k": k, "temperature": 1.0}
    problems = split_problems(split, n)
    for name in ("builtin:base", "builtin:thinking"):
        model = load_model(name)
        prompts = [encode_prompt(model, p.prompt("bare")) for p in problems]
        per_problem = samples if name == "builtin:base" else 1
        rows = [Row(ids, seed=1_000_003 * i + s) for i, ids in enumerate(prompts) for s in range(per_problem)]
        told = None if on_rows is None else partial(_told, on_rows, len(rows))
        generations = generate(
            model, rows, GenerationSettings(MAX_NEW_TOKENS, temperature=1.0), batch_size=192, on_rows=told
        )
        texts = [model.tokenizer.decode([t for t in g.token_ids if t not in model.eos_ids]) for g in generations]
        verdicts = [verify(problems[i // per_problem], text) for i, text in enumerate(texts)]
        labels = Counter(span.label for verdict in verdicts for span in verdict.labels)
        mine: dict[str, Any] = {
            "sampled_accuracy": float(np.mean([v.correct for v in verdicts])),
            "reasoned": float(np.mean([v.reasoned for v in verdicts])),
            "behaviours": dict(sorted(labels.items())),
            "rows_with_behaviour": {
                label: sum(any(s.label == label for s in v.labels) for v in verdicts) / len(verdicts)
                for label in sorted(labels)
            },
        }
        if name == "builtin:base":
            first = first_token_reasoning(model, prompts)
            mine["first_token_reasoning"] = {
                "mean": float(first.mean()),
                "min": float(first.min()),
                "max": float(first.max()),
            }
            for what, flags in (
                ("trace_verified", [v.trace_ok for v in verdicts]),
                ("answer_only", [v.correct for v in verdicts]),
            ):
                counts = np.array(flags).reshape(n, samples).sum(1)
                found = pass_at_k(counts, samples, k)
                mine[f"pass_at_{k}_{what}"] = {
                    "value": found.value,
                    "low": found.interval.low,
                    "high": found.interval.high,
                }
        facts[name] = mine
    return facts
