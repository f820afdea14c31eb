"""The naive oracle: one row, no cache, no padding, the whole sequence recomputed every step, edits by a plain position loop.

It shares no code with the engine but the hook installer: spans are read off the finished sequence, and each operation is written out by its
own formula. What it reads off a text again and again (each position asks about all before it) is remembered by its arguments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from steering.model.hooks import hooked
from steering.model.models import LoadedModel
from steering.model.sinks import sinks_of
from steering.model.sites import Site
from steering.plan.plan import Gate, Intervention, Plan, Span


@lru_cache(maxsize=1 << 17)
def decoded(ids: tuple[int, ...], tokenizer: Any) -> str:
    return str(tokenizer.decode(list(ids)))


def completed(ids: list[int], wanted: str | tuple[int, ...], flags: str, model: LoadedModel) -> bool:
    """Whether an occurrence of ids, or of text however it is cut, is complete at the last token of `ids` and not before."""
    if isinstance(wanted, tuple):
        return tuple(ids[len(ids) - len(wanted) :]) == wanted
    return completed_text(tuple(ids), wanted, flags, model.tokenizer)


@lru_cache(maxsize=1 << 17)
def completed_text(ids: tuple[int, ...], wanted: str, flags: str, tokenizer: Any) -> bool:
    before, now = (decoded(part, tokenizer) for part in (ids[:-1], ids))
    if now.endswith("\ufffd"):
        return False
    while before.endswith("\ufffd"):
        before = before[:-1]
    for start in range(len(now) - len(wanted) + 1):
        end = start + len(wanted)
        same = now[start:end].lower() == wanted.lower() if "i" in flags else now[start:end] == wanted
        around = (now[start - 1 : start] + wanted[:1], wanted[-1:] + now[end : end + 1])
        inside_word = any(len(pair) == 2 and all(c.isalnum() or c == "_" for c in pair) for pair in around)
        if same and end > len(before) and not ("w" in flags and inside_word):
            return True
    return False


def hits(span: Span, ids: list[int], model: LoadedModel) -> bool:
    """Whether any of what a span looks for is complete at the last token of `ids`."""
    flags = span.flags or ("",) * len(span.tokens)
    return any(completed(ids, wanted, own, model) for wanted, own in zip(span.tokens, flags, strict=True))


def spans_position(span: Span, position: int, ids: list[int], prompt: int, model: LoadedModel) -> bool:
    """Whether a span covers a position of a sequence `ids` whose first `prompt` tokens are the prompt."""
    if span.parts:
        a, b = (spans_position(part, position, ids, prompt, model) for part in span.parts)
        return {"union": a or b, "intersection": a and b, "difference": a and not b}[span.kind]
    generated, sinks = position - prompt, len(sinks_of(model).positions)
    n, m = span.n or 0, span.m or 0
    plain: dict[str, Callable[[], bool]] = {
        "all": lambda: position >= sinks,
        "prompt": lambda: generated < 0 and position >= sinks,
        "sinks": lambda: position < sinks,
        "last_prompt": lambda: generated == -1,
        "generated": lambda: generated >= 0,
        "first_n": lambda: 0 <= generated < n,
        "after_n": lambda: generated >= n,
        "window": lambda: n <= generated < m,
        "position": lambda: position in span.positions or (generated < 0 and position - prompt in span.positions),
        "specials": lambda: ids[position] in model.tokenizer.all_special_ids,
    }
    if span.kind in plain:
        return plain[span.kind]()
    if span.kind in ("text", "regex"):
        return generated < 0 and position in matched(span, ids[:prompt], model)
    if span.kind == "at":
        return hits(span, ids[: position + 1], model)
    if span.kind == "after":
        return any(hits(span, ids[: end + 1], model) for end in range(max(0, position - n), position))
    if span.kind == "sentence_starts":
        return position in sentence_starts(ids, prompt, model)
    opening, closing = span.tokens or ("<think>", "</think>")
    within = position in inside(ids[: position + 1], opening, closing, model)
    return within if span.kind == "inside_thinking" else not within and position >= sinks


def matched(span: Span, ids: list[int], model: LoadedModel) -> set[int]:
    """Positions of words that overlap a match: the tests' tokenizers join words by single blanks."""
    words = [decoded((i,), model.tokenizer) for i in ids]
    text, found, at = " ".join(words), set(), 0
    pattern = span.pattern if span.kind == "regex" else re.escape(span.pattern or "")
    spans = [match.span() for match in re.finditer(pattern or "", text)]
    for position, word in enumerate(words):
        if any(low < at + len(word) and at < high for low, high in spans):
            found.add(position)
        at += len(word) + 1
    return found


def sentence_starts(ids: list[int], prompt: int, model: LoadedModel) -> set[int]:
    """The first word of every sentence; the tests' enders are words that end in a full stop or are a semicolon."""
    special = set(model.tokenizer.all_special_ids)
    starts, fresh = set(), True
    for position, token in enumerate(ids):
        word = decoded((token,), model.tokenizer)
        fresh = fresh or position == prompt
        if token not in special and word.strip(".;!?"):
            if fresh:
                starts.add(position)
            fresh = False
        if token not in special and word.endswith((".", ";", "!", "?")):
            fresh = True
    return starts


def inside(
    ids: list[int], opening: str | tuple[int, ...], closing: str | tuple[int, ...], model: LoadedModel
) -> set[int]:
    """Positions between markers; no token of the tests holds parts of two of them."""
    found, is_open = set(), False
    for position in range(len(ids)):
        if is_open and completed(ids[: position + 1], closing, "", model):
            is_open = False
        elif is_open:
            found.add(position)
        elif completed(ids[: position + 1], opening, "", model):
            is_open = True
    return found


