"""Gradients by blocked products: those of the library's own, in place during a pass only, and no pass beside another on one model."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.utils.prune
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from steering.model import gradients, packed
from steering.model.gradients import BlockedProduct, blocked_products, differentiable, right, substitutes
from steering.model.hooks import hooked, resumed
from steering.model.packed import can_pack
from steering.model.sites import Site
from tests.tiny import CONFIGS, tiny_anew

pytestmark = pytest.mark.skipif(not can_pack(), reason="this build of torch has no blocked product")
IDS = torch.tensor([[1, 9, 17, 33, 8], [1, 40, 8, 22, 51]])


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of rows and any weight, so that tiny models exercise it."""
    monkeypatch.setattr(packed, "FEW", 1)
    monkeypatch.setattr(packed, "WORK", 0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every blocked product."""
    seen: list[int] = []
    own = packed.blocked

    def counted(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        seen.append(len(x))
        return own(weight, bias, x)

    monkeypatch.setattr(packed, "blocked", counted)
    return seen


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 5), (8, 33, 48), (19, 576, 192), (64, 128, 128), (257, 40, 77), (100, 7, 1)])
def test_products_and_gradients_are_those_in_double(
    shape: tuple[int, int, int], strided: bool, biased: bool, threads: int
) -> None:
    rows, width, out = shape
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x, weight, bias, toward = drawn((rows, width), (out, width), (out,), (rows, out))
        if strided:
            (x,), (weight,) = drawn((width, rows)), drawn((width, out), seed=1)
            x, weight, toward = x.t(), weight.t(), toward.t().contiguous().t()
        parts = [x, weight, *([bias] if biased else [])]
        found = BlockedProduct.apply(*parts, *([] if biased else [None]))
        own = torch.nn.functional.linear(*(part.double() for part in parts))
        assert torch.allclose(found.double(), own, atol=1e-3, rtol=1e-4)
        mine = torch.autograd.grad(found, parts, toward)
        theirs = torch.autograd.grad(own, parts, toward.double())
        for one, two in zip(mine, theirs, strict=True):
            assert one.shape == two.shape and torch.allclose(one.double(), two.double(), atol=1e-3, rtol=1e-4)
    finally:
        torch.set_num_threads(before)


def test_only_the_gradients_that_are_asked_for_are_computed(calls: list[int]) -> None:
    x, weight, toward = drawn((9, 16), (24, 16), (9, 24))
    torch.autograd.grad(BlockedProduct.apply(x, weight.detach(), None), x, toward)
    assert len(calls) == 2
    calls.clear()
    torch.autograd.grad(BlockedProduct.apply(x.detach(), weight, None), weight, toward)
    assert len(calls) == 2


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("still", [False, True])
def test_weights_that_say_so_cost_nothing_where_they_are_still(still: bool, calls: list[int]) -> None:
    layer = nn.Linear(16, 24)
    (x,) = drawn((9, 16))
    with blocked_products(layer, still):
        calls.clear()
        out = layer(x)
    (found,) = torch.autograd.grad(out.sum(), x)
    assert torch.allclose(found, layer.weight.sum(0).expand(9, -1), atol=1e-5)
    assert len(calls) == (2 if still else 3)


def test_it_has_a_second_derivative() -> None:
    x, weight, bias = drawn((9, 16), (24, 16), (24,))

    def second(product: object) -> Tensor:
        out = product(x, weight, bias)  # type: ignore[operator]
        (first,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(first.pow(2).sum(), weight)[0]

    assert torch.allclose(second(BlockedProduct.apply), second(torch.nn.functional.linear), rtol=1e-3, atol=1e-2)


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_gradients_of_every_family_are_those_of_the_model_itself(family: str, calls: list[int]) -> None:
    model = tiny_anew(family)
    site = Site(1)
    linear = sum(type(m) in (nn.Linear, Conv1D) for m in model.model.modules())
    gradients._TRIED.clear()
    assert len(substitutes(model.model)) == linear > 0, "none was refused for what it computes"
    vector = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def gradient(run: object) -> tuple[Tensor, list[Tensor]]:
        logits = run(input_ids=IDS, use_cache=False).logits  # type: ignore[operator]
        weights = [p for p in model.model.parameters() if p.requires_grad]
        first, *rest = torch.autograd.grad(logits.pow(2).sum(), [vector, *weights], allow_unused=True)
        return first, [part for part in rest if part is not None]

    with torch.enable_grad():
        with hooked(model.layout, {site: lambda hidden: hidden + vector}):
            own, weights = gradient(model.model)
        calls.clear()
        with differentiable(model, {site: lambda hidden: hidden + vector}) as run:
            mine, others = gradient(run)
    assert len(calls) > linear and len(weights) == len(others)
    for one, two in zip((own, *weights), (mine, *others), strict=True):
        assert torch.allclose(one, two, atol=2e-4 * float(one.abs().max()))
    assert not any("forward" in module.__dict__ for module in model.model.modules())


@pytest.mark.usefixtures("everything")
def test_a_pass_may_begin_at_a_later_layer() -> None:
    model = tiny_anew("llama")
    (stream,) = drawn((2, 5, model.d_model))
    found = []
    for context in (resumed(model.layout, 1, stream), differentiable(model, resume=(1, stream))):
        with torch.enable_grad(), context:
            found.append(torch.autograd.grad(model.model(input_ids=IDS, use_cache=False).logits.sum(), stream)[0])
    assert torch.allclose(*found, atol=1e-3 * float(found[0].abs().max()))


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_passes_without_gradients_have_the_same_numbers(mode: type[torch.no_grad], calls: list[int]) -> None:
    model = tiny_anew("qwen2")
    with mode():
        with differentiable(model) as run:
            found = run(input_ids=IDS).logits
        assert calls and torch.allclose(found, model.model(input_ids=IDS).logits, atol=1e-4)


@pytest.mark.usefixtures("everything")
def test_other_kinds_of_passes_keep_the_modules_way(calls: list[int]) -> None:
    layer = nn.Linear(16, 24)
    (x,) = drawn((9, 16))
    with blocked_products(layer):
        calls.clear()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        assert torch.func.vmap(layer)(x).shape == (9, 24)
        _, tangent = torch.func.jvp(layer, (x.detach(),), (torch.ones_like(x),))
        with torch.autograd.forward_ad.dual_level():
            dual = layer(torch.autograd.forward_ad.make_dual(x.detach(), torch.ones_like(x)))
            assert torch.allclose(torch.autograd.forward_ad.unpack_dual(dual).tangent, tangent)
        assert torch.allclose(tangent, torch.ones_like(x) @ layer.weight.t(), atol=1e-5)
        jacobian = torch.func.jacrev(lambda row: layer(row[None])[0])(x[0].detach())
        assert torch.allclose(jacobian, layer.weight)
        with pytest.raises(RuntimeError, match="dtype"):
            layer(x.double())
        assert not calls
        layer(x)
        assert calls == [9]


def test_few_rows_and_small_weights_keep_the_modules_way(calls: list[int]) -> None:
    layer = nn.Linear(128, 128)
    with blocked_products(layer):
        calls.clear()
        layer(torch.randn(127, 128))
        assert not calls
        layer(torch.randn(128, 128))
        assert calls == [128]


def test_a_product_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = torch.nn.functional.linear
    assert right(24, 16, True, linear) and right(24, 16, False, lambda x, w, b: linear(x, w))
    assert not right(24, 16, True, lambda x, w, b: linear(x, w))
    assert not right(24, 16, True, lambda x, w, b: linear(x, w.detach(), b) + 0 * w.sum()), "another gradient"
    assert not right(24, 16, True, lambda x, w, b: linear(x, w, b)[:, :4])
    own = packed.blocked
    gradients._TRIED.clear()
    monkeypatch.setattr(packed, "blocked", lambda weight, bias, x: own(weight, bias, x) * 1.001)
    assert substitutes(nn.Linear(16, 24)) == []
    gradients._TRIED.clear()


def test_what_is_not_plainly_a_linear_module_is_left_alone() -> None:
    class Other(nn.Linear):
        pass

    wrapped = nn.Linear(16, 24)
    wrapped.forward = lambda x: x  # type: ignore[method-assign, assignment]
    pruned = nn.Linear(16, 24)
    torch.nn.utils.prune.l1_unstructured(pruned, "weight", 0.3)
    for odd in (Other(16, 24), nn.Linear(16, 24).bfloat16(), nn.Linear(16, 24, device="meta"), wrapped, pruned):
        assert substitutes(odd) == []


@pytest.mark.usefixtures("everything")
def test_everything_is_taken_out_after_an_exception() -> None:
    model = tiny_anew("llama")

    def fail(hidden: Tensor) -> None:
        raise KeyError("inside the pass")

    with pytest.raises(KeyError, match="inside the pass"), differentiable(model, {Site(1): fail}) as run:
        run(input_ids=IDS)
    assert not any("forward" in module.__dict__ or module._forward_hooks for module in model.model.modules())


def test_a_pass_of_another_thread_waits_and_is_not_edited() -> None:
    model = tiny_anew("llama")
    plain = model.runs.forward({}, {"input_ids": IDS}).detach()
    inside, go, found = threading.Event(), threading.Event(), []

    def edit(hidden: Tensor) -> Tensor:
        inside.set()
        assert go.wait(20)
        return hidden + 100.0

    def steered() -> None:
        with torch.enable_grad(), differentiable(model, {Site(0): edit}) as run:
            run(input_ids=IDS)

    def beside() -> None:
        found.append(model.runs.forward({}, {"input_ids": IDS}).detach())

    one, two = threading.Thread(target=steered), threading.Thread(target=beside)
    one.start()
    assert inside.wait(20)
    two.start()
    two.join(0.3)
    assert two.is_alive() and not found
    go.set()
    one.join(20)
    two.join(20)
    assert torch.allclose(found[0], plain, atol=1e-5)


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("frozen", [False, True])
def test_no_more_is_kept_than_the_library_keeps(frozen: bool) -> None:
    model = tiny_anew("llama")
    model.model.requires_grad_(not frozen)
    own = {p.data_ptr() for p in model.model.parameters()}
    kept: list[int] = []
    (stream,) = drawn((2, 5, model.d_model))

    def pack(tensor: Tensor) -> Tensor:
        kept.append(0 if tensor.data_ptr() in own else tensor.numel())
        return tensor

    def counted(context: object) -> int:
        kept.clear()
        with torch.enable_grad(), context, torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):  # type: ignore[attr-defined]
            model.model(input_ids=IDS, use_cache=False)
        return sum(kept)

    assert counted(differentiable(model, resume=(1, stream))) <= counted(resumed(model.layout, 1, stream))


@pytest.mark.usefixtures("everything")
def test_an_input_may_be_written_to_where_the_weight_is_frozen() -> None:
    layer, (x,) = nn.Linear(16, 24).requires_grad_(False), drawn((9, 16))
    with blocked_products(layer):
        held = x * 1
        out = layer(held)
        held.add_(1)
    (found,) = torch.autograd.grad(out.sum() + held.sum(), x)
    assert torch.allclose(found, layer.weight.sum(0).expand(9, -1) + 1, atol=1e-5)


@pytest.mark.usefixtures("everything")
def test_transforms_of_weights_and_around_the_pass_keep_the_modules_way(calls: list[int]) -> None:
    layer, x = nn.Linear(17, 24), torch.randn(9, 17)
    parameters = dict(layer.named_parameters())

    def of_weights(given: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, given, (x,)).sum()

    own = torch.func.grad(of_weights)(parameters)
    with blocked_products(layer):
        calls.clear()
        found = torch.func.grad(of_weights)(parameters)
        stacked = {name: torch.stack((part, part)) for name, part in parameters.items()}
        assert torch.func.vmap(of_weights)(stacked).shape == (2,)
    assert all(torch.allclose(found[name], own[name]) for name in own) and not calls
    other = nn.Linear(18, 24)

    def around(v: Tensor) -> Tensor:
        with blocked_products(other):
            return other(v).sum()

    gradients._TRIED.clear()
    assert torch.func.grad(around)(torch.randn(9, 18)).shape == (9, 18)
    assert torch.func.vmap(around)(torch.randn(3, 9, 18)).shape == (3,)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        around(torch.randn(9, 18))
    assert not gradients._TRIED and substitutes(other), "nothing was refused for good"


@pytest.mark.usefixtures("everything")
def test_models_that_compute_activations_anew_keep_the_modules_way() -> None:
    model = tiny_anew("llama")
    model.model.train()
    model.model.gradient_checkpointing_enable({"use_reentrant": False})
    found = []
    for way in (differentiable(model), resumed(model.layout, 0, model.model.get_input_embeddings()(IDS))):
        model.model.zero_grad()
        with torch.enable_grad(), way:
            total = model.model(input_ids=IDS, use_cache=False).logits.pow(2).sum()
        total.backward()
        found.append(model.layout.blocks[2].mlp.down_proj.weight.grad.clone())
    assert torch.allclose(*found, atol=1e-4 * float(found[1].abs().max()))


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_what_is_made_at_every_call_is_left_alone(part: str) -> None:
    layer = nn.Linear(16, 24)
    torch.nn.utils.prune.l1_unstructured(layer, part, 0.5)
    x = torch.randn(9, 16)
    own = layer(x)
    with blocked_products(layer):
        assert torch.equal(layer(x), own)


def test_edits_wait_for_a_pass_that_is_running() -> None:
    model = tiny_anew("llama")
    plain = model.runs.forward({}, {"input_ids": IDS}).detach()
    inside, go, found = threading.Event(), threading.Event(), []

    def pause(hidden: Tensor) -> None:
        inside.set()
        assert go.wait(20)

    def beside() -> None:
        found.append(model.runs.forward({Site(0): pause}, {"input_ids": IDS}).detach())

    def steered() -> None:
        with torch.enable_grad(), differentiable(model, {Site(2): lambda hidden: hidden + 100.0}) as run:
            run(input_ids=IDS)

    one, two = threading.Thread(target=beside), threading.Thread(target=steered)
    one.start()
    assert inside.wait(20)
    two.start()
    two.join(0.3)
    go.set()
    one.join(20)
    two.join(20)
    assert torch.allclose(found[0], plain, atol=1e-5)
