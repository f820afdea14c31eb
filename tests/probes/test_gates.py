"""Probes as gates in real plans: edits are made exactly where the probe says."""

from __future__ import annotations

import pytest
import torch

from probes.probe import Probe, ProbeProvenance
from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.capture import capture
from steering.model.sites import Site
from steering.plan.plan import Gate
from tests.tiny import WIDTH, plan, tiny

SITE = Site(0)
"""Below the edited site, so what the probe reads does not depend on the edits at the same position."""


def probe(kind: str, classes: tuple[str, ...], seed: int = 0) -> Probe:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(8, WIDTH), (len(classes), 8)] if kind == "mlp" else [(len(classes), WIDTH)]
    weights = tuple(torch.randn(s, generator=generator) * 0.3 for s in sizes)
    return Probe(kind, SITE, classes, weights, tuple(torch.linspace(-0.3, 0.3, s[0]) for s in sizes))


def run(gate: Gate) -> list[Generation]:
    steered = plan(gate=gate)
    rows = [Row((1, 9, 10 + i, 11), steered, seed=i) for i in range(5)]
    settings = GenerationSettings(20, temperature=1.0, logit_bias=((2, -100.0),))
    return generate(tiny("llama"), rows, settings, batch_size=3)


def at_site(generation: Generation) -> torch.Tensor:
    """Activations at the probe's site, read again from the text (layer 0 lies before every edit)."""
    ids = (*generation.prompt_ids, *generation.token_ids)
    (found,) = capture(tiny("llama"), [ids], [SITE])
    return found.values[SITE][0]


@pytest.mark.parametrize(
    ("kind", "classes", "of", "below"),
    [
        ("logistic", ("calm", "stuck"), None, False),
        ("logistic", ("calm", "stuck"), "calm", False),
        ("logistic", ("calm", "stuck"), "stuck", True),
        ("logistic", ("a", "b", "c"), "b", False),
        ("mlp", ("calm", "stuck"), None, False),
    ],
)
def test_a_probe_gate_edits_exactly_where_the_probe_says(
    kind: str, classes: tuple[str, ...], of: str | None, below: bool
) -> None:
    found = probe(kind, classes)
    threshold = 0.5 if len(classes) == 2 else 0.33
    gate = found.gate(threshold, of=of, below=below)
    assert gate.kind == ("probe" if kind == "logistic" and len(classes) == 2 else "call")
    assert gate.slow == (gate.kind == "call") and gate.site == SITE
    edits = covered = 0
    for generation in run(gate):
        column = classes.index(of or classes[1])
        p = found.probabilities(at_site(generation))[:, column]
        start, fed = len(generation.prompt_ids), len(generation.prompt_ids) + len(generation.token_ids) - 1
        expected = [i for i in range(start, fed) if (p[i] < threshold if below else p[i] > threshold)]
        assert list(generation.receipt.positions) == expected
        (values,) = generation.receipt.gate_values
        assert torch.allclose(torch.tensor(values[start:fed]), p[start:fed], atol=1e-5)
        edits, covered = edits + len(expected), covered + fed - start
    assert 0 < edits < covered, "a gate that is always open or always shut tests nothing"


def test_two_class_gates_of_both_classes_are_complements() -> None:
    found = probe("logistic", ("calm", "stuck"))
    h = torch.randn(50, WIDTH)
    p = found.probabilities(h)
    for of, column in (("calm", 0), ("stuck", 1)):
        w, b = found.direction(of)
        assert torch.allclose(torch.sigmoid(h @ w + b), p[:, column], atol=1e-6)


def test_a_network_has_no_direction_and_several_classes_need_a_name() -> None:
    with pytest.raises(BadInput, match="no single direction"):
        probe("mlp", ("a", "b")).direction()
    with pytest.raises(BadInput, match="Name the class"):
        probe("logistic", ("a", "b", "c")).gate(0.5)


def test_a_probe_of_other_weights_is_refused() -> None:
    own = probe("logistic", ("a", "b"))
    own.check(tiny("llama"))
    other = Probe(own.kind, own.site, own.classes, own.weights, own.biases, ProbeProvenance(model="0" * 16))
    with pytest.raises(BadInput, match="fitted on weights 0000000000000000"):
        other.check(tiny("llama"))
    narrow = Probe("logistic", SITE, ("a", "b"), (torch.ones(2, 5),), (torch.zeros(2),))
    with pytest.raises(BadInput, match="width 5"):
        narrow.check(tiny("llama"))
