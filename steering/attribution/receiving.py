"""Attention between spans of a text, head by head, and which heads look back at a few spans in particular.

1. Weights are those of the model's own eager attention, called in the place of its attention for one pass; they are averaged over the
   tokens of both spans at once, so that no more than one layer's weights are held.
2. A head's vertical profile is the attention that each span receives from spans at least `NEAREST` further on. Its kurtosis over the spans
   says how much of it goes to a few: receiver heads have the largest.
3. A model whose attention is no function of the library's interface, or whose logits change with it, is refused with the reason.

Source: Thought Anchors, 2506.19143, section 4.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..errors import BadInput
from ..model.attention import attending
from ..model.cache import Masks
from ..model.models import LoadedModel
from ..model.trial import difference
from .suppression import Span, check_spans, plain_logits, tolerance, trial_text

NAME = "steering_received"
NEAREST = 4
"""Spans after a span whose attention to it does not count, less one: the source leaves out those up to 3 further on."""
FEWEST = 4
"""Spans that must receive attention for a kurtosis."""


class Received:
    """Attention between spans, gathered over one pass."""

    def __init__(self, length: int, spans: Sequence[Span]):
        self.average = torch.zeros(len(spans), length)
        """Takes the mean over each span's tokens."""
        for row, (start, end) in enumerate(spans):
            self.average[row, start:end] = 1 / (end - start)
        self.layers: list[Tensor] = []


_current: ContextVar[Received] = ContextVar("received")


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """The modelling file's own eager attention, whose weights are gathered."""
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward")  # noqa: B009
    out, weights = eager(module, query, key, value, attention_mask, **kwargs)
    own = _current.get()
    average = own.average.to(weights.device)
    own.layers.append((average @ weights[0].float() @ average.T).cpu())
    return out, None


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)


def attention_between(model: LoadedModel, ids: Sequence[int], spans: Sequence[Span]) -> np.ndarray:
    """Mean attention `[layers, heads, spans, spans]` of a token of one span (third axis) to a token of another (fourth).

    Raises BadInput for an empty text, one longer than the context, a span that is not in it, and a model that does not pass the trial.
    """
    check_spans(model, ids, spans)
    if (reason := refusal(model)) is not None:
        raise BadInput(f"Attention weights of {model.id} cannot be read: {reason}.")
    return _read(model, ids, spans)[0]


def vertical(attention: np.ndarray, nearest: int = NEAREST) -> np.ndarray:
    """Attention `[..., spans]` that each span receives, averaged over the spans at least `nearest` further on; NaN where there is none.
    `attention [..., spans, spans]`."""
    count = attention.shape[-1]
    found = np.full(attention.shape[:-1], np.nan)
    for place in range(count - nearest):
        found[..., place] = attention[..., place + nearest :, place].mean(-1)
    return found


def kurtosis(profile: np.ndarray) -> np.ndarray:
    """Excess kurtosis of each head's vertical profile `[..., spans]`, NaN spans left out; NaN for fewer than `FEWEST` spans, and where all
    are equal."""
    known = profile[..., np.isfinite(profile).reshape(-1, profile.shape[-1]).all(0)]
    if known.shape[-1] < FEWEST:
        return np.full(profile.shape[:-1], np.nan)
    level = known.max(-1) - known.min(-1) > 1e-12
    return np.where(
        level, stats.kurtosis(np.where(level[..., None], known, np.arange(known.shape[-1])), axis=-1), np.nan
    )


def refusal(model: LoadedModel) -> str | None:
    """Why a model's attention weights cannot be read; None where they can. Tried once per model."""
    if "receives" not in model.extra:
        model.extra["receives"] = _tried(model)
    return model.extra["receives"]


@torch.inference_mode()
def _read(model: LoadedModel, ids: Sequence[int], spans: Sequence[Span]) -> tuple[np.ndarray, Tensor]:
    """Attention between spans, and the logits `[tokens, vocabulary]` of the pass."""
    masks, length = Masks(model.runs.config), len(ids)
    masks.additive = True
    given = torch.tensor([list(ids)], device=model.device)
    inputs = {
        "input_ids": given,
        "attention_mask": masks.make(torch.zeros(1, dtype=torch.long, device=model.device), 0, 0, length, model.dtype),
        "position_ids": torch.arange(length, device=model.device)[None],
        "use_cache": False,
    }
    received = Received(length, spans)
    with attending(model, NAME, _current, received):
        logits = model.runs.forward({}, inputs)[0].float()
    return (torch.stack(received.layers).double().numpy() if received.layers else np.zeros(0)), logits


def _tried(model: LoadedModel) -> str | None:
    if model.executor is not None:
        return "it is run by another executor, whose attention is its own"
    text = trial_text(model)
    if model.context < len(text):
        return f"its context of {model.context} tokens is too short to try it"
    spans = [(n, n + 1) for n in range(len(text))]
    try:
        found, logits = _read(model, text, spans)
    except BadInput as error:
        return str(error).rstrip(".")
    except (TypeError, RuntimeError, ValueError, IndexError, KeyError, AttributeError) as error:
        return f"its attention does not give its weights ({type(error).__name__})"
    if len(found) != model.n_layers:
        return "its layers attend by code of their own"
    if difference(logits, plain_logits(model, text)) > tolerance(model):
        return "its logits change where its attention gives its weights"
    return None
