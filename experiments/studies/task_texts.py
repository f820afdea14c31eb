"""Responses of a model to any task's questions, as texts with labels: for autoencoders and probes.

1. On the built-in task labels and verdicts are the grammar's and exact. Elsewhere behaviours are the lexicon's (`probes.lexicon`), which is
   wrong often enough to say so; `labels_of` names the detector, and what is made of them carries its name.
2. Whether a response is right is the task's own grader's verdict; where it could compare nothing, the text is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probes.labels import BehaviourLabel, in_tokens
from probes.lexicon import DETECTOR as LEXICON
from probes.lexicon import lexicon_labels
from probes.sentences import sentences
from saes.corpus import LabelledSpan, Text
from steering.compile.text import character_places
from steering.engine.generation import Generation
from steering.extraction.annotations import token_span
from steering.model.models import LoadedModel

from ..tasks.items import Item
from ..tasks.task import Known
from .asking import Asking


@dataclass(frozen=True, eq=False)
class Answered:
    """A response to an item."""

    item: Item
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    """Without the end token."""
    correct: bool | None
    """None where the grader could compare nothing."""
    labels: tuple[BehaviourLabel, ...]
    """Over tokens of the response."""
    ends: tuple[int, ...]
    """Where its sentences end, in tokens of the response, end exclusive."""

    @property
    def text(self) -> Text:
        """As an autoencoder reads it."""
        n = len(self.prompt_ids)
        spans = tuple(LabelledSpan(label.label, n + label.start, n + label.end) for label in self.labels)
        return Text((*self.prompt_ids, *self.token_ids), n, spans, self.correct)


def labels_of(asking: Asking) -> str:
    """The detector of behaviours on a task."""
    return "grammar" if asking.builtin else LEXICON


def answered(model: LoadedModel, asking: Asking, item: Item, generation: Generation) -> Answered:
    """A generation with its grade and its labels by the lexicon."""
    ids = tuple(token for token in generation.token_ids if token not in model.eos_ids)
    text, places = character_places(model, ids)
    grade = asking.found.grade(item, text, Known(generation.finish))
    found = [token_span(places, sentence.start, sentence.end) for sentence in sentences(text)]
    return Answered(
        item,
        generation.prompt_ids,
        ids,
        grade.correct if grade.scorable else None,
        in_tokens(lexicon_labels(text), places),
        tuple(span[1] for span in found if span is not None),
    )


def responses(
    model: LoadedModel, asking: Asking, items: Sequence[Item], forms: Sequence[str], *, temperature: float = 1.0
) -> list[Answered]:
    """One response per item and form, items within forms."""
    return [
        answered(model, asking, item, generation)
        for form in forms
        for item, generation in zip(items, asking.responses(model, items, form, temperature=temperature), strict=True)
    ]
