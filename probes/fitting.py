"""Fitting probes: logistic regression, ridge, mass-mean; regularisation along a path, evaluation on held-out groups.

1. Groups are held out first; nothing about them reaches the fit. The probe returned is the one measured: it is not refitted on all.
2. The strength of the penalty is chosen on the training groups alone, by grouped cross-validation, as the one with the smallest log loss of
   the pooled out-of-fold predictions. The whole path is kept.
3. Penalties are relative to the mean loss (C = 1 / (strength x n) of scikit-learn), so a strength means the same in a fold and in all data.
4. Ridge and mass-mean fix a direction only. Slope and intercept of the log-odds along it are fitted on out-of-fold scores (Platt, 1999).
5. Unless `controls` is 0, the same method at the same strength is fitted on shuffled labels too (`baselines`); with `tokens`, the
   bag-of-tokens baseline is fitted. Both are measured on the same held-out samples.
6. Equal arguments give equal probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from steering.errors import BadInput
from steering.model.sites import Site

from .baselines import shuffled_labels, token_logits
from .evaluation import Evaluation, compare, evaluate, macro_auroc
from .linear import MAX_STEPS, Logistic, MassMean, Ridge
from .methods import Layers, Method, Standard, class_weights, forward, log_loss, standardisation
from .probe import Probe, ProbeProvenance, folded, two_rows
from .samples import Samples
from .splits import Split, grouped_folds, grouped_split

PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0001)
"""Strongest first: each fit starts from the one before it."""
FOLDS = 5
CONTROLS = 4


@dataclass(frozen=True)
class PathPoint:
    """One strength of the penalty in grouped cross-validation."""

    strength: float
    log_loss: float
    """Nats, of pooled out-of-fold predictions."""
    auroc: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """A probe, what it scored on held-out groups, and how its penalty was chosen."""

    probe: Probe
    evaluation: Evaluation
    path: tuple[PathPoint, ...]
    split: Split


@dataclass(frozen=True)
class Origin:
    """What the activations are of, for the probe's provenance."""

    target: str = ""
    model: str = "unknown"
    model_id: str = ""


def fit_logistic(
    X: Any, y: Any, *, groups: Sequence[object], site: Site | str, classes: Sequence[str] | None = None,
    balanced: bool = True, seed: int = 0, held_out: float = 0.25, penalties: Sequence[float] = PENALTIES,
    folds: int = FOLDS, controls: int = CONTROLS, tokens: np.ndarray | None = None, origin: Origin | None = None,
    split: Split | None = None,
) -> Fitted:  # fmt: skip
    """L2-regularised logistic regression of `y [n]` on standardised `X [n, d]`; multinomial for three classes and more (up to 20).

    `groups [n]` names what each sample shares information with; `tokens [n, k]` are the token ids around each sample (-1: none).
    Raises BadInput for samples that do not fit together, a class in one group only, or a split that leaks a group.
    """
    samples = Samples.of(X, y, groups, classes)
    return fit(samples, Logistic(), penalties, site, balanced=balanced, seed=seed, held_out=held_out, folds=folds,
               controls=controls, tokens=tokens, origin=origin, split=split)  # fmt: skip


def fit_ridge(
    X: Any, y: Any, *, groups: Sequence[object], site: Site | str, classes: Sequence[str] | None = None, balanced: bool = True,
    seed: int = 0, held_out: float = 0.25, penalties: Sequence[float] = PENALTIES, folds: int = FOLDS,
    controls: int = CONTROLS, tokens: np.ndarray | None = None, origin: Origin | None = None, split: Split | None = None,
) -> Fitted:  # fmt: skip
    """Least squares on +1 and -1 with an L2 penalty, for two classes; arguments as `fit_logistic`."""
    samples = _two_classes(Samples.of(X, y, groups, classes), "Ridge")
    return fit(samples, Ridge(), penalties, site, balanced=balanced, seed=seed, held_out=held_out, folds=folds,
               controls=controls, tokens=tokens, origin=origin, split=split)  # fmt: skip


def fit_mass_mean(
    X: Any, y: Any, *, groups: Sequence[object], site: Site | str, classes: Sequence[str] | None = None, balanced: bool = True,
    seed: int = 0, held_out: float = 0.25, whiten: bool = False, folds: int = FOLDS, controls: int = CONTROLS,
    tokens: np.ndarray | None = None, origin: Origin | None = None, split: Split | None = None,
) -> Fitted:  # fmt: skip
    """Difference of the two class means (Marks & Tegmark, 2310.06824, section 5.1); arguments as `fit_logistic`, two classes.

    With `whiten`, times the inverse of the covariance within classes (shrunk after Ledoit & Wolf), which is Fisher's discriminant.
    """
    samples = _two_classes(Samples.of(X, y, groups, classes), "Mass-mean")
    return fit(samples, MassMean(whiten), (0.0,), site, balanced=balanced, seed=seed, held_out=held_out, folds=folds,
               controls=controls, tokens=tokens, origin=origin, split=split)  # fmt: skip


