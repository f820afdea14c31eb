"""The rows of an evaluation: what is to be generated, in which chunks, under which keys.

1. A chunk is what is generated in one call and stored in one shard: rows of one way of running (a model with plans, or a pair with
   controllers), blocks of items crossed with all their arms and seeds. It depends on the spec alone, so a chunk that is run again, here or
   elsewhere, gives the same bytes.
2. A row's key is a hash of everything that its content depends on: weights, tokenizer, the ids that end a text, task, prompt as fed,
   steering, settings, seed.
3. The seed of a row's random stream is shared by the arms (common random numbers) and differs between items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from steering.engine.generation import Row, check_invariant, check_rows
from steering.engine.sampling import DRAW
from steering.errors import BadInput
from steering.hybrid import Controller, HybridRow
from steering.hybrid.decoding import check_hybrid_rows
from steering.model.models import LoadedModel
from steering.model.prompts import encode_prompt
from steering.model.sinks import sinks_of
from steering.model.thinking import declared_markers
from steering.plan.plan import Plan
from steering.vector.features import Features
from steering.vector.vectors import SteeringVector

from ..decoders.named import decoder_named
from ..store.manifest import Arm
from ..tasks.items import stream_seed
from ..tasks.task import Encodes, Item, Task

if TYPE_CHECKING:
    from .spec import EvalSpec

ROW_VERSION = 2
"""Part of every row key; raised when the engine changes what a row contains."""
CHUNK_ROWS = 96
"""Rows of a chunk where the spec does not say."""
BESIDE = ("thinking", "thinking_form")
"""Keys of an arm's controller that say which model runs beside, and how it is asked."""


class Way(NamedTuple):
    """How rows run: arms of one way share calls of the engine."""

    model: str
    hybrid: bool
    beside: str | None
    """The thinking model that runs beside."""
    work: str | None = None
    """What a decoder's candidates depend on, as JSON; None without one."""


@dataclass(frozen=True)
class Planned:
    """One row to be generated, with everything needed to grade and store it."""

    key: str
    arm: Arm
    split: str
    order: int
    item: Item
    seed: int
    prompt: str
    row: Row | HybridRow


@dataclass(frozen=True)
class Parts:
    """What a spec names: the task, its models, vectors and features by digest, and each hybrid arm's controller."""

    task: Task
    models: Mapping[str, LoadedModel]
    vectors: Mapping[str, SteeringVector | Features]
    rules: Mapping[str, Controller]


def way_of(arm: Arm) -> Way:
    """How an arm's rows run."""
    work = json.dumps(decoder_named(arm.decoder).work, sort_keys=True) if arm.decoder else None
    return Way(arm.model, arm.controller is not None, arm.controller.get("thinking") if arm.controller else None, work)


def models_of(spec: EvalSpec) -> list[str]:
    """Every model that a spec needs, in order of appearance."""
    return list(dict.fromkeys(n for arm in spec.arms for n in (arm.model, way_of(arm).beside) if n))


def rules_of(spec: EvalSpec, controllers: Mapping[str, Controller]) -> dict[str, Controller]:
    """Controller of each arm that has one. Raises BadInput for one that was not given, or needs a model that the arm does not name."""
    rules = {}
    for arm in spec.arms:
        if arm.controller is None:
            continue
        facts = {key: value for key, value in arm.controller.items() if key not in BESIDE}
        found = next((rule for rule in controllers.values() if rule.facts == facts), None)
        if found is None:
            raise BadInput(f"Arm {arm.name!r} names a controller that was not given with the spec: {facts}.")
        if found.needs_thinking != (way_of(arm).beside is not None):
            verb = "needs a" if found.needs_thinking else "takes no"
            raise BadInput(f"Arm {arm.name!r}: its controller {verb} thinking model.")
        rules[arm.name] = found
    return rules


