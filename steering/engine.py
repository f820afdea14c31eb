"""Steered generation: rows of any plans in one left-padded, KV-cached batch.

1. The loop is ours: positions come from a ledger of columns, never from what a model hands its hooks.
2. One hook per edited site, installed only while the model runs; it holds no host synchronisation and no Python branch on data.
3. Finished rows are compacted away; a row's tokens do not depend on its neighbours (fp32), and its sample never does.
4. Every row returns a receipt of what was really edited. An asked-for edit that never fired raises `NeverFired`.
5. `stream` yields one event per step; `generate` collects them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from .compile import Slot, check_plan, compile_plans
from .errors import BadInput, NeverFired
from .models import LoadedModel
from .plan import Plan
from .sampling import GenerationSettings, choose
from .sites import Edit, hooked

ALTERNATIVES = 5
"""Likeliest tokens kept per generated position."""
COMPACT_BELOW = 0.7
"""Finished rows are dropped when fewer than this share of the batch is still running."""


@dataclass(frozen=True)
class Row:
    """One sequence to generate. `prompt_ids` as fed (BOS included); `seed` matters only when sampling."""

    prompt_ids: tuple[int, ...]
    plan: Plan = field(default_factory=Plan)
    seed: int = 0


@dataclass(frozen=True)
class Receipt:
    """What was really edited in one row. `ratio [positions]` is ‖delta‖/‖h‖ over prompt and generated tokens, the largest over sites."""

    planned: int
    """Edits (site and position) that the plan covers among the positions fed to the model."""
    fired: int
    """Edits that the hooks made."""
    ratio: tuple[float, ...]

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions with an edit of non-zero size."""
        return tuple(i for i, r in enumerate(self.ratio) if r > 0)


