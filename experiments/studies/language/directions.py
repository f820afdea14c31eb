"""The three directions: what is contrasted with what, on which prompts they steer, and how their texts are graded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from steering.model.models import LoadedModel

from ...tasks.graders.grade import Grader
from ...tasks.graders.table import grader_named


@dataclass(frozen=True)
class Direction:
    """One contrast and its measure."""

    name: str
    """Also the stem of its pairs of texts, and the field of a prompt that holds its right answer."""
    title: str
    contrast: str
    """What is subtracted from what."""
    read: Literal["all", "last"]
    """Which tokens of a text are read: all, or the last one."""
    prompts: str
    """The data set of its prompts."""
    grader: str | dict[str, Any]
    graded: str
    """What counts as right, in words."""
    doses: tuple[float, ...]
    """Multiples of the vector's norm."""
    bare: str
    """How a prompt is fed."""
    request: str
    """How the same is asked for in words, through the chat template where the model has one."""
    plain_request: str
    """The same for a model without a chat template."""
    temperature: float
    labelled: str | None = None
    """Stem of the labelled sentences that the grader's error is measured on."""

    def grading(self) -> Grader:
        return grader_named(self.grader)

    def task(self, model: LoadedModel) -> dict[str, Any]:
        """The task of its sweep."""
        asked: Any = (
            {"template": self.request, "chat": True}
            if model.tokenizer.chat_template and self.request
            else self.plain_request
        )
        return {
            "dataset": self.prompts, "answer": self.name, "grader": self.grader, "forms": {"bare": self.bare, "asked": asked},
        }  # fmt: skip


LANGUAGE = Direction(
    name="language",
    title="French minus English",
    contrast="French sentences minus the same sentences in English",
    read="all",
    prompts="open-beginnings",
    grader={"name": "language", "among": ["en", "fr", "de", "es"]},
    graded="the continuation is French",
    doses=(0.5, 0.75, 1.0),
    bare="{question}",
    request="Continue this text in French. Write nothing but the continuation.\n\n{question}",
    plain_request="A text that begins in English and goes on in French:\n\n{question}",
    temperature=0.5,
    labelled="language-labelled",
)
SENTIMENT = Direction(
    name="sentiment",
    title="positive minus negative",
    contrast="positive sentences minus negative ones of the same form",
    read="all",
    prompts="open-beginnings",
    grader="sentiment",
    graded="the continuation sounds positive",
    doses=(1.0, 2.0, 3.0),
    bare="{question}",
    request="Continue this text in a happy, positive tone. Write nothing but the continuation.\n\n{question}",
    plain_request="A happy, positive text:\n\n{question}",
    temperature=0.5,
    labelled="sentiment-labelled",
)
STEPS = Direction(
    name="steps",
    title="step by step minus direct answer",
    contrast="word problems with the instruction to work step by step minus the same with the instruction to answer at once",
    read="last",
    prompts="one-step-problems",
    grader="numeric",
    graded="the final answer is the right number",
    doses=(0.5, 1.0, 2.0),
    bare="Question: {question}\nAnswer:",
    request="",
    plain_request="Question: {question}\nThink step by step before you answer.\nAnswer:",
    temperature=0.0,
)
DIRECTIONS = {one.name: one for one in (LANGUAGE, SENTIMENT, STEPS)}
