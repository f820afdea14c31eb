"""What a model predicts: the distribution after a row's tokens, and the probabilities of given tokens, plain and sharpened.

1. Both read under the rows' plans, whole texts at a time, with the spans of the row that is generated: what is begun counts as generated.
2. The sharpened distribution at exponent a is p^a / sum p^a: what sampling at temperature 1/a draws from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..compile.compilation import compile_plans
from ..errors import BadInput
from ..model.cache import Masks
from ..model.models import LoadedModel
from .forced import ForcedText, chunks_of, predictions
from .record import Generation, Row, scores


def next_logprobs(model: LoadedModel, rows: Sequence[Row]) -> Tensor:
    """Log-probabilities `[rows, vocabulary]` in nats of the token after each row's prompt and beginning, under its plan, on the CPU.

    Raises BadInput for a row without tokens, one that fills the context, and one on which the model's numbers become NaN or infinite.
    """
    texts = [ForcedText(row.prompt_ids, (*row.begun, 0), row.plan) for row in rows]
    found: dict[int, Tensor] = {}
    for chunk, read in _read(model, texts):
        for index, predicted in zip(chunk, read, strict=True):
            found[index] = predicted[-1].cpu()
    return torch.stack([found[i] for i in range(len(rows))])


def sharpened_logprobs(
    model: LoadedModel, rows: Sequence[Row], exponent: float
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Per row, the log-probabilities in nats of its `begun` tokens under the model, and under the model sharpened by `exponent`. Raises as
    `next_logprobs`."""
    texts = [ForcedText(row.prompt_ids, row.begun, row.plan) for row in rows]
    found: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    for chunk, read in _read(model, texts):
        for index, predicted in zip(chunk, read, strict=True):
            at = torch.tensor(texts[index].token_ids, device=predicted.device)[:, None]
            plain = predicted.double()
            sharp = (exponent * plain).log_softmax(-1)
            found[index] = tuple(plain.gather(1, at)[:, 0].tolist()), tuple(sharp.gather(1, at)[:, 0].tolist())
    return [found[i] for i in range(len(rows))]


def with_every_number(model: LoadedModel, rows: Sequence[Row], generations: Sequence[Generation]) -> list[Generation]:
    """Generations with the numbers of tokens that they were begun with, or that were put into them, read under the plans; those that have
    all their numbers are given back as they are, and so are those that broke, which cannot be read. Raises as `next_logprobs`."""
    lacking = [
        n for n, one in enumerate(generations) if one.nonfinite is None and any(math.isnan(x) for x in one.logprob)
    ]
    texts = [ForcedText(rows[n].prompt_ids, generations[n].token_ids, rows[n].plan) for n in lacking]
    found = list(generations)
    for chunk, read in _read(model, texts):
        for index, predicted in zip(chunk, read, strict=True):
            number = lacking[index]
            table = scores(predicted, torch.tensor(texts[index].token_ids, device=predicted.device)).cpu().numpy()
            found[number] = _completed(generations[number], table)
    return found


def _completed(one: Generation, table: np.ndarray) -> Generation:
    """A generation whose missing numbers are those of `table [tokens, 2 + 2k]`."""
    wide, missing = (table.shape[1] - 2) // 2, [n for n, x in enumerate(one.logprob) if math.isnan(x)]
    logprob, entropy = list(one.logprob), list(one.entropy)
    top_logprob, top_ids = list(one.top_logprob), list(one.top_ids)
    for n in missing:
        logprob[n], entropy[n] = float(table[n, 0]), float(table[n, 1])
        top_logprob[n * wide : (n + 1) * wide] = table[n, 2 : 2 + wide].tolist()
        top_ids[n * wide : (n + 1) * wide] = [int(i) for i in table[n, 2 + wide :]]
    return replace(
        one, logprob=tuple(logprob), entropy=tuple(entropy), top_logprob=tuple(top_logprob), top_ids=tuple(top_ids)
    )


def logprobs_along(model: LoadedModel, rows: Sequence[Row], ids: Sequence[int]) -> list[Tensor]:
    """Per row, log-probabilities `[begun tokens, len(ids)]` in nats of `ids` in the prediction of each of its `begun` tokens, under its
    plan, float64 on the CPU. Raises as `next_logprobs`."""
    texts = [ForcedText(row.prompt_ids, row.begun, row.plan) for row in rows]
    found: dict[int, Tensor] = {}
    for chunk, read in _read(model, texts):
        for index, predicted in zip(chunk, read, strict=True):
            found[index] = predicted[:, list(ids)].double().cpu()
    return [found[i] for i in range(len(rows))]


READABLE = 2**27
"""Numbers that the predictions of one text may be, to be read at once: 512 MiB."""


@torch.inference_mode()
def greedily_written(model: LoadedModel, row: Row, token_ids: Sequence[int]) -> bool:
    """Whether every token of a text, after those that the row begins with, is the likeliest where the model reads the text under the row's
    plan: what writing it again would show, in one pass. False too where that cannot be read at once (too long, a plan with an entropy
    gate, numbers that are not finite)."""
    if not token_ids or len(token_ids) * model.model.get_input_embeddings().num_embeddings > READABLE:
        return False
    try:
        ((_, (predicted,)),) = _read(model, [ForcedText(row.prompt_ids, tuple(token_ids), row.plan)])
    except BadInput:
        return False
    return predicted.argmax(-1).tolist()[len(row.begun) :] == list(token_ids[len(row.begun) :])


def _read(model: LoadedModel, texts: Sequence[ForcedText]) -> list[tuple[list[int], list[Tensor]]]:
    """Log-probabilities `[tokens, vocabulary]` of every text, in the passes that are made."""
    lengths = [len(text.prompt_ids) + len(text.token_ids) for text in texts]
    for index, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        if not text.prompt_ids or not text.token_ids:
            raise BadInput(f"Row {index} needs a prompt and at least one token to read.")
        if length > model.context:
            raise BadInput(f"Row {index} has {length} tokens; {model.id} reads {model.context}.")
        if any(i.gate is not None and i.gate.kind == "entropy" for i in text.plan.interventions):
            raise BadInput(
                f"Row {index}: an entropy gate reads the prediction before each token, and this reading makes all at once; use a gate that "
                f"reads activations."
            )
    compiled = compile_plans([text.plan for text in texts if text.plan], model)
    masks, found = Masks(model.runs.config), []
    for chunk in chunks_of(model, lengths):
        read = predictions(model, compiled, masks, [texts[i] for i in chunk], True)
        for index, predicted in zip(chunk, read, strict=True):
            if not bool(predicted.isfinite().all()):
                raise BadInput(
                    f"Row {index} cannot be read: the model's numbers become NaN or infinite. Give a smaller dose, or load the model in "
                    f"float32."
                )
        found.append((chunk, read))
    return found
