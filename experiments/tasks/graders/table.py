"""Graders by name, as specs write them: `grader: math`, or `grader: {name: numeric, tolerance: 0.01}`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from steering.errors import BadInput, unknown

from .grade import Grader
from .judged import JudgeGrader
from .language import LanguageGrader
from .mathematics import MathGrader
from .plain import ChoiceGrader, ExactGrader, NumericGrader
from .sentiment import SentimentGrader

GRADERS: dict[str, type[Any]] = {
    "math": MathGrader,
    "exact": ExactGrader,
    "numeric": NumericGrader,
    "choice": ChoiceGrader,
    "judge": JudgeGrader,
    "language": LanguageGrader,
    "sentiment": SentimentGrader,
}


def grader_named(spec: str | Mapping[str, Any]) -> Grader:
    """The grader of a spec. Raises BadInput for an unknown name or option."""
    name, options = (
        (spec, {}) if isinstance(spec, str) else (spec.get("name"), {k: v for k, v in spec.items() if k != "name"})
    )
    if name not in GRADERS:
        raise unknown("grader", name, GRADERS)
    kind = GRADERS[str(name)]
    known = {n: p for n, p in inspect.signature(kind).parameters.items() if n != "name"}
    for option in options:
        if option not in known:
            raise unknown("option", option, known, where=f"grader {name}")
    missing = [n for n, p in known.items() if p.default is inspect.Parameter.empty and n not in options]
    if missing:
        raise BadInput(f"The grader {name!r} needs {', '.join(missing)}: grader: {{name: {name}, {missing[0]}: ...}}.")
    try:
        made: Grader = kind(**options)
    except TypeError as error:
        raise BadInput(f"grader {name}: {error}") from error
    return made
