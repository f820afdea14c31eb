"""Estimates with intervals, for all latents at once.

1. An estimate is one number per latent. Where it is not defined (nothing varied, too few texts) it is NaN, never a made-up number.
2. Texts are what is independent, not tokens: errors are taken over texts or by leaving out one group of texts at a time.
3. p values are two-sided. `adjusted` makes them q values (Benjamini and Hochberg 1995) over the latents that have one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from steering.errors import BadInput

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Estimates:
    """`[latents]` float64 each. `low` to `high` is the 95 % interval; `p` tests against `null`."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    null: float = 0.0

    def columns(self, name: str) -> dict[str, np.ndarray]:
        """As columns of a table: `name`, `name_low`, `name_high`, `name_p`, `name_q`."""
        return {
            name: self.value,
            f"{name}_low": self.low,
            f"{name}_high": self.high,
            f"{name}_p": self.p,
            f"{name}_q": adjusted(self.p),
        }

    def where(self, defined: np.ndarray) -> Estimates:
        """NaN for every latent that is not `defined`."""
        value, low, high, p = (np.where(defined, part, np.nan) for part in (self.value, self.low, self.high, self.p))
        return Estimates(value, low, high, p, self.null)


def adjusted(p: np.ndarray) -> np.ndarray:
    """q values of `p`; NaN stays NaN and is not counted as a test."""
    found, known = np.full(len(p), np.nan), np.isfinite(p)
    if known.any():
        found[known] = stats.false_discovery_control(p[known])
    return found


def t_estimates(value: np.ndarray, error: np.ndarray, freedom: int, null: float = 0.0) -> Estimates:
    """Intervals and p values by Student's t with `freedom` degrees of freedom. NaN where the error is 0 or NaN, or `freedom` is below 1."""
    value = np.asarray(value, np.float64)
    error = np.where((error > 0) & (freedom >= 1), error, np.nan)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, max(freedom, 1)) * error
    p = 2 * stats.t.sf(np.abs(value - null) / error, max(freedom, 1))
    return Estimates(value, value - reach, value + reach, p, null)


def jackknife_error(without: np.ndarray) -> np.ndarray:
    """Standard error `[latents]` from estimates `without [groups, latents]` one group at a time; NaN where one is NaN."""
    groups = len(without)
    if groups < 2:
        return np.full(without.shape[1], np.nan)
    return np.sqrt((groups - 1) / groups * np.square(without - without.mean(0)).sum(0))


def jackknifed(value: np.ndarray, without: np.ndarray, null: float = 0.0) -> Estimates:
    """Delete-a-group jackknife (Kott 2001): `without [groups, latents]` are the estimates that leave out one group of texts each."""
    return t_estimates(value, jackknife_error(without), len(without) - 1, null)


def share_interval(share: np.ndarray, without: np.ndarray, texts: int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of shares `[latents]` of tokens, at the number of independent tokens that the jackknife error implies.

    Where nothing varied between groups (a share of 0 or 1) that number is taken to be the number of texts.
    """
    error = jackknife_error(without)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(error > 0, share * (1 - share) / error**2, texts)
    size = np.where(np.isnan(error), np.nan, np.maximum(size, 1.0))
    low, high = proportion_confint(share * size, size, alpha=1 - CONFIDENCE, method="wilson")
    return np.asarray(low), np.asarray(high)


def correlation_estimates(r: np.ndarray, texts: int) -> Estimates:
    """Pearson correlations over `texts`: Fisher's z for the interval, Student's t for p. Raises BadInput with fewer than four texts."""
    if texts < 4:
        raise BadInput(
            f"A correlation over {texts} texts has no interval; give at least 4 with a known `correct` and a generated token."
        )
    reach = stats.norm.ppf((1 + CONFIDENCE) / 2) / np.sqrt(texts - 3)
    inside = np.where(np.abs(r) < 1, r, np.nan)
    z = np.arctanh(inside)
    p = 2 * stats.t.sf(np.abs(inside) * np.sqrt((texts - 2) / (1 - inside**2)), texts - 2)
    return Estimates(r, np.tanh(z - reach), np.tanh(z + reach), p)
