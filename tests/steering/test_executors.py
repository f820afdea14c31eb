"""Other executors of the same plans: the same tokens, logits within 1e-4."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from steering.engine.generation import Generation, Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.executors import generate_remotely, through_bridge, through_nnsight
from steering.model.models import LoadedModel, wrap
from steering.model.sites import Site
from steering.plan.plan import Gate, Plan
from tests.tiny import VOCABULARY, plan, tiny, vector

pytestmark = pytest.mark.slow
FAMILIES = ["llama", "gpt2", "gemma2"]
SETTINGS = GenerationSettings(max_new_tokens=8)


def fresh(family: str) -> LoadedModel:
    """A copy that an executor may wrap in place."""
    model = tiny(family)
    return wrap(copy.deepcopy(model.model), model.tokenizer, model.id)


@pytest.fixture
def stored_tokenizer(tmp_path: Path) -> Any:
    """The tokenizer as loaded from a folder: TransformerLens loads it again by that name."""
    tiny("llama").tokenizer.save_pretrained(tmp_path)
    return PreTrainedTokenizerFast.from_pretrained(tmp_path)


def rows_of(kinds: list[str], gates: bool = True, dynamic: bool = True) -> list[Row]:
    rng = random.Random(2)
    plans = [
        Plan(),
        plan(span="all", amount=1.0),
        plan("rotate", amount=40.0, unit="degrees"),
        plan("clamp", "prompt", 3.0, "raw"),
    ]
    plans += [
        plan("ablate", "last_prompt", layer=2),
        plan(sites=(Site(0), Site(2)), amount=1.0),
        plan("scale", "first_n:3", 3.0, "factor"),
    ]
    plans += [plan(kind=kind, amount=2.0, span="all", layer=1) for kind in kinds]
    if gates:
        plans.append(plan(gate=Gate("projection", 0.0, vector=vector(5)), amount=3.0, span="all"))
    if dynamic:
        plans.append(plan(span="generated - specials", amount=3.0))
    return [Row((1, *(rng.randrange(8, VOCABULARY) for _ in range(rng.randint(1, 8)))), p) for p in plans]


def same(one: list[Generation], two: list[Generation]) -> None:
    for a, b in zip(one, two, strict=True):
        assert a.token_ids == b.token_ids
        assert torch.allclose(torch.tensor(a.logprob), torch.tensor(b.logprob), atol=1e-4)
        assert torch.allclose(torch.tensor(a.top_logprob), torch.tensor(b.top_logprob), atol=1e-4)
        assert (a.receipt.planned, a.receipt.fired, a.receipt.positions) == (
            b.receipt.planned,
            b.receipt.fired,
            b.receipt.positions,
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bridge_agrees_with_the_engine(family: str, stored_tokenizer: Any) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    model = fresh(family)
    bridge = TransformerBridge.boot_transformers(
        f"tiny-{family}", hf_model=copy.deepcopy(tiny(family).model), tokenizer=stored_tokenizer, device="cpu"
    )
    rows = rows_of(["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post", "z"])
    generate(
        model, [Row((1, 20, 21), plan(amount=float(a))) for a in range(1, 7)], SETTINGS
    )  # which shares their prompt
    bridged = through_bridge(model, bridge)
    assert bridged.runs.name == "TransformerLens"
    same(generate(bridged, rows, SETTINGS, batch_size=5), generate(model, rows, SETTINGS, batch_size=5))
    many = [Row((1, 20, 21), plan(amount=float(a))) for a in range(1, 7)]
    same(generate(bridged, many, SETTINGS), generate(model, many, SETTINGS))


@pytest.mark.parametrize("family", FAMILIES)
def test_nnsight_traces_agree_with_the_engine(family: str) -> None:
    model = fresh(family)
    rows = rows_of(["resid_pre", "attn_out", "mlp_out", "resid_post"])
    traced = through_nnsight(fresh(family))
    assert traced.runs.name == "nnsight"
    same(generate(traced, rows, SETTINGS, batch_size=5), generate(model, rows, SETTINGS, batch_size=5))
    with pytest.raises(BadInput, match="not blocks.1.hook_resid_mid"):
        generate(traced, rows_of(["resid_mid"]), SETTINGS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_simulated_remote_run_agrees_with_the_engine(family: str) -> None:
    from nnsight import TransformersModel

    model = fresh(family)
    remote: Any = TransformersModel(fresh(family).model, tokenizer=model.tokenizer, task="text-generation")
    rows = rows_of(["resid_pre", "attn_out", "mlp_out", "resid_post"], gates=False, dynamic=False)
    here = generate(model, rows, SETTINGS)
    for row, there in zip(here, generate_remotely(model, remote, rows, SETTINGS, remote="local"), strict=True):
        assert row.token_ids == there.token_ids and row.receipt.planned == there.planned


@pytest.mark.parametrize(
    ("bad", "settings", "message"),
    [
        (plan(gate=Gate("projection", 0.0, vector=vector(5))), SETTINGS, "has no gates"),
        (plan(span='at:";"'), SETTINGS, "follows the tokens generated"),
        (plan(kind="z"), SETTINGS, "not blocks.1.attn.hook_z.1"),
        (plan(), GenerationSettings(4, temperature=1.0), "is greedy"),
    ],
)
def test_what_a_remote_run_cannot_do_it_refuses_by_name(bad: Plan, settings: GenerationSettings, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        generate_remotely(tiny("llama"), None, [Row((1, 20), bad)], settings)


def test_a_bridge_of_another_model_is_refused() -> None:
    class Shape:
        class cfg:
            n_layers, d_model = 7, 16

    with pytest.raises(BadInput, match="boot it from the same model"):
        through_bridge(tiny("llama"), Shape())
