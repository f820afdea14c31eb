"""What a text predicts when nothing after a span attends to it: the span's tokens masked in every head and layer.

1. A token after the span sees none of the span's tokens, in no layer; the span's own tokens and those before it are read as they are. What
   is predicted later then does not depend on what stands in the span, only on its length.
2. That is tried on every model before it is used: with nothing masked its logits are the plain ones, and with a span masked other tokens
   in the span leave all later logits as they were. A model that fails is refused with the reason.
3. Masked variants of one text are rows of one batch.

Source: Thought Anchors, 2506.19143, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import BadInput
from ..model.cache import Masks
from ..model.models import LoadedModel
from ..model.trial import LOOSE, TIGHT, difference

Span = tuple[int, int]
NUMBERS = 2**27
"""Largest number of logits, or of masked pairs of positions, in one pass."""
FLOOR = 1e-9
"""Added to a divergence before its logarithm is taken, as the source does."""
TRIED, SPAN = 12, (3, 6)
"""Tokens of the text on which a model is tried, and the span that is masked in it."""


def suppressed_divergence(model: LoadedModel, ids: Sequence[int], spans: Sequence[Span]) -> np.ndarray:
    """KL(plain || suppressed) `[spans, tokens]` in nats of the prediction at every token of a text, where nothing after span i, `start:end`
    in the text, attends to it.

    Raises BadInput for an empty text, one longer than the context, a span that does not lie in it, a model that does not pass the trial,
    and one whose numbers become NaN or infinite.
    """
    check_spans(model, ids, spans)
    if (reason := refusal(model)) is not None:
        raise BadInput(f"Attention to a part of a text cannot be suppressed in {model.id}: {reason}.")
    plain = _logits(model, [list(ids)], [None])[0].double().log_softmax(-1)
    found = np.zeros((len(spans), len(ids)))
    each = max(1, NUMBERS // (len(ids) * max(plain.shape[-1], len(ids))))
    for begin in range(0, len(spans), each):
        own = spans[begin : begin + each]
        for place, logits in enumerate(_logits(model, [list(ids)] * len(own), own)):
            other = logits.double().log_softmax(-1)
            found[begin + place] = (plain.exp() * (plain - other)).sum(-1).clamp_min(0.0).cpu().numpy()
    if not np.isfinite(found).all():
        raise BadInput("A text cannot be read: the model's numbers become NaN or infinite. Load the model in float32.")
    return found


def effects(divergence: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """How much span i matters to span j, `[spans, spans]`: the mean over j's tokens of ln(KL + 1e-9), less the mean over all spans before
    j, which is how much j is moved by whatever is taken away. NaN where j does not come after i, or no other span comes before j.

    `divergence [sources, tokens]` may lack the last spans as sources."""
    logs = np.log(divergence + FLOOR)
    found = np.full((len(divergence), len(spans)), np.nan)
    for j, (start, end) in enumerate(spans):
        before = min(j, len(divergence))
        if before > 1:
            own = logs[:before, start:end].mean(1)
            found[:before, j] = own - own.mean()
    return found


def refusal(model: LoadedModel) -> str | None:
    """Why attention cannot be suppressed in a model; None where it can. Tried once per model."""
    if "suppresses" not in model.extra:
        model.extra["suppresses"] = _tried(model)
    return model.extra["suppresses"]


def check_spans(model: LoadedModel, ids: Sequence[int], spans: Sequence[Span]) -> None:
    """Raises BadInput for an empty text, one longer than the context, and a span that does not lie in it."""
    if not 0 < len(ids) <= model.context:
        raise BadInput(f"The text has {len(ids)} tokens; {model.id} reads 1 to {model.context}.")
    for start, end in spans:
        if not 0 <= start < end <= len(ids):
            raise BadInput(f"Span {start}:{end} does not lie in a text of {len(ids)} tokens.")


@torch.inference_mode()
def _logits(model: LoadedModel, texts: Sequence[Sequence[int]], spans: Sequence[Span | None]) -> Tensor:
    """Logits `[rows, tokens, vocabulary]` of texts of one length, a span of each suppressed."""
    ids = torch.tensor([list(text) for text in texts], device=model.device)
    rows, length = ids.shape
    masks = Masks(model.runs.config)
    hidden = torch.zeros(rows, 1, length, length, dtype=torch.bool, device=model.device)
    for row, span in enumerate(spans):
        if span is not None:
            hidden[row, 0, span[1] :, span[0] : span[1]] = True
    offset = torch.zeros(rows, dtype=torch.long, device=model.device)
    made = masks.make(offset, 0, 0, length, model.dtype)
    inputs = {
        "input_ids": ids,
        "attention_mask": {kind: _without(mask, hidden) for kind, mask in made.items()}
        if isinstance(made, dict)
        else _without(made, hidden),
        "position_ids": torch.arange(length, device=model.device)[None].expand(rows, -1),
        "use_cache": False,
    }
    return model.runs.forward({}, inputs).float()


def _without(mask: Tensor, hidden: Tensor) -> Tensor:
    return mask & ~hidden if mask.dtype == torch.bool else mask.masked_fill(hidden, torch.finfo(mask.dtype).min)


@torch.inference_mode()
def plain_logits(model: LoadedModel, ids: Sequence[int]) -> Tensor:
    """Logits `[tokens, vocabulary]` of a text read the naive way, with no mask of ours."""
    given = torch.tensor([list(ids)], device=model.device)
    inputs = {"input_ids": given, "attention_mask": torch.ones_like(given), "use_cache": False}
    return model.runs.forward({}, inputs)[0].float()


def trial_text(model: LoadedModel, shift: int = 0) -> list[int]:
    """Ids on which a model is tried."""
    size = int(model.model.get_input_embeddings().weight.shape[0])
    return [(17 * n + 3 + shift) % size for n in range(TRIED)]


def tolerance(model: LoadedModel) -> float:
    """Largest difference of logits over their norm that is none."""
    exact = model.dtype == torch.float32 and getattr(model.model, "quantization_method", None) is None
    return TIGHT if exact else LOOSE


def _tried(model: LoadedModel) -> str | None:
    if model.context < TRIED:
        return f"its context of {model.context} tokens is too short to try it"
    text, other = trial_text(model), trial_text(model)
    other[slice(*SPAN)] = trial_text(model, 7)[slice(*SPAN)]
    end = SPAN[1]
    try:
        plain, (whole, masked, changed) = (
            plain_logits(model, text), _logits(model, [text, text, other], [None, SPAN, SPAN])
        )  # fmt: skip
    except BadInput as error:
        return str(error).rstrip(".")
    except (TypeError, RuntimeError, ValueError, IndexError, KeyError, AttributeError) as error:
        return f"its forward pass does not take a mask of the caller's ({type(error).__name__})"
    if difference(whole, plain) > tolerance(model):
        return "a mask that hides nothing changes its logits"
    if difference(masked[:end], plain[:end]) > tolerance(model):
        return "a mask changes logits before it hides anything"
    if difference(masked[end:], changed[end:]) > tolerance(model):
        return "later logits depend on tokens to which nothing attends"
    if torch.equal(masked[end:], whole[end:]):
        return "a mask has no effect on its logits"
    return None
