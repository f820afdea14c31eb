"""Tasks: items, prompts and grades. Data sets, generated tasks and the built-in task look alike from here.

1. Items of a split are a pure function of (split, n): the first n of a longer list are the shorter list.
2. `digest` covers what decides a grade beside a row's prompt and item: grader, mapping of fields, difficulty. Where a data set lies, and
   prompt forms that an arm does not use, are no part of it; the ids of the prompt and of the item are parts of row keys themselves.
3. The built-in task's digest is its name.
4. Whatever is wrong with a task's spec is refused before a model runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steering.errors import BadInput, unknown
from steering.model.prompts import encode_prompt
from steering.model.reader import Reads
from steering.model.thinking import Markers, as_markers

from .conversation import conversation_of
from .datasets import KNOWN, Question, Source, questions
from .findstart import FindStart, parse_find_start
from .formed import Formed
from .graders.grade import NOTHING, Grade, Grader, Known
from .graders.table import grader_named
from .gym import Gym
from .items import Item
from .labellers import Labeller, labeller_named
from .prompting import SLOT, Form, as_form
from .protocols import Encodes, Labels, Task
from .rewording import Reworded, as_words
from .short import Short
from .single import OneQuestion
from .templated import Templated, as_template
from .twins import parse_twin, twin_of

__all__ = [
    "TASKS",
    "DatasetTask",
    "Encodes",
    "FindStart",
    "Grade",
    "Item",
    "Labels",
    "Task",
    "asked_ids",
    "check_form",
    "resolve_task",
    "task_named",
]

FORMS = {
    "bare": Form(),
    "cot": Form(template=SLOT + "\n\nThink step by step, and put the final answer within \\boxed{}."),
    "chat": Form(template=SLOT + "\n\nPut the final answer within \\boxed{}.", chat=True),
}
"""Forms of a data set whose spec names none."""


@dataclass(frozen=True)
class DatasetTask(Formed):
    """A data set with a grader and prompt forms."""

    source: Source
    grader: Grader
    given: Mapping[str, Form]
    folder: Path = field(default=Path(), compare=False)
    markers: tuple[Markers, ...] = ()
    """What stands around a thinking segment in its responses; by default what the model's template writes, or one of the known pairs."""
    labeller: Labeller | None = None
    """Who labels the sentences of its responses; nobody by default."""

    @property
    def name(self) -> str:
        return self.source.dataset

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.source.splits)

    @property
    def asked(self) -> Mapping[str, Form]:
        return self.given

    @property
    def digest(self) -> str:
        facts: dict[str, Any] = {"mapping": self.source.mapping, "grader": self.grader.facts}
        if self.markers:
            facts["thinking"] = [[m.opening, m.closing] for m in self.markers]
        if self.labeller:
            facts["labels"] = self.labeller.detector
        return f"data-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]}"

    def items(self, split: str, n: int) -> list[Item]:
        return [Item(q.id, q.gold, q) for q in questions(self.source, split, n, self.folder)]

    def question(self, item: Item) -> str:
        own: Question = item.data
        return own.question

    def grade(self, item: Item, text: str, known: Known = NOTHING) -> Grade:
        known = replace(known, markers=self.markers) if self.markers else known
        return self.grader.grade(self.question(item), item.gold, text, known)


TASKS: dict[str, Task] = {"find-start": FindStart()}


