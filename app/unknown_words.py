"""What the models of a request do not know of its prompt, said before it runs; read from a tokenizer's file, without a model library.

Where a tokenizer's file is not on this machine, or is of another kind, nothing is said here: the worker says it with the first event.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from app.model_shapes import model_file
from experiments.live.request import LiveRequest
from steering.model.vocabulary import unknown_tokens


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


def warnings_of(asked: LiveRequest) -> list[str]:
    """A sentence for each model of the request that does not know all of the prompt."""
    found = []
    for model in dict.fromkeys([asked.model, *([asked.thinking] if asked.thinking else [])]):
        tokenizer = _tokenizer_of(model)
        unknown = None if tokenizer is None else unknown_tokens(tokenizer, asked.text)
        if unknown is not None:
            found.append(unknown.sentence(model))
    return found
