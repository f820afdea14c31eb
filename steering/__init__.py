"""The core: models, sites, vectors, plans and steered generation. Imports none of the other rooms.

The names in `__all__` are the public face (docs/python.md): each is loaded when it is first used, so that importing this package loads no
model library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .names import offered

if TYPE_CHECKING:
    from .compile.explanation import explain
    from .engine.edit_size import edit_size
    from .engine.generation import Generation, Receipt, Row, generate, stream
    from .engine.sampling import GenerationSettings
    from .errors import BadInput, NeverFired
    from .extraction import (
        Reading,
        assess,
        checkpoint_difference,
        label_vectors,
        logistic_direction,
        mean_difference,
        optimised_vector,
        paired_difference,
        pca_direction,
    )
    from .model.models import LoadedModel, load_adapter, load_model
    from .model.prompts import encode_prompt
    from .model.reader import Reader, load_reader
    from .model.sites import Site
    from .plan.controls import random_control
    from .plan.exchange import pull_plan, push_plan
    from .plan.expression import parse_plan
    from .plan.plan import Dose, Gate, Intervention, Plan, Span
    from .vector.exchange import pull_vector, push_vector
    from .vector.features import Features
    from .vector.vectors import Provenance, SteeringVector, random_like

_PLACES = {
    "LoadedModel": ".model.models",
    "load_adapter": ".model.models",
    "load_model": ".model.models",
    "Reader": ".model.reader",
    "load_reader": ".model.reader",
    "Site": ".model.sites",
    "encode_prompt": ".model.prompts",
    "Provenance": ".vector.vectors",
    "SteeringVector": ".vector.vectors",
    "random_like": ".vector.vectors",
    "pull_plan": ".plan.exchange",
    "push_plan": ".plan.exchange",
    "pull_vector": ".vector.exchange",
    "push_vector": ".vector.exchange",
    "Features": ".vector.features",
    "Dose": ".plan.plan",
    "Gate": ".plan.plan",
    "Intervention": ".plan.plan",
    "Plan": ".plan.plan",
    "Span": ".plan.plan",
    "parse_plan": ".plan.expression",
    "random_control": ".plan.controls",
    "explain": ".compile.explanation",
    "GenerationSettings": ".engine.sampling",
    "Generation": ".engine.generation",
    "Receipt": ".engine.generation",
    "Row": ".engine.generation",
    "generate": ".engine.generation",
    "stream": ".engine.generation",
    "edit_size": ".engine.edit_size",
    "BadInput": ".errors",
    "NeverFired": ".errors",
    "Reading": ".extraction",
    "assess": ".extraction",
    "checkpoint_difference": ".extraction",
    "label_vectors": ".extraction",
    "logistic_direction": ".extraction",
    "mean_difference": ".extraction",
    "optimised_vector": ".extraction",
    "paired_difference": ".extraction",
    "pca_direction": ".extraction",
}
__all__ = [
    "BadInput",
    "Dose",
    "Features",
    "Gate",
    "Generation",
    "GenerationSettings",
    "Intervention",
    "LoadedModel",
    "NeverFired",
    "Plan",
    "Provenance",
    "Reader",
    "Reading",
    "Receipt",
    "Row",
    "Site",
    "Span",
    "SteeringVector",
    "assess",
    "checkpoint_difference",
    "edit_size",
    "encode_prompt",
    "explain",
    "generate",
    "label_vectors",
    "load_adapter",
    "load_model",
    "load_reader",
    "logistic_direction",
    "mean_difference",
    "optimised_vector",
    "paired_difference",
    "parse_plan",
    "pca_direction",
    "pull_plan",
    "pull_vector",
    "push_plan",
    "push_vector",
    "random_control",
    "random_like",
    "stream",
]

__getattr__, __dir__ = offered(__name__, _PLACES)
