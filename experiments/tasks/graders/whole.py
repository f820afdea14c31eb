"""Graders of a response as a whole: what it says outside its thinking segments is the answer, not a final answer that stands in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec

from steering.errors import BadInput
from steering.model.thinking import read_thinking, without_markers

from .grade import Grade, Known, unscorable


def whole(grader: str, text: str, known: Known, lenient: bool, judged: Callable[[str], Grade]) -> Grade:
    """The grade of all that a response says. One that ends inside its thinking segment, or with it, says nothing, unless `lenient`; its
    grade holds what the other reading gives either way."""
    thought = read_thinking(text, known.markers, known.opened)
    if not thought.open and (thought.last is None or thought.said.strip()):
        return judged(thought.said)
    other = judged(without_markers(text, known.markers))
    if not lenient:
        nothing = unscorable(grader, None, "the response ends inside its thinking segment, or with it")
        return replace(nothing, unclosed=True, lenient=other.correct)
    why = f"{other.explanation}; read inside a thinking segment that ends the response"
    return replace(other, explanation=why, unclosed=True, lenient=other.correct)


def library(grader: str, module: str, package: str) -> str:
    """Name and version of the library that a grader asks, a part of what its verdicts depend on. Raises BadInput where it is missing."""
    if find_spec(module) is None:
        raise BadInput(
            f"The grader {grader!r} needs the package {package}; install it with: pip install 'steering-workbench[language]'."
        )
    return f"{package} {metadata.version(package)}"
