"""The layer at which a prediction settles, against a naive reading of every token and layer."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from steering.errors import BadInput
from steering.extraction import settling
from steering.extraction.settling import late_from, lens_divergence, settling_layers
from steering.model.divergence import jensen_shannon
from steering.model.hooks import hooked
from steering.model.models import LoadedModel
from steering.model.sites import Site
from tests.tiny import tiny

TEXTS = [((1, 9, 12), (20, 31, 8, 40, 5)), ((1, 30), (7,)), ((1, 14, 15, 16, 17), (33, 34, 2))]
NORMS = {"llama": "norm", "gemma2": "norm", "gpt2": "ln_f"}


def naive(model: LoadedModel, prompt: tuple[int, ...], tokens: tuple[int, ...]) -> list[list[float]]:
    """One token and one layer at a time: the stream there, the final norm and the unembedding by hand, scipy's divergence."""
    whole, rows = model.model, []
    body = whole.get_decoder() if hasattr(whole, "get_decoder") else whole.transformer
    norm = getattr(body, next(name for family, name in NORMS.items() if model.id == f"tiny-{family}"))
    for n in range(len(tokens)):
        ids = torch.tensor([[*prompt, *tokens[:n]]])
        seen: dict[int, torch.Tensor] = {}

        def keep(layer: int, seen: dict[int, torch.Tensor] = seen) -> Callable[[torch.Tensor], None]:
            return lambda hidden: seen.update({layer: hidden[0, -1].clone()})

        edits = {Site(layer): keep(layer) for layer in range(model.n_layers)}
        with torch.inference_mode(), hooked(model.layout, edits):
            own = whole(input_ids=ids).logits[0, -1].double().softmax(-1)
        spread = []
        for layer in range(model.n_layers):
            with torch.inference_mode():
                logits = whole.get_output_embeddings()(norm(seen[layer])).double()
            cap = getattr(whole.config, "final_logit_softcapping", None)
            spread.append((cap * torch.tanh(logits / cap) if cap else logits).softmax(-1).numpy())
        assert spread[-1] == pytest.approx(own.numpy(), abs=1e-5), "the last layer's lens is the model's own prediction"
        rows.append([float(jensenshannon(one, spread[-1], base=2)) ** 2 for one in spread])
    return rows


@pytest.mark.parametrize("family", list(NORMS))
@pytest.mark.parametrize("numbers", [1 << 22, 61 * 2])
def test_divergences_are_those_of_a_naive_reading_however_they_are_cut_into_chunks(
    family: str, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "NUMBERS", numbers)
    model = tiny(family)
    found = lens_divergence(model, TEXTS)
    for one, (prompt, tokens) in zip(found, TEXTS, strict=True):
        wanted = torch.tensor(naive(model, prompt, tokens))
        assert one.shape == (len(tokens), model.n_layers) and bool((one[:, -1] == 0).all())
        assert one.numpy() == pytest.approx(wanted.numpy(), abs=1e-4)
    assert max(float(one.max()) for one in found) > 0.02, "layers of a random model differ"


def naive_layers(row: list[float], threshold: float) -> tuple[int, int]:
    stays = next(n for n in range(1, len(row) + 1) if all(d <= threshold for d in row[n - 1 :]))
    first = next(n for n in range(1, len(row) + 1) if min(row[:n]) <= threshold)
    return stays, first


def test_a_prediction_that_comes_near_and_goes_away_again_has_not_settled() -> None:
    rows = [
        [0.9, 0.1, 0.8, 0.0],
        [0.9, 0.5, 0.2, 0.0],
        [0.1, 0.1, 0.1, 0.0],
        [0.9, 0.8, 0.7, 0.0],
        [0.4, 0.9, 0.3, 0.0],
    ]
    stays, first = settling_layers(torch.tensor(rows))
    assert stays.tolist() == [4, 2, 1, 4, 3] and first.tolist() == [2, 2, 1, 4, 1]
    drawn = torch.rand(200, 6, generator=torch.Generator().manual_seed(0))
    drawn[:, -1] = 0
    for threshold in (0.0, 0.25, 0.5, 0.75):
        found = torch.stack(settling_layers(drawn.clone(), threshold), dim=1)
        assert found.tolist() == [list(naive_layers(row, threshold)) for row in drawn.tolist()]
    with pytest.raises(BadInput, match="threshold 1"):
        settling_layers(drawn, 1.0)


def test_late_layers_are_rounded_as_published_and_not_by_the_last_bits() -> None:
    assert [late_from(n) for n in (1, 3, 4, 6, 7, 20, 36, 40)] == [1, 3, 4, 6, 6, 17, 31, 34]
    assert late_from(10, 0.8) == 8 and late_from(100, 0.07) == 7 and math.ceil(0.07 * 100) == 8
    with pytest.raises(BadInput, match="depth 0"):
        late_from(4, 0.0)


def test_distributions_that_share_nothing_lie_one_bit_apart() -> None:
    halves = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]).log()
    assert float(jensen_shannon(halves[0], halves[1])) == pytest.approx(1.0)
    assert float(jensen_shannon(halves[0], halves[0])) == 0.0


def test_texts_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(BadInput, match="Text 1 needs a prompt"):
        lens_divergence(tiny("llama"), [((1,), (2,)), ((), (2,))])
