"""A prompt in tokens as it is fed, and what the models of a request do not know of it, before it runs.

Read from a tokenizer's file, without a model library. Where that file is not on this machine, or is of another kind, nothing is said here:
the worker says it with the first event.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from app.model_shapes import model_file
from experiments.live.request import LiveRequest
from steering.model.vocabulary import unknown_id, unknown_tokens


@lru_cache(maxsize=4)
def _tokenizer(path: str, changed: int) -> Tokenizer | None:
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the package raises plain Exception for whatever is wrong with a file
        if type(error) is not Exception:
            raise
        return None


def _tokenizer_of(model: str) -> Tokenizer | None:
    path: Path | None = model_file(model, "tokenizer.json")
    try:
        return None if path is None else _tokenizer(str(path), path.stat().st_mtime_ns)
    except OSError:
        return None


@dataclass(frozen=True)
class Fed:
    """A prompt as a model is fed it: the tokens' own texts, and which of them its tokenizer does not know."""

    texts: tuple[str, ...]
    unknown: tuple[bool, ...]


def fed_of(model: str, text: str) -> Fed | None:
    """The tokens of a text; None where the model's tokenizer is not on this machine as a file."""
    tokenizer = _tokenizer_of(model)
    if tokenizer is None or not text:
        return None
    encoded = tokenizer.encode(text)
    unknown = unknown_id(tokenizer)
    pieces = [text[start:end] or token for token, (start, end) in zip(encoded.tokens, encoded.offsets, strict=True)]
    return Fed(tuple(pieces), tuple(unknown is not None and token == unknown for token in encoded.ids))


def warnings_of(asked: LiveRequest) -> list[str]:
    """A sentence for each model of the request that does not know all of the prompt."""
    found = []
    for model in dict.fromkeys([asked.model, *([asked.thinking] if asked.thinking else [])]):
        tokenizer = _tokenizer_of(model)
        for text in asked.texts if tokenizer is not None else ():
            unknown = unknown_tokens(tokenizer, text)
            if unknown is not None:
                found.append(unknown.sentence(model))
    return list(dict.fromkeys(found))
