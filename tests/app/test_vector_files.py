"""Vectors and plans from files: read as the core reads them, and taken only when they are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app import stack
from app.shelf import shelf
from app.stack import Card
from app.uploads import LIMITS, check_upload, read_cards
from app.vector_files import BUILT_IN, VectorFile, keep_upload, offered, read_vector
from steering.errors import BadInput
from tests.app.test_playground import THINK_FIRST, Patch, request

# ---- vectors and files ---------------------------------------------------------------------------------------------------


def test_vectors_are_read_as_the_core_reads_them() -> None:
    from steering.vector.vectors import SteeringVector

    for path in BUILT_IN.glob("*.safetensors"):
        ours, theirs = read_vector(path.read_bytes(), str(path)), SteeringVector.load(path)
        assert (ours.digest, ours.name, ours.site, ours.width) == (
            theirs.digest,
            theirs.name,
            theirs.site,
            len(theirs.direction),
        )
        assert ours.norm == pytest.approx(theirs.norm, rel=1e-6)


def test_the_built_in_vectors_are_those_that_the_demo_extracts() -> None:
    import torch

    from experiments.studies.demo import BASE, THINKING, candidate_vectors
    from steering.model.models import load_model
    from steering.vector.vectors import SteeringVector

    made = {(v.name, v.site): v for v in candidate_vectors(load_model(BASE), load_model(THINKING))}
    for name in ("think-first", "thinking-minus-base"):
        shipped = SteeringVector.load(BUILT_IN / f"{name}.safetensors")
        assert torch.allclose(shipped.direction, made[shipped.name, shipped.site].direction, rtol=1e-3, atol=1e-3)


def test_vectors_come_from_runs_folder_and_uploads_once_each_controls_last(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = (BUILT_IN / "think-first.safetensors").read_bytes()
    for folder in ("folder", "runs/a/vectors"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "copy.safetensors").write_bytes(data)
    (tmp_path / "folder" / "bad.safetensors").write_bytes(b"PK\x03\x04")
    monkeypatch.setenv("STEERING_VECTORS", str(tmp_path / "folder"))
    keep_upload(data, "mine.safetensors", shelf("me"))
    found = list(offered(tmp_path / "runs", shelf("me")).values())
    assert [vector.source for vector in found].count("built in") == len(found) == 5
    assert found[-1].control
    assert isinstance(found[0], VectorFile)


def test_files_are_taken_only_when_they_are_what_they_say() -> None:
    good = (BUILT_IN / "random.safetensors").read_bytes()
    assert check_upload("v.safetensors", good) == "safetensors"
    assert check_upload("v.GGUF", b"GGUF" + bytes(8)) == "gguf"
    bad = [
        ("v.pt", good),
        ("v.gguf", good),
        ("plan.json", bytes(LIMITS["json"] + 1)),
        ("v.safetensors", bytes(LIMITS["safetensors"] + 1)),
    ]
    for name, data in bad:
        with pytest.raises(BadInput):
            check_upload(name, data)
    for data in (b"", b"PK\x03\x04" * 9, good[:-3], good[:40], b"\xff" * 200):
        with pytest.raises(BadInput, match="no steering vector file"):
            read_vector(data, "x")


def test_a_plan_from_a_file_becomes_cards() -> None:
    vectors = offered("none")
    plan = json.dumps(request().plan()).encode()
    assert read_cards(plan, vectors) == [Card(vector=THINK_FIRST)]
    for data in (b"[]", b"{", b'{"interventions": 3}', b'{"interventions": [{"operation": "add", "vector": "0"}]}'):
        with pytest.raises(BadInput):
            read_cards(data, vectors)


def test_a_stack_reads_back_from_the_address() -> None:
    cards = [Card("add", THINK_FIRST, 2, -0.5, "residual", 'at:"wait"', True), Card("ablate", THINK_FIRST)]
    assert stack.read(stack.write(cards) or "") == cards
    assert stack.write([]) is None
    for text in ("", "{}", "[[1]]", '[["add","x",-1,1e999,"vector","all",0]]', '[["run","x",-1,1,"vector","all",0]]'):
        with pytest.raises(BadInput):
            stack.read(text)


def test_strength_is_said_raw_and_in_the_units_of_the_operation() -> None:
    vectors = offered("none")
    vector = vectors[THINK_FIRST]
    assert Card("add", THINK_FIRST, strength=2).edit(vectors).dose == "2.0v"
    assert f"{2 * vector.norm:.4g}" in Card("add", THINK_FIRST, strength=2).raw(vector)
    assert Card("add", THINK_FIRST, strength=0.5, unit="residual").edit(vectors).dose == "0.5r"
    assert Card("rotate", THINK_FIRST, strength=2).edit(vectors).dose == "90.0deg"
    assert Card("scale", THINK_FIRST, strength=2).edit(vectors).dose == "2.0f"
    assert Card("ablate", THINK_FIRST).edit(vectors).dose == ""
    assert Card("add", THINK_FIRST, layer=1).edit(vectors).site == "blocks.1.hook_resid_post"
    for card in (Card("rotate", THINK_FIRST, strength=2), Card("add", THINK_FIRST, 1, 0.25, "residual", "all", True)):
        assert stack.card_of(card.edit(vectors).facts(), vectors) == card
