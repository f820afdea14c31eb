"""Forced decoding: a text read token by token under a plan and without it, and how far the two predictions lie apart.

1. Both readings are fed the same tokens, so the divergence at a position is the plan's doing there, not that of an earlier word. It is not
   the divergence between what the two would have written.
2. The divergence is KL(steered || unsteered) of the next-token distribution in nats, at each position that predicts a generated token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..compile.compilation import CompiledPlans, RowPlan, compile_plans
from ..errors import BadInput
from ..model.cache import Masks
from ..model.hooks import Edit
from ..model.models import LoadedModel
from ..model.sites import Site
from ..plan.plan import Plan
from .batch import Batch
from .record import Progress, Row

POSITIONS_PER_PASS = 1024
"""Padded tokens read in one forward pass."""


@dataclass(frozen=True)
class ForcedText:
    """A prompt and the tokens that are forced after it, read under `plan`."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    plan: Plan


@dataclass(frozen=True)
class ForcedReading:
    """Per forced token, in nats: log-probability with and without the plan, and KL(steered || unsteered) of the prediction."""

    logprob: tuple[float, ...]
    unsteered_logprob: tuple[float, ...]
    divergence: tuple[float, ...]


def forced_divergence(model: LoadedModel, texts: Sequence[ForcedText]) -> list[ForcedReading]:
    """Read every text twice, with its plan and without. Raises BadInput for an empty text, one longer than the context, or a plan with an
    entropy gate, and for one on which the model's numbers become NaN or infinite."""
    _check_lengths(model, texts)
    _check_gates(texts)
    compiled = compile_plans([text.plan for text in texts if text.plan], model)
    masks = Masks(model.runs.config)
    readings: dict[int, ForcedReading] = {}
    for chunk in chunks_of(model, [_length(text) for text in texts]):
        chosen = [texts[i] for i in chunk]
        steered = predictions(model, compiled, masks, chosen, True)
        plain = predictions(model, compiled, masks, chosen, False)
        for index, text, one, two in zip(chunk, chosen, steered, plain, strict=True):
            forced = torch.tensor(text.token_ids, device=one.device)[:, None]
            divergence = (one.exp() * (one - two)).sum(-1).clamp_min(0.0)
            if not bool(divergence.isfinite().all()):
                raise BadInput(
                    f"Text {index} cannot be read: under its plan, or without it, the model's numbers become NaN or infinite. Give a "
                    f"smaller dose, or load the model in float32."
                )
            readings[index] = ForcedReading(
                tuple(one.gather(1, forced)[:, 0].tolist()),
                tuple(two.gather(1, forced)[:, 0].tolist()),
                tuple(divergence.tolist()),
            )
    return [readings[i] for i in range(len(texts))]


