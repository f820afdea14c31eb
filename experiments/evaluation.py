"""Evaluation: arms on the same items with the same budget, stored row by row.

1. Everything is checked before the first forward pass: models, task, splits, forms, plans, prompt lengths.
2. Arms that share a model share batches, so conditions that are compared run in the same batch geometry.
3. Rows are stored in chunks whose content depends on the spec alone: an interrupted run that is started again redoes only what is not
   stored and ends with the same bytes.
4. An arm with a controller is a hybrid of its model and, where the controller needs one, a thinking model fed the same prompt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from steering.engine import Generation, Row, check_rows, generate
from steering.errors import BadInput
from steering.features import Features, load_stored
from steering.hybrid import Controller, HybridRow, decode
from steering.hybrid.decoding import check_hybrid_rows
from steering.hybrid.row import HybridGeneration
from steering.models import LoadedModel, load_model
from steering.plan import Plan
from steering.prompts import encode_prompt, token_texts
from steering.sampling import GenerationSettings
from steering.vectors import SteeringVector

from .hybrid.stored import keep_controllers
from .store import Arm, Manifest, Run, Store
from .tasks import Item, Task, task_named

ROW_VERSION = 1
"""Part of every row key; raised when the engine changes what a row contains."""
CHUNK_ROWS = 96


class Generating(BaseModel):
    """Generation settings of a spec; `seeds` has one entry per sample of an item."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    max_new_tokens: int = Field(default=360, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_k: int | None = None
    top_p: float | None = None
    seeds: tuple[int, ...] = (0,)

    def settings(self) -> GenerationSettings:
        return GenerationSettings(self.max_new_tokens, self.temperature, self.top_k, self.top_p)


class EvalSpec(BaseModel):
    """What to run. The digest of the spec, the weights and the vectors names the run."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    task: str = "find-start"
    splits: dict[str, int]
    arms: tuple[Arm, ...]
    generation: Generating = Generating()


@dataclass(frozen=True)
class _Planned:
    """One row to be generated, with everything needed to grade and store it."""

    key: str
    arm: Arm
    split: str
    order: int
    item: Item
    seed: int
    prompt: str
    row: Row | HybridRow


def run_evaluation(
    spec: EvalSpec,
    store: Store,
    vectors: Mapping[str, SteeringVector | Features] | None = None,
    controllers: Mapping[str, Controller] | None = None,
    *,
    models: dict[str, LoadedModel] | None = None,
    on_rows: Callable[[int, int], None] | None = None,
) -> Run:
    """Run or resume an evaluation; returns the run, sealed with its summary.

    `vectors` maps digests to vectors and features named by the arms' plans; `controllers` maps digests to the controllers that the arms
    name; `models` is a cache shared between calls;
    `on_rows(done, total)` reports progress. Raises BadInput before any forward pass. On KeyboardInterrupt the run is marked
    interrupted and keeps every stored chunk.
    """
    from .summary import summarise, to_json

    models = {} if models is None else models
    vectors = vectors or {}
    task = task_named(spec.task)
    rules = _rules(spec, controllers or {})
    for name in dict.fromkeys(n for arm in spec.arms for n in (arm.model, _beside(arm)) if n):
        models.setdefault(name, load_model(name))
    chunks = list(_chunks(spec, task, models, vectors, rules))
    for chunk in chunks:
        _check(chunk, models, spec)
    run = store.create(_manifest(spec, models, vectors, chunks))
    for vector in vectors.values():
        path = run.folder / "vectors" / f"{vector.digest}.safetensors"
        if not path.exists():
            vector.save(path)
    keep_controllers(run.folder, rules.values())
    stored = run.keys(drop_corrupt=True)
    total = sum(map(len, chunks))
    done = 0
    try:
        for chunk in chunks:
            missing = [planned for planned in chunk if planned.key not in stored]
            if missing:
                run.set_status("running")
                model, generations = models[chunk[0].arm.model], _generated(missing, models, spec)
                run.write([_record(model, task, p, g) for p, g in zip(missing, generations, strict=True)])
            done += len(chunk)
            if on_rows is not None:
                on_rows(done, total)
    except BaseException:
        run.set_status("interrupted")
        raise
    if run.manifest.status != "complete" or run.summary() is None:
        run.write_summary(json.loads(to_json(summarise(run.table(), run.manifest))))
        run.set_status("complete")
    return run


BESIDE = ("thinking", "thinking_form")
"""Keys of an arm's controller that say which model runs beside, and how it is asked."""


