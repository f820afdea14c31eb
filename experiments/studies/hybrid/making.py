"""Models, questions and the folder of parts of one hybrid experiment.

Parts lie under `<runs>/.hybrid/<part>-<digest>`, named by the models and by what of the spec they depend on: another spec that shares
a part reuses it, and nothing stale can be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from probes.labels import BehaviourLabel
from steering.hybrid import Controller
from steering.hybrid.alignment import check_vocabularies
from steering.model.models import LoadedModel
from steering.model.sites import Site

from ...evaluation.evaluate import run_evaluation
from ...evaluation.loading import load
from ...evaluation.spec import EvalSpec, Generating
from ...progress import progress
from ...store.runs import Run, Store
from ...tasks.labellers import labeller_named
from ...tasks.remarks import say
from ...tasks.task import asked_ids
from .spec import HybridSpec
from .texts import question_items


class Making:
    """The models, the folder of parts, and how talk is made."""

    def __init__(self, spec: HybridSpec, store: Store, console: Console):
        self.spec, self.store, self.console = spec, store, console
        self.models: dict[str, LoadedModel] = {name: load(name, spec.loading) for name in (spec.base, spec.thinking)}
        self.base, self.thinking = self.models[spec.base], self.models[spec.thinking]
        check_vocabularies(self.base, self.thinking)
        self.site = spec.site(self.base)
        for layer in spec.layers:
            self.thinking.layout.check(Site(layer))
        spec.check_questions()
        self.task = spec.found
        self.items = question_items(spec, self.task)
        self.detector: str = "grammar"
        self.label: Callable[[str], tuple[BehaviourLabel, ...]] | None = None
        if not spec.builtin:
            labeller = labeller_named(spec.labeller)
            self.detector, self.label = labeller.detector, labeller.label

    def say(self) -> None:
        """Warn of questions that are repeated, or that a model does not know."""
        splits = {**self.spec.chosen_on(), **self.spec.reported()}
        items = {"read": [item for own in self.items.values() for item in own]}
        items |= {split: self.task.items(split, n) for split, n in splits.items()}
        forms = ((self.base, self.spec.form), (self.base, self.spec.reasoning), (self.thinking, self.spec.asked))
        say(self.task, items, forms, self.console)

    def place(self, part: str, *fields: str) -> Path:
        """Where a part lies that depends on these fields of the spec, and on what is asked."""
        return (
            self.store.root / ".hybrid" / f"{part}-{self.spec.digest(self.base, self.thinking, *fields, **self._read)}"
        )

    @cached_property
    def _read(self) -> dict[str, str]:
        """Outside the built-in task: every prompt that is read, and who labels."""
        if self.spec.builtin:
            return {}
        fed = [
            self.prompts(model, use, form)
            for use in self.items
            for model, form in ((self.base, self.spec.form), (self.thinking, self.spec.asked))
        ]
        return {
            "task": self.task.digest,
            "labels": self.detector,
            "fed": hashlib.sha256(json.dumps(fed).encode()).hexdigest(),
        }

    def prompts(self, model: LoadedModel, use: str, form: str) -> list[tuple[int, ...]]:
        """Ids of the prompts of a use's questions, as an evaluation feeds them."""
        return [asked_ids(self.task, model, item, form) for item in self.items[use]]

    def evaluate(self, name: str, arms: list[Any], rules: list[Controller], splits: dict[str, int], label: str) -> Run:
        """One run of the store."""
        spec = EvalSpec(
            name=name,
            task=self.spec.task,
            splits=splits,
            arms=tuple(arms),
            generation=Generating(max_new_tokens=self.spec.max_new_tokens),
            loading=self.spec.loading,
        )
        known = {rule.digest: rule for rule in rules}
        with progress(label, self.console) as report:
            return run_evaluation(spec, self.store, controllers=known, models=self.models, on_rows=report)
