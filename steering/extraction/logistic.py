"""Extraction by logistic regression: the direction along which a linear classifier tells positives from negatives.

1. Coordinates are standardised before fitting, or the penalty would act on a few large ones; the weights are mapped back, so that
   sigmoid(w . h + b) in activation space is exactly the fitted classifier.
2. The vector points along w. Its length is that of `length`; the notes keep ||w|| and b, so the decision can be made from the vector.
3. There is no streaming form: all samples are held, 4 bytes x samples x d_model per site, and the fit works on a float64 copy of one site.
4. A good classifier need not be a good steering direction: w is what separates, not what the model itself writes. See `quality`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ..errors import BadInput
from ..model.models import LoadedModel
from ..model.sites import Site
from ..vector.vectors import Provenance, SteeringVector
from .length import Length, scaled
from .reading import Reading
from .samples import gathered
from .sinks import sink_notes, without_sinks

MAX_STEPS = 2000


@dataclass(frozen=True)
class Classifier:
    """P(positive | h) = sigmoid(weight . h + bias), in activation space."""

    weight: Tensor
    """`[d_model]`, float64, nats per residual-stream unit."""
    bias: float
    converged: bool


def fit_classifier(positive: Tensor, negative: Tensor, *, penalty: float = 1.0, balanced: bool = True) -> Classifier:
    """L2-regularised logistic regression of `positive [n, d]` against `negative [m, d]`.

    `penalty` is 1/C of scikit-learn, on standardised coordinates; `balanced` gives both classes the same weight whatever their sizes.
    """
    if not penalty > 0:
        raise BadInput(f"penalty {penalty} must be above 0: in d_model dimensions, unpenalised weights diverge.")
    x = torch.cat([positive, negative]).double().numpy()
    y = np.repeat([1, 0], [len(positive), len(negative)])
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / penalty, max_iter=MAX_STEPS, class_weight="balanced" if balanced else None)
    model.fit(scaler.transform(x), y)
    weight = model.coef_[0] / scaler.scale_
    bias = float(model.intercept_[0] - weight @ scaler.mean_)
    return Classifier(torch.from_numpy(weight), bias, bool(model.n_iter_[0] < MAX_STEPS))


def logistic_direction(
    model: LoadedModel,
    positive: Reading,
    negative: Reading,
    sites: Sequence[Site],
    *,
    name: str,
    contrast: str,
    penalty: float = 1.0,
    balanced: bool = True,
    length: Length = "gap",
) -> dict[Site, SteeringVector]:
    """The classifier's weight direction per site, `[d_model]`.

    Notes: `weight_norm` and `bias` (P = sigmoid(weight_norm * (h . u) + bias) with u the unit vector), `gap`, `converged`.
    """
    asked = positive, negative
    positive, negative = (without_sinks(model, reading) for reading in asked)
    left_out = sink_notes(model, (asked[0], positive), (asked[1], negative))
    high, low = gathered(model, positive, sites), gathered(model, negative, sites)
    vectors = {}
    for site in sites:
        found = fit_classifier(high[site], low[site], penalty=penalty, balanced=balanced)
        norm = float(found.weight.norm())
        if norm == 0:
            raise BadInput(
                f"At {site} nothing tells the positives from the negatives; the classifier's weights are zero."
            )
        unit = found.weight / norm
        gap = float((high[site].double().mean(0) - low[site].double().mean(0)) @ unit)
        notes = {"weight_norm": norm, "bias": found.bias, "gap": gap, "converged": found.converged, "penalty": penalty}
        provenance = Provenance(
            "logistic",
            model.fingerprint,
            model.id,
            contrast,
            f"{positive.digest}-{negative.digest}",
            (positive.count, negative.count),
            notes={**notes, "balanced": balanced, "length": length, **left_out},
        )
        vectors[site] = SteeringVector(name, site, scaled(unit, gap, length).float(), provenance)
    return vectors
