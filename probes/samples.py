"""Labelled activations that probes are fitted on, checked once.

1. A sample is one row of activations, a class, and the group that it may share information with.
2. Rows with NaN or infinity, labels outside the classes, a class without samples and a missing group are refused, naming the place.
3. `digest` hashes activations, labels and groups.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from steering.errors import BadInput

from .splits import numbered

MOST_CLASSES = 20


@dataclass(frozen=True, eq=False)
class Samples:
    """`x [n, d]` float64, `y [n]` class numbers, `group [n]` group numbers with their names."""

    x: np.ndarray
    y: np.ndarray
    group: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...]

    @staticmethod
    def of(X: Any, y: Any, groups: Sequence[object] | np.ndarray, classes: Sequence[str] | None = None) -> Samples:
        """Checked samples from tensors or arrays; classes are named 0, 1, ... where no names are given."""
        x = torch.as_tensor(X).detach().cpu().double().numpy()
        label = torch.as_tensor(y).detach().cpu().long().numpy()
        if x.ndim != 2 or label.shape != (len(x),):
            raise BadInput(f"Activations {list(x.shape)} and labels {list(label.shape)} must be [n, d] and [n].")
        bad = np.flatnonzero(~np.isfinite(x).all(1))
        if len(bad):
            raise BadInput(f"Sample {bad[0]} holds NaN or infinity ({len(bad)} samples do).")
        named = tuple(classes) if classes is not None else tuple(map(str, range(int(label.max()) + 1)))
        if not 2 <= len(named) <= MOST_CLASSES:
            raise BadInput(f"A probe tells 2 to {MOST_CLASSES} classes apart, not {len(named)}.")
        if label.min() < 0 or label.max() >= len(named):
            raise BadInput(f"Labels run from {label.min()} to {label.max()}; {len(named)} classes are numbered from 0.")
        counts = np.bincount(label, minlength=len(named))
        if (counts == 0).any():
            missing = ", ".join(named[k] for k in np.flatnonzero(counts == 0))
            raise BadInput(f"No sample of {missing}; leave the class out or read more items.")
        number, names = numbered(groups, len(x))
        return Samples(x, label, number, names, named)

    @cached_property
    def digest(self) -> str:
        found = hashlib.sha256(self.x.tobytes() + self.y.tobytes())
        found.update("\0".join(self.names[g] for g in self.group).encode())
        return found.hexdigest()[:16]

    def repeated(self, train: np.ndarray, test: np.ndarray) -> int:
        """How many samples of `test` equal one of `train` in every coordinate."""
        seen = {self.x[i].tobytes() for i in train}
        return sum(self.x[i].tobytes() in seen for i in test)
