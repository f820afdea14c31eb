"""Attention sinks: found by measurement, left out of readings and spans unless asked for, and said wherever that happens."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from steering.compile.explanation import explain
from steering.engine.generation import Row, generate
from steering.engine.sampling import GenerationSettings
from steering.errors import BadInput
from steering.extraction import Reading, checkpoint_difference, mean_difference, paired_difference
from steering.extraction.logistic import logistic_direction
from steering.extraction.principal import pca_direction
from steering.extraction.quality import assess
from steering.model.models import LoadedModel, load_model
from steering.model.sinks import sinks_of
from steering.model.sites import Site
from steering.plan.plan import Plan
from tests.naive import naive_generate as naive
from tests.tiny import VOCABULARY, plan, tiny, with_sink

SITE = Site(1)


@pytest.fixture(scope="module")
def sunk() -> LoadedModel:
    return with_sink()


def texts(n: int, seed: int, low: int = 8, high: int = VOCABULARY) -> list[tuple[int, ...]]:
    rng = random.Random(seed)
    return [tuple(rng.randrange(low, high) for _ in range(rng.randint(6, 10))) for _ in range(n)]


def test_sinks_are_found_by_measurement_and_not_where_there_are_none(sunk: LoadedModel) -> None:
    assert sinks_of(sunk).positions == (0,)
    assert sinks_of(sunk).ratio > 100
    assert "leaves out position 0, an attention sink of tiny-llama-with-sink" in sinks_of(sunk).sentence(sunk.id, "It")
    for model in (tiny("llama"), tiny("gpt2"), load_model("builtin:base")):
        assert not sinks_of(model)


EXTRACT: dict[str, Any] = {
    "mean": mean_difference, "paired": paired_difference, "logistic": logistic_direction,
    "principal": lambda *a, **k: pca_direction(*a, **k, centring="global"),
}  # fmt: skip


@pytest.mark.parametrize("method", EXTRACT)
def test_every_extraction_leaves_sinks_out_says_so_and_takes_them_when_asked(sunk: LoadedModel, method: str) -> None:
    high = texts(8, 0, 8, 30)
    low = [tuple(30 + token % 20 for token in text) for text in high]
    words = {"name": "v", "contrast": "one minus other"}

    def vector(readings: tuple[Reading, Reading]) -> Any:
        return EXTRACT[method](sunk, *readings, [SITE], **words)[SITE]

    asked = vector((Reading.all_tokens(high), Reading.all_tokens(low)))
    after = vector(tuple(Reading.at(s, [range(1, len(t)) for t in s]) for s in (high, low)))  # type: ignore[arg-type]
    assert torch.equal(asked.direction, after.direction)
    assert asked.provenance.notes["sinks_left_out"]["tokens"] == 16
    assert "sinks_left_out" not in after.provenance.notes
    whole = tuple(Reading.all_tokens(s, sinks=True) for s in (high, low))
    assert whole[0].digest != Reading.all_tokens(high).digest
    assert not torch.equal(vector(whole).direction, asked.direction)  # type: ignore[arg-type]


def test_a_base_and_a_thinking_model_leave_out_the_sinks_of_either(sunk: LoadedModel) -> None:
    base, reading = tiny("llama"), Reading.all_tokens(texts(6, 1))
    found = checkpoint_difference(base, sunk, reading, [SITE])[SITE]
    assert found.provenance.counts == (reading.count - 6,) * 2


def test_spans_keep_their_other_positions_and_one_of_sinks_alone_is_refused(sunk: LoadedModel) -> None:
    sequences = texts(4, 2)
    high, low = (Reading.over(sequences, [[(a, b)] for _ in sequences]) for a, b in ((0, 3), (3, 5)))
    asked = mean_difference(sunk, high, low, [SITE], name="v", contrast="c")[SITE]
    plain = Reading.over(sequences, [[(1, 3)] for _ in sequences])
    assert torch.equal(
        asked.direction, mean_difference(sunk, plain, low, [SITE], name="v", contrast="c")[SITE].direction
    )
    with pytest.raises(BadInput, match="Span 0 of sequence 0 holds nothing but position 0"):
        mean_difference(sunk, Reading.over(sequences, [[(0, 1), (2, 4)]] * 4), low, [SITE], name="v", contrast="c")
    with pytest.raises(BadInput, match="The reading holds nothing but position 0.*sinks=True"):
        mean_difference(sunk, Reading.at(sequences, (0,)), low, [SITE], name="v", contrast="c")
    assert mean_difference(sunk, Reading.at(sequences, (0,), sinks=True), low, [SITE], name="v", contrast="c")


def test_the_report_flags_a_vector_read_at_sinks_and_passes_the_clean_one(sunk: LoadedModel) -> None:
    def sides(seed: int, sinks: bool) -> tuple[Reading, Reading]:
        return (
            Reading.all_tokens(texts(16, seed, 8, 30), sinks=sinks),
            Reading.all_tokens(texts(16, seed + 1, 30, 55), sinks=sinks),
        )

    reports = []
    for sinks in (True, False):
        training, held_out = sides(10, sinks), sides(20, sinks)
        vector = mean_difference(sunk, *training, [SITE], name="v", contrast="c")[SITE]
        reports.append(assess(sunk, vector, training, held_out))
    flagged, clean = reports
    assert any("dominated by few positions: 32 of" in remark for remark in flagged.remarks)
    assert flagged.outliers.share > 0.8 and flagged.sinks_left_out == 0
    assert clean.outliers.count == 0 and clean.sinks_left_out == 32
    assert not any("dominated" in remark for remark in clean.remarks)


def test_a_direction_of_few_large_coordinates_is_flagged_before_they_are_massive() -> None:
    model, rng = with_sink(size=80.0), random.Random(0)
    sides = [
        Reading.last_token([tuple(rng.randrange(8, VOCABULARY) for _ in range(6)) for _ in range(12)]) for _ in range(4)
    ]
    vector = mean_difference(model, sides[0], sides[1], [SITE], name="v", contrast="c")[SITE]
    remarks = []
    for coordinate in (0, 3):
        axis = torch.zeros(model.d_model)
        axis[coordinate] = 2.0
        narrow = type(vector)("v", SITE, axis, vector.provenance)
        remarks.append(assess(model, narrow, (sides[0], sides[1]), (sides[2], sides[3])).remarks)
    assert any(
        "dominated by few coordinates: 100% of its energy in [0], which reach" in remark for remark in remarks[0]
    )
    assert not any("coordinates" in remark for remark in remarks[1])


@pytest.mark.parametrize(
    "span", ["all", "prompt", "outside_thinking", "all | sinks", "sinks | generated", "all - sinks"]
)
def test_steered_rows_equal_the_oracle_with_and_without_the_sink(sunk: LoadedModel, span: str) -> None:
    markers = ':"w11","w12"' if span == "outside_thinking" else ""
    steer, prompt = plan(span=span + markers, amount=2.0), (9, 20, 31, 12)
    (row,) = generate(sunk, [Row(prompt, steer)], GenerationSettings(8))
    assert list(row.token_ids) == naive(sunk, prompt, steer, 8)
    first = 0 in row.receipt.positions
    assert first is (span in ("all | sinks", "sinks | generated"))
    said = [warning for warning in row.receipt.warnings if "attention sink" in warning]
    assert bool(said) is ("| sinks" not in span and span != "sinks | generated" and span != "all - sinks")


def test_what_a_span_leaves_out_is_said_before_it_runs(sunk: LoadedModel) -> None:
    shown = explain(sunk, plan(span="prompt"), (9, 20, 31, 12))
    assert shown.covered == (1, 2, 3)
    assert any("Write `prompt | sinks` to edit it too" in warning for warning in shown.warnings)
    assert explain(tiny("llama"), plan(span="prompt"), (9, 20, 31, 12)).covered == (0, 1, 2, 3)
    with pytest.raises(BadInput):
        explain(tiny("llama"), plan(span="sinks"), (9, 20))  # covers nothing


def test_unsteered_rows_of_a_model_with_sinks_are_what_they_were(sunk: LoadedModel) -> None:
    (row,) = generate(sunk, [Row((9, 20, 31, 12), Plan())], GenerationSettings(8))
    assert list(row.token_ids) == naive(sunk, (9, 20, 31, 12), Plan(), 8)
