"""Two models on one text: do they share a vocabulary, and which tokens of two prompted texts stand for the same characters?

1. A hybrid compares token ids, so both tokenizers must give every id the same meaning; padding rows of the embeddings may differ.
2. Where prompts differ, positions are aligned by the characters of the shared response, never by arithmetic on indices: a tokenizer may
   merge the end of a prompt with the first characters of the response. Tokens that are cut by that boundary are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadInput
from ..model.models import LoadedModel


def check_vocabularies(base: LoadedModel, thinking: LoadedModel) -> None:
    """Raises BadInput when an id means different tokens to the two models, naming how many and the first few."""
    if base.tokenizer_fingerprint == thinking.tokenizer_fingerprint:
        return
    mine = {index: token for token, index in base.tokenizer.get_vocab().items()}
    theirs = {index: token for token, index in thinking.tokenizer.get_vocab().items()}
    odd = sorted(i for i in mine.keys() | theirs.keys() if mine.get(i) != theirs.get(i))
    if odd:
        shown = ", ".join(f"{i}: {mine.get(i)!r} and {theirs.get(i)!r}" for i in odd[:5])
        raise BadInput(
            f"{base.id} and {thinking.id} do not share a vocabulary: {len(odd)} ids differ ({shown}). A hybrid compares "
            f"their greedy tokens by id; use a pair trained from the same base."
        )


@dataclass(frozen=True)
class Aligned:
    """A response after two prompts, as each model is fed it."""

    base_ids: tuple[int, ...]
    thinking_ids: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    """Positions (base, thinking) of response tokens that cover the same characters and are the same token."""


def align(base: LoadedModel, thinking: LoadedModel, base_prompt: str, thinking_prompt: str, response: str) -> Aligned:
    """Tokenise both prompted texts and pair the tokens of the response by their characters.

    Raises BadInput when a tokenizer does not report characters, or nothing can be paired.
    """
    found = []
    for model, prompt in ((base, base_prompt), (thinking, thinking_prompt)):
        if not model.tokenizer.is_fast:
            raise BadInput(f"The tokenizer of {model.id} does not report character offsets; load its fast version.")
        encoded = model.tokenizer(prompt + response, return_offsets_mapping=True)
        ids = tuple(encoded["input_ids"])
        spans = {
            (start - len(prompt), end - len(prompt)): position
            for position, (start, end) in enumerate(encoded["offset_mapping"])
            if start >= len(prompt) and end > start
        }
        found.append((ids, spans))
    (base_ids, mine), (thinking_ids, theirs) = found
    shared = sorted(mine.keys() & theirs.keys())
    pairs = tuple((mine[s], theirs[s]) for s in shared if base_ids[mine[s]] == thinking_ids[theirs[s]])
    if not pairs:
        raise BadInput(f"No token of the response is the same after both prompts: {response[:60]!r}")
    return Aligned(base_ids, thinking_ids, pairs)
