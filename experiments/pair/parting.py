"""Where the two models of a pair part, and whether the beginning of a text is what sets them apart.

1. They part at a token of the thinking model's greedy text that the base, reading that text, would not write greedily.
2. The kind of a token is its behaviour by the grammar (exact); words that open a trace and the end token are kinds of their own.
3. A beginning is the first words of the thinking model's own text; the base goes on from it. What it gains is paired by problem. Beginnings
   that hold the whole of what sets a pair apart make its base as good as its thinking model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.hybrid.alignment import check_vocabularies
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt

from ..statistics import PairedDifference, paired_difference
from .problem import Problem
from .verifier import Verdict, verify

BEGINNINGS = (1, 2, 3, 5)
"""Words: the opening word, the opening, the opening without a candidate, and all up to the first line (`let us try 42 ;`)."""
BATCH = 96


@dataclass(frozen=True)
class Text:
    """A greedy response to a bare prompt: ids without the end token, whether it ended, and what the verifier says."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    ended: bool
    words: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True)
class Parting:
    """Where a pair parts on some texts."""

    read: int
    """Tokens looked at."""
    kinds: dict[str, int]
    """Places by the behaviour of the thinking model's token, commonest first."""
    words: dict[str, int]
    """Places by the base's word and the thinking model's (`enough > not`), numbers as N, commonest first."""
    texts: float
    """Share of texts with a place."""

    @property
    def n(self) -> int:
        return sum(self.kinds.values())

    @property
    def largest(self) -> float:
        """Share of the commonest kind."""
        return max(self.kinds.values()) / self.n if self.n else 0.0


def greedy_texts(
    model: LoadedModel, problems: Sequence[Problem], max_new_tokens: int, begun: Sequence[tuple[int, ...]] | None = None
) -> list[Text]:
    """One greedy response per problem, after the beginning that is given for it."""
    starts = begun or [()] * len(problems)
    rows = [Row(encode_prompt(model, p.prompt("bare")), begun=s) for p, s in zip(problems, starts, strict=True)]
    found = []
    for problem, row in zip(
        problems, generate(model, rows, GenerationSettings(max_new_tokens), batch_size=BATCH), strict=True
    ):
        ids = tuple(t for t in row.token_ids if t not in model.eos_ids)
        words = tuple(model.tokenizer.decode(ids).split())
        found.append(Text(row.prompt_ids, ids, len(ids) < len(row.token_ids), words, verify(problem, list(words))))
    return found


def kinds_of(text: Text) -> list[str]:
    """The kind of every token of a response, its end token included where it ended."""
    kinds = ["opening" if i < 3 else "other" for i in range(len(text.words))]
    for span in text.verdict.labels:
        kinds[span.start : span.end] = [span.label] * (span.end - span.start)
    return [*kinds, *(["ending"] if text.ended else [])]


def _shown(word: str) -> str:
    return "N" if word.isdigit() else word


@torch.inference_mode()
def parting(base: LoadedModel, thinking: LoadedModel, texts: Sequence[Text]) -> Parting:
    """Where `base` parts from the greedy texts of `thinking`. Raises BadInput where the models do not share a vocabulary."""
    check_vocabularies(base, thinking)
    kinds: Counter[str] = Counter()
    words: Counter[str] = Counter()
    read = parted = 0
    for text in texts:
        ids = (*text.token_ids, *((min(thinking.eos_ids),) if text.ended else ()))
        fed = torch.tensor([[*text.prompt_ids, *ids]], device=base.device)
        own = base.model(input_ids=fed, use_cache=False).logits[0, len(text.prompt_ids) - 1 : -1].argmax(-1).tolist()
        places = [i for i, (mine, theirs) in enumerate(zip(own, ids, strict=True)) if mine != theirs]
        read, parted = read + len(ids), parted + bool(places)
        named = kinds_of(text)
        kinds.update(named[i] for i in places)
        words.update(" > ".join(_shown(base.tokenizer.decode([token])) for token in (own[i], ids[i])) for i in places)
    return Parting(read, dict(kinds.most_common()), dict(words.most_common()), parted / len(texts))


def gains_of_beginnings(
    base: LoadedModel, problems: Sequence[Problem], own: Sequence[Text], thinking: Sequence[Text], max_new_tokens: int
) -> dict[int, PairedDifference]:
    """By length in words, the accuracy of the base that goes on from the beginning of the thinking model's texts, minus its own."""
    before = [t.verdict.correct for t in own]
    found = {}
    for length in BEGINNINGS:
        begun = greedy_texts(base, problems, max_new_tokens, [t.token_ids[:length] for t in thinking])
        found[length] = paired_difference(before, [t.verdict.correct for t in begun])
    return found
