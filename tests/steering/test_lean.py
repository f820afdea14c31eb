"""Cheaper equals of a model's modules: the same numbers, in place during passes only, refused where they differ."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

from steering.engine.generation import Row, generate, stream
from steering.engine.sampling import GenerationSettings
from steering.model import pace as pacing
from steering.model import packed, products
from steering.model.executor import HookExecutor
from steering.model.lean import Lean, additive, substitutes
from steering.model.models import LoadedModel
from steering.model.pace import Pace
from steering.model.products import equal, in_parts
from steering.model.sites import Site
from steering.plan.plan import Plan
from tests.naive import naive_generate
from tests.tiny import CONFIGS, plan, tiny_anew

PROMPTS = ((1, 9, 17, 33), (1, 12), (1, 40, 8, 22, 51, 30, 11))


@pytest.fixture(autouse=True)
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of any size have substitutes, also for a single row, so that tiny models exercise them."""
    monkeypatch.setattr(products, "MIDDLING_WEIGHT", 0)
    monkeypatch.setattr(products, "LARGE_WEIGHT", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def fresh(family: str, use: bool = True) -> LoadedModel:
    """A model with an executor of its own."""
    made = replace(tiny_anew(family), extra={})
    made.__dict__["runs"] = HookExecutor(made.model, made.layout, use)
    return made


def own_forwards(model: LoadedModel) -> list[str]:
    return [name for name, module in model.model.named_modules() if "forward" in module.__dict__]


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_greedy_texts_are_those_of_the_naive_oracle(family: str) -> None:
    model = fresh(family)
    assert len(substitutes(model.model, Pace())) >= 3 * model.n_layers
    rows = [Row(p, q) for p in PROMPTS for q in (Plan(), plan(amount=2.0), plan(span="all", amount=1.5, layer=0))]
    for batch_size in (1, 9):
        for row, found in zip(rows, generate(model, rows, GenerationSettings(8), batch_size=batch_size), strict=True):
            assert list(found.token_ids) == naive_generate(model, row.prompt_ids, row.plan, 8)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_module_of_a_family_gives_equal_outputs(family: str) -> None:
    ids = torch.tensor([[1, 9, 17, 33, 8], [1, 40, 8, 22, 51]])
    with torch.inference_mode():
        found, own = (fresh(family, use).runs.forward({}, {"input_ids": ids}) for use in (True, False))
    assert torch.allclose(found, own, atol=1e-4 * float(own.abs().max()))


def test_substitutes_are_in_place_during_a_pass_only() -> None:
    model, inside = fresh("qwen2"), []

    def look(hidden: torch.Tensor) -> None:
        inside.append(len(own_forwards(model)))

    with torch.inference_mode():
        model.runs.forward({Site(1): look}, {"input_ids": torch.tensor([[1, 9]])})
    assert inside == [model.runs.lean.modules] and not own_forwards(model)
    events = stream(model, [Row(PROMPTS[0], plan())], GenerationSettings(4))
    next(events)
    assert not own_forwards(model), "between the passes of a held stream the modules are their own"
    events.close()


def test_modules_are_restored_after_an_exception() -> None:
    model = fresh("gemma3")

    def fail(hidden: torch.Tensor) -> None:
        raise KeyError("inside the pass")

    with torch.inference_mode(), pytest.raises(KeyError, match="inside the pass"):
        model.runs.forward({Site(1): fail}, {"input_ids": torch.tensor([[1, 9]])})
    assert not own_forwards(model)
    with torch.inference_mode():
        assert model.runs.forward({}, {"input_ids": torch.tensor([[1, 9]])}).shape[:2] == (1, 2)


def test_gradients_and_training_run_on_the_modules_themselves() -> None:
    model = fresh("llama")
    before = own_forwards(model)  # other programs' wrappers may have left one on a shared model
    with torch.enable_grad(), model.runs.lean.used({}):
        assert own_forwards(model) == before
    with torch.inference_mode(), model.runs.lean.used({}):
        assert len(own_forwards(model)) > len(before)


def test_a_forward_that_somebody_else_put_there_stays() -> None:
    model = fresh("llama")
    module = model.layout.blocks[0].mlp.down_proj
    calls = []
    with torch.inference_mode():
        model.runs.forward({}, {"input_ids": torch.tensor([[1, 9]])})
        original = module.forward
        module.forward = lambda x: (calls.append(1), original(x))[1]
        try:
            model.runs.forward({}, {"input_ids": torch.tensor([[1, 9]])})
            assert own_forwards(model) and calls == [1]
        finally:
            del module.__dict__["forward"]


def test_a_copied_model_runs_on_its_own_weights() -> None:
    model, ids = fresh("llama"), {"input_ids": torch.tensor([[1, 9]])}
    with torch.inference_mode():
        before = model.runs.forward({}, ids)
        other = copy.deepcopy(model)
        other.layout.blocks[0].mlp.down_proj.weight.data.zero_()
        assert not torch.equal(other.runs.forward({}, ids), before)
        assert torch.allclose(other.runs.forward({}, ids), other.model(**ids).logits, atol=1e-5)
        assert torch.equal(model.runs.forward({}, ids), before)


class FlooredRMSNorm(nn.Module):
    """Looks like the usual norm and is another function."""

    def __init__(self, width: int):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x / x.pow(2).mean(-1, keepdim=True).sqrt().clamp_min(1.0)


def test_a_substitute_that_differs_is_refused() -> None:
    odd = FlooredRMSNorm(16)
    assert substitutes(nn.Sequential(odd), Pace()) == []
    linear = nn.Linear(16, 8)
    assert equal(linear, linear.forward, 16)
    assert not equal(linear, lambda x: linear(x) * (1 + 1e-4), 16)
    assert not equal(linear, lambda x: linear(x)[..., :4], 16)
    assert not equal(linear, lambda x: x.view(3, -1), 16)


def test_other_precisions_and_moved_models_are_left_alone() -> None:
    assert substitutes(nn.Sequential(nn.Linear(16, 8).bfloat16()), Pace()) == []
    model = nn.Sequential(nn.Linear(16, 8))
    found = Lean(model)
    assert found.modules == 1
    model.bfloat16()
    assert found.modules == 0


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 4, 7, 16, 64, 65])
def test_products_by_columns_equal_products_by_rows(rows: int, bias: bool) -> None:
    torch.manual_seed(rows)
    model = nn.Sequential(nn.Linear(48, 96, bias=bias), nn.Linear(96, 24, bias=bias))
    ((one, by_columns), (two, narrow)) = substitutes(model, Pace())
    with torch.inference_mode():
        for x in (torch.randn(rows, 48), torch.randn(rows, 1, 48), torch.randn(1, rows, 48)):
            assert torch.allclose(by_columns(x), one(x), atol=1e-5) and by_columns(x).shape == one(x).shape
            assert torch.allclose(narrow(by_columns(x)), two(one(x)), atol=1e-5)
        assert by_columns(torch.zeros(0, 48)).shape == (0, 96)


