"""How well each latent tells spans of one behaviour from all other labelled spans: the area under the ROC curve, streamed.

1. A unit is a labelled span; its number is the mean activation over its tokens that count. A span of special tokens only is left out.
2. Units go into histograms of quarter octaves per group of texts, label and latent; silent spans have a bin of their own. Two units in one
   bin count as a tie, one half. Values outside 2^-12 to 2^12 are taken as these. With hundreds of spans whose means differ by an octave
   the AUROC is within 0.01 of the exact one; a dense latent whose means differ by less than a bin is drawn towards 0.5.
3. Intervals and p values leave out one group of texts at a time. For p, the error is never taken below that of the Mann-Whitney test, and
   where nothing varies between groups the interval is Wilson's for n of n spans: perfect separation by few spans is not certain.
4. Memory is groups x labels x latents x 98 counts of four bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from steering.errors import BadInput

from .corpus import LabelledSpan
from .estimates import CONFIDENCE, Estimates, jackknife_error, t_estimates

PER_OCTAVE = 4
LOWEST, HIGHEST = -12, 12
"""log2 of the smallest and largest activation told apart."""
BINS = (HIGHEST - LOWEST) * PER_OCTAVE + 2


class SpanHistograms:
    """Histograms of the spans' mean activations: `counts [groups, labels, BINS, latents]` int32.

    Raises BadInput for fewer than two labels: there is nothing to tell apart then.
    """

    def __init__(self, groups: int, labels: Sequence[str], latents: int):
        self.labels = tuple(sorted(set(labels)))
        if len(self.labels) < 2:
            raise BadInput(f"The spans have {len(self.labels)} label, {self.labels}; telling them apart needs two.")
        self.counts = torch.zeros(groups, len(self.labels), BINS, latents, dtype=torch.int32)
        self._every = torch.arange(latents)

    def add(self, group: int, spans: Sequence[LabelledSpan], latents: Tensor, mask: Tensor) -> None:
        """Take in one text: its `spans` and `latents [positions, latents]`, which must be 0 outside `mask [positions]`."""
        members = torch.zeros(len(spans), len(mask))
        for row, span in enumerate(spans):
            members[row, span.start : span.end] = 1.0
        counted = (members @ mask.float()).long()
        kept = counted.nonzero()[:, 0]
        means = members[kept] @ latents / counted[kept, None]
        number = torch.tensor([self.labels.index(spans[i].label) for i in kept.tolist()], dtype=torch.long)
        cell = ((group * len(self.labels) + number[:, None]) * BINS + bins(means)) * len(self._every) + self._every
        self.counts.view(-1).index_add_(0, cell.flatten(), torch.ones(cell.numel(), dtype=torch.int32))

    def estimates(self) -> dict[str, Estimates]:
        """Per label, AUROC of its spans against all others, per latent. NaN where a label has no span, or in one group of texts only."""
        total = self.counts.sum(0, dtype=torch.int64)
        everything = total.sum(0)
        found, groups = {}, len(self.counts)
        without = np.empty((len(self.labels), groups, total.shape[-1]))
        for group, counts in enumerate(self.counts):
            left, rest = total - counts, everything - counts.sum(0)
            for k in range(len(self.labels)):
                without[k, group] = _auroc(left[k], rest - left[k])
        for k, label in enumerate(self.labels):
            n, m = (int(part[:, 0].sum()) for part in (total[k], everything - total[k]))
            value = _auroc(total[k], everything - total[k])
            found[label] = _with_interval(value, jackknife_error(without[k]), groups, n, m)
        return found


def bins(values: Tensor) -> Tensor:
    """The bin of each activation, 0 to BINS - 1; 0 is silent."""
    place = (values.clamp_min(2.0**LOWEST).log2() - LOWEST) * PER_OCTAVE
    return torch.where(values > 0, place.floor().long().clamp(0, BINS - 2) + 1, 0)


def _auroc(own: Tensor, rest: Tensor) -> np.ndarray:
    """P(own > rest) + P(own = rest) / 2 per latent, from counts `[BINS, latents]`."""
    own, rest = own.double(), rest.double()
    below = rest.cumsum(0) - rest / 2
    return ((own * below).sum(0) / (own.sum(0) * rest.sum(0))).numpy()


def _with_interval(value: np.ndarray, error: np.ndarray, groups: int, n: int, m: int) -> Estimates:
    by_chance = np.sqrt((n + m + 1) / (12 * n * m)) if n and m else np.nan
    tested = t_estimates(value, np.maximum(error, by_chance), groups - 1, null=0.5)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, max(groups - 1, 1)) * np.where(np.isnan(tested.p), np.nan, error)
    smaller = min(n, m)
    wilson = stats.binomtest(smaller, smaller).proportion_ci(CONFIDENCE, "wilson").low if smaller else np.nan
    low, high = np.clip(value - reach, 0.0, 1.0), np.clip(value + reach, 0.0, 1.0)
    alike = error == 0
    low = np.where(alike, np.minimum(low, value * wilson), low)
    high = np.where(alike, np.maximum(high, 1 - (1 - value) * wilson), high)
    return Estimates(value, low, high, tested.p, 0.5)
