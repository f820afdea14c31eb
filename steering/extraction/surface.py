"""What the tokens alone give away: the baseline that a direction must beat to say more than which token was read.

1. A token's score is the share of positives among its readings in training, each side counted as one; unseen tokens score one half.
2. A held-out sample is called positive when the mean score of the tokens it was read at is above one half; an even score counts half.
3. Where both sides read the same tokens in different models, the baseline is one half by construction.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from .reading import Reading


def token_accuracy(training: tuple[Reading, Reading], held_out: tuple[Reading, Reading]) -> float:
    """Mean of the two classes' accuracies when sides are told apart by the ids of the tokens read, in [0, 1]; 0.5 is chance."""
    highs, lows = (Counter(t for sample in _tokens(side) for t in sample) for side in training)
    n, m = max(1, highs.total()), max(1, lows.total())

    def right(side: Reading) -> float:
        scores = []
        for sample in _tokens(side):
            shares = [(highs[t] / n, lows[t] / m) for t in sample]
            scores.append(np.mean([a / (a + b) if a + b else 0.5 for a, b in shares]))
        return float(np.mean([0.5 if np.isclose(s, 0.5) else float(s > 0.5) for s in scores]))

    return (right(held_out[0]) + 1 - right(held_out[1])) / 2


def _tokens(reading: Reading) -> list[list[int]]:
    found: list[list[int]] = []
    for row, (sequence, positions) in enumerate(zip(reading.sequences, reading.positions, strict=True)):
        if reading.spans is None:
            found += [[sequence[p]] for p in positions]
            continue
        samples: list[list[int]] = [[] for _ in range(reading.samples[row])]
        for position, number in zip(positions, reading.spans[row], strict=True):
            samples[number].append(sequence[position])
        found += samples
    return found
