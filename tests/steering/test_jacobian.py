"""The Jacobian lens beside derivatives that are taken in other ways, and what it refuses."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from steering.errors import BadInput
from steering.extraction.jacobian import JacobianLens, fit_jacobian, jacobian_logits, jacobian_tokens
from steering.extraction.lens import lens_logits, lens_tokens
from steering.extraction.lenses import both_lenses
from steering.model.hooks import hooked
from steering.model.models import LoadedModel, wrap
from steering.model.sinks import sinks_of
from steering.model.sites import Site
from tests.tiny import WIDTH, tiny, tokenizer, vector, with_sink

A, B, C, D = (4, 9, 17, 30, 8, 41), (12, 5, 60, 33, 21), (7, 44, 19, 25, 50, 11, 3), (22, 16, 35, 9)
LAST = 2


@cache
def precise(family: str) -> LoadedModel:
    """A tiny model in float64."""
    return wrap(copy.deepcopy(tiny(family).model).double(), tokenizer(), f"precise-{family}")


def stream(model: LoadedModel, text: tuple[int, ...], site: Site, pushes: Tensor) -> Tensor:
    """What enters the final norm, `[pushes, positions, d_model]`, with `pushes [pushes, positions, d_model]` added at a site."""
    read: list[Tensor] = []

    def note(hidden: Tensor) -> None:
        read.append(hidden.clone())

    def push(hidden: Tensor) -> Tensor:
        return hidden + pushes

    edits = {site: push, Site(LAST): note} if site != Site(LAST) else {site: lambda h: read.append(h + pushes)}
    with hooked(model.layout, edits):
        model.model(input_ids=torch.tensor([text]).expand(len(pushes), -1), use_cache=False)
    return read[0]


def of_one_text(model: LoadedModel, text: tuple[int, ...], site: Site, positions: list[int]) -> Tensor:
    """The lens of one text from every derivative of every position by every other: `[positions, d_model, positions, d_model]`."""

    def final(push: Tensor) -> Tensor:
        return stream(model, text, site, push[None])[0]

    every = torch.autograd.functional.jacobian(
        final, torch.zeros(len(text), WIDTH, dtype=torch.float64), vectorize=False
    )
    return torch.stack([every[positions, :, p].sum(0) for p in positions]).mean(0)


def by_differences(model: LoadedModel, text: tuple[int, ...], site: Site, positions: list[int]) -> Tensor:
    """The same by central differences, a push in every coordinate at every position. Norms are computed in float32, so they are rough."""
    n, size = len(positions), 2e-3
    pushes = torch.zeros(n, WIDTH, len(text), WIDTH, dtype=torch.float64)
    for k, p in enumerate(positions):
        pushes[k, torch.arange(WIDTH), p, torch.arange(WIDTH)] = size
    pushes = pushes.flatten(0, 1)
    with torch.no_grad():
        slopes = (stream(model, text, site, pushes) - stream(model, text, site, -pushes)) / (2 * size)
    return slopes[:, positions].sum(1).unflatten(0, (n, WIDTH)).mean(0).T


def there(family: str) -> list[Site]:
    layout = tiny(family).layout
    return [Site(layer, kind) for layer in (0, 1, 2) for kind in layout.kinds(layer) if kind != "z"]  # type: ignore[arg-type]


def close(found: Tensor, wanted: Tensor, within: float = 1e-5) -> bool:
    return float((found.double() - wanted.double()).abs().max()) <= within * float(wanted.abs().max())


# ---- the matrix ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma3", "olmo2"])
def test_every_site_has_the_derivative_that_differences_give(family: str) -> None:
    model = precise(family)
    assert not sinks_of(model)
    lenses = fit_jacobian(model, [A, B], there(family), skip=2, block=5)
    for site, lens in lenses.items():
        rough = [by_differences(model, text, site, list(range(2, len(text)))) for text in (A, B)]
        assert close(lens.halves[0], rough[0], 0.01) and close(lens.halves[1], rough[1], 0.01), site
        assert close(lens.matrix, (rough[0] + rough[1]) / 2, 0.01), site
        if site.kind != "resid_mid":  # an edit there that changes nothing is none
            exact = [of_one_text(model, text, site, list(range(2, len(text)))) for text in (A, B)]
            assert close(lens.halves[0], exact[0]) and close(lens.halves[1], exact[1]), site


def test_a_lens_is_not_that_of_the_layer_before_or_behind() -> None:
    model = precise("llama")
    lenses = fit_jacobian(model, [A, B], [Site(0), Site(1)], skip=3)
    for layer in (0, 1):
        for other in (0, 1, 2):
            wanted = sum(by_differences(model, t, Site(other), list(range(3, len(t)))) for t in (A, B)) / 2
            assert close(lenses[Site(layer)].matrix, wanted, 0.01) is (other == layer)  # type: ignore[arg-type]


def test_one_position_has_the_exact_jacobian_of_that_position() -> None:
    model, site = precise("llama"), Site(0)
    lens = fit_jacobian(model, [A, C[:6]], [site], skip=5)[site]
    for half, text in zip(lens.halves, (A, C[:6]), strict=True):

        def final(push: Tensor, text: tuple[int, ...] = text) -> Tensor:
            return stream(model, text, site, torch.cat([torch.zeros(5, WIDTH, dtype=torch.float64), push[None]])[None])[
                0, 5
            ]

        exact = torch.autograd.functional.jacobian(final, torch.zeros(WIDTH, dtype=torch.float64))
        assert close(half, exact, 1e-6)


@cache
def linear() -> tuple[LoadedModel, list[Tensor]]:
    """A model whose block l adds A_l h to the stream h, and the A_l."""
    model = copy.deepcopy(tiny("llama").model)
    added = []
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.o_proj.weight.data.zero_()
        layer.post_attention_layernorm = nn.Identity()
        layer.mlp = nn.Linear(WIDTH, WIDTH, bias=False)
        layer.mlp.weight.data.copy_(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(number)) / 4)
        added.append(layer.mlp.weight.data.double())
    return wrap(model, tokenizer(), "linear", trial=False), added


def test_a_linear_model_has_the_product_of_the_blocks_behind_the_site() -> None:
    model, added = linear()
    whole = torch.eye(WIDTH, dtype=torch.float64)
    lenses = fit_jacobian(model, [A, B, C], [Site(0), Site(1), Site(2)], skip=1)
    wanted = {2: whole, 1: whole + added[2], 0: (whole + added[2]) @ (whole + added[1])}
    for layer, matrix in wanted.items():
        lens = lenses[Site(layer)]
        assert close(lens.matrix, matrix, 1e-5) and lens.halves_difference < 1e-5
        logits = jacobian_logits(model, lens, vector(layer, layer))
        straight = lens_logits(model, matrix @ vector(layer, layer).direction.double())
        assert torch.allclose(logits, straight, atol=1e-4)


def test_the_last_layer_has_the_identity_and_both_lenses_are_one() -> None:
    model, v = tiny("llama"), vector(3, LAST)
    lens = fit_jacobian(model, [A, B], [Site(LAST)], skip=0)[Site(LAST)]
    assert torch.equal(lens.matrix, torch.eye(WIDTH)) and lens.halves_difference == 0
    assert lens.axis_share == pytest.approx(1 / WIDTH)
    both = both_lenses(model, lens, v, 5)
    assert both.shared_promoted == both.shared_demoted == 5 and both.cosine == pytest.approx(1)
    assert both.gain == pytest.approx(1) and both.halves_cosine == pytest.approx(1)
    assert [t.id for t in jacobian_tokens(model, lens, v, 5)[1]] == [t.id for t in lens_tokens(model, v, 5)[1]]


def test_halves_share_no_text_and_the_lens_is_their_mean() -> None:
    model, site = tiny("llama"), Site(0)
    lens = fit_jacobian(model, [A, B, C, D, A], [site], skip=1)[site]  # the fifth is the first again
    assert (lens.provenance.given, lens.provenance.texts, lens.provenance.alike) == (5, 4, 1)
    assert close(lens.halves[0], fit_jacobian(model, [A, C], [site], skip=1)[site].matrix)
    assert close(lens.halves[1], fit_jacobian(model, [B, D], [site], skip=1)[site].matrix)
    assert close(lens.matrix, lens.halves.double().mean(0)) and lens.halves_difference > 0.01
    three = fit_jacobian(model, [A, B, C], [site], skip=1)[site]
    assert close(three.matrix, (2 * three.halves[0].double() + three.halves[1].double()) / 3)
    v = vector(1, 0)
    one, other = lens.halves.double() @ v.direction.double()
    assert lens.halves_cosine(v.direction) == pytest.approx(float(one @ other / one.norm() / other.norm()))


def test_what_makes_a_lens_doubtful_is_said() -> None:
    model, site, v = tiny("llama"), Site(0), vector(0, 0)
    lens = fit_jacobian(model, [A, B], [site], skip=1)[site]
    eye = torch.eye(WIDTH)

    def remarks(matrix: Tensor, halves: list[Tensor]) -> str:
        made = JacobianLens(site, matrix, torch.stack(halves), lens.provenance)
        return " ".join(both_lenses(model, made, v, 3).remarks)

    assert remarks(eye, [eye, eye]) == ""
    assert "Two halves of the texts" in remarks(eye, [eye, -eye])
    axis = torch.outer(v.direction, v.direction) * 10
    assert "One axis holds 100 %" in remarks(eye / 100 + axis, [axis, axis])
    last = fit_jacobian(model, [A, B], [Site(LAST)], skip=1)[Site(LAST)]
    assert both_lenses(model, last, vector(0, LAST), 3).remarks == (
        "No layer lies behind this site, so both lenses are one.",
    )


def test_rows_per_pass_change_nothing_but_rounding() -> None:
    model = precise("llama")
    few, many = (fit_jacobian(model, [A, B], [Site(0)], skip=1, block=block)[Site(0)] for block in (3, 500))
    assert close(few.matrix, many.matrix, 1e-6)


# ---- what is read -------------------------------------------------------------------------------------------------------------


def test_sinks_and_prompts_are_left_out() -> None:
    model, site = with_sink(), Site(1)
    assert sinks_of(model).positions == (0,)
    lens, without = (fit_jacobian(model, [A, B], [site], skip=skip)[site] for skip in (0, 1))
    assert lens.provenance.sinks == (0,) and lens.provenance.positions == len(A) + len(B) - 2
    assert torch.equal(lens.matrix, without.matrix) and "attention sinks at 0" in lens.provenance.sentence
    model = tiny("llama")
    started = fit_jacobian(model, [A, B], [site], starts=[3, 1], skip=2)[site]
    apart = [of_one_text(precise("llama"), text, site, list(range(p, len(text)))) for text, p in ((A, 3), (B, 2))]
    assert close(started.halves[0], apart[0], 1e-3) and close(started.halves[1], apart[1], 1e-3)
    assert "prompts" in started.provenance.sentence and started.provenance.positions == 3 + 3


def test_a_long_text_is_read_up_to_its_limit() -> None:
    model, site = tiny("llama"), Site(0)
    cut = fit_jacobian(model, [A, C], [site], skip=1, longest=4)[site]
    assert cut.provenance.positions == 6
    assert torch.equal(cut.matrix, fit_jacobian(model, [A[:4], C[:4]], [site], skip=1)[site].matrix)


def test_texts_that_are_too_short_are_counted_and_refused_where_too_few_are_left() -> None:
    model, site = tiny("llama"), Site(0)
    lens = fit_jacobian(model, [A, D, C, B], [site], skip=4)[site]
    assert (lens.provenance.short, lens.provenance.texts) == (1, 3)
    assert "1 of 4 texts had no position left" in lens.provenance.sentence
    with pytest.raises(BadInput, match="0 of 4 texts.*first 16 tokens.*longest text has 7 tokens.*smaller skip"):
        fit_jacobian(model, [A, B, C, D], [site])
    with pytest.raises(BadInput, match="1 of 2 texts.*two different"):
        fit_jacobian(model, [A, A], [site], skip=1)
    with pytest.raises(BadInput, match="0 of 0 texts"):
        fit_jacobian(model, [], [site])


def test_what_has_no_lens_is_refused_before_the_model_runs() -> None:
    model = tiny("llama")
    with (
        model_that_must_not_run(model),
        pytest.raises(BadInput, match="not in the residual stream.*blocks.1.hook_resid_post"),
    ):
        fit_jacobian(model, [A, B], [Site(1, "z", 0)], skip=1)
    with pytest.raises(BadInput, match="3 layers"):
        fit_jacobian(model, [A, B], [Site(7)], skip=1)
    with pytest.raises(BadInput, match="needs a site"):
        fit_jacobian(model, [A, B], [], skip=1)
    for wrong in ({"skip": -1}, {"skip": 4, "longest": 4}, {"block": 0}):
        with pytest.raises(BadInput, match="less than longest"):
            fit_jacobian(model, [A, B], [Site(0)], **wrong)  # type: ignore[arg-type]


class model_that_must_not_run:
    """A context in which a pass of the model fails the test."""

    def __init__(self, model: LoadedModel):
        self.layer = model.layout.layers[0]

    def __enter__(self) -> None:
        def ran(*_: object) -> None:
            raise AssertionError("the model ran")

        self.handle = self.layer.register_forward_pre_hook(ran)

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def test_the_model_is_left_as_it_was_and_inference_mode_is_no_hindrance() -> None:
    model = tiny("llama")
    seen: list[tuple[int, int]] = []
    before = [(p.requires_grad, p.grad is None) for p in model.model.parameters()]
    hooks = [
        len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules()
    ]  # another library's may be there
    with torch.inference_mode():
        inside = fit_jacobian(model, [A, B], [Site(0)], skip=1, on_progress=lambda *at: seen.append(at))[Site(0)]
    assert seen == [(1, 2), (2, 2)]
    assert torch.equal(inside.matrix, fit_jacobian(model, [A, B], [Site(0)], skip=1)[Site(0)].matrix)
    assert [(p.requires_grad, p.grad is None) for p in model.model.parameters()] == before

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_jacobian(model, [A, B], [Site(0), Site(1, "resid_mid")], skip=1, on_progress=stop)
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules()] == hooks


def test_a_derivative_that_is_no_number_is_refused() -> None:
    model = copy.deepcopy(tiny("llama").model)
    broken = wrap(model, tokenizer(), "broken", trial=False)
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(BadInput, match="NaN or infinite on text 1"):
        fit_jacobian(broken, [A, B], [Site(0)], skip=1)


# ---- files and other models ---------------------------------------------------------------------------------------------------


def test_a_lens_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    lens = fit_jacobian(tiny("llama"), [A, B], [Site(0)], skip=1)[Site(0)]
    path = lens.save(tmp_path / "lens.safetensors")
    back = JacobianLens.load(path)
    assert torch.equal(back.matrix, lens.matrix) and torch.equal(back.halves, lens.halves)
    assert (back.site, back.provenance, back.digest) == (lens.site, lens.provenance, lens.digest)
    assert back.save(tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    data = path.read_bytes()
    for name, bytes_ in (
        ("cut", data[:-40]),
        ("empty", b""),
        ("text", b"{}"),
        ("sites", data.replace(b'sinks\\"', b'sunks\\"')),
    ):
        (tmp_path / name).write_bytes(bytes_)
        with pytest.raises(BadInput, match=name):
            JacobianLens.load(tmp_path / name)
    with pytest.raises(BadInput, match="does not hold a Jacobian lens"):
        JacobianLens.load(vector(0).save(tmp_path / "v.safetensors"))


def test_another_models_lens_and_another_sites_are_refused() -> None:
    lens = fit_jacobian(tiny("llama"), [A, B], [Site(0)], skip=1)[Site(0)]
    with pytest.raises(BadInput, match="fitted on tiny-llama .*not on tiny-qwen2"):
        jacobian_tokens(tiny("qwen2"), lens, vector(0, 0))
    with pytest.raises(BadInput, match="at blocks.1.hook_resid_post, and this lens is of blocks.0"):
        jacobian_tokens(tiny("llama"), lens, vector(0, 1))
    with pytest.raises(BadInput, match="count 0"):
        jacobian_tokens(tiny("llama"), lens, vector(0, 0), 0)
    nothing = JacobianLens(lens.site, lens.matrix * 0, lens.halves * 0, lens.provenance)
    with pytest.raises(BadInput, match="reaches the last layer"):
        jacobian_tokens(tiny("llama"), nothing, vector(0, 0))
    for matrix, halves in (
        (lens.matrix[:3], lens.halves),
        (lens.matrix, lens.halves[:1]),
        (lens.matrix * float("nan"), lens.halves),
    ):
        with pytest.raises(BadInput):
            JacobianLens(lens.site, matrix, halves, lens.provenance)
