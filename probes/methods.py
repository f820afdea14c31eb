"""What the fitting methods share: standardised coordinates, class weights, layers, and the form of a method.

1. A method turns standardised samples into layers, one result per strength along a path; it knows nothing of folds and held-out groups.
2. Coordinates are standardised by the training samples, or only centred where the method asks for raw lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import log_softmax


@dataclass(frozen=True)
class Layers:
    """Weights `[out, in]` and biases `[out]`, with rectification between layers; logits `[n, classes]`."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Standard:
    """(x - mean) / scale."""

    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) / self.scale


class Method(Protocol):
    """A way of fitting. `calibrated` says that its logits are log-odds; else two classes are assumed and slopes are fitted after it."""

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def calibrated(self) -> bool: ...

    @property
    def standardise(self) -> bool: ...

    def along(
        self, x: np.ndarray, y: np.ndarray, group: np.ndarray, weight: np.ndarray, strengths: Sequence[float], seed: int
    ) -> Iterator[Layers]:
        """One fit per strength, strongest first, with `weight [n]` per sample."""
        ...


def standardisation(x: np.ndarray, scaled: bool = True) -> Standard:
    """Mean and standard deviation per coordinate; a coordinate that does not vary, and every one unless `scaled`, keeps scale 1."""
    deviation = x.std(0)
    usable = scaled & (deviation > 1e-12 * np.abs(x).max(0).clip(1e-300))
    return Standard(x.mean(0), np.where(usable, deviation, 1.0))


def class_weights(y: np.ndarray, balanced: bool) -> np.ndarray:
    """Weight per sample, mean 1: every class the same in all where `balanced`."""
    counts = np.bincount(y)
    return (len(y) / (np.count_nonzero(counts) * counts.clip(1)))[y] if balanced else np.ones(len(y))


def forward(layers: Layers, x: np.ndarray) -> np.ndarray:
    """Logits of standardised samples."""
    for number, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        x = (np.maximum(x, 0) if number else x) @ weight.T + bias
    return x


def log_loss(logits: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Weighted mean of -log P(class), nats."""
    return float(-(log_softmax(logits, axis=1)[np.arange(len(y)), y] * weight).sum() / weight.sum())
