"""The trial of a model when it is loaded: a few tokens, read as the engine reads them, beside the naive way.

1. The naive way is one row, no cache, the whole text in one pass. Beside it stand: prompts of two lengths read together and padded on the
   right, tokens written after them in one batch with a cache, prompts padded on the left, and, where rotary factors change at a length that
   is quickly reached, a text beyond it.
2. A model whose logits differ, or whose forward pass does not take what the engine gives it, is refused with the reason: texts that depend
   on their neighbours are worse than none.
3. It costs half a dozen passes over a handful of tokens. What is NaN or infinite is no difference: rows end at it by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput
from .cache import ColumnCache, Masks
from .executor import Executor
from .rope import Rope

PROMPTS, WRITTEN = (3, 7), 2
"""Tokens of the two prompts, and tokens fed after each."""
LONGEST = max(PROMPTS) + WRITTEN
"""Tokens that a model must be able to read for the trial; a shorter context is not tried."""
NEAR = 128
"""Rotary limits up to here are tried."""
TIGHT, LOOSE = 1e-3, 0.2
"""Largest difference of logits over their norm: in float32, and in half precision or quantized, where low bits depend on the shape."""


@dataclass(frozen=True)
class Trial:
    """What was compared, with the largest difference of logits over their norm, and why the model cannot be used (None where it can)."""

    differences: tuple[tuple[str, float], ...]
    failure: str | None = None

    def refuse(self, name: str) -> None:
        """Raises BadInput when the model cannot be used."""
        if self.failure is not None:
            raise BadInput(
                f"{name} is refused: {self.failure}. Load it with trial=False to read activations alone; texts that it writes here are not "
                f"to be relied on."
            )


@torch.inference_mode()
def tried(model: nn.Module, executor: Executor, layers: int, exact: bool, rope: Rope) -> Trial:
    """Try a model of `layers` decoder layers; `exact` says that it computes in float32 with weights as they are."""
    differences: list[tuple[str, float]] = []
    kind, tolerance = type(model).__name__, TIGHT if exact else LOOSE
    try:
        subject = _Subject(model, executor, layers)
        for name, wrong, compare in COMPARISONS:
            found = compare(subject, rope)
            if found is None:
                continue
            differences.append((name, found))
            if found > tolerance:
                return Trial(tuple(differences), f"{wrong} (logits of {kind} differ by {100 * found:.2g} %)")
    except BadInput as error:
        return Trial(tuple(differences), str(error).rstrip("."))
    except (TypeError, RuntimeError, ValueError, IndexError, KeyError, AttributeError, AssertionError) as error:
        said = (str(error).strip().splitlines() or [""])[0].rstrip(".")[:120]
        reason = "does not take a batch of rows with masks, positions and a cache of the caller's"
        return Trial(tuple(differences), f"the forward pass of {kind} {reason} ({type(error).__name__}: {said})")
    return Trial(tuple(differences))


class _Subject:
    """A model under trial: two texts, and their logits the naive way."""

    def __init__(self, model: nn.Module, executor: Executor, layers: int):
        self.model, self.executor, self.layers = model, executor, layers
        self.masks = Masks(executor.config)
        weight = model.get_input_embeddings().weight  # type: ignore[operator]
        self.device, self.vocabulary = next(model.parameters()).device, int(weight.shape[0])
        self.texts = [self.text(prompt + WRITTEN, row) for row, prompt in enumerate(PROMPTS)]
        self.naive = [self.alone(text) for text in self.texts]
        """Logits `[tokens, vocabulary]` of each text."""

    def text(self, length: int, seed: int) -> list[int]:
        return [(17 * n + 5 * seed + 3) % self.vocabulary for n in range(length)]

    def alone(self, text: Sequence[int]) -> Tensor:
        ids = torch.tensor([list(text)], device=self.device)
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].float()

    def read(self, ids: Tensor, cache: ColumnCache, offset: Tensor, begin: int, keep: int) -> Tensor:
        """Logits `[rows, keep, vocabulary]` of tokens fed at the columns from `begin` on; rows start at the columns `offset`."""
        end = begin + ids.shape[1]
        cache.open(0, begin, end)
        columns = torch.arange(begin, end, device=self.device)
        dtype = next(p.dtype for p in self.model.parameters() if p.dtype.is_floating_point)
        inputs: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": self.masks.make(offset, 0, begin, end, dtype),
            "position_ids": (columns[None] - offset[:, None]).clamp_min(0),
            "past_key_values": cache,
            "use_cache": True,
            "logits_to_keep": keep,
        }
        return self.executor.forward({}, inputs)[:, -keep:].float()

    def padded(self, left: bool) -> Tensor:
        width = max(PROMPTS)
        ids = torch.zeros(len(PROMPTS), width, dtype=torch.long)
        for row, prompt in enumerate(PROMPTS):
            place = slice(width - prompt, width) if left else slice(0, prompt)
            ids[row, place] = torch.tensor(self.texts[row][:prompt])
        return ids.to(self.device)

    def offsets(self, left: bool) -> Tensor:
        width = max(PROMPTS)
        return torch.tensor([width - prompt if left else 0 for prompt in PROMPTS], device=self.device)


def difference(found: Tensor, expected: Tensor) -> float:
    """‖found - expected‖ / ‖expected‖; 0 where either is not finite."""
    size = float((found - expected).norm() / expected.norm().clamp_min(1e-30))
    return size if bool(found.isfinite().all() and expected.isfinite().all()) else 0.0


def _together(s: _Subject, rope: Rope) -> float:
    cache = ColumnCache(s.layers, len(PROMPTS), max(PROMPTS))
    logits = s.read(s.padded(False), cache, s.offsets(False), 0, max(PROMPTS))
    return max(difference(logits[row, :prompt], s.naive[row][:prompt]) for row, prompt in enumerate(PROMPTS))


def _padded(s: _Subject, rope: Rope) -> float:
    cache = ColumnCache(s.layers, len(PROMPTS), max(PROMPTS))
    logits = s.read(s.padded(True), cache, s.offsets(True), 0, 1)
    return max(difference(logits[row, 0], s.naive[row][prompt - 1]) for row, prompt in enumerate(PROMPTS))


def _written(s: _Subject, rope: Rope) -> float:
    """Prompts read padded on the right, their keys and values copied to where rows end at one column, then tokens fed one by one."""
    width, largest = max(PROMPTS), 0.0
    source = ColumnCache(s.layers, len(PROMPTS), width)
    s.read(s.padded(False), source, s.offsets(False), 0, 1)
    cache, offset = ColumnCache(s.layers, len(PROMPTS), width + WRITTEN), s.offsets(True)
    for row, prompt in enumerate(PROMPTS):
        cache.copy_rows(torch.tensor([row]), width - prompt, source, torch.tensor([row]), 0, prompt)
    for step in range(WRITTEN):
        ids = torch.tensor([[s.texts[row][prompt + step]] for row, prompt in enumerate(PROMPTS)], device=s.device)
        logits = s.read(ids, cache, offset, width + step, 1)
        for row, prompt in enumerate(PROMPTS):
            largest = max(largest, difference(logits[row, 0], s.naive[row][prompt + step]))
    return largest


def _beyond(s: _Subject, rope: Rope) -> float | None:
    if rope.limit is None or not rope.held or rope.limit > NEAR:
        return None
    text = s.text(rope.limit + WRITTEN, 1)
    prompt, zero = rope.limit + 1, torch.zeros(1, dtype=torch.long, device=s.device)
    cache = ColumnCache(s.layers, 1, len(text))
    with rope.fixed(True):
        s.read(torch.tensor([text[:prompt]], device=s.device), cache, zero, 0, 1)
        logits = s.read(torch.tensor([text[prompt:]], device=s.device), cache, zero, prompt, 1)
    return difference(logits[0, 0], s.alone(text)[-1])


COMPARISONS: tuple[tuple[str, str, Callable[[_Subject, Rope], float | None]], ...] = (
    ("prompts read together", "a prompt read beside a longer one is not the prompt alone", _together),
    ("tokens written in a batch", "a row written beside a longer one, with a cache, is not the row alone", _written),
    ("prompts padded on the left", "a prompt padded on the left is not the prompt alone", _padded),
    ("beyond the rotary limit", "a text beyond the limit of its rotary factors, with a cache, is not the text read whole", _beyond),
)  # fmt: skip
"""Name, what it means when it differs, and the largest difference (None where it does not apply)."""
