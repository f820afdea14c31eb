"""The page of architectures is what the tests say."""

from __future__ import annotations

from tests.architectures import PAGE, page, suites
from tests.tiny import CONFIGS

ORACLE = "tests/steering/test_engine.py::test_cached_batched_padded_generation_equals_the_naive_oracle"


def test_the_page_is_made_from_the_tests() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.architectures"


def test_every_family_is_run_over() -> None:
    found = suites()
    assert set(found) == set(CONFIGS)
    assert all(ORACLE in own for own in found.values())
