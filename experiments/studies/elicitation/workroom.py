"""Where a card works: models, store, runs, and parts that are made once.

An evaluation of a card is a run of the store; a part is a JSON file under `.elicitation`, named by everything that it depends on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from steering.hybrid import Controller
from steering.model.models import LoadedModel
from steering.vector.features import Features
from steering.vector.vectors import SteeringVector

from ...evaluation.evaluate import run_evaluation
from ...evaluation.executors import for_rows
from ...evaluation.loading import load
from ...evaluation.rows import models_of
from ...evaluation.spec import EvalSpec, Generating
from ...progress import progress, warning
from ...store.files import write_whole
from ...store.runs import Arm, Run, Store
from .asked import Elicit, Setting
from .findings import FOLDER


class Workroom:
    """The models are loaded when they are first asked for."""

    def __init__(self, asked: Elicit, store: Store, console: Console, models: dict[str, LoadedModel] | None = None):
        self.asked, self.store, self.console = asked, store, console
        self.models = {} if models is None else models
        self.runs: list[str] = []
        """Ids of the runs that were made or read."""
        self.remarks: list[str] = []
        """What is to be said of the questions: unknown to a tokenizer, asked twice."""

    def model(self, name: str) -> LoadedModel:
        if name not in self.models:
            self.models[name] = load(name, self.asked.loading)
        return self.models[name]

    @cached_property
    def base(self) -> LoadedModel:
        return self.model(self.asked.base)

    @property
    def pair(self) -> dict[str, LoadedModel]:
        """The models that are asked about, by name."""
        names = [self.asked.base, *([self.asked.thinking] if self.asked.thinking else [])]
        return {name: self.model(name) for name in names}

    @property
    def folder(self) -> Path:
        return self.store.root / FOLDER

    def arm(self, setting: Setting, name: str, label: str, role: str = "steered", **given: Any) -> Arm:
        """An arm of the base in a setting's form."""
        facts = {"model": self.asked.base, "form": setting.form} | given
        return Arm(name=name, label=label, role=role, **facts)  # type: ignore[arg-type]

    def references(self, setting: Setting, how: str = "greedy") -> list[Arm]:
        """The base (decoded as `how` says), its think-first prompt where the setting is another, and the thinking model."""
        arms = [self.arm(setting, "base", f"base, {how}", "baseline")]
        if setting.form != self.asked.think:
            arms.append(self.arm(setting, "prompt", "base, asked to think first", "prompt", form=self.asked.think))
        if self.asked.thinking:
            arms.append(self.arm(setting, "thinking", "thinking model", "reference", model=self.asked.thinking))
        return arms

    def evaluate(
        self,
        card: str,
        setting: Setting,
        arms: Sequence[Arm],
        n: int,
        vectors: Mapping[str, SteeringVector | Features] | None = None,
        what: str = "",
        controllers: Sequence[Controller] = (),
        task: str | dict[str, Any] | None = None,
        **generating: Any,
    ) -> Run:
        """One run of the store: arms on a setting's questions, greedy unless `generating` says otherwise; `task` is another task than the
        one that is asked about, such as its twins."""
        settings = {"max_new_tokens": self.asked.max_new_tokens} | generating
        spec = EvalSpec(
            name=f"elicit-{card}",
            task=self.asked.task if task is None else task,
            splits={setting.split: n},
            arms=tuple(arms),
            generation=Generating(**settings),
            loading=self.asked.loading,
        )
        with progress(f"{card}: {setting.name}{f', {what}' if what else ''}", self.console) as report:
            known = {rule.digest: rule for rule in controllers}
            asked = {name: self.model(name) for name in models_of(spec)}
            rows = n * len(arms) * len(spec.generation.seeds)
            run = run_evaluation(
                spec, self.store, vectors, known, models=self.models, on_rows=report, executor=for_rows(rows, asked)
            )
        self.runs.append(run.manifest.run_id)
        for words in run.manifest.facts.get("questions", []):
            if words not in self.remarks:
                self.remarks.append(words)
                warning(words, self.console)
        return run

    def part(self, name: str, facts: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """A part that is plain JSON data: read where it was made before, else made and written whole."""
        path = self.folder / "parts" / f"{name}-{self.asked.digest(self.pair, part=name, **facts)}.json"
        if path.exists():
            return json.loads(path.read_bytes())
        made = json.loads(json.dumps(make(), allow_nan=False, sort_keys=True))  # in the order in which it is read again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(made, indent=1, sort_keys=True) + "\n").encode())
        return made
