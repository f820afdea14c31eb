"""Captured activations are the model's own hidden states, read without running further than needed."""

from __future__ import annotations

import pytest
import torch

from steering.errors import BadInput
from steering.model.capture import capture, mean_at
from steering.model.sites import Site
from tests.tiny import CONFIGS, tiny

SEQUENCES = [(1, 5, 9, 12), (1, 7), (1, 30, 31, 32, 33, 34), (1, 8, 8)]


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_capture_equals_hidden_states(family: str) -> None:
    model = tiny(family)
    sites = [Site(layer, kind) for layer in range(model.n_layers) for kind in ("resid_pre", "resid_post")]
    captured = [
        (row, batch.values, i)
        for batch in capture(model, SEQUENCES, sites, batch_size=3)
        for i, row in enumerate(batch.rows)
    ]
    assert [row for row, _, _ in captured] == [0, 1, 2, 3]
    for row, values, i in captured:
        sequence = SEQUENCES[row]
        with torch.inference_mode():
            output = model.model(input_ids=torch.tensor([sequence]), output_hidden_states=True, use_cache=False)
        for layer in range(model.n_layers):
            pre, post = values[Site(layer, "resid_pre")][i, : len(sequence)], values[Site(layer)][i, : len(sequence)]
            assert torch.allclose(pre, output.hidden_states[layer][0], atol=1e-4)
            if layer < model.n_layers - 1:
                assert torch.allclose(post, output.hidden_states[layer + 1][0], atol=1e-4)
            elif hasattr(getattr(model.model, "model", None), "norm"):
                assert torch.allclose(model.model.model.norm(post), output.hidden_states[-1][0], atol=1e-4), (
                    "the last entry is normed"
                )
                assert not torch.allclose(post, output.hidden_states[-1][0], atol=1e-3)


def test_nothing_above_the_highest_site_runs() -> None:
    model = tiny("llama")
    ran: list[int] = []
    handles = [
        layer.register_forward_hook(lambda *a, i=i: ran.append(i)) for i, layer in enumerate(model.layout.layers)
    ]
    try:
        list(capture(model, SEQUENCES, [Site(0), Site(1, "resid_pre")]))
    finally:
        for handle in handles:
            handle.remove()
    assert ran == [0]


def test_mean_at_reads_only_the_named_positions() -> None:
    model, site = tiny("qwen2"), Site(1)
    means, count = mean_at(model, SEQUENCES, [(3,), (), (0, 5), (1,)], [site])
    rows = {
        row: batch.values[site][i] for batch in capture(model, SEQUENCES, [site]) for i, row in enumerate(batch.rows)
    }
    expected = torch.stack([rows[0][3], rows[2][0], rows[2][5], rows[3][1]]).double().mean(0)
    assert count == 4 and torch.allclose(means[site], expected)


@pytest.mark.parametrize(
    ("sequences", "positions", "message"),
    [
        ([(1, 2)], [(2,)], "not all inside"),
        ([()], [()], "0 tokens"),
        ([(1, 2)], [()], "No position"),
        ([(1,)], [], "positions for 0"),
    ],
)
def test_bad_readings_are_refused(
    sequences: list[tuple[int, ...]], positions: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        mean_at(tiny("llama"), sequences, positions, [Site(0)])
