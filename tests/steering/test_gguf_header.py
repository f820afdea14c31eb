"""Single values from the front of a GGUF file: what the package reads there, or a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from steering.errors import BadInput
from steering.model.gguf_files import open_gguf, text_of
from steering.model.gguf_header import header_values
from tests.written_gguf import source_model, write_gguf


def test_a_headers_values_are_those_that_the_package_reads(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", source_model("qwen2"), family="qwen2")
    reader = open_gguf(path)
    wanted = (
        ".block_count",
        ".embedding_length",
        ".rope.freq_base",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.eos_token_id",
        "general.nothing",
    )
    found = header_values(path, wanted)  # what is not there has every entry looked through, the lists too
    assert found.pop("tokenizer.ggml.pre") == text_of(reader, "tokenizer.ggml.pre")
    assert sorted(found) == [
        "qwen2.block_count",
        "qwen2.embedding_length",
        "qwen2.rope.freq_base",
        "tokenizer.ggml.eos_token_id",
    ]
    for name, value in found.items():
        field = reader.get_field(name)
        assert field is not None and value == field.parts[-1][0]
    whole = path.read_bytes()
    for cut in (b"GGUX" + whole[4:], whole[:3], whole[:19], whole[:70], whole[:300]):
        (tmp_path / "cut.gguf").write_bytes(cut)
        with pytest.raises(BadInput, match="not a GGUF file|corrupt or cut short"):
            header_values(tmp_path / "cut.gguf", wanted)
