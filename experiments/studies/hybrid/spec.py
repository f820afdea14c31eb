"""What a hybrid experiment is made of, as data; its digest names the folder of its parts."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from steering.hybrid.training import Recipe
from steering.model.models import LoadedModel
from steering.model.sites import Site

from ...evaluation.loading import Loading
from ...tasks.task import TASKS, check_form


class HybridSpec(BaseModel):
    """Sizes of every part. Problems of the taxonomy, the rollouts and the held-out rollouts are training problems, drawn apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    base: str = "builtin:base"
    thinking: str = "builtin:thinking"
    loading: Loading | None = None
    """Precision, device and revisions of both."""
    form: str = "bare"
    """Prompt form of the base."""
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
    n_legacy: int = Field(default=50, ge=0)
    """Test problems per split of v1's selection rule, whose candidates are whole passes; 0 leaves it out."""

    @field_validator("form", "thinking_form")
    @classmethod
    def _forms(cls, form: str | None) -> str | None:
        return form if form is None else check_form(TASKS["find-start"], form)

    @property
    def asked(self) -> str:
        """Prompt form of the thinking model."""
        return self.thinking_form or self.form

    def recipe(self, seed: int) -> Recipe:
        return Recipe(epochs=self.epochs, hidden=self.hidden, seed=seed)

    def site(self, base: LoadedModel) -> Site:
        """Where the base is steered."""
        layer = 3 * base.n_layers // 8 if self.steering_layer is None else self.steering_layer
        return base.layout.check(Site(layer))

    def digest(self, base: LoadedModel, thinking: LoadedModel, *fields: str) -> str:
        """Hash of the models and of the fields that a part depends on: 12 hexadecimal digits."""
        facts: dict[str, Any] = {name: getattr(self, name) for name in fields}
        found = json.dumps([base.fingerprint, thinking.fingerprint, facts], sort_keys=True)
        return hashlib.sha256(found.encode()).hexdigest()[:12]
