"""Steered generation: rows of any plans in one KV-cached batch, refilled from a queue.

1. The loop is ours: positions come from a ledger, never from what a model hands its hooks.
2. Each distinct prompt is read once for all rows whose plan leaves it unedited (`prefill`); a row's first token is its own draw.
3. Finished rows leave and queued rows take their places, so memory does not grow with the queue. A row's noise is its own, and in fp32 its
   tokens depend on its neighbours only where two candidates lie within the low bits of the logits; with `invariant` not even there.
4. Every row returns a receipt of what was really edited. An asked-for edit that never fired raises `NeverFired`. A row whose numbers
   become NaN or infinite ends there, says where, and leaves the others alone.
5. `stream` yields tokens as they come and rows as they end; `generate` collects the rows. Both can be cancelled at any token and keep
   what is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from ..compile.compilation import check_plan, check_spans, compile_plans
from ..errors import BadInput, Cancelled
from ..model.models import LoadedModel
from .bias import Bias
from .invariant import demand_possible, key_of, remembered
from .loop import Detail, Loop
from .record import (
    ALTERNATIVES,
    Finished,
    Generation,
    NonFinite,
    Receipt,
    Row,
    Step,
    demand_as_planned,
    demand_fired,
)
from .sampling import GenerationSettings

__all__ = [
    "ALTERNATIVES",
    "Bias",
    "Finished",
    "Generation",
    "NonFinite",
    "Receipt",
    "Row",
    "Step",
    "check_rows",
    "demand_fired",
    "generate",
    "stream",
]

TRIED_PROMPTS, TRIED_TOKENS = (3, 7, 12, 20), 4
"""Tokens of the prompts, and tokens drawn after each, on which a model is tried for batch invariance."""


def check_rows(model: LoadedModel, rows: Sequence[Row], settings: GenerationSettings, strict: bool = False) -> None:
    """Raises BadInput for an empty prompt, a prompt that leaves no room in the context, or a plan that does not fit the model; when
    `strict`, also for vectors that are not known to come from it."""
    for index, row in enumerate(rows):
        if not row.prompt_ids:
            raise BadInput(f"Row {index} has an empty prompt; give at least one token (the BOS counts).")
        if row.begun:
            _check_begun(model, index, row, settings)
        if len(row.prompt_ids) + settings.max_new_tokens > model.context:
            raise BadInput(
                f"Row {index}: {len(row.prompt_ids)} prompt tokens + max_new_tokens {settings.max_new_tokens} exceed the context of "
                f"{model.id} ({model.context}). Shorten the prompt or set max_new_tokens to at most {model.context - len(row.prompt_ids)}."
            )
        if row.bias is not None:
            row.bias.check(len(model.tokenizer), f"Row {index}: ")
        model.rope.check_row(f"Row {index}", len(row.read_ids), settings.max_new_tokens - len(row.begun))
    for plan in dict.fromkeys(row.plan for row in rows):
        check_plan(plan, model, strict)


def _check_begun(model: LoadedModel, index: int, row: Row, settings: GenerationSettings) -> None:
    """Raises BadInput for a row that cannot go on from the tokens that it begins with."""
    if len(row.begun) >= settings.max_new_tokens:
        raise BadInput(
            f"Row {index} begins with {len(row.begun)} tokens of max_new_tokens {settings.max_new_tokens}, so none is left to generate; "
            f"give a larger max_new_tokens, which counts them too."
        )
    known = min(len(model.tokenizer), model.model.get_input_embeddings().num_embeddings)
    if odd := [token for token in row.begun if not 0 <= token < known]:
        raise BadInput(
            f"Row {index} begins with id {odd[0]}, which is no token of {model.id}: its tokenizer has ids 0 to {known - 1}."
        )
    if ended := [token for token in row.begun if token in model.eos_ids]:
        raise BadInput(f"Row {index} begins with a text that has ended (id {ended[0]}); leave the end token out.")
    if any(i.gate is not None and i.gate.kind == "entropy" for i in row.plan.interventions):
        raise BadInput(
            f"Row {index} begins with tokens whose entropy was not measured, and its plan has a gate that asks for it; give the row from "
            f"its prompt on, or another gate."
        )


def stream(
    model: LoadedModel,
    rows: Sequence[Row],
    settings: GenerationSettings,
    *,
    batch_size: int = 64,
    detail: Detail = "scores",
    compiled: bool | None = None,
    cancel: Callable[[], bool] | None = None,
    silent_ok: bool = False,
    strict: bool = False,
    invariant: bool = False,
) -> Iterator[Step | Finished]:
    """Generate all rows, at most `batch_size` at a time. Yields a `Step` per token and a `Finished` per row, as they come.

    With `detail="tokens"` no log-probabilities, entropies and alternatives are computed. `compiled` runs the decoding step as one graph
    (`compiled.py`); by default where a GPU is used.
    With `invariant` a row has the same bits whatever rows are beside it (`steering.engine.invariant`), and `batch_size` counts for nothing.
    With `strict` vectors that are not known to come from this model are refused; otherwise receipts say so (`Receipt.warnings`).
    Raises BadInput before the first forward pass, NeverFired after the last; with `silent_ok` a plan whose rows all ended before its span
    began is let through (the caller looks at a larger set of rows). When `cancel()` turns true the running rows are yielded as they
    are and the stream ends.
    """
    check_rows(model, rows, settings, strict)
    if invariant:
        check_invariant(model)
    plans = compile_plans([row.plan for row in rows if row.plan], model)
    groups = model.rope.groups([len(row.read_ids) for row in rows]) or [[]]
    if len(groups) > 1:
        check_spans(plans, model, [(row.plan, row.prompt_ids) for row in rows], settings.max_new_tokens)
    done: list[Generation | None] = [None] * len(rows)
    for members in groups:
        own = [rows[index] for index in members]
        long = any(model.rope.long(len(row.read_ids)) for row in own)
        run = Loop(model, own, settings, plans, batch_size, detail, compiled, long, invariant)
        for event in run.events(cancel):
            if isinstance(event, Finished):
                demand_as_planned(members[event.row], event.generation)
                done[members[event.row]] = event.generation
            yield _in_place(event, members) if len(groups) > 1 else event
        if any(found is None or found.finish == "cancelled" for found in (done[index] for index in members)):
            break
    if not silent_ok:
        demand_fired(rows, done)


@torch.inference_mode()
def check_invariant(model: LoadedModel) -> None:
    """Try a model once per device, precision and number of threads: rows alone beside the same rows in a batch, bit by bit.

    Raises BadInput where tokens or log-probabilities differ, or where another executor runs the model.
    """
    demand_possible(model)
    if remembered(model):
        return
    size = min(len(model.tokenizer), model.model.get_input_embeddings().weight.shape[0])
    lengths = [n for n in TRIED_PROMPTS if n + TRIED_TOKENS <= model.context]
    rows = [Row(tuple((17 * i + 5 * k + 3) % size for i in range(n)), seed=k) for k, n in enumerate(lengths)]
    plans = compile_plans([], model)

    def run(rows: Sequence[Row]) -> dict[tuple[int, ...], Generation]:
        loop = Loop(
            model, rows, GenerationSettings(TRIED_TOKENS, temperature=1.0), plans, 1, "scores", None, False, True
        )
        ended = [event for event in loop.events(None) if isinstance(event, Finished)]
        return {rows[event.row].prompt_ids: event.generation for event in ended}

    together, alone = run(rows), {ids: found for row in rows for ids, found in run([row]).items()}
    differ = [
        len(ids)
        for ids, found in together.items()
        if (found.token_ids, found.logprob) != (alone[ids].token_ids, alone[ids].logprob)
    ]
    failure = (
        f"{model.id} is not batch-invariant on this machine: {len(differ)} of {len(rows)} rows have other bits alone than in a batch. "
        f"Leave `invariant` out, and compare rows of one batch geometry."
    )
    model.extra["invariant"][key_of(model)] = failure if differ else None
    remembered(model)


def _in_place(event: Step | Finished, members: Sequence[int]) -> Step | Finished:
    """An event about some of the rows asked for, by their places among all."""
    if isinstance(event, Finished):
        return replace(event, row=members[event.row])
    return replace(event, rows=tuple(members[row] for row in event.rows))


def generate(
    model: LoadedModel,
    rows: Sequence[Row],
    settings: GenerationSettings,
    *,
    batch_size: int = 64,
    detail: Detail = "scores",
    compiled: bool | None = None,
    on_rows: Callable[[int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    strict: bool = False,
    invariant: bool = False,
) -> list[Generation]:
    """Generate all rows; results in the order given.

    `on_rows(count)` is told how many rows are done whenever one ends. Raises as `stream`, and Cancelled (which carries every row that was
    begun) when `cancel()` turned true before the last row ended.
    """
    done: dict[int, Generation] = {}
    ended = 0
    for event in stream(
        model,
        rows,
        settings,
        batch_size=batch_size,
        detail=detail,
        compiled=compiled,
        cancel=cancel,
        silent_ok=True,
        strict=strict,
        invariant=invariant,
    ):
        if isinstance(event, Finished):
            done[event.row] = event.generation
            ended += event.generation.finish != "cancelled"
            if on_rows is not None:
                on_rows(ended)
    if ended < len(rows):
        raise Cancelled(f"Cancelled with {ended} of {len(rows)} rows done; they are kept.", done)
    generations = [done[index] for index in range(len(rows))]
    demand_fired(rows, generations)
    return generations
