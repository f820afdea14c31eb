"""Queries and keys turned at once: the bits of the model's own function, in place during passes only, refused where it differs."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from steering.model.rotary import NAME, Rotary, equal, rotations
from steering.model.sites import Site
from tests.steering.test_lean import fresh

TURNING = ("gemma2", "gemma3", "llama", "mistral", "olmo2", "qwen2", "qwen3")


def space(family: str) -> dict[str, object]:
    """The namespace of a family's modelling file."""
    return vars(sys.modules[type(fresh(family).model).__module__])


def sample(rows: int, tokens: int, heads: tuple[int, int] = (4, 2), width: int = 16) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(rows)
    q, k = (torch.randn(rows, tokens, h, width, generator=generator).transpose(1, 2) for h in heads)
    return q, k, *(torch.randn(rows, tokens, width, generator=generator) for _ in range(2))


@pytest.mark.parametrize("family", TURNING)
@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (5, 1), (2, 3)])
def test_the_bits_are_those_of_the_models_own_function(family: str, rows: int, tokens: int) -> None:
    own = space(family)[NAME]
    mine = Rotary(own)
    with torch.inference_mode():
        for _ in range(2):
            q, k, cos, sin = sample(rows, tokens)
            before = [x.clone() for x in (q, k, cos, sin)]
            for found, theirs in zip(mine(q, k, cos, sin), own(q, k, cos, sin), strict=True):
                assert torch.equal(found, theirs)
            assert all(torch.equal(a, b) for a, b in zip(before, (q, k, cos, sin), strict=True)), (
                "inputs are left alone"
            )
            mine.forget()


@pytest.mark.parametrize("family", TURNING)
def test_it_is_called_in_decoding_steps_and_gone_after_them(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inside = fresh(family), []
    own = space(family)[NAME]
    with torch.inference_mode():
        model.runs.forward({}, {"input_ids": torch.tensor([[1]])})  # the substitutes are found and tried
    monkeypatch.setattr(
        Rotary, "__call__", lambda self, *args, **kwargs: (inside.append(1), self.own(*args, **kwargs))[1]
    )

    def fail(hidden: torch.Tensor) -> None:
        raise KeyError("inside the pass")

    with torch.inference_mode():
        model.runs.forward({}, {"input_ids": torch.tensor([[1]])})
        assert len(inside) == model.n_layers
        with pytest.raises(KeyError, match="inside the pass"):
            model.runs.forward({Site(1): fail}, {"input_ids": torch.tensor([[1]])})
    assert space(family)[NAME] is own
    model.model(input_ids=torch.tensor([[1]]))
    assert len(inside) <= 2 * model.n_layers, "a pass that is not the engine's turns as the model does"


def interleaved(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
    def turned(x: torch.Tensor) -> torch.Tensor:
        across = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
        return x * cos.unsqueeze(1) + across * sin.unsqueeze(1)

    return turned(q), turned(k)


def test_another_convention_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not equal(interleaved)
    assert equal(space("llama")[NAME])
    model = fresh("llama").model
    assert [kept.own for _, kept in rotations(model)] == [space("llama")[NAME]]
    monkeypatch.setitem(space("llama"), NAME, interleaved)
    assert rotations(model) == [] and rotations(nn.Linear(2, 2)) == []


def test_what_somebody_else_put_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = fresh("llama"), []
    own = space("llama")[NAME]
    with torch.inference_mode():
        model.runs.forward({}, {"input_ids": torch.tensor([[1]])})
        monkeypatch.setitem(space("llama"), NAME, lambda *args, **kwargs: (calls.append(1), own(*args, **kwargs))[1])
        model.runs.forward({}, {"input_ids": torch.tensor([[1]])})
    assert len(calls) == model.n_layers
