"""Forking tokens: the tokens whose choice was most uncertain (arXiv 2506.01939, sections 2 and 4).

    H_t = - sum_v p_v log p_v,   fork: H_t >= tau,   tau = (1 - share) quantile of H over all generated tokens of the batch

1. H is in nats, under the model as run (temperature 1). The threshold is one number for the batch: a row may have many forks or none.
2. Where many tokens are equally uncertain the share of forks may exceed `share`; the share found stands in the result.
3. A fork is the token that was drawn. The entropy gate of `gate` opens at the same tokens (as the entropy there is known once the token is
   drawn): an edit there changes what follows the choice, not the choice.
4. Two sets of generations are compared at the threshold of the first, row by row; intervals resample rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from steering.engine.generation import Generation
from steering.errors import BadInput
from steering.extraction.separability import Interval
from steering.plan.gate import Gate

from .labels import BehaviourLabel
from .measures import bounds

SHARE = 0.2
RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Forks:
    """Which generated tokens of a batch are forks."""

    threshold: float
    """Nats."""
    masks: tuple[np.ndarray, ...]
    """Per row, `[tokens]` bool."""
    share: float
    """Of all tokens; at least the share asked for."""

    @property
    def tokens(self) -> int:
        return sum(map(len, self.masks))

    def gate(self, *, below: bool = False) -> Gate:
        """Open at tokens with H >= threshold; with `below`, at all others."""
        return entropy_gate(self.threshold, below=below)


def fork_threshold(entropies: Sequence[Sequence[float]], share: float = SHARE) -> float:
    """The (1 - share) quantile over all tokens of all rows, nats. Raises BadInput for a share outside 0 to 1, or no entropy at all."""
    if not 0 < share < 1:
        raise BadInput(f"A share of forks of {share} is not between 0 and 1.")
    every = np.concatenate([np.asarray(row, np.float64) for row in entropies]) if len(entropies) else np.zeros(0)
    if not len(every):
        raise BadInput("The generations hold no entropies; generate them with detail='scores'.")
    return float(np.quantile(every, 1 - share))


def find_forks(entropies: Sequence[Sequence[float]], share: float = SHARE, threshold: float | None = None) -> Forks:
    """Forks of a batch; with `threshold`, at that one instead of the batch's own."""
    tau = fork_threshold(entropies, share) if threshold is None else threshold
    masks = tuple(np.asarray(row, np.float64) >= tau for row in entropies)
    total = sum(map(len, masks))
    return Forks(tau, masks, sum(int(m.sum()) for m in masks) / total if total else 0.0)


def entropy_gate(threshold: float, *, below: bool = False) -> Gate:
    """A gate that opens exactly where a float32 entropy is >= threshold (where it is not, with `below`).

    Gates compare strictly, and entropies are float32: the gate's threshold is the float32 next to the one asked for.
    """
    nearest = np.float32(threshold)
    low = np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) >= threshold else nearest
    return Gate("entropy", float(np.nextafter(low, np.float32(np.inf)) if below else low), below)