def _beside(arm: Arm) -> str | None:
    """The thinking model that runs beside an arm's own."""
    return arm.controller.get("thinking") if arm.controller else None


def _asked(
    task: Task, item: Item, arm: Arm, beside: str | None, models: Mapping[str, LoadedModel]
) -> tuple[int, ...] | None:
    """The prompt as the thinking model is fed it, where it is asked in another form than the base."""
    form = (arm.controller or {}).get("thinking_form")
    return encode_prompt(models[beside], task.prompt(item, form)) if beside and form else None


def _rules(spec: EvalSpec, controllers: Mapping[str, Controller]) -> dict[str, Controller]:
    """Controller of each arm that has one. Raises BadInput for one that was not given, or needs a model that the arm does not name."""
    rules = {}
    for arm in spec.arms:
        if arm.controller is None:
            continue
        facts = {key: value for key, value in arm.controller.items() if key not in BESIDE}
        found = next((rule for rule in controllers.values() if rule.facts == facts), None)
        if found is None:
            raise BadInput(f"Arm {arm.name!r} names a controller that was not given with the spec: {facts}.")
        if found.needs_thinking != (_beside(arm) is not None):
            raise BadInput(
                f"Arm {arm.name!r}: its controller {'needs' if found.needs_thinking else 'takes no'} thinking model."
            )
        rules[arm.name] = found
    return rules


def _check(chunk: Sequence[_Planned], models: Mapping[str, LoadedModel], spec: EvalSpec) -> None:
    model, settings = models[chunk[0].arm.model], spec.generation.settings()
    rows = [planned.row for planned in chunk]
    if chunk[0].arm.controller is None:
        check_rows(model, rows, settings)  # type: ignore[arg-type]
    else:
        beside = _beside(chunk[0].arm)
        check_hybrid_rows(model, models[beside] if beside else None, rows, settings)  # type: ignore[arg-type]


def _generated(chunk: Sequence[_Planned], models: Mapping[str, LoadedModel], spec: EvalSpec) -> Sequence[Generation]:
    """The rows of one chunk: all plans of one model, or all hybrids of one pair."""
    model, settings = models[chunk[0].arm.model], spec.generation.settings()
    rows: Any = [planned.row for planned in chunk]
    if chunk[0].arm.controller is None:
        return generate(model, rows, settings, batch_size=len(rows))
    beside = _beside(chunk[0].arm)
    return decode(model, models[beside] if beside else None, rows, settings, batch_size=len(rows))


