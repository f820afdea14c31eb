"""What a pair can do: is the ability there when the base is sampled, which behaviours occur, and where do the two models part?

1. pass@k counts a sample only when its whole trace is verified: guessing one of a few candidates does not count.
2. The first-token probability of reasoning is the summed probability of the words that open a trace, at bare prompts.
3. Behaviour rates are exact: they come from the grammar.
4. Greedy accuracies, places where the models part and gains of beginnings are those of `parting`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.models import LoadedModel, load_model
from steering.model.prompts import encode_prompt

from ..statistics import PairedDifference, paired_difference, pass_at_k, wilson
from .parting import Text, gains_of_beginnings, greedy_texts, parting
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
    pair: tuple[str, str] = ("builtin:base", "builtin:thinking"),
) -> dict[str, Any]:
    """Trace-verified and answer-only pass@k of the base at temperature 1 on bare prompts, its first-token probability of reasoning, and
    behaviour counts of both models' traces; where the two part in greedy texts. `n` problems, `samples` samples each, `pair` as
    (base, thinking)."""
    facts: dict[str, Any] = {"split": split, "n": n, "samples": samples, "k": k, "temperature": 1.0, "pair": pair}
    problems = split_problems(split, n)
    models = [load_model(name) for name in pair]
    for name, model in zip(("base", "thinking"), models, strict=True):
        prompts = [encode_prompt(model, p.prompt("bare")) for p in problems]
        per_problem = samples if name == "base" else 1
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
        if name == "base":
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
    return facts | {"greedy": greedy_facts(models[0], models[1], split, n)}


def greedy_facts(base: LoadedModel, thinking: LoadedModel, split: str, n: int) -> dict[str, Any]:
    """Greedy accuracy of both models on bare prompts, where they part, and what beginnings gain the base. Plain data."""
    problems = split_problems(split, n)
    own, theirs = (greedy_texts(model, problems, MAX_NEW_TOKENS) for model in (base, thinking))
    parted = parting(base, thinking, theirs)
    difference = paired_difference([t.verdict.correct for t in own], [t.verdict.correct for t in theirs])
    return {
        "base": _right(own), "thinking": _right(theirs), "difference": _interval(difference),
        "parting": asdict(parted) | {"n": parted.n, "largest": parted.largest},
        "beginnings": {k: _interval(d) for k, d in gains_of_beginnings(base, problems, own, theirs, MAX_NEW_TOKENS).items()},
    }  # fmt: skip


def _right(texts: Sequence[Text]) -> dict[str, float]:
    right = sum(t.verdict.correct for t in texts)
    found = wilson(right, len(texts))
    return {
        "right": right / len(texts), "low": found.low, "high": found.high,
        "trace_ok": sum(t.verdict.trace_ok for t in texts) / len(texts),
        "reasoned": sum(t.verdict.reasoned for t in texts) / len(texts),
        "tokens": sum(len(t.token_ids) for t in texts) / len(texts),
        "cut": sum(not t.ended for t in texts) / len(texts),
    }  # fmt: skip


def _interval(difference: PairedDifference) -> dict[str, float]:
    return {"value": difference.difference, "low": difference.interval.low, "high": difference.interval.high}