def unsteered_logprob(
    model: LoadedModel, texts: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[tuple[float, ...]]:
    """Per text (prompt ids, token ids), the log-probability in nats of each token where the model reads it unsteered, whoever wrote it.
    Raises BadInput for a text without prompt or tokens, one longer than the context, and one on which the model's numbers become NaN or
    infinite."""
    forced = [ForcedText(tuple(prompt), tuple(tokens), Plan()) for prompt, tokens in texts]
    _check_lengths(model, forced)
    compiled, masks = compile_plans([], model), Masks(model.runs.config)
    found: dict[int, tuple[float, ...]] = {}
    for chunk in chunks_of(model, [_length(text) for text in forced]):
        chosen = [forced[i] for i in chunk]
        for index, text, read in zip(chunk, chosen, predictions(model, compiled, masks, chosen, False), strict=True):
            own = read.gather(1, torch.tensor(text.token_ids, device=read.device)[:, None])[:, 0]
            if not bool(own.isfinite().all()):
                raise BadInput(
                    f"Text {index} cannot be read: the model's numbers become NaN or infinite. Load the model in float32."
                )
            found[index] = tuple(own.tolist())
    return [found[i] for i in range(len(texts))]


def chunks_of(model: LoadedModel, lengths: Sequence[int]) -> Iterator[list[int]]:
    """The texts, by number, that are read in one pass: longest first, and no pass on both sides of a rotary limit."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    while order:
        width = lengths[order[-1]]
        count = max(1, POSITIONS_PER_PASS // width)
        limit = model.rope.limit
        if limit is not None and width > limit:  # shorter ones are read with other factors
            count = min(count, sum(lengths[i] > limit for i in order))
        yield order[-count:]
        order = order[:-count]


def _check_lengths(model: LoadedModel, texts: Sequence[ForcedText]) -> None:
    for index, text in enumerate(texts):
        if not text.prompt_ids or not text.token_ids:
            raise BadInput(f"Text {index} needs a prompt and at least one forced token.")
        if _length(text) > model.context:
            raise BadInput(f"Text {index} has {_length(text)} tokens; {model.id} reads {model.context}.")


def _length(text: ForcedText) -> int:
    return len(text.prompt_ids) + len(text.token_ids)


def forced_activations(
    model: LoadedModel, texts: Sequence[ForcedText], sites: Sequence[Site]
) -> list[dict[Site, Tensor]]:
    """Per text and site the activations at the positions that predict its forced tokens, `[forced tokens, width]` float32 on the CPU, under
    the text's plan and behind what the plan edits there.

    Raises BadInput for an empty text, one longer than the context, a site that the model lacks, a plan with an entropy gate, and for one on
    which the model's numbers become NaN or infinite.
    """
    _check_lengths(model, texts)
    _check_gates(texts)
    for site in sites:
        model.layout.check(site)
    compiled = compile_plans([text.plan for text in texts if text.plan], model)
    masks, found = Masks(model.runs.config), dict[int, dict[Site, Tensor]]()
    for chunk in chunks_of(model, [_length(text) for text in texts]):
        chosen = [texts[i] for i in chunk]
        noted: dict[Site, Tensor] = {}
        predictions(model, compiled, masks, chosen, True, noted, sites)
        for place, (index, text) in enumerate(zip(chunk, chosen, strict=True)):
            found[index] = {site: noted[site][place, -len(text.token_ids) - 1 : -1].float().cpu() for site in sites}
            if not all(bool(values.isfinite().all()) for values in found[index].values()):
                raise BadInput(
                    f"Text {index} cannot be read: under its plan the model's numbers become NaN or infinite. Give a smaller dose, or load "
                    f"the model in float32."
                )
    return [found[i] for i in range(len(texts))]


def _check_gates(texts: Sequence[ForcedText]) -> None:
    for index, text in enumerate(texts):
        if any(i.gate is not None and i.gate.kind == "entropy" for i in text.plan.interventions):
            raise BadInput(
                f"Text {index}: an entropy gate reads the prediction before each token, which a forced reading makes all at once; "
                f"use a gate that reads activations."
            )


def _noting(site: Site, inner: Edit | None, noted: dict[Site, Tensor]) -> Edit:
    """An edit that keeps what it leaves behind."""

    def edit(hidden: Tensor) -> Tensor | None:
        edited = inner(hidden) if inner is not None else None
        noted[site] = hidden if edited is None else edited
        return edited

    return edit


@torch.inference_mode()
def predictions(
    model: LoadedModel,
    compiled: CompiledPlans,
    masks: Masks,
    texts: Sequence[ForcedText],
    steered: bool,
    noted: dict[Site, Tensor] | None = None,
    sites: Sequence[Site] = (),
) -> list[Tensor]:
    """Log-probabilities `[forced tokens, vocabulary]` of each text, read left-padded in one pass per token limit. `noted` gets the
    activations at `sites`, `[texts, width, ...]`, behind their edits."""
    lengths = [len(t.prompt_ids) + len(t.token_ids) for t in texts]
    width = max(lengths)
    batch = Batch(model, compiled, len(texts), width, width, masks)
    batch.column = width
    if noted is not None:
        batch.edits = {
            site: _noting(site, batch.edits.get(site), noted) for site in dict.fromkeys([*batch.edits, *sites])
        }
    for place, text in enumerate(texts):
        plan = None
        if text.plan and steered:
            plan = RowPlan(compiled, text.plan, text.prompt_ids, len(text.token_ids), model)
            for offset, token in enumerate(text.token_ids):
                plan.follow(len(text.prompt_ids) + offset, token)
        batch.seat(place, Progress(place, Row((*text.prompt_ids, *text.token_ids)), plan))
    batch.refresh()
    ids = torch.zeros(len(texts), width, dtype=torch.long, device=model.device)
    for place, text in enumerate(texts):
        ids[place, width - lengths[place] :] = torch.tensor((*text.prompt_ids, *text.token_ids), device=model.device)
    batch.column = 0
    longest = max(len(t.token_ids) for t in texts)
    logits = batch.read(ids, longest + 1)
    found = []
    for place, text in enumerate(texts):
        forced = len(text.token_ids)
        found.append(logits[place, logits.shape[1] - forced - 1 : -1].float().log_softmax(-1))
    return found