def _chunks(
    spec: EvalSpec,
    task: Task,
    models: Mapping[str, LoadedModel],
    vectors: Mapping[str, SteeringVector | Features],
    rules: Mapping[str, Controller],
) -> Iterator[list[_Planned]]:
    """Rows in batches: per split and way of running, blocks of items crossed with all arms that run so and all seeds."""

    def way(arm: Arm) -> tuple[str, bool, str | None]:
        return arm.model, arm.controller is not None, _beside(arm)

    for split, n in spec.splits.items():
        items = list(enumerate(task.items(split, n)))
        for kind in dict.fromkeys(map(way, spec.arms)):
            model, arms = models[kind[0]], [arm for arm in spec.arms if way(arm) == kind]
            plans = {arm.name: Plan.from_dict(arm.plan, vectors) if arm.plan else Plan() for arm in arms}
            per_item = len(arms) * len(spec.generation.seeds)
            block = max(1, CHUNK_ROWS // per_item)
            for start in range(0, len(items), block):
                chunk = []
                for order, item in items[start : start + block]:
                    for arm in arms:
                        prompt = task.prompt(item, arm.form) + arm.opening
                        ids = encode_prompt(model, prompt)
                        for seed in spec.generation.seeds:
                            stream, steering = _row_seed(item.id, seed), None
                            row: Row | HybridRow = Row(ids, plans[arm.name], stream)
                            if arm.name in rules:
                                theirs = _asked(task, item, arm, kind[2], models)
                                row = HybridRow(ids, rules[arm.name], theirs, stream)
                                thinking = [models[kind[2]].fingerprint, row.theirs] if kind[2] else []
                                steering = json.dumps([rules[arm.name].digest, *thinking])
                            elif plans[arm.name]:
                                steering = plans[arm.name].digest
                            key = _row_key(spec, model, arm, steering, item, ids, seed)
                            chunk.append(_Planned(key, arm, split, order, item, seed, prompt, row))
                yield chunk


def _row_seed(item: str, seed: int) -> int:
    """The random stream of a row: shared by arms (common random numbers), different across items and seeds."""
    return int.from_bytes(hashlib.sha256(f"{item}/{seed}".encode()).digest()[:7], "big")


def _row_key(
    spec: EvalSpec, model: LoadedModel, arm: Arm, steering: str | None, item: Item, ids: tuple[int, ...], seed: int
) -> str:
    settings = spec.generation.model_dump(exclude={"seeds"})
    facts = [
        ROW_VERSION, model.fingerprint, model.tokenizer_fingerprint, steering, settings, spec.task, arm.name,
        item.id, list(ids), seed,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _manifest(
    spec: EvalSpec,
    models: Mapping[str, LoadedModel],
    vectors: Mapping[str, SteeringVector | Features],
    chunks: list[list[_Planned]],
) -> Manifest:
    import torch
    import transformers

    keys = hashlib.sha256("".join(p.key for chunk in chunks for p in chunk).encode()).hexdigest()
    used = dict.fromkeys(n for arm in spec.arms for n in (arm.model, _beside(arm)) if n)
    return Manifest(
        run_id=f"{spec.name}-{keys[:10]}",
        name=spec.name,
        status="running",
        spec=spec.model_dump(mode="json"),
        arms=list(spec.arms),
        splits=dict(spec.splits),
        seeds=len(spec.generation.seeds),
        facts={
            "models": {name: models[name].fingerprint for name in used},
            "tokenizers": {name: models[name].tokenizer_fingerprint for name in used},
            "vectors": {
                v.digest: {"name": v.name, "site": v.site.name}
                | ({"norm": round(v.norm, 4)} if isinstance(v, SteeringVector) else {"latents": list(v.latents)})
                for v in vectors.values()
            },
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    )


def _record(model: LoadedModel, task: Task, planned: _Planned, generation: Generation) -> dict[str, Any]:
    """One stored row."""
    ids = list(generation.token_ids)
    body = [token for token in ids if token not in model.eos_ids]
    text = model.tokenizer.decode(body)
    opening = planned.arm.opening
    grade = task.grade(planned.item, f"{opening.strip()} {text}" if opening else text)
    given = len(opening.split())
    tokens = token_texts(model, ids)
    receipt = generation.receipt
    return {
        "key": planned.key,
        "arm": planned.arm.name,
        "split": planned.split,
        "item": planned.item.id,
        "order": planned.order,
        "seed": planned.seed,
        "prompt": planned.prompt,
        "gold": planned.item.gold,
        "text": text,
        "answer": grade.answer,
        "correct": grade.correct,
        "scorable": grade.scorable,
        "truncated": generation.finish == "length",
        "trace_ok": grade.trace_ok,
        "well_formed": grade.well_formed,
        "finish": generation.finish,
        "prompt_ids": list(generation.prompt_ids),
        "token_ids": ids,
        "prompt_tokens": token_texts(model, generation.prompt_ids),
        "tokens": tokens,
        "logprob": list(generation.logprob),
        "entropy": list(generation.entropy),
        "top_ids": list(generation.top_ids),
        "top_tokens": token_texts(model, generation.top_ids),
        "top_logprob": list(generation.top_logprob),
        "edit_ratio": list(receipt.ratio),
        "edits_planned": receipt.planned,
        "edits_fired": receipt.fired,
        "labels": [
            {
                "label": s.label,
                "start": max(0, s.start - given),
                "end": s.end - given,
                "detector": grade.detector,
                "confidence": 1.0,
            }
            for s in grade.labels
            if s.end > given
        ],
        "choices": [vars(choice) for choice in generation.choices]
        if isinstance(generation, HybridGeneration)
        else None,
    }


def run_vectors(run: Run) -> dict[str, SteeringVector | Features]:
    """The vectors and features stored with a run, by digest."""
    return {path.stem: load_stored(path) for path in sorted(Path(run.folder, "vectors").glob("*.safetensors"))}