@dataclass(frozen=True)
class Generation:
    """A finished row. Per-token lists run over `token_ids`; log-probabilities and entropies in nats, of the model as run, before
    temperature and truncation of the distribution."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish: Literal["eos", "length"]
    logprob: tuple[float, ...]
    entropy: tuple[float, ...]
    top_ids: tuple[int, ...]
    """`ALTERNATIVES` ids per token, flattened."""
    top_logprob: tuple[float, ...]
    receipt: Receipt


@dataclass(frozen=True)
class Step:
    """One decoding step: for each row still running, its index and the token chosen."""

    index: int
    rows: tuple[int, ...]
    token_ids: tuple[int, ...]


def check_rows(model: LoadedModel, rows: Sequence[Row], settings: GenerationSettings) -> None:
    """Raises BadInput for an empty prompt, a prompt that leaves no room in the context, or a plan that does not fit the model."""
    for index, row in enumerate(rows):
        if not row.prompt_ids:
            raise BadInput(f"Row {index} has an empty prompt; give at least one token (the BOS counts).")
        if len(row.prompt_ids) + settings.max_new_tokens > model.context:
            raise BadInput(
                f"Row {index}: {len(row.prompt_ids)} prompt tokens + max_new_tokens {settings.max_new_tokens} exceed the context of "
                f"{model.id} ({model.context}). Shorten the prompt or set max_new_tokens to at most {model.context - len(row.prompt_ids)}."
            )
    for plan in dict.fromkeys(row.plan for row in rows):
        check_plan(plan, model)


class _Ledger:
    """What the hooks wrote, indexed by original row: edit counts and largest ratios per column."""

    def __init__(self, rows: int, columns: int, device: torch.device):
        self.fired = torch.zeros(rows, columns, dtype=torch.int32, device=device)
        self.ratio = torch.zeros(rows, columns, device=device)

    def hook(self, slots: list[Slot], rows: Tensor, columns: slice) -> Edit:
        def edit(hidden: Tensor) -> Tensor:
            for slot in slots:
                hidden, ratio, mask = slot.apply(hidden, columns)
                self.fired[rows, columns] += mask
                self.ratio[rows, columns] = torch.maximum(self.ratio[rows, columns], ratio)
            return hidden

        return edit


@torch.inference_mode()
def stream(
    model: LoadedModel, rows: Sequence[Row], settings: GenerationSettings, *, silent_ok: bool = False
) -> Iterator[Step | list[Generation]]:
    """Decode one batch. Yields a `Step` per token and, last, the list of generations in the order of `rows`.

    Raises BadInput before the first forward pass, NeverFired after the last; with `silent_ok` a plan whose rows all ended before its span
    began is let through (the caller looks at a larger set of rows).
    """
    check_rows(model, rows, settings)
    n, device = len(rows), model.device
    lengths = [len(row.prompt_ids) for row in rows]
    widest = max(lengths)
    compiled = compile_plans([row.plan for row in rows], lengths, settings.max_new_tokens, model)
    planned = compiled.planned.clone()
    ledger = _Ledger(n, widest + settings.max_new_tokens, device)
    pad_id = model.tokenizer.pad_token_id if model.tokenizer.pad_token_id is not None else next(iter(model.eos_ids), 0)
    ids = torch.full((n, widest), pad_id, device=device)
    mask = torch.zeros(n, widest + settings.max_new_tokens, dtype=torch.long, device=device)
    for index, row in enumerate(rows):
        ids[index, widest - lengths[index] :] = torch.tensor(row.prompt_ids, device=device)
        mask[index, widest - lengths[index] :] = 1
    offset = torch.tensor([widest - length for length in lengths], device=device)
    seeds = np.array([row.seed for row in rows], dtype=np.int64)
    eos = torch.tensor(sorted(model.eos_ids), device=device, dtype=torch.long)
    cache = DynamicCache(config=model.model.config)
    alive = torch.arange(n, device=device)
    columns = slice(0, widest)
    record = _Record(n)
    for step in range(settings.max_new_tokens):
        edits = {site: ledger.hook(slots, alive, columns) for site, slots in compiled.slots.items()}
        positions = (torch.arange(columns.start, columns.stop, device=device)[None] - offset[:, None]).clamp_min(0)
        with hooked(model.layout, edits):
            output = model.model(
                input_ids=ids,
                attention_mask=mask[:, : columns.stop],
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits = output.logits[:, -1].float()
        chosen = choose(logits, settings, seeds, step)
        ended = torch.isin(chosen, eos)
        original, tokens = alive.tolist(), chosen.tolist()
        record.add(original, tokens, logits, chosen)
        yield Step(step, *record.new(original, tokens))
        record.ended.update(row for row, end in zip(original, ended.tolist(), strict=True) if end)
        running = [i for i, row in enumerate(original) if row not in record.ended]
        if not running:
            break
        if len(running) < COMPACT_BELOW * len(original):
            keep = torch.tensor(running, device=device)
            cache.batch_select_indices(keep)
            compiled, alive, mask, offset, chosen = (
                compiled.select(keep),
                alive[keep],
                mask[keep],
                offset[keep],
                chosen[keep],
            )
            seeds = seeds[running]
        ids = chosen[:, None]
        columns = slice(columns.stop, columns.stop + 1)
        mask[:, columns] = 1
    generations = record.finish(rows, lengths, widest, planned, ledger)
    _demand_as_planned(generations)
    if not silent_ok:
        demand_fired(rows, generations)
    yield generations


class _Record:
    """Per-token records, gathered step by step; a finished row that still sits in the batch is not recorded further."""

    def __init__(self, n: int):
        self.tokens: list[list[int]] = [[] for _ in range(n)]
        self.logprob: list[list[float]] = [[] for _ in range(n)]
        self.entropy: list[list[float]] = [[] for _ in range(n)]
        self.top_ids: list[list[int]] = [[] for _ in range(n)]
        self.top_logprob: list[list[float]] = [[] for _ in range(n)]
        self.ended: set[int] = set()

    def add(self, original: list[int], tokens: list[int], logits: Tensor, chosen: Tensor) -> None:
        logprobs = logits.log_softmax(-1)
        entropy = -(logprobs.exp() * logprobs.clamp_min(-1e4)).sum(-1)
        top = logprobs.topk(min(ALTERNATIVES, logprobs.shape[-1]), dim=-1)
        picked = logprobs.gather(-1, chosen[:, None]).squeeze(-1).tolist()
        rows = zip(original, tokens, picked, entropy.tolist(), top.indices.tolist(), top.values.tolist(), strict=True)
        for row, token, logprob, nats, ids, values in rows:
            if row not in self.ended:
                self.tokens[row].append(token)
                self.logprob[row].append(logprob)
                self.entropy[row].append(nats)
                self.top_ids[row].extend(ids)
                self.top_logprob[row].extend(values)

    def new(self, original: list[int], tokens: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Rows that were still running before this step, and their tokens."""
        pairs = [(row, token) for row, token in zip(original, tokens, strict=True) if row not in self.ended]
        return tuple(row for row, _ in pairs), tuple(token for _, token in pairs)

    def finish(
        self, rows: Sequence[Row], lengths: list[int], widest: int, planned: Tensor, ledger: _Ledger
    ) -> list[Generation]:
        wanted, fired, ratio = planned.cpu(), ledger.fired.cpu(), ledger.ratio.cpu()
        generations = []
        for index, row in enumerate(rows):
            start, fed = widest - lengths[index], widest + len(self.tokens[index]) - 1
            sizes = [*ratio[index, start:fed].tolist(), 0.0]
            receipt = Receipt(int(wanted[index, start:fed].sum()), int(fired[index, start:fed].sum()), tuple(sizes))
            generations.append(
                Generation(
                    row.prompt_ids,
                    tuple(self.tokens[index]),
                    "eos" if index in self.ended else "length",
                    tuple(self.logprob[index]),
                    tuple(self.entropy[index]),
                    tuple(self.top_ids[index]),
                    tuple(self.top_logprob[index]),
                    receipt,
                )
            )
        return generations


