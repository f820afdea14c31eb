"""Readings name real tokens, and the samples of a reading are the model's own hidden states at them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from steering.errors import BadInput
from steering.extraction import Reading, mean_difference, unpadded
from steering.extraction.samples import gathered, pairs, samples
from steering.model.models import LoadedModel
from steering.model.sites import Site
from tests.tiny import tiny

SEQUENCES = ((1, 5, 9, 12), (1, 7), (1, 30, 31, 32, 33, 34), (1, 8, 8))
SITE = Site(1)


def hidden(model: LoadedModel, sequence: tuple[int, ...]) -> np.ndarray:
    """Naive oracle: this sequence alone, `[positions, d_model]` after layer 1."""
    with torch.no_grad():
        output = model.model(input_ids=torch.tensor([sequence]), output_hidden_states=True, use_cache=False)
    return output.hidden_states[2][0].double().numpy()


@pytest.mark.parametrize(
    ("reading", "positions"),
    [
        (Reading.last_token(SEQUENCES), ((3,), (1,), (5,), (2,))),
        (Reading.all_tokens(SEQUENCES), ((0, 1, 2, 3), (0, 1), (0, 1, 2, 3, 4, 5), (0, 1, 2))),
        (Reading.all_tokens(SEQUENCES, bos=1), ((1, 2, 3), (1,), (1, 2, 3, 4, 5), (1, 2))),
        (Reading.all_tokens(((5, 6),), bos=1), ((0, 1),)),
        (Reading.response_tokens([(1, 5), (1,)], [(9, 12), (7,)]), ((2, 3), (1,))),
        (Reading.at(SEQUENCES, (1, -1)[:1]), ((1,), (1,), (1,), (1,))),
        (Reading.at(SEQUENCES, ((0, -1), (-2,), (), (1,))), ((0, 3), (0,), (), (1,))),
        (Reading.window(SEQUENCES, ((3,), (), (3,), ()), -2, 0), ((1, 2), (), (1, 2), ())),
        (Reading.window(SEQUENCES, ((-1,), (0,), (2, 4), ()), 0, 3), ((3,), (0, 1), (2, 3, 4, 5), ())),
    ],
)
def test_the_constructors_name_these_positions(reading: Reading, positions: tuple[tuple[int, ...], ...]) -> None:
    assert reading.positions == positions
    assert reading.samples == tuple(map(len, positions)) and reading.count == sum(map(len, positions))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_samples_are_the_hidden_states_in_order(family: str) -> None:
    model = tiny(family)
    reading = Reading.at(SEQUENCES, ((3, 0), (), (5, 2, 1), (2,)))
    found = torch.cat([b[SITE] for b in samples(model, reading, [SITE], batch_size=2)]).numpy()
    expected = [hidden(model, s)[p] for s, row in zip(SEQUENCES, reading.positions, strict=True) for p in row]
    assert np.allclose(found, expected, atol=1e-4)


def test_spans_are_means_and_each_span_weighs_the_same() -> None:
    model = tiny("llama")
    spans = (((1, 4), (2, 3), (0, 2)), (), ((0, 6),), ((1, 3),))
    reading = Reading.over(SEQUENCES, spans)
    assert reading.samples == (3, 0, 1, 1)
    found = gathered(model, reading, [SITE], batch_size=2)[SITE].numpy()
    expected = [hidden(model, s)[a:b].mean(0) for s, row in zip(SEQUENCES, spans, strict=True) for a, b in row]
    assert np.allclose(found, expected, atol=1e-4)
    low = Reading.last_token(SEQUENCES)
    vector = mean_difference(model, reading, low, [SITE], name="n", contrast="c")[SITE]
    ends = np.mean([hidden(model, s)[-1] for s in SEQUENCES], axis=0)
    assert np.allclose(vector.direction.numpy(), np.mean(expected, axis=0) - ends, atol=1e-4)
    assert vector.provenance.counts == (5, 4)


def test_pads_are_never_read() -> None:
    left = unpadded([[0, 0, 1, 5], [1, 5, 6, 0]], [[0, 0, 1, 1], [1, 1, 1, 0]])
    assert left == ((1, 5), (1, 5, 6))
    assert Reading.last_token(left).positions == ((1,), (2,))
    model = tiny("llama")
    alone = gathered(model, Reading.last_token([(1, 5)]), [SITE])[SITE]
    beside = gathered(model, Reading.last_token([(1, 5), (1, 9, 9, 9, 9, 9)]), [SITE])[SITE]
    assert torch.allclose(alone[0], beside[0], atol=1e-4)


def test_pairs_walk_in_step() -> None:
    model = tiny("llama")
    high, low = Reading.last_token(SEQUENCES), Reading.at(SEQUENCES, (0,))
    for batch in pairs(model, high, low, [SITE], batch_size=4):
        above, below = batch[SITE]
        assert np.allclose(above[2].numpy(), hidden(model, SEQUENCES[2])[5], atol=1e-4)
        assert np.allclose(below[2].numpy(), hidden(model, SEQUENCES[2])[0], atol=1e-4)


def test_negative_positions_are_the_same_reading() -> None:
    assert Reading.at(SEQUENCES, (-1,)).digest == Reading.last_token(SEQUENCES).digest
    assert Reading.at(SEQUENCES, (0,)).digest != Reading.last_token(SEQUENCES).digest
    spans = Reading.over(SEQUENCES[:1], [[(1, 3)]])
    assert spans.digest != Reading.at(SEQUENCES[:1], (1, 2)).digest


def test_split_keeps_equal_sequences_together() -> None:
    doubled = Reading.last_token(SEQUENCES * 2)
    one, two = doubled.split(0.5, seed=3)
    assert one.count == two.count == 4 and not set(one.sequences) & set(two.sequences)
    assert doubled.split(0.5, seed=3)[0] == one
    spans = Reading.over(SEQUENCES, [[(0, 2)]] * 4).take([2])
    assert spans.sequences == SEQUENCES[2:3] and spans.samples == (1,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reading.at(SEQUENCES, (4,)), "Sequence 0 has 4 tokens; position 4 is outside"),
        (lambda: Reading.at(SEQUENCES, (-3,)), "Sequence 1 has 2 tokens; position -3"),
        (lambda: Reading.last_token([()]), "0 tokens"),
        (lambda: Reading.at(((1, 2),), ((1, -1),)), "position 1 twice"),
        (lambda: Reading(SEQUENCES, ((0,),)), "positions for 1"),
        (lambda: Reading(((1, 2),), ((0, 1),), ((1, 0),)), "numbered 0, 1"),
        (lambda: Reading(((1, 2),), ((0, 1),), ((0,),)), "one span for every position"),
        (lambda: Reading.all_tokens([(1, 1, 5)], bos=1), "two BOS"),
        (lambda: Reading.all_tokens([(1,)], bos=1), "nothing but BOS"),
        (lambda: Reading.response_tokens([(1,)], [()]), "empty response"),
        (lambda: Reading.response_tokens([(1,)], []), "1 prompts but 0 responses"),
        (lambda: Reading.window(SEQUENCES[:1], ((1,),), -9, -3), "all outside"),
        (lambda: Reading.window(SEQUENCES[:1], ((1,),), 2, 2), "is empty"),
        (lambda: Reading.over(SEQUENCES[:1], [[(2, 5)]]), r"span \(2, 5\)"),
        (lambda: Reading.over(SEQUENCES[:1], [[(2, 2)]]), "is empty"),
        (lambda: Reading.last_token(SEQUENCES[:1]).split(), "leaves one part empty"),
        (lambda: unpadded([[1, 0, 5]], [[1, 0, 1]]), "between its tokens"),
        (lambda: unpadded([[0, 0]], [[0, 0]]), "only pads"),
        (lambda: list(samples(tiny("llama"), Reading.at(SEQUENCES, ((),) * 4), [SITE])), "names no position"),
        (lambda: list(pairs(tiny("llama"), Reading.at(SEQUENCES, (0, 1)), Reading.last_token(SEQUENCES), [SITE])), "Pair 0 has 2"),
        (lambda: list(pairs(tiny("llama"), Reading.last_token(SEQUENCES[:2]), Reading.last_token(SEQUENCES), [SITE])), "2 and 4"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()
