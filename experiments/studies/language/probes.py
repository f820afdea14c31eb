"""Probes of the language and of the sentiment of a sentence, read at its last token, beside their controls.

The sentences are those that the graders are measured on: no vector was extracted from them. Every sentence is a group of its own, and a
quarter of them is held out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from probes.fitting import Origin, fit_logistic
from probes.probe import Probe
from probes.targets import at_positions
from steering.model.models import LoadedModel
from steering.model.sites import Site

from .directions import Direction
from .spec import LanguageSpec
from .texts import encoded, labelled

CLASSES = {"language": ("en", "fr"), "sentiment": ("negative", "positive")}
"""What each probe tells apart, the direction's own side second."""


def fitted(model: LoadedModel, direction: Direction, spec: LanguageSpec) -> tuple[Probe, dict[str, Any]]:
    """The probe at the study's last layer, and what it scored on held-out sentences, as plain data."""
    classes, stem = CLASSES[direction.name], direction.labelled
    assert stem is not None  # CLASSES names directions that have labelled sentences
    found = [
        (text, classes.index(label))
        for wanted in classes
        for text, label in [pair for pair in labelled(stem) if pair[1] == wanted][: spec.examples]
    ]
    site = Site(spec.sites(model.n_layers)[-1])
    sequences = encoded(model, tuple(text for text, _ in found))
    examples = at_positions(
        f"{direction.name} of a sentence, at its last token", sequences, [-1] * len(found), [y for _, y in found],
        [f"sentence {n}" for n in range(len(found))], classes,
    )  # fmt: skip
    fit = fit_logistic(
        examples.activations(model, [site])[site], np.array(examples.y), groups=examples.groups, site=site, classes=classes,
        tokens=examples.windows(), origin=Origin(examples.target, model.fingerprint, model.id),
    )  # fmt: skip
    return fit.probe, {"site": site.name, "classes": list(classes), **fit.evaluation.to_dict()}
