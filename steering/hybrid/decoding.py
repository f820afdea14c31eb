"""Hybrid decoding: the base writes greedily, steered one position at a time where a controller says so (2510.07364 v4, section 3.4).

    loop: l_b = base logits, l_t = thinking logits on the same text, both unsteered
          gate shut: emit argmax l_b
          gate open: c = category, h = base activation, l_b' = base again at this position with h + alpha(h, c) V_c; emit argmax l_b'
                     and forget that second reading

1. Rows of any controllers share a batch; each row stands at its own position. The second reading of a gated row happens in the step in
   which the others take their next token, so that it costs one place in a batch, not a pass of its own.
2. Greedy. Only the end token of the text ends a row, whoever chose it; the thinking model's wish to end does not.
3. The gate compares the two greedy tokens and passes on whether they agree, nothing else (`decisions`); the thinking model's token is kept
   for the record (`Choice.matched`) and is looked at after the choice is made.
4. Every gated token is a `Choice` of its row, and the receipt counts what the hook edited beside what was decided.
5. A row whose logits, or those of the thinking model that it asks, become NaN or infinite ends there (`nonfinite`).
6. Models that do not share a vocabulary are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..engine.sampling import GenerationSettings
from ..errors import BadInput, Cancelled, NeverFired
from ..model.models import LoadedModel
from .alignment import check_vocabularies
from .batch import Hybrid
from .decisions import by_controller
from .row import HybridGeneration, HybridRow, Writing


def decode(
    base: LoadedModel,
    thinking: LoadedModel | None,
    rows: Sequence[HybridRow],
    settings: GenerationSettings,
    *,
    batch_size: int = 64,
    on_rows: Callable[[int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> list[HybridGeneration]:
    """Write all rows, at most `batch_size` at a time; results in the order given. `thinking` may be None where no controller needs it.

    Raises BadInput before the first pass (sampling asked for, vocabularies that differ, controllers that do not fit, prompts that leave no
    room), NeverFired when a shift that was decided was not made, and Cancelled, with what every begun row has, when `cancel()` turned
    true before the last row ended.
    """
    check_hybrid_rows(base, thinking, rows, settings)
    if batch_size < 1:
        raise BadInput(f"batch_size is {batch_size}; at least 1 row must run at a time.")
    if not rows:
        return []
    done: dict[int, HybridGeneration] = {}
    sides = [
        (base.rope.long(len(r.prompt_ids)), thinking is not None and thinking.rope.long(len(r.theirs))) for r in rows
    ]
    for side in sorted(set(sides)):  # rows of both sides of a rotary limit are never read together
        members = [index for index, own in enumerate(sides) if own == side]
        own = [rows[index] for index in members]
        with Hybrid(base, thinking, own, settings.max_new_tokens, batch_size, side) as run:
            while run.busy:
                for row in run.step():
                    index = members[row.index]
                    done[index] = row.generation()
                    if row.fired != row.planned:
                        raise NeverFired(
                            f"Row {index}: {row.planned} shifts were decided but {row.fired} made.", list(done.values())
                        )
                    if on_rows is not None:
                        on_rows(len(done))
                if cancel is not None and len(done) < len(rows) and cancel():
                    begun = {members[row.index]: row.generation() for row in run.rows if row is not None}
                    raise Cancelled(
                        f"Cancelled with {len(done)} of {len(rows)} rows done; they are kept.", {**done, **begun}
                    )
    return [done[index] for index in range(len(rows))]


def check_hybrid_rows(
    base: LoadedModel, thinking: LoadedModel | None, rows: Sequence[HybridRow], settings: GenerationSettings
) -> None:
    """Raises BadInput for whatever `decode` would refuse, without running a model."""
    if settings.temperature > 0 or settings.processors or settings.stop_strings:
        raise BadInput("Hybrid decoding is greedy: give max_new_tokens only.")
    if thinking is not None:
        check_vocabularies(base, thinking)
    for rule, _ in by_controller([Writing(0, row) for row in rows], range(len(rows))):
        rule.check(base, thinking)
    if len({row.controller.bank.site for row in rows if row.controller.bank is not None}) > 1:
        raise BadInput("Rows of one call are steered at one site; decode banks of other sites in calls of their own.")
    for index, row in enumerate(rows):
        for model, ids in ((base, row.prompt_ids), (thinking, row.theirs)):
            if not ids:
                raise BadInput(f"Row {index} has an empty prompt; give at least one token (the BOS counts).")
            if model is not None and len(ids) + settings.max_new_tokens > model.context:
                raise BadInput(
                    f"Row {index}: {len(ids)} prompt tokens + max_new_tokens {settings.max_new_tokens} exceed the context of "
                    f"{model.id} ({model.context})."
                )
            if model is not None:
                model.rope.check_row(f"Row {index} as {model.id} reads it", len(ids), settings.max_new_tokens)
