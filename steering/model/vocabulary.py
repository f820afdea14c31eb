"""Which parts of a text a tokenizer does not know: what a model is then fed is not the text.

1. A piece is unknown when its id is the tokenizer's unknown token, or when it is not whitespace and no token covers it.
2. Nothing here needs a model or a model library: a tokenizer is what the package `tokenizers` reads from a `tokenizer.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import listed

USUAL = ("<unk>", "[UNK]")
"""Names of the unknown token where the tokenizer's own model does not name it."""
SHOWN = 8
"""Pieces that a sentence names."""


@dataclass(frozen=True)
class Unknown:
    """What a tokenizer makes of a text that it does not know whole."""

    pieces: tuple[str, ...]
    """The unknown parts of the text, in its order."""
    tokens: int
    """Tokens of the whole text, without those that the tokenizer adds."""

    def sentence(self, model: str) -> str:
        """What is unknown and what that means, for the reader."""
        different = list(dict.fromkeys(self.pieces))
        named = listed((repr(piece[:30]) for piece in different), SHOWN)
        many = len(self.pieces) > 1
        return (
            f"{model} does not know {len(self.pieces)} of the {self.tokens} pieces of this text: {named}. "
            f"It is fed an unknown token in {'their' if many else 'its'} place, so its answer is not about this text."
        )


def unknown_tokens(tokenizer: Any, text: str) -> Unknown | None:
    """The parts of a text that a `tokenizers.Tokenizer` does not know; None when it knows all of it."""
    found = tokenizer.encode(text, add_special_tokens=False)
    unknown = unknown_id(tokenizer)
    spans = [span for token, span in zip(found.ids, found.offsets, strict=True) if token == unknown]
    pieces = sorted({*spans, *_uncovered(text, found.offsets)})
    if not pieces:
        return None
    return Unknown(tuple(text[begin:end] for begin, end in pieces), len(found.ids) + len(pieces) - len(set(spans)))


def unknown_id(tokenizer: Any) -> int | None:
    """The id that stands for what a `tokenizers.Tokenizer` does not know; None where it knows every text."""
    named = getattr(tokenizer.model, "unk_token", None)
    names = [named] if named else USUAL if type(tokenizer.model).__name__ == "Unigram" else []
    return next((found for name in names if (found := tokenizer.token_to_id(name)) is not None), None)


def _uncovered(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest parts of a text without whitespace that no token stands for."""
    covered = bytearray(len(text))
    for begin, end in spans:
        covered[begin:end] = b"\x01" * (end - begin)
    found: list[tuple[int, int]] = []
    for place, (letter, known) in enumerate(zip(text, covered, strict=True)):
        if known or letter.isspace():
            continue
        if found and found[-1][1] == place:
            found[-1] = found[-1][0], place + 1
        else:
            found.append((place, place + 1))
    return found
