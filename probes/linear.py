"""The linear methods: logistic regression, ridge, mass-mean.

1. Logistic regression minimises weighted mean log loss + strength / 2 · ‖W‖², multinomial with one row per class; bias free.
2. Ridge minimises weighted mean squared error on ±1 + strength · ‖w‖².
3. Mass-mean takes w = μ₁ - μ₀ in raw units (2310.06824, section 5.1), with `whiten` w = Σ⁻¹(μ₁ - μ₀); it has no strength.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as LeastSquares

from .methods import Layers
from .probe import two_rows

MAX_STEPS = 500


@dataclass(frozen=True)
class Logistic:
    """L2-regularised logistic regression; each strength starts from the solution of the one before it."""

    kind: str = "logistic"
    name: str = "logistic regression"
    calibrated: bool = True
    standardise: bool = True

    def along(
        self, x: np.ndarray, y: np.ndarray, group: np.ndarray, weight: np.ndarray, strengths: Sequence[float], seed: int
    ) -> Iterator[Layers]:
        model = LogisticRegression(max_iter=MAX_STEPS, warm_start=True)
        for strength in strengths:
            model.set_params(C=1 / (strength * len(y)))
            with warnings.catch_warnings():
                # Separable data under a weak penalty: the maximum is far out. What was reached is judged by cross-validation all the same.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x, y, sample_weight=weight)
            if len(model.coef_) == 1:
                yield _two(model.coef_[0], float(model.intercept_[0]))
            else:
                yield Layers((model.coef_.copy(),), (model.intercept_.copy(),))


@dataclass(frozen=True)
class Ridge:
    """Least squares on ±1."""

    kind: str = "ridge"
    name: str = "ridge"
    calibrated: bool = False
    standardise: bool = True

    def along(
        self, x: np.ndarray, y: np.ndarray, group: np.ndarray, weight: np.ndarray, strengths: Sequence[float], seed: int
    ) -> Iterator[Layers]:
        for strength in strengths:
            model = LeastSquares(alpha=strength * len(y)).fit(x, 2.0 * y - 1.0, sample_weight=weight)
            yield _two(model.coef_, float(model.intercept_))


@dataclass(frozen=True)
class MassMean:
    """Difference of class means."""

    whiten: bool = False
    kind: str = "mass-mean"
    calibrated: bool = False
    standardise: bool = False

    @property
    def name(self) -> str:
        return "whitened mass-mean" if self.whiten else "mass-mean"

    def along(
        self, x: np.ndarray, y: np.ndarray, group: np.ndarray, weight: np.ndarray, strengths: Sequence[float], seed: int
    ) -> Iterator[Layers]:
        means = np.stack([x[y == k].mean(0) for k in (0, 1)])
        direction = means[1] - means[0]
        if self.whiten:
            covariance = LedoitWolf(assume_centered=True).fit(x - means[y]).covariance_
            direction = np.linalg.solve(covariance, direction)
        for _ in strengths:
            yield _two(direction, float(-direction @ means.mean(0)))


def _two(weight: np.ndarray, bias: float) -> Layers:
    rows, biases = two_rows(weight, bias)
    return Layers((rows.numpy(),), (biases.numpy(),))
