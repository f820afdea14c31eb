"""Products of modules that read the same input, done as one: the same numbers, and by themselves wherever that would not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils.prune
from torch import Tensor, nn

from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.model.joined import Joined, joined_in
from steering.model.lean import substitutes
from steering.model.models import LoadedModel
from steering.model.pace import Pace
from steering.model.packed import can_pack
from steering.plan.plan import Plan
from tests.naive import naive_generate
from tests.steering.test_lean import everything, fresh
from tests.steering.test_packed import PROMPTS, naive, own_copy, texts
from tests.tiny import CONFIGS, plan

__all__ = ["everything"]
pytestmark = pytest.mark.skipif(not can_pack(), reason="this build of torch has no packed product")
WITHOUT = ("gpt2", "gpt_neox", "phi3")
"""Families whose products are joined in their files already."""


def joined(model: LoadedModel) -> list[Joined]:
    model.runs.lean.modules  # noqa: B018 (found and tried)
    return [one for one, _ in model.runs.lean._joined]


class Three(nn.Module):
    """Queries, keys and values of different widths."""

    def __init__(self, bias: bool, width: int = 33):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, out, bias=bias) for out in (48, 16, 17))
        for module in (self.q_proj, self.k_proj, self.v_proj):
            if bias:
                nn.init.normal_(module.bias)

    @property
    def members(self) -> list[nn.Linear]:
        return [self.q_proj, self.k_proj, self.v_proj]


def three(bias: bool) -> tuple[Three, Joined]:
    torch.manual_seed(0)
    modules, pace = Three(bias), Pace()
    found = substitutes(modules, pace)
    (one,) = joined_in(modules, pace, found)
    pace.packing = True
    return modules, one


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (3, 4), (64, 1), (2, 128), (3, 100)])
def test_parts_are_what_each_module_gives(bias: bool, shape: tuple[int, int]) -> None:
    modules, one = three(bias)
    calls = len_of_calls(one)
    with torch.inference_mode():
        for turn in range(3):
            x = torch.randn(*shape, 33)
            for place in [(turn + n) % 3 for n in range(3)]:
                found, own = one.forwards[place](x), modules.members[place](x)
                assert found.shape == own.shape and torch.allclose(found, own, atol=1e-4)
                assert found.is_contiguous()
            one.passed()
            assert one.free and not one._parts and one._input is None
    assert len(calls) == (3 if shape[0] * shape[1] <= 256 else 0)


def len_of_calls(one: Joined) -> list[int]:
    """Grows by one at each product of all."""
    calls: list[int] = []
    own = one._all

    def counted(x: Tensor) -> Any:
        calls.append(1)
        return own(x)

    one._all = counted  # type: ignore[method-assign]
    return calls


def test_modules_that_are_given_other_tensors_are_left_apart() -> None:
    modules, one = three(True)
    with torch.inference_mode():
        x, y = torch.randn(2, 1, 33), torch.randn(2, 1, 33)
        assert torch.allclose(one.forwards[0](x), modules.q_proj(x), atol=1e-4)
        assert torch.allclose(one.forwards[1](y), modules.k_proj(y), atol=1e-4), "another tensor"
        assert torch.allclose(one.forwards[0](x), modules.q_proj(x), atol=1e-4), "asked twice"
        one.passed()
        one.forget()
    assert not one.free and one._laid._laid is None and one._input is None


def test_a_pass_that_failed_says_nothing_about_them() -> None:
    _, one = three(True)
    with torch.inference_mode():
        one.forwards[0](torch.randn(2, 1, 33))
    one.forget()
    assert one.free and not one._parts


ODD: dict[str, Callable[[Three], object]] = {
    "one bias": lambda m: setattr(m.k_proj, "bias", None),
    "one module twice": lambda m: setattr(m, "k_proj", m.q_proj),
    "another width": lambda m: setattr(m, "k_proj", nn.Linear(40, 16)),
    "another class": lambda m: setattr(m, "k_proj", type("Other", (nn.Linear,), {})(33, 16)),
    "another precision": lambda m: m.k_proj.bfloat16(),
    "another name": lambda m: setattr(m, "key", m._modules.pop("k_proj")),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_not_alike_is_not_joined(odd: str) -> None:
    modules, pace = Three(True), Pace()
    ODD[odd](modules)
    assert joined_in(modules, pace, substitutes(modules, pace)) == []


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_families_with_such_modules_use_it_and_write_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh(family)
    found, seen = joined(model), []
    assert len(found) == (0 if family in WITHOUT else 2 * model.n_layers)
    for one in found:
        own = one._all
        monkeypatch.setattr(one, "_all", lambda x, own=own: (seen.append(len(x)), own(x))[1])
    assert texts(model) == naive(model)
    assert bool(seen) == bool(found) and all(one.free for one in found)
    rows = [Row(p, q) for p in PROMPTS for q in (Plan(), plan(amount=2.0), plan(span="all", amount=1.5, layer=0))]
    for row, text in zip(rows, generate(model, rows, GenerationSettings(6)), strict=True):
        assert list(text.token_ids) == naive_generate(model, row.prompt_ids, row.plan, 6)
    seen.clear()
    with torch.inference_mode():
        model.runs.forward({}, {"input_ids": torch.tensor(PROMPTS)})
    assert not seen, "a pass by itself keeps the model's own way"


def test_where_something_is_hooked_each_module_is_itself() -> None:
    """A hook that writes to the input which the next module reads is followed."""
    model = own_copy("llama")
    before = texts(model)
    attention = model.layout.blocks[1].attention
    handle = attention.q_proj.register_forward_hook(lambda module, args, out: args[0].neg_())
    try:
        hooked = texts(model)
        assert hooked == naive(model) != before
    finally:
        handle.remove()
    assert texts(model) == before
    changed = attention.k_proj.register_forward_pre_hook(lambda module, args: (args[0] * 3.0,))
    try:
        assert texts(model) == naive(model) != before
    finally:
        changed.remove()


def test_a_weight_has_one_layout_at_a_time() -> None:
    model = own_copy("llama")

    def held() -> int:
        return sum(one._laid.numel() for one in model.runs.lean.pace.packed if one._laid is not None)

    texts(model)
    size = held()
    attention = model.layout.blocks[1].attention
    handle = attention.q_proj.register_forward_hook(lambda *_: None)
    texts(model)
    assert held() == size
    handle.remove()
    texts(model)
    assert held() == size


@pytest.mark.parametrize("name", ["q_proj", "k_proj", "v_proj"])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_member_that_changes_is_seen(name: str, part: str) -> None:
    model = own_copy("qwen2")
    before = texts(model)
    for block in model.layout.blocks:
        getattr(getattr(block.attention, name), part).data.normal_()
    after = texts(model)
    assert after == naive(model) != before


CHANGES: dict[str, Callable[[nn.Linear], object]] = {
    "another bias": lambda m: setattr(m, "bias", nn.Parameter(torch.randn(m.out_features) * 5)),
    "no bias": lambda m: setattr(m, "bias", None),
    "a weight made at every call": lambda m: torch.nn.utils.prune.random_unstructured(m, "weight", 0.5),
}


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("name", ["q_proj", "k_proj", "v_proj"])
@pytest.mark.parametrize("change", CHANGES)
def test_members_that_become_another_kind_after_the_first_generation(family: str, name: str, change: str) -> None:
    torch.manual_seed(3)
    model = own_copy(family)
    attention = model.layout.blocks[1].attention
    for module in (attention.q_proj, attention.k_proj, attention.v_proj):
        if family == "qwen2":
            nn.init.normal_(module.bias, std=3.0)
        assert (module.bias is not None) == (family == "qwen2")
    assert texts(model) == naive(model)
    CHANGES[change](getattr(attention, name))
    assert texts(model) == naive(model)
    inputs = {"input_ids": torch.tensor(PROMPTS)}
    edits: dict[Any, Any] = {}
    with torch.inference_mode(), model.runs.holding(edits):
        found = model.runs.forward(edits, inputs)
    with torch.inference_mode():
        assert torch.allclose(found, model.model(**inputs).logits, atol=1e-3)


def test_a_bias_made_at_every_call_is_followed() -> None:
    model = own_copy("qwen2")
    module = model.layout.blocks[1].attention.k_proj
    nn.init.normal_(module.bias, std=3.0)
    texts(model)
    torch.nn.utils.prune.random_unstructured(module, "bias", 0.5)
    assert texts(model) == naive(model)


def test_hooks_on_every_module_are_followed() -> None:
    model = own_copy("llama")
    before = texts(model)
    chosen = model.layout.blocks[1].attention.q_proj

    def negate(module: nn.Module, args: Any, out: Any) -> None:
        if module is chosen:
            args[0].neg_()

    handle = torch.nn.modules.module.register_module_forward_hook(negate)
    try:
        assert texts(model) == naive(model) != before
    finally:
        handle.remove()
    assert texts(model) == before


def test_hooks_beside_the_modules_are_followed() -> None:
    model = own_copy("qwen3")
    before, held = texts(model), []
    attention = model.layout.blocks[1].attention
    handles = [
        attention.register_forward_pre_hook(
            lambda module, args, kwargs: held.append(kwargs.get("hidden_states", args[0] if args else None)),
            with_kwargs=True,
        ),
        attention.q_norm.register_forward_hook(lambda *_: (held[-1].neg_(), None)[1]),
    ]
    try:
        assert texts(model) == naive(model) != before
    finally:
        for handle in handles:
            handle.remove()
    flat = model.layout.blocks[1].mlp.act_fn.register_forward_hook(
        lambda module, args, out: (args[0].view(-1), None)[1]
    )
    try:
        assert texts(model) == before
    finally:
        flat.remove()


def test_autocast_keeps_the_modules_way() -> None:
    model = own_copy("llama")
    texts(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert len(texts(model)) == len(PROMPTS)
        with torch.inference_mode(), model.runs.lean.used({"input_ids": torch.tensor(PROMPTS)}):
            assert not any("forward" in module.__dict__ for module in model.model.modules())
