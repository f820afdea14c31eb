"""Latents that differ between two ways of answering the same questions (He et al., arXiv 2601.08058, feature discovery).

    s_j = 1/N sum_i [ z_j(chain of thought for question i) - z_j(direct answer to question i) ]

1. Each side is read at one position per question; sequences are read up to it and no further.
2. z are activations, for top-k autoencoders what competes (pre-activations): their activations are almost all 0.
3. The score is a plain mean of paired differences, in activation units: it favours latents of large scale, so the mean in standard
   deviations stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steering.errors import BadInput
from steering.extraction.reading import Reading
from steering.model.capture import capture
from steering.model.models import LoadedModel

from .dictionary import Dictionary
from .estimates import Estimates
from .latents import ARCHITECTURES
from .moments import Spread


@dataclass(frozen=True, eq=False)
class PairedDifference:
    """Per latent, `[latents]`."""

    difference: Estimates
    """Mean over pairs, with t interval and p."""
    standardised: np.ndarray
    """Mean over standard deviation; NaN where nothing varies."""
    pairs: int


@torch.inference_mode()
def paired_difference(
    model: LoadedModel, dictionary: Dictionary, cot: Reading, direct: Reading, *, batch_size: int = 16
) -> PairedDifference:
    """Mean of `cot` minus `direct`, whose i-th sequences answer the same question.

    Raises BadInput for readings of different lengths, fewer than two pairs, or not exactly one position in a sequence.
    """
    if len(cot.sequences) != len(direct.sequences) or len(cot.sequences) < 2:
        raise BadInput(
            f"{len(cot.sequences)} readings with chain of thought and {len(direct.sequences)} direct ones; give at least two pairs, the "
            f"i-th of each side for the same question."
        )
    for name, side in (("chain-of-thought", cot), ("direct", direct)):
        wrong = next((i for i, row in enumerate(side.positions) if len(row) != 1), None)
        if wrong is not None:
            raise BadInput(
                f"Sequence {wrong} of the {name} side is read at {len(side.positions[wrong])} positions; name one, as "
                f"Reading.at(sequences, (-1,)) does."
            )
    dictionary.check(model)
    read = _reader(dictionary)
    spread = Spread(dictionary.latents)
    ends = [[s[: p + 1] for s, (p,) in zip(r.sequences, r.positions, strict=True)] for r in (cot, direct)]
    streams = (capture(model, side, [dictionary.site], batch_size=batch_size) for side in ends)
    for pair in zip(*streams, strict=True):
        last = (c.values[dictionary.site][torch.arange(len(c.mask)), c.mask.sum(1).cpu() - 1] for c in pair)
        above, below = (read(h).cpu() for h in last)
        spread.add(above - below)
    return PairedDifference(spread.estimates(), spread.standardised, spread.count)


def _reader(dictionary: Dictionary) -> Callable[[Tensor], Tensor]:
    competing = ARCHITECTURES.get(dictionary.sae.cfg.architecture()) == "topk"
    return dictionary.pre_activations if competing else dictionary.encode