def chunks_of(spec: EvalSpec, parts: Parts) -> Iterator[list[Planned]]:
    """The rows in chunks: per split and way of running, blocks of items crossed with all arms that run so and all seeds."""
    for split, n in spec.splits.items():
        items = list(enumerate(parts.task.items(split, n)))
        for way in dict.fromkeys(map(way_of, spec.arms)):
            arms = [arm for arm in spec.arms if way_of(arm) == way]
            plans = {arm.name: Plan.from_dict(arm.plan, parts.vectors) if arm.plan else Plan() for arm in arms}
            per_item = len(arms) * len(spec.generation.seeds)
            block = max(1, (spec.rows_per_chunk or CHUNK_ROWS) // per_item)
            for start in range(0, len(items), block):
                chunk: list[Planned] = []
                for order, item in items[start : start + block]:
                    for arm in arms:
                        chunk += _planned(spec, parts, arm, plans[arm.name], split, order, item)
                yield chunk


def _planned(
    spec: EvalSpec, parts: Parts, arm: Arm, plan: Plan, split: str, order: int, item: Item
) -> Iterator[Planned]:
    """The rows of one item under one arm: one per seed."""
    model, beside = parts.models[arm.model], way_of(arm).beside
    prompt, ids = _fed(parts.task, model, item, arm.form, arm.opening)
    for seed in spec.generation.seeds:
        stream, steering = stream_seed(item.id, seed), plan.digest if plan else None
        row: Row | HybridRow = Row(ids, plan, stream, arm.begun)
        if arm.name in parts.rules:
            rule, form, thinking = parts.rules[arm.name], (arm.controller or {}).get("thinking_form"), []
            asked = None
            if beside:  # through its own template, in its own form where it has one
                asked = _fed(parts.task, parts.models[beside], item, form or arm.form, arm.opening)[1]
            row = HybridRow(ids, rule, asked, stream)
            if beside:
                thinking = [parts.models[beside].fingerprint, row.theirs]
            steering = json.dumps([rule.digest, *thinking])
        yield Planned(
            _row_key(spec, parts.task, model, arm, steering, item, ids, seed),
            arm,
            split,
            order,
            item,
            seed,
            prompt,
            row,
        )


def _fed(task: Task, model: LoadedModel, item: Item, form: str, opening: str = "") -> tuple[str, tuple[int, ...]]:
    """The prompt as text and as the ids that a model is fed."""
    if isinstance(task, Encodes):
        return task.fed_text(model, item, form, opening), task.encode(model, item, form, opening)
    prompt = task.prompt(item, form) + opening
    return prompt, encode_prompt(model, prompt)


def _row_key(
    spec: EvalSpec,
    task: Task,
    model: LoadedModel,
    arm: Arm,
    steering: str | None,
    item: Item,
    ids: tuple[int, ...],
    seed: int,
) -> str:
    settings = spec.generation.model_dump(exclude={"seeds"})
    facts = [
        ROW_VERSION, model.fingerprint, model.tokenizer_fingerprint, steering, settings, task.digest, arm.name,
        item.id, list(ids), seed,
    ]  # fmt: skip
    if arm.decoder:
        facts.append(["decoder", arm.decoder])
    if arm.begun:
        facts.append(["begun", *arm.begun])
    if markers := declared_markers(model):  # those of a template are part of the tokenizer
        facts.append([[m.opening, m.closing] for m in markers])
    ends = sorted(model.eos_ids)
    if ends != [model.tokenizer.eos_token_id]:  # the tokenizer's own end is in its fingerprint; others end rows too
        facts.append(ends)
    if spec.generation.temperature > 0:  # rows drawn another way are other rows; greedy ones stay what they are
        facts.append(DRAW)
    if spec.batch_invariant:
        facts.append("batch-invariant")
    if arm.plan is not None and (sinks := sinks_of(model)):  # spans leave them out
        facts.append(["sinks", *sinks.positions])
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def check_chunk(chunk: Sequence[Planned], spec: EvalSpec, models: Mapping[str, LoadedModel]) -> None:
    """Raises BadInput for rows that cannot run, without running a model."""
    way, settings, rows = way_of(chunk[0].arm), spec.generation.settings(), [planned.row for planned in chunk]
    if way.hybrid:
        if spec.batch_invariant:
            raise BadInput(
                f"Arm {chunk[0].arm.name!r} is a hybrid of two models, which cannot run batch-invariant; leave batch_invariant out."
            )
        beside = models[way.beside] if way.beside else None
        check_hybrid_rows(models[way.model], beside, rows, settings)  # type: ignore[arg-type]
    else:
        check_rows(models[way.model], rows, settings)  # type: ignore[arg-type]
        for facts in {json.dumps(p.arm.decoder): p.arm.decoder for p in chunk if p.arm.decoder}.values():
            decoder_named(facts).check(models[way.model], settings)
        if spec.batch_invariant and way.work is not None:
            raise BadInput(
                f"Arm {chunk[0].arm.name!r} has a decoder, which cannot run batch-invariant; leave batch_invariant out."
            )
        if spec.batch_invariant:
            check_invariant(models[way.model])