def fork_tokens(generations: Sequence[Generation], forks: Forks, texts: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Per token text: how often it was written, how often as a fork, that share, and its mean entropy; most forks first.

    `texts` holds the text of every generated token, as displayed (never tokenised again).
    """
    rows: dict[str, list[float]] = {}
    for generation, mask, words in zip(generations, forks.masks, texts, strict=True):
        for word, fork, entropy in zip(words, mask, generation.entropy, strict=True):
            entry = rows.setdefault(word, [0, 0, 0.0])
            entry[0] += 1
            entry[1] += bool(fork)
            entry[2] += entropy
    frame = pd.DataFrame(
        [(w, int(n), int(k), k / n, h / n) for w, (n, k, h) in rows.items()],
        columns=["token", "n", "forks", "share", "entropy"],
    )
    return frame.sort_values(["forks", "share", "token"], ascending=[False, False, True], ignore_index=True)


def fork_positions(forks: Forks, bins: int = 10) -> pd.DataFrame:
    """Share of forks by relative position in the row: 0 is its first token, 1 its last."""
    place = [np.minimum((np.arange(len(m)) + 0.5) / max(len(m), 1) * bins, bins - 1).astype(int) for m in forks.masks]
    where, mask = np.concatenate(place), np.concatenate(forks.masks)
    n = np.bincount(where, minlength=bins)
    k = np.bincount(where, mask.astype(float), minlength=bins)
    share = np.divide(k, n, out=np.full(bins, np.nan), where=n > 0)
    return pd.DataFrame({"from": np.arange(bins) / bins, "n": n, "forks": k.astype(int), "share": share})


def fork_labels(forks: Forks, labels: Sequence[Sequence[BehaviourLabel]], starts: bool = False) -> pd.DataFrame:
    """Share of forks by behaviour label (in tokens of each row), or at the first token of each span with `starts`."""
    found: dict[str, list[int]] = {}
    for mask, row in zip(forks.masks, labels, strict=True):
        for label in row:
            if label.unit != "tokens":
                raise BadInput("Forks are tokens; convert the labels with in_tokens.")
            inside = mask[label.start : label.start + 1 if starts else label.end]
            entry = found.setdefault(label.label, [0, 0])
            entry[0] += len(inside)
            entry[1] += int(inside.sum())
    frame = pd.DataFrame(
        [(name, n, k, k / n) for name, (n, k) in found.items() if n], columns=["label", "n", "forks", "share"]
    )
    return frame.sort_values("share", ascending=False, ignore_index=True)


@dataclass(frozen=True)
class ForkShift:
    """How forks of one set of generations differ from those of another, at the threshold of the first."""

    threshold: float
    before: Interval
    """Share of tokens at or above the threshold."""
    after: Interval
    difference: Interval
    entropy: Interval
    """Mean entropy after minus before, nats."""
    tokens_moved: float
    """Total variation distance of the two distributions of fork tokens, 0 (the same tokens) to 1 (none in common)."""
    rows: int


def fork_shift(
    before: Sequence[Generation], after: Sequence[Generation], *, share: float = SHARE, seed: int = 0
) -> ForkShift:
    """Compare generations of the same prompts, row by row. Raises BadInput for different numbers of rows, or other prompts."""
    if len(before) != len(after) or any(a.prompt_ids != b.prompt_ids for a, b in zip(before, after, strict=True)):
        raise BadInput("The two sets must answer the same prompts in the same order; sort them by item first.")
    own = find_forks([g.entropy for g in before], share)
    other = find_forks([g.entropy for g in after], threshold=own.threshold)
    counts = np.array(
        [
            (a.sum(), len(a), sum(x.entropy), b.sum(), len(b), sum(y.entropy))
            for a, b, x, y in zip(own.masks, other.masks, before, after, strict=True)
        ],
        np.float64,
    )
    n = len(counts)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)

    def ratios(weights: np.ndarray) -> np.ndarray:
        sums = weights @ counts
        shares = sums[:, [0, 3]] / sums[:, [1, 4]]
        return np.column_stack([shares, shares[:, 1] - shares[:, 0], sums[:, 5] / sums[:, 4] - sums[:, 2] / sums[:, 1]])

    values, samples = ratios(np.ones((1, n)))[0], ratios(drawn)
    first, second, difference, entropy = (bounds(float(v), samples[:, k]) for k, v in enumerate(values))
    return ForkShift(own.threshold, first, second, difference, entropy, _total_variation(before, own, after, other), n)


def _total_variation(before: Sequence[Generation], own: Forks, after: Sequence[Generation], other: Forks) -> float:
    both = []
    for generations, forks in ((before, own), (after, other)):
        pairs = zip(generations, forks.masks, strict=True)
        both.append(Counter(t for g, m in pairs for t, fork in zip(g.token_ids, m, strict=True) if fork))
    a, b = both
    if not a.total() or not b.total():
        return 1.0
    return sum(abs(a[t] / a.total() - b[t] / b.total()) for t in a.keys() | b.keys()) / 2
