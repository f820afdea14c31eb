"""Weights with a layout of their own: the same numbers, only during a generation, and never those of a weight that has changed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from steering.engine.generation import Row, generate, stream
from steering.engine.sampling import GenerationSettings
from steering.model import packed, products
from steering.model.models import LoadedModel
from steering.model.pace import Pace
from steering.model.packed import Packed, blocked, can_pack, pays, takes
from tests.naive import naive_generate
from tests.steering.test_lean import everything, fresh
from tests.tiny import CONFIGS, plan

__all__ = ["everything"]
PROMPTS = tuple((1, 9, 17 + n, 33) for n in range(5))
pytestmark = pytest.mark.skipif(not can_pack(), reason="this build of torch has no packed product")


def texts(model: LoadedModel) -> list[tuple[int, ...]]:
    return [g.token_ids for g in generate(model, [Row(p) for p in PROMPTS], GenerationSettings(6))]


def own_copy(family: str) -> LoadedModel:
    """A model whose weights no other test reads."""
    return copy.deepcopy(fresh(family))


def weights(model: LoadedModel) -> list[nn.Linear]:
    return [m for m in model.model.modules() if type(m) is nn.Linear]


def naive(model: LoadedModel) -> list[tuple[int, ...]]:
    return [tuple(naive_generate(model, p, plan(amount=0.0), 6)) for p in PROMPTS]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_a_packed_product_is_the_product(transposed: bool, biased: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(48, 32, generator=generator), torch.randn(48, generator=generator) if biased else None
    known: list[Packed] = []
    own = {"weight": nn.Parameter(weight.t().contiguous() if transposed else weight), "bias": bias}
    laid = Packed([own], known, transposed)
    for rows in (1, 2, 3, 7, 16, 33, 256):
        x = torch.randn(rows, 32, generator=generator)
        wanted = torch.nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
        assert torch.allclose(laid(x).double(), wanted, atol=1e-4)
    assert known == [laid]
    assert [takes(rows) for rows in (1, 2, 256, 257)] == [True, True, True, False]


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_it_is_used_while_rows_are_generated_and_at_no_other_time(family: str) -> None:
    model = fresh(family)
    seen: list[int] = []
    own = Packed.__call__

    def counted(self: Packed, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return own(self, x)

    model.runs.lean.modules  # noqa: B018 (found and tried)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Packed, "__call__", counted)
        assert texts(model) == naive(model)
        assert seen and max(seen) <= 256
        seen.clear()
        (alone,) = generate(model, [Row(PROMPTS[0])], GenerationSettings(6))
        assert 1 in seen and alone.token_ids == naive(model)[0]
        seen.clear()
        with torch.inference_mode():
            model.runs.forward({}, {"input_ids": torch.tensor(PROMPTS)})
        assert not seen, "a pass by itself keeps the model's own way"


WRITES: dict[str, Callable[[nn.Linear], object]] = {
    "in place": lambda m: m.weight.detach().mul_(-1.0),
    "through data": lambda m: m.weight.data.mul_(-1.0),
    "one number through data": lambda m: m.weight.data.view(-1)[3].add_(9.0),
    "another tensor": lambda m: setattr(m, "weight", nn.Parameter(-m.weight.detach())),
    "another storage through data": lambda m: setattr(m.weight, "data", -m.weight.data),
    "loaded": lambda m: m.load_state_dict({k: -v for k, v in m.state_dict().items()}),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_weight_that_changed_is_packed_anew(write: str) -> None:
    model = own_copy("llama")
    before = texts(model)
    for module in weights(model)[2:9]:
        WRITES[write](module)
    after = texts(model)
    assert after == naive(model)
    for module in weights(model)[2:9]:
        if write != "one number through data":
            WRITES[write](module)
    assert write == "one number through data" or texts(model) == before


@pytest.mark.parametrize("joined", [False, True])
def test_a_write_in_place_during_a_generation_is_seen_at_the_next_token(joined: bool) -> None:
    model = own_copy("llama")
    begun = stream(model, [Row(p) for p in PROMPTS], GenerationSettings(12))
    for _ in range(3):
        next(begun)
    assert model.runs.lean.pace.packed
    block = model.layout.blocks[0]
    module = block.attention.v_proj if joined else block.mlp.down_proj
    laid = next(one for one in model.runs.lean.pace.packed if any(own is module._parameters for own in one.owns))
    assert len(laid.owns) == (3 if joined else 1)
    old = laid._laid
    with torch.no_grad():
        module.weight.mul_(-1.0)
    next(begun)
    next(begun)
    assert laid._laid is not old
    begun.close()
    assert model.runs.lean.pace.packing == 0, "a generation that was left has ended"


def test_models_whose_copy_would_be_too_large_keep_their_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("llama")
    size = sum(m.weight.numel() * 4 for m in weights(model))
    monkeypatch.setattr(packed, "MOST", size - 1)
    assert texts(model) == naive(model) and not model.runs.lean.pace.packed
    monkeypatch.setattr(packed, "MOST", size)
    other = fresh("llama")
    assert texts(other) == naive(other) and other.runs.lean.pace.packed


def test_small_weights_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "MIDDLING_WEIGHT", 2**17)
    model = fresh("llama")
    assert texts(model) == naive(model) and not model.runs.lean.pace.packed


def test_a_library_without_it_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "can_pack", lambda: False)
    model = fresh("qwen2")
    assert texts(model) == naive(model) and not Pace().packable and not model.runs.lean.pace.packed


def test_other_passes_beside_an_open_stream_read_the_weights_themselves() -> None:
    model = own_copy("llama")
    texts(model)
    begun = stream(model, [Row(p) for p in PROMPTS], GenerationSettings(12))
    next(begun)
    for module in weights(model)[2:9]:
        module.weight.data.mul_(-1.0)
    inputs = {"input_ids": torch.tensor(PROMPTS)}
    with torch.inference_mode():
        assert torch.allclose(model.runs.forward({}, inputs), model.model(**inputs).logits, atol=1e-4)
    begun.close()


def test_rows_alone_and_together_use_the_copy_and_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = own_copy("llama")
    alone = [generate(model, [Row(p)], GenerationSettings(6))[0].token_ids for p in PROMPTS]
    assert model.runs.lean.pace.packed
    queued = [g.token_ids for g in generate(model, [Row(p) for p in PROMPTS], GenerationSettings(6), batch_size=1)]
    assert alone == queued == texts(model) == naive(model)
    looked: list[int] = []
    monkeypatch.setattr(Packed, "look", lambda self: looked.append(1))
    generate(model, [Row(PROMPTS[0])], GenerationSettings(2))
    assert len(looked) == len(model.runs.lean.pace.packed)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(128, 128), (192, 576), (48, 33)])
def test_a_product_by_a_weight_as_it_lies_is_the_product(
    shape: tuple[int, int], transposed: bool, biased: bool
) -> None:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(shape, generator=generator), torch.randn(shape[0], generator=generator)
    held = nn.Parameter(weight.t().contiguous() if transposed else weight)
    laid = Packed([{"weight": held, "bias": bias if biased else None}], [], transposed)
    with torch.inference_mode():
        for rows in (1, 8, 19, 40, 257, 700):
            x = torch.randn(rows, shape[1], generator=generator)
            found = blocked(held.t() if transposed else held, bias if biased else None, x)
            assert torch.allclose(found, laid(x), atol=1e-4) and found.is_contiguous()
            wanted = torch.nn.functional.linear(x.double(), weight.double(), bias.double() if biased else None)
            assert torch.allclose(found.double(), wanted, atol=1e-4)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_long_passes_read_the_weight_as_it_lies(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a generation's reading of many tokens, and in passes of their own; never where there are gradients."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "can_pack", lambda: False)
        without = fresh(family).runs.lean.modules
    monkeypatch.setattr(packed, "LARGEST", 4)
    monkeypatch.setattr(packed, "WORK", 0)
    seen: list[int] = []
    own = packed.blocked

    def counted(weight: torch.Tensor, bias: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return own(weight, bias, x)

    monkeypatch.setattr(packed, "blocked", counted)
    model = fresh(family)
    assert model.runs.lean.modules == without, "no substitute was refused for what it computes"
    seen.clear()
    assert texts(model) == naive(model)
    assert max(seen) == sum(map(len, PROMPTS)) > packed.LARGEST
    inputs = {"input_ids": torch.tensor(PROMPTS)}
    seen.clear()
    with torch.inference_mode():
        assert torch.allclose(model.runs.forward({}, inputs), model.model(**inputs).logits, atol=1e-4)
    assert set(seen) >= {sum(map(len, PROMPTS))}
    seen.clear()
    model.runs.forward({}, inputs).sum().backward()
    model.model.zero_grad()
    assert not seen


def test_what_is_small_or_of_few_rows_is_the_librarys() -> None:
    assert [pays(rows, 192 * 576) for rows in (1, 7, 18, 19, 4000)] == [False, False, False, True, True]
    assert not pays(7, 2**30) and pays(8, 2**18) and not pays(127, 128 * 128) and pays(128, 128 * 128)


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
@pytest.mark.parametrize("packing", [False, True])
def test_a_bias_is_added_by_every_way(kind: str, packing: bool) -> None:
    torch.manual_seed(0)
    module = nn.Linear(512, 640) if kind == "linear" else Conv1D(640, 512)
    with torch.no_grad():
        module.bias.normal_()
    pace = Pace()
    forward = products.linear(module, False, pace) if isinstance(module, nn.Linear) else products.conv1d(module, pace)
    pace.packable, pace.packing = True, packing
    with torch.inference_mode():
        for rows in (1, 2, 7, 8, 19, 40, 300):
            x = torch.randn(rows, 1, 512)
            assert torch.allclose(forward(x), module(x), atol=1e-4), rows