def _demand_as_planned(generations: list[Generation]) -> None:
    for index, generation in enumerate(generations):
        receipt = generation.receipt
        if receipt.fired != receipt.planned:
            raise NeverFired(
                f"Row {index}: the plan covers {receipt.planned} edits but {receipt.fired} were made; the text is not steered as asked.",
                generations,
            )


def demand_fired(rows: Sequence[Row], generations: list[Generation]) -> None:
    """Raises NeverFired when a plan fired in none of the rows that carry it."""
    fired: dict[Plan, int] = {}
    for row, generation in zip(rows, generations, strict=True):
        if row.plan:
            fired[row.plan] = fired.get(row.plan, 0) + generation.receipt.fired
    silent = [plan for plan, count in fired.items() if count == 0]
    if silent:
        spans = ", ".join(str(i.span) for i in silent[0].interventions)
        raise NeverFired(
            f"A plan with span {spans} never fired: every row that carries it ended before the span began. "
            f"The texts are unsteered; choose a span that starts earlier, such as last_prompt.",
            generations,
        )


def generate(
    model: LoadedModel,
    rows: Sequence[Row],
    settings: GenerationSettings,
    *,
    batch_size: int = 64,
    on_rows: Callable[[int], None] | None = None,
) -> list[Generation]:
    """Generate all rows, `batch_size` at a time in order of prompt length; results in the order given.

    `on_rows(count)` is told after each batch how many rows are done. Raises as `stream`; everything is checked before the first batch.
    """
    check_rows(model, rows, settings)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].prompt_ids))
    results: dict[int, Generation] = {}
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        for event in stream(model, [rows[index] for index in chunk], settings, silent_ok=True):
            if isinstance(event, list):
                results.update(zip(chunk, event, strict=True))
        if on_rows is not None:
            on_rows(len(results))
    generations = [results[index] for index in range(len(rows))]
    demand_fired(rows, generations)
    return generations
