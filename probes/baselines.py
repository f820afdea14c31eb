"""What a probe must beat: labels that were shuffled, and the tokens alone.

1. Labels are shuffled within the training samples only; the held-out labels stay true. Where every group has one label, whole groups are
   relabelled: a shuffle within groups would break what the probe could learn about a group, and make the control too easy.
2. The bag-of-tokens baseline sees token ids at given offsets and no activation: each (offset, id) and each id anywhere in the window is a
   feature of a logistic regression, fitted on the same training samples with a fixed penalty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from steering.errors import BadInput

from .methods import class_weights
from .splits import Split

WINDOW = 5
"""Tokens read by default: the position itself and the four before it."""
PENALTY = 1.0
"""1/C of scikit-learn."""


def shuffled_labels(y: np.ndarray, group: np.ndarray, seed: int) -> np.ndarray:
    """`y [n]` in another order: by whole groups where each has one label, else by samples."""
    rng = np.random.default_rng(seed)
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    if np.array_equal(y[first][number], y):
        return np.asarray(rng.permutation(y[first])[number])
    return np.asarray(rng.permutation(y))


def token_windows(
    sequences: Sequence[Sequence[int]], positions: Sequence[Sequence[int]], window: int = WINDOW
) -> np.ndarray:
    """Ids of the token at each position and of those before it, `[samples, window]`, nearest first; -1 before the beginning."""
    rows = [
        [sequence[p - k] if p >= k else -1 for k in range(window)]
        for sequence, wanted in zip(sequences, positions, strict=True)
        for p in wanted
    ]
    return np.array(rows, np.int64).reshape(-1, window)


def token_logits(windows: np.ndarray, y: np.ndarray, split: Split, classes: int, balanced: bool = True) -> np.ndarray:
    """Logits `[test, classes]` of the held-out samples from the ids in `windows [n, k]`."""
    if windows.ndim != 2 or len(windows) != len(y):
        raise BadInput(f"Token windows {list(windows.shape)} do not fit {len(y)} samples; give [n, k] ids.")
    features = _one_hot(windows)
    train = y[split.train]
    model = LogisticRegression(C=1 / PENALTY, max_iter=500)
    model.fit(features[split.train], train, sample_weight=class_weights(train, balanced))
    scores = model.decision_function(features[split.test])
    if scores.ndim == 1:
        return np.stack([np.zeros_like(scores), scores], axis=1)
    assert scores.shape[1] == classes
    return np.asarray(scores)


def _one_hot(windows: np.ndarray) -> sparse.csr_matrix:
    """A column per (offset, id) and per id anywhere in the window."""
    n, k = windows.shape
    ids, place = np.unique(windows, return_inverse=True)
    place = place.reshape(n, k)
    real = windows >= 0
    row = np.broadcast_to(np.arange(n)[:, None], (n, k))
    by_offset = sparse.csr_matrix(
        (np.ones(real.sum()), (row[real], (place + len(ids) * np.arange(k))[real])), shape=(n, len(ids) * k)
    )
    anywhere = sparse.csr_matrix((np.ones(real.sum()), (row[real], place[real])), shape=(n, len(ids)))
    anywhere.data[:] = 1.0
    return sparse.hstack([by_offset, anywhere]).tocsr()
