"""Optimised vectors: equal to a naive loop, effective in the real engine, and without a trace on the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.extraction import Descent, Example, optimised_vector, target_loss
from steering.model.models import LoadedModel
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import SteeringVector
from tests.naive import naive_logits, spans_position
from tests.planted import cosine
from tests.tiny import tiny

PROMPT = (1, 5, 9, 12)
EXAMPLES = [
    Example(PROMPT, promote=((20, 21, 22),)),
    Example((1, 7), promote=((30,),), suppress=((31, 32),)),
    Example((1, 8, 8, 8, 9, 10), suppress=((40,),), negated=True),
]


def applied(vector: SteeringVector, span: str, sign: float = 1.0) -> Plan:
    return Plan((Intervention("add", vector, Span.parse(span), Dose(sign, "vector")),))


def naive_loss(
    model: LoadedModel, examples: list[Example], site: Site, v: torch.Tensor, span: str, scale: float = 1.0
) -> torch.Tensor:
    """One sequence at a time, one position at a time; log(1 - p) written out."""
    total = torch.zeros((), dtype=v.dtype)
    where = Span.parse(span)
    for example in examples:
        for target, suppress in [(t, False) for t in example.promote] + [(t, True) for t in example.suppress]:
            ids, prompt = (*example.prompt_ids, *target[:-1]), len(example.prompt_ids)

            def hook(
                module: object,
                args: object,
                output: object,
                ids: tuple[int, ...] = ids,
                example: Example = example,
                prompt: int = prompt,
            ) -> object:
                hidden = output if isinstance(output, torch.Tensor) else output[0]  # type: ignore[index]
                columns = [
                    hidden[:, p]
                    + ((-v if example.negated else v) if spans_position(where, p, list(ids), prompt, model) else 0)
                    for p in range(len(ids))
                ]  # fmt: skip
                new = torch.stack(columns, dim=1)
                return new if isinstance(output, torch.Tensor) else (new, *output[1:])  # type: ignore[index]

            handle = model.layout.layers[site.layer].register_forward_hook(hook)
            try:
                logits = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            finally:
                handle.remove()
            for offset, token in enumerate(target):
                p = (logits[len(example.prompt_ids) - 1 + offset] * scale).softmax(-1)[token]
                total = total - torch.log(1 - p if suppress else p)
    return total


@pytest.mark.parametrize("span", ["all", "prompt", "last_prompt", "all - specials"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_descent_equals_a_naive_loop(family: str, span: str) -> None:
    model, site = tiny(family), Site(1)
    descent = Descent(steps=4, learning_rate=0.05, seed=3, logit_scale=0.7, constraint="at_most", norm=1.1)
    found = optimised_vector(model, EXAMPLES, site, span=span, descent=descent, batch_size=2)
    v = torch.randn(16, generator=torch.Generator().manual_seed(3))
    v = (v / v.norm()).requires_grad_(True)
    optimiser, losses = torch.optim.Adam([v], lr=0.05), []
    for _ in range(4):
        loss = naive_loss(model, EXAMPLES, site, v, span, 0.7)
        losses.append(loss.item())
        v.grad = torch.autograd.grad(loss, v)[0]
        optimiser.step()
        with torch.no_grad():
            v.mul_(min(1.0, 1.1 / float(v.norm())))
    losses.append(naive_loss(model, EXAMPLES, site, v, span, 0.7).item())
    assert found.provenance.notes["losses"] == pytest.approx(losses, rel=1e-3)
    assert torch.allclose(found.direction, v.detach(), atol=2e-3)
    assert found.provenance.counts == (2, 2) and found.provenance.notes["span"] == span


@pytest.mark.parametrize(("kind", "span"), [("resid_post", "all"), ("resid_pre", "last_prompt")])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_the_engine_says_the_promoted_text(family: str, kind: str, span: str) -> None:
    model = tiny(family)
    target = (20, 21) if span == "all" and family != "gpt2" else (20,)
    settings = GenerationSettings(len(target))
    before = generate(model, [Row(PROMPT)], settings)[0]
    assert before.token_ids != target
    descent = Descent(steps=150, learning_rate=0.2)
    vector = optimised_vector(model, [Example(PROMPT, (target,))], Site(1, kind), span=span, descent=descent)  # type: ignore[arg-type]
    losses = vector.provenance.notes["losses"]
    assert len(losses) == 151 and losses[-1] < losses[0] - 1.5
    after = generate(model, [Row(PROMPT, applied(vector, span))], settings)[0]
    assert after.token_ids == target
    # The engine's own probability of the target is the loss that was minimised.
    assert -sum(after.logprob) == pytest.approx(losses[-1], abs=1e-3)
    assert target_loss(model, [Example(PROMPT, (target,))], vector, span=span) == pytest.approx(losses[-1], abs=1e-4)


def test_descent_stops_at_the_target_loss() -> None:
    model, examples = tiny("llama"), [Example(PROMPT, ((20,),))]
    vector = optimised_vector(model, examples, Site(1), descent=Descent(steps=150, target_loss=2.5))
    losses = vector.provenance.notes["losses"]
    assert vector.provenance.notes["stopped"] == "target loss" and len(losses) < 100
    assert losses[-1] <= 2.5 < losses[-2]
    assert target_loss(model, examples, vector) == pytest.approx(losses[-1], abs=1e-5), "the vector that reached it"


def test_suppression_takes_the_probability_away() -> None:
    model = tiny("llama")
    favourite = generate(model, [Row(PROMPT)], GenerationSettings(1))[0].token_ids
    example = Example(PROMPT, suppress=(favourite,))
    vector = optimised_vector(model, [example], Site(1), span="last_prompt", descent=Descent(steps=60))
    logits = naive_logits(model, list(PROMPT), applied(vector, "last_prompt"), len(PROMPT))[-1]
    plain = naive_logits(model, list(PROMPT), Plan(), len(PROMPT))[-1]
    p, q = (float(x.softmax(-1)[favourite[0]]) for x in (plain, logits))
    assert q < 0.05 < p
    unsteered = target_loss(model, [example], None, span="last_prompt")
    assert unsteered == pytest.approx(-float(torch.log1p(torch.tensor(-p))), rel=1e-3)


def test_suppressing_a_certain_token_still_has_a_gradient() -> None:
    """Where p rounds to 1 in float32, log(1 - p) written out is minus infinity."""
    model = tiny("llama")
    favourite = generate(model, [Row(PROMPT)], GenerationSettings(1))[0].token_ids
    descent = Descent(steps=3, logit_scale=200.0, start_norm=1e-3, learning_rate=0.01)
    losses = optimised_vector(
        model, [Example(PROMPT, suppress=(favourite,))], Site(1), descent=descent
    ).provenance.notes["losses"]
    assert all(loss == loss and loss < 1e4 for loss in losses) and losses[0] > 20
    assert losses[-1] < losses[0]


def test_a_negated_example_is_the_mirror_image() -> None:
    model, descent = tiny("llama"), Descent(steps=1, start_norm=1e-6, learning_rate=1e-3)
    plain, mirrored = (
        optimised_vector(model, [Example(PROMPT, ((20,),), negated=negated)], Site(1), descent=descent)
        for negated in (False, True)
    )
    assert cosine(plain.direction, mirrored.direction) < -0.99


def test_norm_constraints_hold() -> None:
    model, examples = tiny("llama"), [Example(PROMPT, ((20,),))]

    def norm(**options: object) -> float:
        return optimised_vector(model, examples, Site(1), descent=Descent(steps=8, learning_rate=0.5, **options)).norm  # type: ignore[arg-type]

    free = norm()
    assert free > 1.5
    assert norm(constraint="at_most", norm=1.2) == pytest.approx(1.2, rel=1e-5)
    assert norm(constraint="at_most", norm=free * 3) == pytest.approx(free, rel=1e-5)
    assert norm(constraint="exactly", norm=free * 3) == pytest.approx(free * 3, rel=1e-5)


def test_the_loss_curve_is_saved_with_the_vector(tmp_path: Path) -> None:
    found = optimised_vector(tiny("llama"), EXAMPLES, Site(0), descent=Descent(steps=3))
    loaded = SteeringVector.load(found.save(tmp_path / "v.safetensors"))
    assert loaded.provenance == found.provenance and len(loaded.provenance.notes["losses"]) == 4


def test_the_seed_decides_and_nothing_else() -> None:
    model, examples = tiny("llama"), EXAMPLES[:2]

    def digest(seed: int) -> str:
        return optimised_vector(model, examples, Site(0), descent=Descent(steps=3, seed=seed)).digest

    torch.manual_seed(1)
    first = digest(0)
    torch.manual_seed(2)
    assert digest(0) == first != digest(1)


def test_the_model_is_left_as_it_was() -> None:
    model = tiny("qwen2")
    weights = {name: p.detach().clone() for name, p in model.model.named_parameters()}
    frozen = next(iter(model.model.parameters()))
    frozen.requires_grad_(False)
    model.model.train()
    try:
        with torch.inference_mode():
            vector = optimised_vector(model, EXAMPLES, Site(1), descent=Descent(steps=2))
        assert not vector.direction.requires_grad and model.model.training
        assert all(p.requires_grad for p in model.model.parameters() if p is not frozen) and not frozen.requires_grad
        assert all(p.grad is None for p in model.model.parameters())
        assert all(torch.equal(p, weights[name]) for name, p in model.model.named_parameters())
    finally:
        model.model.eval()
        frozen.requires_grad_(True)


def test_hooks_and_flags_are_gone_after_an_exception() -> None:
    model = tiny("mistral")

    def fail(*_: object) -> None:
        raise RuntimeError("mid-flight")

    handle = model.layout.layers[2].register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="mid-flight"):
            optimised_vector(model, EXAMPLES, Site(1), descent=Descent(steps=2))
    finally:
        handle.remove()
    hooks = [h for m in model.model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    assert not any("steering" in getattr(h, "__module__", "") for h in hooks)
    assert all(p.requires_grad and p.grad is None for p in model.model.parameters())
    assert target_loss(model, EXAMPLES, None) == pytest.approx(
        float(naive_loss(model, EXAMPLES, Site(1), torch.zeros(16), "all").detach()), rel=1e-4
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimised_vector(tiny("llama"), [], Site(1)), "There is no example"),
        (lambda: optimised_vector(tiny("llama"), [Example(PROMPT)], Site(1)), "at least one continuation"),
        (lambda: optimised_vector(tiny("llama"), [Example((), ((5,),))], Site(1)), "needs a prompt"),
        (lambda: optimised_vector(tiny("llama"), [Example(PROMPT, ((),))], Site(1)), "0 target tokens"),
        (lambda: optimised_vector(tiny("llama"), [Example(PROMPT, ((5,) * 125,))], Site(1)), "reads 1 to 128"),
        (lambda: optimised_vector(tiny("llama"), [Example(PROMPT, ((5,),))], Site(1), span="generated"), "covers no position"),
        (lambda: optimised_vector(tiny("llama"), EXAMPLES, Site(3)), "does not exist"),
        (lambda: optimised_vector(tiny("llama"), EXAMPLES, Site(1), span="generatd"), "Did you mean 'generated'"),
        (lambda: Descent(constraint="at_mots", norm=1.0), "Did you mean 'at_most'"),  # type: ignore[arg-type]
        (lambda: Descent(constraint="at_most"), "give a norm above 0"),
        (lambda: Descent(norm=2.0), "give a norm above 0"),
        (lambda: Descent(steps=0), "steps 0 must be above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_optimised_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()
