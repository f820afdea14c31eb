"""What is said of a spec that does not fit: the key path, what was wrong, and the nearest valid name.

A key that a spec does not have, and a value outside a closed set, are answered with the nearest valid one; everything else with
pydantic's own words.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from steering.errors import listed

SHOWN = 10
VALUE_LENGTH = 80


def refusals(error: ValidationError) -> list[str]:
    """One line per problem of a spec. What a check of its own says stands as it is, under the key that it is
    a check of."""
    model = _named(BaseModel, error.title)
    return [_line(problem, model) for problem in error.errors()]


def _line(problem: Any, model: type[BaseModel] | None) -> str:
    path: Sequence[Any] = problem["loc"]
    place = ".".join(map(str, path)) or "spec"
    if problem["type"] == "extra_forbidden":
        valid = _fields(model, path[:-1])
        return f"{place}: there is no such key{_nearest(str(path[-1]), valid)}"
    if problem["type"] == "missing":
        return f"{place}: this key is needed"
    given = repr(problem["input"])
    shown = given if len(given) <= VALUE_LENGTH else f"{given[:VALUE_LENGTH]}..."
    if problem["type"] == "literal_error":
        valid = _literals(model, path)
        return f"{place}: {problem['msg']} (got {shown}){_nearest(str(problem['input']), valid)}"
    if problem["type"] == "value_error":  # a check of the spec's own, which says what it was given
        said = problem["msg"].removeprefix("Value error, ")
        return f"{place}: {said}" if path else said
    return f"{place}: {problem['msg']} (got {shown})"


def _nearest(name: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1)
    if near:
        return f". Did you mean {near[0]!r}?"
    return f"; valid are {listed(valid, SHOWN)}." if valid else "."


def _named(root: type[BaseModel], title: str) -> type[BaseModel] | None:
    """The model class of that name, among all there are."""
    waiting = list(root.__subclasses__())
    while waiting:
        one = waiting.pop()
        if one.__name__ == title:
            return one
        waiting += one.__subclasses__()
    return None


def _fields(model: type[BaseModel] | None, path: Sequence[Any]) -> list[str]:
    """The keys that are valid at a path; none where the path leads out of what is known."""
    at = [model] if model is not None else []
    for part in path:
        if isinstance(part, str):
            steps = [m.model_fields[part].annotation for m in at if part in m.model_fields]
            at = [found for step in steps for found in _models(step)]
    return list(dict.fromkeys(name for m in at for name in m.model_fields))


def _literals(model: type[BaseModel] | None, path: Sequence[Any]) -> list[str]:
    """The values of a closed set at a path."""
    at = [model] if model is not None else []
    annotation: Any = None
    for part in path:
        if isinstance(part, str):
            annotations = [m.model_fields[part].annotation for m in at if part in m.model_fields]
            annotation = annotations[0] if annotations else annotation
            at = [found for step in annotations for found in _models(step)]
    return [
        str(value)
        for part in _parts(annotation)
        if typing.get_origin(part) is typing.Literal
        for value in typing.get_args(part)
    ]


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]


def _parts(annotation: Any) -> list[Any]:
    """An annotation and everything inside its unions and containers."""
    inside = [] if typing.get_origin(annotation) is typing.Literal else typing.get_args(annotation)
    plain = [] if isinstance(annotation, types.UnionType) else [annotation]
    return plain + [part for one in inside for part in _parts(one)]
