"""What a hybrid experiment is made of, as data; its digest names the folder of its parts.

1. Without a task said it is the built-in one: training problems are read, development splits choose, test splits report.
2. On another task the three are splits that the spec names, and no question serves two of them.
3. Base and thinking model may be one model that is asked in two forms.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from steering.hybrid.training import Recipe
from steering.model.models import LoadedModel
from steering.model.sites import Site

from ...evaluation.loading import Loading
from ...tasks.findstart import FindStart
from ...tasks.task import Task, check_form, resolve_task
from ..asking import Asking

DEVELOPMENT = ("standard-dev", "hard-dev")
TEST = ("standard-test", "hard-test", "new-map-test")
"""Splits of the built-in task."""


class HybridSpec(BaseModel):
    """Task, models and sizes of every part. Questions of the taxonomy, the rollouts and the held-out rollouts are drawn apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    base: str = "builtin:base"
    thinking: str = "builtin:thinking"
    loading: Loading | None = None
    """Precision, device and revisions of both."""
    task: str | dict[str, Any] = "find-start"
    read: dict[str, int] = Field(default_factory=dict)
    """Questions that are read, by split: traces first, then rollouts, then held-out rollouts. Training problems of the built-in task."""
    development: dict[str, int] = Field(default_factory=dict)
    """Questions that choose, by split; `n_dev` of each development split of the built-in task where none is named."""
    test: dict[str, int] = Field(default_factory=dict)
    """Questions that are reported, by split; `n` of each test split of the built-in task where none is named."""
    labeller: str = "lexicon"
    """Who names sentences outside the built-in task: the lexicon, or the file of a trained labeller (`steer probe labellers --out`)."""
    form: str = "bare"
    """Prompt form of the base."""
    reasoning: str = "think"
    """Prompt form that asks the base to think first: an arm of its own."""
    thinking_form: str | None = None
    """Prompt form of the thinking model; the base's by default."""
    traces: int = Field(default=600, ge=20)
    """Greedy traces of the thinking model that sentences are taken from."""
    sentences: int = Field(default=8000, ge=200)
    """Sentences an autoencoder is trained on, at most."""
    sizes: tuple[int, ...] = Field(default=(5, 10, 15), min_length=1)
    """Categories tried."""
    layers: tuple[int, ...] = ()
    """Layers of the thinking model tried; all by default."""
    judge: tuple[str, str] | None = None
    """Address and name of a judging model that names and scores categories; without one, labels do. Its key is read from the environment
    (STEER_JUDGE_KEY)."""
    rollouts: int = Field(default=1000, ge=8)
    """Sampled texts of the thinking model (temperature 0.6, top-p 0.95) that banks are trained on."""
    held_out: int = Field(default=200, ge=4)
    seeds: tuple[int, ...] = Field(default=(42, 43, 44), min_length=1)
    """Banks are trained from each; the best on development problems is kept."""
    epochs: int = Field(default=10, ge=1)
    hidden: int = Field(default=512, ge=1)
    steering_layer: int | None = None
    """By default 3/8 of the base's depth, the paper's rule (section 3.3)."""
    max_new_tokens: int = Field(default=360, ge=1)
    n: int = Field(default=200, ge=1)
    """Test problems per split."""
    n_dev: int = Field(default=64, ge=1)
    """Development problems per split."""
    n_random: int = Field(default=60, ge=1)
    """Test problems per split on which the hybrid stands beside banks of random vectors."""
    n_random_entropy: int = Field(default=60, ge=0)
    """Test problems per split on which the entropy gate stands beside banks of random vectors; 0 leaves that out."""
    n_legacy: int = Field(default=50, ge=0)
    """Test problems per split of v1's selection rule, whose candidates are whole passes; 0 leaves it out."""

    @model_validator(mode="after")
    def _asked_of_the_task(self) -> HybridSpec:
        for name in ("form", "thinking_form", "reasoning"):
            if (form := getattr(self, name)) is not None:
                check_form(self.found, form, f"{name}, task {self.found.name}")
        if not self.builtin and not (self.read and self.development and self.test):
            raise ValueError(
                f"read, development and test: task {self.found.name} needs all three, as split: count, and "
                f"{', '.join(name for name in ('read', 'development', 'test') if not getattr(self, name))} is not given"
            )
        if self.builtin and self.labeller != "lexicon":
            raise ValueError("labeller: the built-in task has exact labels; a labeller is for another task")
        if self.base == self.thinking and self.asked == self.form:
            raise ValueError("thinking_form: base and thinking model are one, asked in one form; give another one")
        return self

    @property
    def found(self) -> Task:
        """The task. Raises BadInput."""
        return resolve_task(self.task)

    @property
    def builtin(self) -> bool:
        """Whether the task is the built-in one, whose labels are exact."""
        return isinstance(self.found, FindStart)

    @property
    def asked(self) -> str:
        """Prompt form of the thinking model."""
        return self.thinking_form or self.form

    def chosen_on(self) -> dict[str, int]:
        """Development questions, by split."""
        return self.development or dict.fromkeys(DEVELOPMENT, self.n_dev)

    def reported(self, most: int | None = None) -> dict[str, int]:
        """Test questions, by split, at most `most` of each."""
        splits = self.test or dict.fromkeys(TEST, self.n)
        return splits if most is None else {split: min(n, most) for split, n in splits.items()}

    def check_questions(self) -> None:
        """Raises BadInput where one question would be read and chosen on, or chosen on and reported."""
        read = {} if self.builtin else self.read
        Asking(self.task, self.form, self.reasoning, (), read, self.chosen_on(), self.reported()).check()

    def recipe(self, seed: int) -> Recipe:
        return Recipe(epochs=self.epochs, hidden=self.hidden, seed=seed)

    def site(self, base: LoadedModel) -> Site:
        """Where the base is steered."""
        layer = 3 * base.n_layers // 8 if self.steering_layer is None else self.steering_layer
        return base.layout.check(Site(layer))

    def digest(self, base: LoadedModel, thinking: LoadedModel, *fields: str, **others: Any) -> str:
        """Hash of the models, of the fields that a part depends on, and of `others`: 12 hexadecimal digits."""
        facts: dict[str, Any] = {name: getattr(self, name) for name in fields} | others
        found = json.dumps([base.fingerprint, thinking.fingerprint, facts], sort_keys=True)
        return hashlib.sha256(found.encode()).hexdigest()[:12]