def multiplier(intervention: Intervention, position: int, prompt: int) -> float:
    schedule = intervention.dose.schedule if intervention.dose else None
    step = max(0, position - prompt)
    if schedule is None or schedule.kind in ("constant", "once"):
        return 1.0
    if schedule.kind == "decay":
        return math.exp(-math.log(2) * step / schedule.steps)
    return (
        schedule.end
        if step >= schedule.steps
        else schedule.start + (schedule.end - schedule.start) * step / schedule.steps
    )


def edited(h: torch.Tensor, intervention: Intervention, factor: float = 1.0) -> torch.Tensor:
    v = intervention.vector.direction
    u = v / v.norm()
    p = h @ u
    dose, operation = intervention.dose, intervention.operation
    if operation == "ablate":
        new = h - p * u
    else:
        assert dose is not None
        amount = dose.amount * factor
        if operation == "rotate":
            new = turned(h, u, amount)
        elif operation == "scale":
            new = h + ((dose.amount - 1) * factor) * p * u
        else:
            size = {"raw": 1.0, "vector": float(v.norm()), "residual": float(h.norm())}[dose.unit] * amount
            if operation == "add":
                new = h + size * u
            elif operation == "clamp" or (operation == "cap" and p > size) or (operation == "floor" and p < size):
                new = h - p * u + size * u
            else:
                new = h
    return new * h.norm() / new.norm() if intervention.keep_norm else new


def turned(h: torch.Tensor, u: torch.Tensor, degrees: float) -> torch.Tensor:
    across = h - (h @ u) * u
    if across.norm() <= 1e-6 * h.norm():
        return h
    angle = math.degrees(math.atan2(float(across.norm()), float(h @ u)))
    new = math.radians(min(180.0, max(0.0, angle - degrees)))
    return h.norm() * (math.cos(new) * u + math.sin(new) * across / across.norm())


def gate_value(gate: Gate, h: torch.Tensor, entropy: float) -> float:
    if gate.kind == "entropy":
        return entropy
    assert gate.vector is not None
    v = gate.vector.direction
    if gate.kind == "probe":
        return 1 / (1 + math.exp(-float(h @ v) - gate.bias))
    return float(h @ v / v.norm()) / (float(h.norm()) if gate.kind == "cosine" else 1.0)


def naive_logits(
    model: LoadedModel,
    ids: list[int],
    plan: Plan,
    prompt_length: int,
    edits_made: set[tuple[str, int, int]] | None = None,
) -> torch.Tensor:
    """Logits `[positions, vocabulary]` of the steered model over a whole sequence, and (into `edits_made`) which edits were made.

    The entropy that a gate reads at a position is that of the distribution which the sequence before it gives.
    """
    sinks_of(model)  # measured before any hook of this oracle is in place
    entropies: dict[int, float] = {}
    if any(i.gate is not None and i.gate.kind == "entropy" for i in plan.interventions):
        for position in range(prompt_length, len(ids)):
            logprobs = _forward(model, ids[:position], plan, prompt_length, entropies)[-1].log_softmax(-1)
            entropies[position] = float(-(logprobs.exp() * logprobs).sum())
    return _forward(model, ids, plan, prompt_length, entropies, edits_made)


@torch.inference_mode()
def _forward(
    model: LoadedModel,
    ids: list[int],
    plan: Plan,
    prompt_length: int,
    entropies: dict[int, float],
    edits_made: set[tuple[str, int, int]] | None = None,
) -> torch.Tensor:
    stream: dict[Site, torch.Tensor] = {}
    spent: set[tuple[int, Site]] = set()
    sites = {s for i in plan.interventions for s in i.sites} | {
        i.gate.site for i in plan.interventions if i.gate is not None and i.gate.site is not None
    }

    def editor(site: Site) -> Callable[[torch.Tensor], torch.Tensor]:
        def edit(hidden: torch.Tensor) -> torch.Tensor:
            stream[site] = hidden.clone()
            out = hidden.clone()
            for position in range(hidden.shape[1]):
                for number, intervention in enumerate(plan.interventions):
                    if site not in intervention.sites or not spans_position(
                        intervention.span, position, ids, prompt_length, model
                    ):
                        continue
                    once = intervention.dose is not None and intervention.dose.schedule.kind == "once"
                    if once and (number, site) in spent:
                        continue
                    gate = intervention.gate
                    if gate is not None:
                        read = stream[gate.site or site][0, position].float()
                        value = gate_value(gate, read, entropies.get(position, 0.0))
                        if not (value < gate.threshold if gate.below else value > gate.threshold):
                            continue
                    spent.add((number, site))
                    out[0, position] = edited(
                        out[0, position], intervention, multiplier(intervention, position, prompt_length)
                    )
                    if edits_made is not None:
                        edits_made.add((site.name, number, position))
            return out

        return edit

    with hooked(model.layout, {site: editor(site) for site in sites}):
        return model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def naive_generate(model: LoadedModel, prompt_ids: tuple[int, ...], plan: Plan, max_new_tokens: int) -> list[int]:
    """Greedy continuation."""
    ids = list(prompt_ids)
    for _ in range(max_new_tokens):
        ids.append(int(naive_logits(model, ids, plan, len(prompt_ids))[-1].argmax()))
        if ids[-1] in model.eos_ids:
            break
    return ids[len(prompt_ids) :]
