"""Plans, spans, sites: validated on construction, stable in identity, readable back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from steering.errors import BadInput
from steering.model.sites import Site
from steering.plan.plan import Dose, Intervention, Plan, Span
from tests.tiny import plan, tiny, vector


def test_yaml_round_trip_keeps_the_identity() -> None:
    two = Plan(plan("add", "first_n:4", 0.5, "residual").interventions + plan("ablate", "prompt", seed=1).interventions)
    vectors = {i.vector.digest: i.vector for i in two.interventions}
    again = Plan.from_yaml(two.to_yaml(), vectors)
    assert again.digest == two.digest and again.to_dict() == two.to_dict()


def test_the_digest_follows_content_and_not_the_process() -> None:
    code = "from tests.plans import plan; print(plan('clamp', 'all', 1.0, 'raw').digest)"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert fresh == plan("clamp", "all", 1.0, "raw").digest
    different = [plan("clamp", "all", 1.5, "raw"), plan("add", "all", 1.0, "raw"), plan("clamp", "prompt", 1.0, "raw")]
    different += [
        plan("clamp", "all", 1.0, "raw", seed=1),
        plan("clamp", "all", 1.0, "raw", layer=2),
        plan("clamp", "all", 1.0),
    ]
    assert len({p.digest for p in different} | {fresh}) == len(different) + 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Span.parse("generatd"), "Did you mean 'generated'"),
        (lambda: Span.parse("first_n"), "cover no token"),
        (lambda: Span.parse("first_n:0"), "cover no token"),
        (lambda: Span.parse("first_n:x"), "whole number"),
        (lambda: Span.parse("prompt:3"), "takes no n"),
        (lambda: Site.parse("blocks.1.hook_resid_pst"), "Did you mean 'resid_post'"),
        (lambda: Site.parse("model.layers.3"), "is not a site"),
        (lambda: Dose(1.0, "norm"), "Unknown dose unit"),  # type: ignore[arg-type]
        (lambda: Dose(float("nan")), "not a finite number"),
        (lambda: Intervention("ad", vector(), Span("all"), Dose(1)), "Did you mean 'add'"),  # type: ignore[arg-type]
        (lambda: Intervention("add", vector(), Span("all")), "needs a dose"),
        (lambda: Intervention("ablate", vector(), Span("all"), Dose(1)), "takes no dose"),
        (
            lambda: Plan.from_dict({"interventions": [{"operation": "add", "span": "all"}]}, {}),
            r"interventions\[0\] lacks vector",
        ),
        (
            lambda: Plan.from_dict(
                {"interventions": [{"operation": "add", "span": "all", "vector": "x"}]}, {"y": vector()}
            ),
            "Unknown vector",
        ),
        (lambda: Plan.from_dict({}, {}), "list 'interventions'"),
        (lambda: tiny("llama").layout.check(Site(3)), "3 layers, 0 to 2"),
    ],
)
def test_mistakes_are_named_with_the_fix(make: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()  # type: ignore[operator]