def fit(
    samples: Samples, method: Method, strengths: Sequence[float], site: Site | str, *, balanced: bool = True, seed: int = 0,
    held_out: float = 0.25, folds: int = FOLDS, controls: int = CONTROLS, tokens: np.ndarray | None = None,
    origin: Origin | None = None, split: Split | None = None,
) -> Fitted:  # fmt: skip
    """Any method: hold groups out, choose the strength, fit, measure."""
    if split is None:
        split = grouped_split(samples.y, samples.group, held_out, seed, samples.names)
    elif not np.array_equal(split.groups, samples.group):
        raise BadInput("The split was made for other groups than these samples have; make it from the same groups.")
    x, y, group = samples.x[split.train], samples.y[split.train], samples.group[split.train]
    strengths = sorted(strengths, reverse=True)
    pooled = _out_of_fold(method, x, y, group, strengths, balanced, seed, folds)
    weight = class_weights(y, balanced)
    path, platt = [], []
    for strength, scores in zip(strengths, pooled, strict=True):
        slope, intercept = (1.0, 0.0) if method.calibrated else _platt(scores, y, weight)
        logits = scores if method.calibrated else _scaled(scores, slope, intercept)
        path.append(PathPoint(strength, log_loss(logits, y, weight), macro_auroc(y, logits)(np.ones(len(y)))))
        platt.append((slope, intercept))
    best = int(np.argmin([point.log_loss for point in path]))
    standard = standardisation(x, method.standardise)
    (layers,) = method.along(standard(x), y, group, weight, strengths[best : best + 1], seed)
    layers = _recalibrated(layers, *platt[best]) if not method.calibrated else layers

    held = samples.x[split.test]
    logits = forward(layers, standard(held))
    truth, held_group = samples.y[split.test], samples.group[split.test]
    measured = evaluate(logits, truth, held_group, samples.classes, balanced=balanced, seed=seed)
    if controls:
        others = []
        for number in range(controls):
            wrong = shuffled_labels(y, group, seed + 1 + number)
            again = method.along(
                standard(x), wrong, group, class_weights(wrong, balanced), strengths[best : best + 1], seed
            )
            others.append(forward(next(iter(again)), standard(held)))
        found = compare(truth, logits, others, held_group, f"{controls} probes fitted on shuffled labels", seed=seed)
        measured = replace(measured, selectivity=found)
    if tokens is not None:
        other = token_logits(np.asarray(tokens), samples.y, split, len(samples.classes), balanced)
        found = compare(truth, logits, [other], held_group, "ids of the tokens near the position", seed=seed)
        measured = replace(measured, tokens=found)
    measured = replace(measured, repeated=samples.repeated(split.train, split.test))
    place = Site.parse(site)
    return Fitted(
        _probe(method, layers, standard, place, samples, split, strengths[best], balanced, seed, origin, measured),
        measured, tuple(path), split,
    )  # fmt: skip


def _probe(
    method: Method, layers: Layers, standard: Standard, site: Site, samples: Samples, split: Split, strength: float,
    balanced: bool, seed: int, origin: Origin | None, measured: Evaluation,
) -> Probe:  # fmt: skip
    mean, scale = torch.from_numpy(standard.mean), torch.from_numpy(standard.scale)
    weights, biases = [torch.from_numpy(w) for w in layers.weights], [torch.from_numpy(b) for b in layers.biases]
    weights[0], biases[0] = folded(weights[0], biases[0], mean, scale)
    origin = origin or Origin()
    summary = {
        name: vars(getattr(measured, name))
        for name in ("auroc", "average_precision", "balanced_accuracy", "brier", "ece")
    }
    for name in ("selectivity", "tokens"):
        found = getattr(measured, name)
        if found is not None:
            summary[name] = vars(found.difference)
    provenance = ProbeProvenance(
        origin.target, origin.model, origin.model_id, samples.digest, len(split.train), len(split.test),
        len(np.unique(split.groups[split.train])), len(np.unique(split.groups[split.test])),
        strength, balanced, seed, {"held out": summary, "method": method.name},
    )  # fmt: skip
    return Probe(method.kind, site, samples.classes, tuple(weights), tuple(biases), provenance)


def _out_of_fold(
    method: Method, x: np.ndarray, y: np.ndarray, group: np.ndarray, strengths: Sequence[float], balanced: bool, seed: int, folds: int
) -> list[np.ndarray]:  # fmt: skip
    if len(strengths) == 1 and method.calibrated:
        folds = 2
    found = [np.full((len(y), int(y.max()) + 1), np.nan) for _ in strengths]
    for train, test in grouped_folds(y, group, folds, seed):
        standard = standardisation(x[train], method.standardise)
        weight = class_weights(y[train], balanced)
        fits = method.along(standard(x[train]), y[train], group[train], weight, strengths, seed)
        for scores, layers in zip(found, fits, strict=True):
            scores[test] = forward(layers, standard(x[test]))
    return found


def _platt(scores: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    z = (scores[:, 1] - scores[:, 0])[:, None]
    spread = float(z.std()) or 1.0
    model = LogisticRegression(C=1e3, max_iter=MAX_STEPS).fit(z / spread, y, sample_weight=weight)
    return float(model.coef_[0, 0]) / spread, float(model.intercept_[0])


def _scaled(scores: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    z = slope * (scores[:, 1] - scores[:, 0]) + intercept
    return np.stack([np.zeros_like(z), z], axis=1)


def _recalibrated(layers: Layers, slope: float, intercept: float) -> Layers:
    weight, bias = layers.weights[0], layers.biases[0]
    rows = two_rows(slope * (weight[1] - weight[0]), slope * float(bias[1] - bias[0]) + intercept)
    return Layers((rows[0].numpy(),), (rows[1].numpy(),))


def _two_classes(samples: Samples, name: str) -> Samples:
    if len(samples.classes) != 2:
        raise BadInput(f"{name} probes tell two classes apart, not {len(samples.classes)}; use fit_logistic.")
    return samples
