"""Every kind of site on every architecture: it is where it says, and editing it does what it says."""

from __future__ import annotations

import pytest
import torch

from steering.errors import BadInput
from steering.model.capture import capture
from steering.model.hooks import hooked
from steering.model.resolution import layout_of
from steering.model.sites import KINDS, Site
from tests.tiny import CONFIGS, D_HEAD, plan, tiny, vector

IDS = (1, 20, 21, 22, 23)
PARALLEL = {"gpt_neox"}


def values(family: str, layer: int) -> dict[str, torch.Tensor]:
    model = tiny(family)
    sites = [Site(layer, kind, 1 if kind == "z" else None) for kind in model.layout.kinds(layer)]  # type: ignore[arg-type]
    (batch,) = capture(model, [IDS], sites)
    return {site.kind: batch.values[site][0] for site in sites}


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_the_branches_add_up_to_the_stream(family: str) -> None:
    model = tiny(family)
    for layer in range(model.n_layers):
        expected = [k for k in KINDS if k != "resid_mid" or family not in PARALLEL]
        assert list(model.layout.kinds(layer)) == expected
        seen = values(family, layer)
        total = seen["resid_pre"] + seen["attn_out"] + seen["mlp_out"]
        assert torch.allclose(total, seen["resid_post"], rtol=1e-4, atol=1e-4)
        if family not in PARALLEL:
            assert torch.allclose(seen["resid_mid"], seen["resid_pre"] + seen["attn_out"], rtol=1e-5, atol=1e-5)
        assert seen["z"].shape == (len(IDS), D_HEAD)


@pytest.mark.parametrize("family", sorted(set(CONFIGS) - PARALLEL))
def test_an_edit_of_the_middle_reaches_both_the_mlp_and_the_stream(family: str) -> None:
    model, v = tiny(family), vector().direction
    before = values(family, 1)
    seen: dict[str, torch.Tensor] = {}
    with (
        torch.inference_mode(),
        hooked(
            model.layout,
            {
                Site(1, "resid_mid"): lambda h: h + v,
                Site(1, "mlp_out"): lambda h: seen.update(mlp=h[0]),
                Site(1, "resid_post"): lambda h: seen.update(post=h[0]),
            },
        ),
    ):
        model.model(input_ids=torch.tensor([IDS]))
    assert not torch.allclose(seen["mlp"], before["mlp_out"], atol=1e-3), "the MLP reads the edited stream"
    assert torch.allclose(seen["post"] - seen["mlp"], before["resid_mid"] + v, atol=1e-3), (
        "and the stream carries the edit on"
    )


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_a_head_is_one_slice_of_what_the_projection_reads(family: str) -> None:
    model = tiny(family)
    block = model.layout.blocks[1]
    projection = block.projection
    assert projection is not None
    read: list[torch.Tensor] = []
    handle = projection.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    try:
        with torch.inference_mode(), hooked(model.layout, {Site(1, "z", 1): lambda z: torch.zeros_like(z)}):
            model.model(input_ids=torch.tensor([IDS]))
    finally:
        handle.remove()
    # hooks run in the order of registration: this one saw the heads before the edit, the projection after it
    whole = read[0][0]
    seen = values(family, 1)["z"]
    assert torch.equal(whole[:, D_HEAD : 2 * D_HEAD], seen)


def test_capture_keeps_what_it_read_apart_from_what_follows() -> None:
    seen = values("llama", 0)
    again = values("llama", 0)
    assert all(torch.equal(seen[k], again[k]) for k in seen)


@pytest.mark.parametrize(
    ("family", "site", "message"),
    [
        ("gpt_neox", Site(1, "resid_mid"), "run in parallel"),
        ("llama", Site(3), "3 layers, 0 to 2"),
        ("llama", Site(1, "z", 5), "2 heads, 0 to 1"),
    ],
)
def test_a_site_that_the_model_lacks_is_refused(family: str, site: Site, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        tiny(family).layout.check(site)


def test_a_vector_of_the_stream_does_not_fit_a_head() -> None:
    from steering.compile.compilation import compile_plans

    made = plan(sites=(Site(1, "z", 0),))
    with pytest.raises(BadInput, match="has d_head 8"):
        compile_plans([made], tiny("llama"))


def test_a_model_without_decoder_layers_is_refused() -> None:
    class Strange(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = CONFIGS["llama"]()

    with pytest.raises(BadInput, match="no stack of 3 decoder layers"):
        layout_of(Strange())
