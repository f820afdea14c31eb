"""What the app knows of a model without loading it, and what it says of one that is not in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.model_shapes import Shape, shape_of, whereabouts
from steering.model.cached import is_whole
from steering.model.named import named_place
from tests.written_gguf import source_model, write_gguf


def test_a_gguf_file_says_its_shape_and_a_broken_one_nothing(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", source_model("qwen2"), family="qwen2")
    assert shape_of(str(file)) == Shape(32, 2, 128)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and no more")
    assert shape_of(str(tmp_path / "broken.gguf")) is None
    assert shape_of("builtin:base") is not None and shape_of("smollm3") is None


def test_what_is_said_before_a_run_is_where_the_model_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERING_CACHE", str(tmp_path / "empty"))
    assert whereabouts("builtin:base") == "loads the model first"
    assert whereabouts("smollm2") == "not on this machine yet: steer get smollm2"
    assert whereabouts("owner/name") == "model not on this machine: Run downloads it"
    assert whereabouts("gpt2") == "model not on this machine: Run downloads it", "some repositories have no owner"
    for wrong in ("/nowhere", "builtin:bass", "./x.gguf", "x.gguf"):
        assert "no model" in whereabouts(wrong)


@pytest.mark.language
def test_a_fetched_model_is_here() -> None:
    if not is_whole(named_place("smollm2")):
        pytest.skip("SmolLM2 is not in the cache; run: make language")
    assert shape_of("smollm2") == Shape(576, 30, 8192)
    assert whereabouts("smollm2") == "loads the model first"
