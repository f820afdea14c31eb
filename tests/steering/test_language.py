"""Every operation, span and gate, on every architecture, against the naive oracle, with refill, prefix sharing and compaction on."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import NeverFired
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.plan.plan import Gate, Intervention, Plan, Span
from tests.naive import naive_logits, spans_position
from tests.tiny import CONFIGS, VOCABULARY, plan, tiny, vector

OPERATIONS: list[dict[str, object]] = [
    {"operation": "add", "amount": 2.0},
    {"operation": "add", "amount": -0.7, "unit": "residual"},
    {"operation": "add", "amount": 3.0, "unit": "raw", "schedule": "linear:1:-1:4"},
    {"operation": "add", "amount": 2.0, "schedule": "decay:2"},
    {"operation": "add", "amount": 3.0, "schedule": "once"},
    {"operation": "add", "amount": 1.5, "keep_norm": True},
    {"operation": "ablate"},
    {"operation": "clamp", "amount": 5.0, "unit": "raw"},
    {"operation": "cap", "amount": 0.2, "unit": "residual"},
    {"operation": "floor", "amount": 4.0, "unit": "raw"},
    {"operation": "rotate", "amount": 50.0, "unit": "degrees"},
    {"operation": "rotate", "amount": -120.0, "unit": "degrees", "schedule": "linear:0:1:3"},
    {"operation": "scale", "amount": 4.0, "unit": "factor"},
]
SPANS = [
    "all", "prompt", "last_prompt", "generated", "first_n:2", "after_n:2", "window:1:3", "position:0,-2", 'text:"w9"', 'regex:"w1[0-3]"',
    'at:";","stop."', "after:5,7+9:2", "sentence_starts", "inside_thinking", 'outside_thinking:"wait",";"', "generated - specials",
    'first_n:4 & (sentence_starts | at:";") | position:1',
]  # fmt: skip
GATES = {
    "none": None,
    "projection": Gate("projection", 0.0, vector=vector(50)),
    "cosine below": Gate("cosine", 0.05, below=True, vector=vector(51)),
    "probe": Gate("probe", 0.5, vector=vector(52, norm=1.0), bias=0.1),
    "projection elsewhere": Gate("projection", 0.1, vector=vector(53), site=Site(0, "resid_pre")),
    "entropy": Gate("entropy", 2.5),
}
KINDS = ["resid_pre", "z", "attn_out", "resid_mid", "mlp_out", "resid_post"]
SETTINGS = GenerationSettings(max_new_tokens=6)


def prompt(rng: random.Random) -> tuple[int, ...]:
    """A prompt that every span by text finds something in."""
    words = [rng.choice([3, 4, 5, 6, 7, *range(8, VOCABULARY)]) for _ in range(rng.randint(0, 7))]
    for needed in (9, 11):
        words.insert(rng.randint(0, len(words)), needed)
    return (1, *words)


def kinds(model: LoadedModel, layer: int) -> list[str]:
    return [kind for kind in KINDS if kind in model.layout.kinds(layer)]


def agree(model: LoadedModel, row: Row, generation: Generation) -> None:
    """The engine's greedy tokens are the oracle's at every position, its numbers are, and its receipt names the oracle's edits."""
    ids, start = [*row.prompt_ids, *generation.token_ids], len(row.prompt_ids)
    made: set[tuple[str, int, int]] = set()
    logits = naive_logits(model, ids, row.plan, start, made)
    assert logits[start - 1 : -1].argmax(-1).tolist() == list(generation.token_ids), row.plan.to_yaml()
    logprobs = logits.log_softmax(-1)
    expected = [float(logprobs[start - 1 + i, t]) for i, t in enumerate(generation.token_ids)]
    assert torch.allclose(torch.tensor(generation.logprob), torch.tensor(expected), atol=2e-3)
    assert generation.receipt.fired == sum(position < len(ids) - 1 for *_, position in made), row.plan.to_yaml()
    covered = sum(
        spans_position(i.span, p, ids, start, model) for i in row.plan.interventions for p in range(len(ids) - 1)
    ) if all(i.dose is None or i.dose.schedule.kind != "once" for i in row.plan.interventions) else None  # fmt: skip
    if covered is not None and all(len(i.sites) == 1 for i in row.plan.interventions):
        assert generation.receipt.planned == covered


def run(model: LoadedModel, rows: list[Row], batch_size: int) -> list[Generation]:
    try:
        return generate(model, rows, SETTINGS, batch_size=batch_size)
    except NeverFired as silent:  # a row of its own plan may end, or its gate stay shut, before anything fires; it is compared all the same
        return list(silent.generations)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_operation_span_and_gate_equals_the_oracle(family: str) -> None:
    model, rng, rows = tiny(family), random.Random(family), []
    for seed, (operation, span, gate) in enumerate(itertools.product(OPERATIONS, SPANS, GATES)):
        if gate == "entropy":
            span = (
                f"({span}) & generated"
                if not span.startswith(("generated", "first_n:2", "after_n", "window"))
                else span
            )
            if Span.parse(span).parts and span.split(")")[0][1:] in (
                "prompt",
                "last_prompt",
                "position:0,-2",
                'text:"w9"',
                'regex:"w1[0-3]"',
            ):
                continue  # a span of the prompt holds no generated token
        layer = rng.randrange(1, 3)
        kind = rng.choice(
            [k for k in kinds(model, layer) if k != "z" or gate in ("none", "entropy", "projection elsewhere")]
        )
        made = plan(**operation, span=span, gate=GATES[gate], seed=seed % 7, layer=layer, kind=kind)  # type: ignore[arg-type]
        rows.append(Row(prompt(rng), made))
    generations = run(model, rows, batch_size=48)
    bare = generate(model, [Row(row.prompt_ids) for row in rows], SETTINGS)
    for row, generation in zip(rows, generations, strict=True):
        agree(model, row, generation)
    changed = sum(g.token_ids != b.token_ids for g, b in zip(generations, bare, strict=True))
    assert changed >= 100, "the plans must move the text, or this comparison proves nothing"


@st.composite
def random_plans(draw: st.DrawFn) -> Plan:
    interventions: list[Intervention] = []
    for seed in range(draw(st.integers(1, 3))):
        operation = draw(st.sampled_from(OPERATIONS))
        gate = draw(st.sampled_from([GATES["none"], GATES["projection"], GATES["cosine below"]]))
        layer, kind = (
            draw(st.integers(1, 2)),
            draw(st.sampled_from(["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"])),
        )
        span = draw(st.sampled_from(SPANS))
        made = plan(**operation, span=span, gate=gate, seed=10 * seed + draw(st.integers(0, 9)), layer=layer, kind=kind)  # type: ignore[arg-type]
        interventions += made.interventions
    return Plan(tuple(interventions))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    family=st.sampled_from(["llama", "gpt2", "gemma2", "olmo2"]),
    plans=st.lists(random_plans(), min_size=1, max_size=5),
    seed=st.integers(0, 10**6),
    batch_size=st.integers(1, 6),
    shared=st.booleans(),
)
def test_random_plans_prompts_and_batches_equal_the_oracle(
    family: str, plans: list[Plan], seed: int, batch_size: int, shared: bool
) -> None:
    model, rng = tiny(family), random.Random(seed)
    one = prompt(rng)
    rows = [Row(one if shared else prompt(rng), p) for p in [*plans, Plan()]]
    rng.shuffle(rows)
    for row, generation in zip(rows, run(model, rows, batch_size), strict=True):
        agree(model, row, generation)
