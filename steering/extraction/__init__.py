"""Extraction of steering vectors, one method per module.

1. What is read is a `Reading`; where, a list of sites; the result, a `SteeringVector` with its provenance.
2. Methods that can stream do; the module of each says what it holds in memory.
"""

from __future__ import annotations

from .annotations import LABELS, Part, TextSpan, locate, parse_annotated
from .contrast import checkpoint_difference, mean_difference, paired_difference
from .jacobian import JacobianLens, fit_jacobian, jacobian_tokens
from .labels import LabelledSpan, LabelledTrace, LabelMeans, label_means, label_vectors, labelled_trace
from .lenses import Lenses, both_lenses
from .logistic import logistic_direction
from .optimised import Descent, Example, optimised_vector, target_loss
from .principal import pca_direction
from .quality import Quality, assess, quality_table
from .reading import Reading, unpadded

__all__ = [
    "LABELS",
    "Descent",
    "Example",
    "JacobianLens",
    "LabelMeans",
    "LabelledSpan",
    "LabelledTrace",
    "Lenses",
    "Part",
    "Quality",
    "Reading",
    "TextSpan",
    "assess",
    "both_lenses",
    "checkpoint_difference",
    "fit_jacobian",
    "jacobian_tokens",
    "label_means",
    "label_vectors",
    "labelled_trace",
    "locate",
    "logistic_direction",
    "mean_difference",
    "optimised_vector",
    "paired_difference",
    "parse_annotated",
    "pca_direction",
    "quality_table",
    "target_loss",
    "unpadded",
]