def test_masks_become_numbers_to_add() -> None:
    mask = torch.tensor([[[[True, False]]]])
    assert torch.equal(additive(mask), torch.tensor([[[[0.0, -torch.inf]]]]))
    assert torch.equal(additive({"full_attention": mask})["full_attention"], additive(mask))
    assert additive(additive(mask)) is not None and additive(additive(mask)).dtype == torch.float32


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 8, 11, 40])
def test_products_in_parts_have_the_same_bits(bias: bool, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "can_pack", lambda: False)
    torch.manual_seed(0)
    linear = nn.Linear(512, 1024, bias=bias)
    pace = Pace()
    ((_, forward),) = substitutes(nn.Sequential(linear), pace)
    with torch.inference_mode():
        x = torch.randn(rows, 1, 512)
        own = forward(x)
        pace.shared = True
        assert torch.equal(forward(x), own) and torch.equal(own, linear(x))
        assert torch.allclose(in_parts(linear.weight, linear.bias, x[:, 0], 2), own[:, 0], atol=1e-5)


def test_the_faster_way_is_kept_and_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pace, clock, cost = Pace(), [0.0], {False: 2.0, True: 1.0}
    monkeypatch.setattr(pacing.time, "perf_counter", lambda: clock[0])

    def run(passes: int) -> list[bool]:
        ways = []
        for _ in range(passes):
            with pace.timed(1):
                ways.append(pace.shared)
                clock[0] += cost[pace.shared]
        return ways

    assert run(pacing.EVERY) == [False, True] * (pacing.EXPLORED // 2) + [True] * (pacing.EVERY - pacing.EXPLORED)
    cost[True] = 3.0
    assert run(pacing.EVERY)[pacing.EXPLORED :] == [False] * (pacing.EVERY - pacing.EXPLORED)


def test_hooks_do_not_see_the_inputs_that_substitutes_are_tried_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("qwen2")
    head, seen = model.model.get_output_embeddings(), []
    handle = head.register_forward_hook(lambda *_: seen.append(1))
    try:
        assert model.runs.lean.modules > 0 and not seen
        with torch.inference_mode(), model.runs.picking(torch.tensor([1])):
            assert fresh("qwen2").runs.lean.modules == model.runs.lean.modules
    finally:
        handle.remove()


def test_a_module_that_changed_after_the_first_pass_keeps_its_own_way() -> None:
    model = copy.deepcopy(fresh("llama"))
    ids = {"input_ids": torch.tensor([[1, 9, 17], [1, 4, 8]])}

    def same() -> bool:
        with torch.inference_mode():
            return torch.allclose(model.runs.forward({}, ids), model.model(**ids).logits, atol=1e-5)

    assert same()
    block, other = model.model.model.layers[:2]
    block.input_layernorm.variance_epsilon = 5.0
    assert same(), "another epsilon"
    kind, own = type(block.input_layernorm), type(block.input_layernorm).forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "forward", lambda module, x: own(module, x) * 1.5)
        assert same(), "another forward in the class"
    torch.nn.utils.prune.l1_unstructured(block.mlp.up_proj, "weight", 0.3)
    assert same(), "a weight that is made at every call"
    other.mlp.up_proj.weight.data = other.mlp.up_proj.weight.data * 2
    assert same()


