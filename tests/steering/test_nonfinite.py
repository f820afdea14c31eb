"""Rows whose numbers become NaN or infinite end there and say so; edits far beyond the activation are said."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from steering.engine.edit_size import edit_size, mean_ratio
from steering.engine.forced import ForcedText, forced_divergence
from steering.engine.generation import Finished, Generation, Row, Step, generate, stream
from steering.engine.predicted import with_every_number
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.model.models import LoadedModel, wrap
from steering.model.sites import Site
from steering.plan.gate import Gate
from steering.plan.plan import Dose, Intervention, Plan, Span
from steering.vector.vectors import Provenance, SteeringVector
from tests.steering.test_engine import prompts
from tests.tiny import WIDTH, plan, tiny, tokenizer, vector

SETTINGS = GenerationSettings(max_new_tokens=8)
TOO_MUCH = plan("add", "after_n:1", 6e4, "raw", layer=1)
"""Finite in float16, whose largest number is 65504, at one edit and not at two."""


def half(poison: int | None = None) -> LoadedModel:
    """A tiny model in float16; `poison` is a token whose embedding is NaN."""
    model = copy.deepcopy(tiny("llama").model).half()
    if poison is not None:
        with torch.no_grad():
            model.model.embed_tokens.weight[poison] = float("nan")
    return wrap(model, tokenizer(), id="tiny-half", probe=False)


@pytest.mark.parametrize("detail", ["scores", "tokens"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_overflows_ends_there_and_names_position_and_site(detail: str, temperature: float) -> None:
    model, settings = half(), GenerationSettings(8, temperature=temperature)
    twice = Plan(TOO_MUCH.interventions * 2)
    long = [Row(p, seed=n) for n, p in enumerate(prompts(5, seed=3))]
    alone = generate(model, long, settings, detail=detail)  # type: ignore[arg-type]
    lasting = next(n for n, g in enumerate(alone) if len(g.token_ids) > 3)
    rows = [Row(long[lasting].prompt_ids, twice, lasting), *long]
    steps: dict[int, list[int]] = {n: [] for n in range(len(rows))}
    ended: dict[int, Generation] = {}
    for event in stream(model, rows, settings, detail=detail):  # type: ignore[arg-type]
        if isinstance(event, Step):
            for row, token in zip(event.rows, event.token_ids, strict=True):
                steps[row].append(token)
        else:
            assert isinstance(event, Finished)
            ended[event.row] = event.generation
    broken = ended[0]
    assert broken.finish == "nonfinite"
    assert broken.token_ids == alone[lasting].token_ids[:2], (
        "what was written before the first edit stays, and nothing comes after it"
    )
    position = len(broken.prompt_ids) + 1
    assert broken.nonfinite is not None
    assert (broken.nonfinite.position, broken.nonfinite.site) == (position, "blocks.1.hook_resid_post")
    assert "blocks.1.hook_resid_post is not finite at position" in str(broken.nonfinite)
    assert all(map(math.isfinite, (*broken.logprob, *broken.entropy, *broken.receipt.ratio)))
    assert len(broken.receipt.ratio) == len(broken.prompt_ids) + len(broken.token_ids)
    assert broken.receipt.planned == broken.receipt.fired == 2
    assert [g.token_ids for _, g in sorted(ended.items())][1:] == [g.token_ids for g in alone]
    assert {n: list(g.token_ids) for n, g in ended.items()} == steps


def test_nothing_of_a_broken_row_reaches_the_rows_beside_it_or_in_its_place() -> None:
    broken = 9
    model = half(poison=broken)
    fine = [Row(p) for p in prompts(12, seed=7) if broken not in p]
    bad = [Row((1, 5, broken, 6)), Row((1, broken)), Row((1, *[7] * 12, broken, 4), plan("add", "all", 0.1))]
    alone = [generate(model, [row], SETTINGS)[0] for row in fine]
    mixed = [row for pair in zip(bad * 4, fine, strict=False) for row in pair]
    for rows in (mixed, mixed[::-1], [*bad, *fine]):
        for row, found in zip(rows, generate(model, rows, SETTINGS, batch_size=3), strict=True):
            if broken in row.prompt_ids:
                where = NonFinitePlace(row, broken)
                assert found.finish == "nonfinite" and found.token_ids == () and found.nonfinite is not None
                assert (found.nonfinite.position, found.nonfinite.site) == where
            elif broken not in alone[fine.index(row)].token_ids:
                assert found.finish == alone[fine.index(row)].finish
                assert len(found.token_ids) == len(alone[fine.index(row)].token_ids)


def NonFinitePlace(row: Row, token: int) -> tuple[int, str]:
    return row.prompt_ids.index(token), "blocks.0.hook_resid_pre"


def test_shared_prompts_that_are_not_finite_leave_shorter_ones_in_their_place_alone() -> None:
    model = half(poison=9)
    rows = [Row((1, 5, 9, 6, 7, 8), seed=s) for s in range(6)] + [Row((1, 5), seed=s) for s in range(12)]
    settings = GenerationSettings(6, temperature=1.0, logit_bias=((9, -100.0),))
    found = generate(model, rows, settings, batch_size=3)
    assert [g.finish == "nonfinite" for g in found] == [True] * 6 + [False] * 12


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_end_every_row_before_its_first_token(poison: float) -> None:
    model = copy.deepcopy(tiny("llama").model)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = poison
    loaded = wrap(model, tokenizer(), id="tiny-broken", probe=False)
    gate = Gate("entropy", 0.5)
    for detail in ("scores", "tokens"):
        found = generate(loaded, [Row((1, 4, 5)), Row((1, 6), plan(gate=gate))], SETTINGS, detail=detail)  # type: ignore[arg-type]
        assert [g.finish for g in found] == ["nonfinite"] * 2 and not any(g.token_ids for g in found)
        assert found[0].nonfinite is not None
        assert (found[0].nonfinite.position, found[0].nonfinite.site) == (0, "blocks.1.hook_resid_post")
    with pytest.raises(BadInput, match=r"in every row the activation at blocks.1.hook_resid_post is not finite"):
        edit_size(loaded, [(1, 4, 5)], plan())


def test_sizes_of_broken_rows_are_left_out_of_the_mean() -> None:
    model = half(poison=9)
    found = generate(
        model,
        [Row((1, 5), plan("add", "all", 0.5, "residual")), Row((1, 9), plan("add", "all", 0.5, "residual"))],
        SETTINGS,
    )
    assert found[1].finish == "nonfinite"
    assert mean_ratio(found) == pytest.approx(mean_ratio(found[:1]))


@pytest.mark.parametrize(("amount", "unit"), [(1e30, "vector"), (1e30, "raw"), (-1e25, "residual")])
def test_a_dose_whose_norm_overflows_is_refused_before_the_model_runs(
    amount: float, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    monkeypatch.setattr(type(model.model), "forward", lambda *a, **k: pytest.fail("a forward pass ran"))
    with pytest.raises(BadInput, match="overflows float32"):
        generate(model, [Row((1, 5), plan("add", "all", amount, unit))], SETTINGS)


def test_a_vector_whose_norm_overflows_is_refused() -> None:
    with pytest.raises(BadInput, match="more than a 32-bit number holds"):
        SteeringVector("long", Site(1), torch.full((WIDTH,), 1e30), Provenance("random", "none"))


def test_a_receipt_says_when_an_edit_exceeds_ten_times_the_activation() -> None:
    model = tiny("llama")
    for amount, oversized in ((0.5, False), (9.9, False), (10.5, True)):
        made = Plan((Intervention("add", vector(), Span("generated"), Dose(amount, "residual")),))
        (found,) = generate(model, [Row((1, 4, 5), made)], SETTINGS)
        assert found.receipt.largest == pytest.approx(amount, rel=1e-3)
        assert found.receipt.oversized is oversized
        assert (found.receipt.warnings != ()) is oversized
    assert found.receipt.warnings[0].startswith("The largest edit is 10.5 times the activation")


def test_a_forced_reading_that_is_not_finite_is_an_error() -> None:
    model = half(poison=9)
    forced_divergence(model, [ForcedText((1, 4), (5, 6), plan())])
    with pytest.raises(BadInput, match="Text 1 cannot be read: .* NaN or infinite"):
        forced_divergence(model, [ForcedText((1, 4), (5, 6), plan()), ForcedText((1, 9), (5, 6), plan())])


def test_a_broken_row_that_went_on_from_tokens_is_given_back_beside_those_that_did_not_break() -> None:
    model, first = half(), prompts(2, seed=3)
    begun = tuple(generate(model, [Row(first[0])], SETTINGS)[0].token_ids[:1])
    rows = [Row(first[0], Plan(TOO_MUCH.interventions * 2), begun=begun), Row(first[0], begun=begun)]
    broken, whole = generate(model, rows, SETTINGS)
    assert broken.finish == "nonfinite" and math.isnan(broken.logprob[0]) and math.isnan(whole.logprob[0])
    given, completed = with_every_number(model, rows, [broken, whole])
    assert given is broken and all(map(math.isfinite, completed.logprob))
