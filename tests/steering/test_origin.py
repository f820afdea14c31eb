"""Vectors of another model with the same width are said to be so, and refused when asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steering.compile.compilation import check_plan
from steering.compile.explanation import explain
from steering.compile.origin import HASHED, origins
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import LoadedModel
from steering.plan.gate import Gate
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector, random_like
from tests.tiny import tiny, vector

SETTINGS = GenerationSettings(3)


def from_(model: str, model_id: str = "", method: str = "difference of means") -> SteeringVector:
    return replace(vector(), provenance=Provenance(method, model, model_id))


def of(used: SteeringVector, gate: Gate | None = None) -> Plan:
    return Plan((Intervention("add", used, Span("generated"), Dose(1.0), gate=gate),))


def warned(model: LoadedModel, made: Plan) -> tuple[str, ...]:
    """What receipt, explanation and compilation say, which is one thing."""
    found = origins(made, model)
    (generation,) = generate(model, [Row((1, 4, 5), made)], SETTINGS)
    assert generation.receipt.warnings == generation.receipt.origins == found
    explained = explain(model, made, (1, 4, 5), max_new_tokens=3)
    assert explained.warnings == found
    assert all(warning in str(explained.table().caption) for warning in found)
    return found


def test_a_vector_of_the_same_weights_is_not_remarked_on() -> None:
    model = tiny("llama")
    assert warned(model, of(from_(model.fingerprint, "under another name"))) == ()
    generate(model, [Row((1, 4, 5), of(from_(model.fingerprint)))], SETTINGS, strict=True)


@pytest.mark.parametrize(
    ("used", "message"),
    [
        (from_("0123456789abcdef", "org/other"), "v0 comes from another model: org/other, not tiny-llama"),
        (
            from_("0123456789abcdef", "tiny-llama"),
            "v0 comes from other weights of tiny-llama: another revision or precision",
        ),
        (
            from_("unknown"),
            "v0 does not say from which weights it comes: whether they are those of tiny-llama is unknown",
        ),
        (from_("unknown", "org/other"), r"v0 does not say from which weights it comes \(org/other\)"),
    ],
)
def test_a_vector_of_other_weights_is_said_and_refused_when_strict(
    used: SteeringVector, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    (said,) = warned(model, of(used))
    with pytest.raises(BadInput, match=f"{message}.* leave strict out"):
        check_plan(of(used), model, strict=True)
    assert said == str(pytest.raises(BadInput, explain, model, of(used), (1, 4), strict=True).value)[: len(said)]
    monkeypatch.setattr(type(model.model), "forward", lambda *a, **k: pytest.fail("a forward pass ran"))
    with pytest.raises(BadInput, match=message):
        generate(model, [Row((1, 4, 5), of(used))], SETTINGS, strict=True)


def test_the_vector_of_a_gate_is_looked_at_too() -> None:
    model = tiny("llama")
    gate = Gate("projection", -1e9, vector=replace(from_("0123456789abcdef", "org/other"), name="gate"))
    (said,) = warned(model, of(from_(model.fingerprint), gate))
    assert said.startswith("gate comes from another model")


def test_random_directions_belong_to_no_model() -> None:
    model = tiny("llama")
    assert warned(model, of(random_like(from_("0123456789abcdef"), 0))) == ()


def test_large_models_are_not_hashed_for_this_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(tiny("llama"), extra={})
    monkeypatch.setattr("steering.compile.origin.HASHED", 0)
    assert HASHED > 0
    assert origins(of(from_("0123456789abcdef", "tiny-llama")), model) == ()
    (said,) = origins(of(from_("0123456789abcdef", "org/other")), model)
    assert said == "v0 comes from org/other, not from tiny-llama (by name; the weights were not compared)."
    assert "fingerprint" not in vars(model)
    assert len(model.fingerprint) == 16
    (said,) = origins(of(from_("0123456789abcdef", "tiny-llama")), model)
    assert "other weights" in said
