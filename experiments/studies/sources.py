"""What a contrast is read from: files of a person's own texts, a task's questions, labelled spans.

Whatever is wrong with a file or does not go together is refused here, before a model is loaded where that can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steering.errors import BadInput, unknown
from steering.extraction import LabelledTrace, labelled_trace
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt

from ..tasks.own_texts import OwnTrace, own_traces, text_lines, text_pairs
from ..tasks.task import FindStart, Item, Task, asked_ids, check_form
from .asking import BUILTIN
from .contrasts import METHODS
from .sides import Body, Sides, Where, sequence_body, text_sides


@dataclass(frozen=True)
class OwnTexts:
    """The texts of both sides, what they answer to (None: nothing), and whether they are pairs."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    prompts: tuple[str, ...] | None
    paired: bool

    @staticmethod
    def read(positive: Path | None, negative: Path | None, pairs: Path | None) -> OwnTexts:
        """From two text files, or one file of pairs. Raises BadInput."""
        if pairs is not None and positive is None and negative is None:
            found = text_pairs(pairs)
            prompts = tuple(str(pair.prompt) for pair in found) if found[0].prompt is not None else None
            return _told_apart(
                OwnTexts(tuple(p.positive for p in found), tuple(p.negative for p in found), prompts, True), str(pairs)
            )
        if pairs is not None or positive is None or negative is None:
            raise BadInput("Give both --positive and --negative, or --pairs: one contrast at a time.")
        both = OwnTexts(tuple(text_lines(positive)), tuple(text_lines(negative)), None, False)
        return _told_apart(both, f"{positive} and {negative}")

    @property
    def every(self) -> tuple[str, ...]:
        """All texts and prompts."""
        return (*(self.prompts or ()), *self.positive, *self.negative)

    @property
    def alike(self) -> str:
        """What is to be said of texts that stand on both sides; empty where none does."""
        if self.paired:
            same = sum(a == b for a, b in zip(self.positive, self.negative, strict=True))
            return f"{same} of {len(self.positive)} pairs have the same text on both sides." if same else ""
        both = set(self.positive) & set(self.negative)
        return f"{len(both)} texts stand on both sides, such as {min(both)[:60]!r}." if both else ""

    def sides(self, model: LoadedModel, where: Where, *, chat: bool = False, method: str = "difference") -> Sides:
        """As a model reads them. Line k of one file belongs to line k of the other where the method needs pairs."""
        paired = self.paired or (method in METHODS and METHODS[method].pairs)
        return text_sides(model, self.positive, self.negative, where, prompts=self.prompts, paired=paired, chat=chat)


def _told_apart(own: OwnTexts, where: str) -> OwnTexts:
    """Raises BadInput where nothing tells the sides apart."""
    same = own.positive == own.negative if own.paired else set(own.positive) == set(own.negative)
    if same:
        raise BadInput(f"{where}: both sides hold the same texts, so there is nothing to tell apart.")
    return own


def asked_items(task: Task, split: str, n: int, skip: int) -> list[Item]:
    """The items that are read: `n` of a split after the first `skip`; of the built-in task, training problems."""
    if isinstance(task, FindStart) and task.rules is None:
        return BUILTIN.questions(n)
    return task.items(split, skip + n)[skip:]


def questions(model: LoadedModel, task: Task, split: str, n: int, skip: int, form: str) -> list[Body]:
    """A task's questions in a form; of the built-in task, training problems. Raises BadInput for a form that it has not."""
    check_form(task, form)
    ids = [asked_ids(task, model, item, form) for item in asked_items(task, split, n, skip)]
    return [sequence_body(model, one, f"Question {k + 1} ({form})") for k, one in enumerate(ids)]


def prompts(model: LoadedModel, lines: Sequence[str]) -> list[Body]:
    """A person's prompts, which two models read."""
    return [sequence_body(model, encode_prompt(model, line), f"Prompt {k + 1}") for k, line in enumerate(lines)]


def as_items(positive: Sequence[Body], negative: Sequence[Body]) -> Sides:
    """The same questions asked in two ways, or read in two models: sequence k of both sides is one item."""
    numbers = tuple(range(len(positive)))
    return Sides(tuple(positive), tuple(negative), (numbers, numbers), True)


def labelled_texts(path: Path, labels: Sequence[str]) -> tuple[list[OwnTrace], list[str]]:
    """The traces of a file, and the labels that vectors are made of: those named, or all. Raises BadInput for one that no span has."""
    traces = own_traces(path)
    known = sorted({label for trace in traces for label in trace.labels})
    for label in labels:
        if label not in known:
            raise unknown("label", label, known, str(path))
    return traces, list(labels) or known


def labelled_ids(model: LoadedModel, traces: Sequence[OwnTrace]) -> list[LabelledTrace]:
    """Traces as a model reads them."""
    return [
        LabelledTrace(trace.token_ids, trace.token_spans)
        if trace.token_ids
        else labelled_trace(model, trace.text, trace.text_spans)
        for trace in traces
    ]