def test_pruned_models_have_no_substitute_for_what_is_pruned() -> None:
    model = copy.deepcopy(fresh("llama"))
    torch.nn.utils.prune.l1_unstructured(model.model.model.layers[0].mlp.up_proj, "weight", 0.3)
    rows = [Row(p) for p in PROMPTS]
    for row, found in zip(rows, generate(model, rows, GenerationSettings(6)), strict=True):
        assert list(found.token_ids) == naive_generate(model, row.prompt_ids, Plan(), 6)


def test_a_library_that_has_blocked_products_packs_weights() -> None:
    """So that the tests of packed weights are not skipped because a name has changed."""
    assert packed.can_pack() or not torch.backends.mkldnn.is_available()


def test_a_generation_that_cannot_begin_leaves_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("llama")

    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules())

    before = hooks()
    monkeypatch.setattr(
        Lean, "look", lambda self: (_ for _ in ()).throw(NotImplementedError("a weight without numbers"))
    )
    with pytest.raises(NotImplementedError, match="without numbers"):
        generate(model, [Row(PROMPTS[0], plan()), Row(PROMPTS[1])], GenerationSettings(4))
    assert hooks() == before


@pytest.mark.parametrize("family", ["gemma2", "llama", "qwen3"])
def test_every_norm_has_its_substitute(family: str) -> None:
    model = fresh(family)
    norms = [m for m in model.model.modules() if "RMSNorm" in type(m).__name__]
    found = {id(module): forward for module, forward in substitutes(model.model, Pace())}
    assert len(norms) > 2 * model.n_layers
    for norm in norms:
        assert id(norm) in found
        for size in (0.0, 1e-4, 1.0, 1e4):
            x = size * torch.randn(3, 2, norm.weight.numel(), generator=torch.Generator().manual_seed(0))
            with torch.inference_mode():
                assert torch.allclose(found[id(norm)](x), norm(x), rtol=1e-4, atol=1e-6)
