"""Another attention function of the library's `AttentionInterface` in place of a model's own, for some passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from .layout import text_config

if TYPE_CHECKING:
    from .models import LoadedModel

Told = TypeVar("Told")


@contextmanager
def attending(model: LoadedModel, name: str, current: ContextVar[Told], told: Told) -> Iterator[None]:
    """Passes in this context attend by the function registered as `name`, which finds `told` in `current`."""
    config = text_config(model.model.config)
    before, token = config._attn_implementation, current.set(told)
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
        current.reset(token)
