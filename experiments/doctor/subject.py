"""A model under examination: prompts of random tokens, a site, a random direction, and what is read and written with them."""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from torch import Tensor

from steering.compile.compilation import RowPlan, compile_plans
from steering.engine.batch import Batch
from steering.engine.generation import Generation, Row, generate
from steering.engine.record import Progress
from steering.engine.sampling import GenerationSettings
from steering.model.cache import Masks
from steering.model.capture import capture
from steering.model.hooks import hooked
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import UNKNOWN, Provenance, SteeringVector

LENGTHS = (5, 9, 17)
"""Tokens of the prompts."""
TOKENS = 16
"""Tokens written."""


class Subject:
    """A model under examination: prompts, a site, a direction."""

    def __init__(self, model: LoadedModel):
        self.model = replace(model, extra={})
        self.model.__dict__.update(runs=model.runs, eos_ids=frozenset())  # texts of a random prompt may end at once
        rng = random.Random(0)
        special = {*model.tokenizer.all_special_ids, *model.eos_ids}
        size = min(len(model.tokenizer), model.model.get_input_embeddings().weight.shape[0])
        plain = [i for i in range(size) if i not in special]
        first = model.tokenizer.bos_token_id
        self.prompts = [
            (*([] if first is None else [first]), *(rng.choice(plain) for _ in range(n - (first is not None))))
            for n in LENGTHS
        ]
        self.site = Site(model.n_layers // 2)
        direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
        self.vector = SteeringVector(
            "self-test", self.site, direction / direction.norm(), Provenance("random", UNKNOWN, model_id=model.id)
        )
        with torch.inference_mode():
            (read,) = capture(model, self.prompts[-1:], [self.site])
        self.amount = 0.5 * float(read.values[self.site][0, 1:].float().norm(dim=-1).median())
        self.half = model.dtype != torch.float32
        self.settings = GenerationSettings(TOKENS)

    def plan(self, *amounts: float, span: str = "all") -> Plan:
        """One addition per amount, in units of half the activations' norm."""
        return Plan(tuple(Intervention("add", self.vector, Span(span), Dose(a * self.amount, "raw")) for a in amounts))

    def run(
        self, rows: list[Row], batch: int = 8, settings: GenerationSettings | None = None, invariant: bool = False
    ) -> list[Generation]:
        return generate(self.model, rows, settings or self.settings, batch_size=batch, invariant=invariant)

    def arranged(self) -> list[Row]:
        """Rows of every prompt, unsteered and steered."""
        plans = (Plan(), self.plan(1.0, span="generated"), self.plan(-1.0))
        return [Row(p, q, seed) for seed, p in enumerate(self.prompts) for q in plans]

    @torch.inference_mode()
    def read(self, plan: Plan, ids: tuple[int, ...], prompt: int) -> tuple[Tensor, Tensor]:
        """The stream after the site `[positions, d_model]` and the logits `[positions, vocabulary]` of a text read in one pass under a
        plan; its first `prompt` tokens are the prompt."""
        compiled = compile_plans([plan] if plan else [], self.model)
        batch = Batch(self.model, compiled, 1, len(ids), len(ids), Masks(self.model.runs.config))
        batch.column = len(ids)
        row = None
        if plan:
            row = RowPlan(compiled, plan, ids[:prompt], len(ids) - prompt, self.model)
            for offset, token in enumerate(ids[prompt:]):
                row.follow(prompt + offset, token)
        batch.seat(0, Progress(0, Row(ids), row))
        batch.refresh()
        batch.column = 0
        seen: dict[str, Tensor] = {}

        def look(hidden: Tensor) -> None:
            seen["stream"] = hidden[0].detach().float().clone()

        with self.model.runs.holding(batch.edits), hooked(self.model.layout, {self.site: look}):
            logits = batch.read(torch.tensor([ids], device=self.model.device), len(ids))
        return seen["stream"], logits[0].float()