def resolve_task(spec: str | Mapping[str, Any], folder: Path | None = None) -> Task:
    """The task of an evaluation's spec; files are looked for in `folder`.

    A string: `find-start`, `find-start:rules=2-3,candidates=4-6`, `find-start:twin=renamed` (`twins`), `short:NAME`, `reasoning-gym:NAME`,
    or a known data set (`gsm8k`, ...).
    A mapping:
    `dataset` (one of those, a file or a hub id) with `question`, `answer`, `id`, `options`, `extract`, `splits`, `grader`, `forms`,
    `thinking` (markers of the thinking segment in responses: `[opening, closing]`, or a list of such pairs), `labels` (who labels the
    sentences of responses: `lexicon`, or the file of a trained labeller).
    `{dataset: one-question, item | prompt}` is a single question (`single`), `{dataset: conversation, turns}` one of several turns
    (`conversation`), `{dataset: templates, task, templates}` a task asked through further templates (`templated`).
    `words` (and `draw`) beside any task of questions: the same in other words (`rewording`).
    Raises BadInput.
    """
    if isinstance(spec, str):
        if spec in TASKS:
            return TASKS[spec]
        if spec.startswith("find-start:"):
            return parse_twin(spec) if "twin=" in spec.replace(" ", "") else parse_find_start(spec)
        if spec.startswith("reasoning-gym:"):
            return Gym(spec.partition(":")[2])
        if spec.startswith("short:"):
            return Short(spec.partition(":")[2])
        if spec not in KNOWN and "/" not in spec and "." not in spec:
            raise unknown("task", spec, [*TASKS, "short:NAME", "reasoning-gym:NAME", *KNOWN])
        spec = {"dataset": spec}
    given = dict(spec)
    name = given.get("dataset")
    if not isinstance(name, str):
        raise BadInput("A task that is a mapping names its `dataset`: a known name, a file, or a hub id.")
    if "words" in given:
        words = as_words(given.pop("words"), given.pop("draw", 0))
        return Reworded(resolve_task(given, folder), words)
    if name == "find-start":
        del given["dataset"]
        own = _only(given, ("rules", "candidates", "twin", "draw"), name)
        ranges = {key: own[key] for key in ("rules", "candidates") if key in own}
        of = FindStart.ranged(**ranges) if ranges else FindStart()
        return twin_of(of, own) if {"twin", "draw"} & own.keys() else of
    if name.startswith("reasoning-gym:"):
        del given["dataset"]
        own = _only(given, ("seed", "options", "forms"), name)
        return Gym(
            name.partition(":")[2],
            **{k: v for k, v in own.items() if k != "forms"},
            given=_forms(own.get("forms")),
        )
    if name.startswith("short:"):
        del given["dataset"]
        own = _only(given, ("labels",), name)
        who = labeller_named(str(_beside(own["labels"], folder))) if own.get("labels") is not None else None
        return Short(name.partition(":")[2], who)
    if name == "one-question":
        del given["dataset"]
        own = _only(given, ("item", "prompt"), name)
        return OneQuestion(own.get("item"), own.get("prompt"))
    if name == "conversation":
        del given["dataset"]
        return conversation_of(_only(given, ("turns", "thinking"), name))
    if name == "templates":
        del given["dataset"]
        return _templated(_only(given, ("task", "templates"), name), folder)
    grader = grader_named(given.pop("grader", "math"))
    markers = as_markers(given.pop("thinking")) if given.get("thinking") is not None else ()
    forms, system, labels = given.pop("forms", None), given.pop("system", None), given.pop("labels", None)
    labeller = None if labels is None else labeller_named(str(_beside(labels, folder)))
    try:
        asked = {str(k): as_form(v) for k, v in (forms or FORMS).items()}
        if system is not None:
            asked = {
                k: f.model_copy(update={"system": system}) if f.chat and f.system is None else f
                for k, f in asked.items()
            }
            if not any(f.chat for f in asked.values()):
                raise BadInput(
                    "task.system is for chat forms, and there is none; set `chat: true`, or write it into the template."
                )
        source = Source.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["task", *map(str, first["loc"])])
        raise BadInput(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
    return DatasetTask(source, grader, asked, folder or Path(), markers, labeller)


def _templated(given: Mapping[str, Any], folder: Path | None) -> Templated:
    """A task asked through further templates. Raises BadInput."""
    templates = given.get("templates")
    if not isinstance(given.get("task"), str | Mapping) or not isinstance(templates, Mapping):
        raise BadInput(
            "Task templates names a `task` (a name or a mapping) and `templates` (each a text or a prompt form, by name)."
        )
    try:
        known = {str(name): as_template(form) for name, form in templates.items()}
    except ValidationError as error:
        raise BadInput(f"task.templates: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
    return Templated(resolve_task(given["task"], folder), known)


def _forms(given: Mapping[str, Any] | None) -> dict[str, Form] | None:
    """A task's own prompt forms. Raises BadInput."""
    try:
        return {str(name): as_form(form) for name, form in given.items()} if given else None
    except ValidationError as error:
        raise BadInput(f"task.forms: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error


def _beside(name: Any, folder: Path | None) -> Any:
    """A file in `folder` where there is one, else the name as it is."""
    place = (folder or Path()) / str(name)
    return place if place.is_file() else name


def _only(given: dict[str, Any], valid: tuple[str, ...], name: str) -> dict[str, Any]:
    for key in given:
        if key not in valid:
            raise unknown("field", key, valid, where=f"task {name}")
    return given


def asked_ids(task: Task, model: Reads, item: Item, form: str) -> tuple[int, ...]:
    """The ids that a model is fed for an item in a form, through its chat template where the form says so."""
    if isinstance(task, Encodes):
        return task.encode(model, item, form)
    return encode_prompt(model, task.prompt(item, form))


def check_form(task: Task, form: str, where: str = "") -> str:
    """The form, if the task has it. Raises BadInput that lists those it has; `where` says who asked, by default the task."""
    if form not in task.forms:
        raise unknown("prompt form", form, task.forms, where or f"task {task.name}")
    return form


def task_named(name: str | Mapping[str, Any]) -> Task:
    """`resolve_task` under its former name."""
    return resolve_task(name)
