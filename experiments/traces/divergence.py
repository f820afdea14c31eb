"""Where two rows of one question part.

1. `part` compares ids, not text: two texts that look alike but were tokenised differently have parted.
2. Two distributions at the same index can be compared only while prompt and earlier tokens are the same. That includes the index where the
   tokens first differ, since both were drawn there after the same prefix, and nothing after it.
3. Rows of different tokenisers are aligned by their text (`part_by_text`), and nothing about them is comparable token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Ids = Sequence[int]


@dataclass(frozen=True)
class Divergence:
    """Where two rows part. `at` counts generated tokens from 0; it is None where the texts are the same to the end."""

    kind: Literal["same", "token", "end", "prompt"]
    at: int | None
    right: int | None = None
    """The place in the right row, where it is another one: of rows aligned by text."""
    by_text: bool = False
    """Whether ids mean different tokens in the two rows."""

    def comparable(self, index: int) -> bool:
        """Whether both arms' distributions for generated token `index` were taken after the same prefix."""
        if self.kind == "prompt" or self.by_text:
            return False
        return self.at is None or index <= self.at

    @property
    def places(self) -> tuple[int | None, int | None]:
        """The place in the left and in the right row; None where there is none."""
        if self.kind == "prompt" or self.at is None:
            return None, None
        return self.at, self.at if self.right is None else self.right

    @property
    def sentence(self) -> str:
        """The place, in words."""
        if self.kind == "prompt":
            return "the prompts differ, so no position is comparable"
        if self.by_text:
            return "aligned by text: " + (
                "the two texts are the same, in other tokens"
                if self.kind == "same"
                else f"first divergence at #{self.at} and #{self.right}"
            )
        if self.kind == "same":
            return "the two texts are the same, token for token"
        if self.kind == "end":
            return f"one text ends at #{self.at}, the other goes on"
        return f"first divergence at #{self.at}"


def part(left_prompt: Ids, left: Ids, right_prompt: Ids, right: Ids) -> Divergence:
    """Where the generated ids `left` and `right` part, given the ids of their prompts."""
    if list(left_prompt) != list(right_prompt):
        return Divergence("prompt", 0)
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return Divergence("token", index)
    if len(left) == len(right):
        return Divergence("same", None)
    return Divergence("end", min(len(left), len(right)))


def part_by_text(left: Sequence[str], right: Sequence[str]) -> Divergence:
    """Where the generated texts part, given their tokens: the token of each row that holds the first character that differs."""
    one, two = "".join(left), "".join(right)
    shared = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    if shared == len(one) == len(two):
        return Divergence("same", None, by_text=True)
    return Divergence("token", _holding(left, shared), _holding(right, shared), by_text=True)


def _holding(tokens: Sequence[str], character: int) -> int:
    """Index of the token that holds a character; the number of tokens where the text has ended before."""
    for index, token in enumerate(tokens):
        if character < len(token):
            return index
        character -= len(token)
    return len(tokens)
