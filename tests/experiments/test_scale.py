"""How long a sweep takes on many devices: beside a simulation that does every row, and a million rows in a moment."""

from __future__ import annotations

import random
import time

import pytest

from experiments.sweeps.scale import MOST_CHUNKS, scaled
from steering.errors import BadInput

LENGTHS = (12, 40, 40, 55, 60, 72, 80, 96, 120, 360)


def row_by_row(rows: int, chunk: int, rate: float, devices: int, load: float, rng: random.Random) -> float:
    """Every row drawn, chunks handed to whichever device is free first."""
    free = [load] * devices
    for start in range(0, rows, chunk):
        took = sum(rng.choice(LENGTHS) for _ in range(min(chunk, rows - start))) / rate
        place = free.index(min(free))
        free[place] += took
    return max(free)


@pytest.mark.parametrize("devices", [1, 4, 7])
def test_it_agrees_with_every_row_drawn(devices: int) -> None:
    rng = random.Random(3)
    naive = [row_by_row(20_000, 96, 500.0, devices, 20.0, rng) for _ in range(5)]
    found = scaled(20_000, LENGTHS, rows_per_chunk=96, tokens_per_second=500.0, devices=[devices], load_seconds=20.0)
    assert found[0].seconds == pytest.approx(sum(naive) / 5, rel=0.03)
    assert found[0].chunks == 209 and found[0].devices == devices


def test_one_device_takes_the_tokens_and_many_wait_at_the_end() -> None:
    few = scaled(9_600, (50,), rows_per_chunk=96, tokens_per_second=100.0, devices=[1, 100, 1000])
    assert few[0].seconds == pytest.approx(9_600 * 50 / 100) and few[0].busy == pytest.approx(1)
    assert few[1].seconds == pytest.approx(48) == few[2].seconds, (
        "a hundred chunks keep a hundred devices busy, and no more"
    )
    assert few[1].busy == pytest.approx(1) and few[2].busy == pytest.approx(0.1)


def test_many_rows_are_planned_in_a_moment() -> None:
    begun = time.monotonic()
    found = scaled(10**9, LENGTHS, rows_per_chunk=768, tokens_per_second=20_000.0, devices=[8, 64])
    assert time.monotonic() - begun < 20 and found[0].chunks == 1_302_084 > MOST_CHUNKS
    assert found[0].seconds == pytest.approx(10**9 * sum(LENGTHS) / len(LENGTHS) / 20_000 / 8, rel=0.01)
    assert found[0].seconds / found[1].seconds == pytest.approx(8, rel=0.02)


def test_what_cannot_be_is_refused() -> None:
    good = {"rows_per_chunk": 8, "tokens_per_second": 1.0, "devices": [1]}
    for change, message in (
        ({"devices": [0]}, "0 devices"),
        ({"tokens_per_second": 0.0}, "tokens per second is 0.0"),
        ({"tokens_per_second": float("nan")}, "tokens per second is nan"),
        ({"rows_per_chunk": 0}, "rows_per_chunk is 0"),
    ):
        with pytest.raises(BadInput, match=message):
            scaled(10, (5,), **(good | change))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no length is known"):
        scaled(10, (), **good)  # type: ignore[arg-type]
