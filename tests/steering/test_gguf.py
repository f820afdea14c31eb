"""GGUF control vectors: layer conventions, exact round trips, and files that are refused. The `gguf` package reads what we wrote."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from steering.errors import BadInput
from steering.model.sites import Site
from steering.vector.interchange import export_gguf, import_gguf
from steering.vector.interchange.gguf import check_hint
from steering.vector.vectors import UNKNOWN, Provenance, SteeringVector
from tests.tiny import vector

ROW = np.arange(1, 17, dtype=np.float32)


def foreign(path: Path, tensors: Mapping[str, np.ndarray], architecture: str = "controlvector", **text: str) -> Path:
    """A file as repeng and EasySteer write it, by the package's own writer."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "qwen2")
    for key, value in text.items():
        writer.add_string(f"controlvector.{key}", value)
    writer.add_uint32("controlvector.layer_count", len(tensors))
    for name, row in tensors.items():
        writer.add_tensor(name, row)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(("layers", "lowest"), [("llama.cpp", 1), ("repeng", 0), ("easysteer", 0)])
def test_export_and_import_keep_every_bit(tmp_path: Path, layers: str, lowest: int) -> None:
    originals = [vector(seed, layer=lowest + seed) for seed in range(3)]
    path = export_gguf(originals[::-1], tmp_path / "deep" / "v.gguf", layers=layers, model_hint="llama")
    loaded = import_gguf(path, layers=layers)
    assert list(loaded) == [v.site for v in originals]
    for original, back in zip(originals, loaded.values(), strict=True):
        assert torch.equal(back.direction, original.direction)
        assert (back.name, back.digest, back.provenance.method) == (original.name, original.digest, "random")
        assert back.provenance.notes["import"]["layers"] == layers
    again = export_gguf(originals, tmp_path / "again.gguf", layers=layers, model_hint="llama")
    assert again.read_bytes() == path.read_bytes()


def test_another_reader_finds_what_llama_cpp_requires(tmp_path: Path) -> None:
    originals = {layer: vector(layer, layer=layer) for layer in (1, 2, 5)}
    path = export_gguf(originals.values(), tmp_path / "v.gguf", layers="llama.cpp", model_hint="qwen2")
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    assert fields["general.architecture"] == "controlvector"
    assert (fields["controlvector.model_hint"], fields["controlvector.layer_count"]) == ("qwen2", 3)
    assert [t.name for t in reader.tensors] == ["direction.1", "direction.2", "direction.5"]
    for tensor, original in zip(reader.tensors, originals.values(), strict=True):
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32 and list(tensor.shape) == [16]
        assert tensor.data.tobytes() == original.direction.numpy().tobytes()


@pytest.mark.parametrize(
    ("layers", "sites"),
    [
        ("llama.cpp", [Site(1), Site(4)]),
        ("cvector-generator", [Site(0), Site(3)]),
        ("repeng", [Site(1), Site(4)]),
        ("easysteer", [Site(1), Site(4)]),
    ],
)
def test_each_convention_puts_the_directions_at_its_own_layer(tmp_path: Path, layers: str, sites: list[Site]) -> None:
    path = foreign(tmp_path / "happy.gguf", {"direction.4": 2 * ROW, "direction.1": ROW})
    found = import_gguf(path, layers=layers, model_id="m/one")
    assert list(found) == sites
    assert torch.equal(found[sites[1]].direction, torch.from_numpy(2 * ROW))
    made = found[sites[0]]
    assert (made.name, made.provenance.model, made.provenance.model_id) == ("happy", UNKNOWN, "m/one")
    note = made.provenance.notes["import"]
    assert (note["file"], note["layers"], note["model_hint"]) == ("happy.gguf", layers, "qwen2")
    assert SteeringVector.load(made.save(tmp_path / "v.safetensors")).provenance == made.provenance


def test_the_convention_must_be_named(tmp_path: Path) -> None:
    path = foreign(tmp_path / "v.gguf", {"direction.1": ROW})
    with pytest.raises(TypeError, match="layers"):
        import_gguf(path)  # type: ignore[call-arg]
    with pytest.raises(BadInput, match=r"Did you mean 'llama\.cpp'"):
        import_gguf(path, layers="llamacpp")


@pytest.mark.parametrize("layers", ["llama.cpp", "cvector-generator"])
def test_direction_0_is_refused_where_there_is_none_and_says_what_to_pass(tmp_path: Path, layers: str) -> None:
    path = foreign(tmp_path / "seal.gguf", {f"direction.{i}": ROW + i for i in range(3)}, method="seal")
    with pytest.raises(BadInput, match="direction.0 does not exist.*layers='repeng' or layers='easysteer'"):
        import_gguf(path, layers=layers)
    found = import_gguf(path, layers="easysteer")
    assert list(found) == [Site(0), Site(1), Site(2)]
    assert found[Site(2)].provenance.notes["import"]["method"] == "seal"


def test_our_own_file_is_refused_under_another_convention(tmp_path: Path) -> None:
    path = export_gguf([vector(layer=1)], tmp_path / "v.gguf", layers="llama.cpp", model_hint="llama")
    with pytest.raises(BadInput, match=r"written under layers='llama\.cpp', not 'cvector-generator'"):
        import_gguf(path, layers="cvector-generator")


def test_directions_of_zeros_are_left_out_and_noted(tmp_path: Path) -> None:
    rows = {"direction.1": ROW, "direction.2": 0 * ROW}
    found = import_gguf(foreign(tmp_path / "v.gguf", rows), layers="repeng")
    assert list(found) == [Site(1)] and found[Site(1)].provenance.notes["import"]["zero_layers"] == [2]
    with pytest.raises(BadInput, match="no direction that is not zero"):
        import_gguf(foreign(tmp_path / "w.gguf", {"direction.2": 0 * ROW}), layers="repeng")


def test_half_precision_is_read_where_the_program_reads_it(tmp_path: Path) -> None:
    path = foreign(tmp_path / "v.gguf", {"direction.1": (ROW / 3).astype(np.float16)})
    found = import_gguf(path, layers="repeng")[Site(1)].direction
    assert torch.equal(found, torch.from_numpy((ROW / 3).astype(np.float16).astype(np.float32)))
    with pytest.raises(BadInput, match="stored as F16"):
        import_gguf(path, layers="llama.cpp")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"blk.0.attn_q.weight": ROW}, "holds a tensor 'blk.0.attn_q.weight': not a control vector"),
        ({"direction.x": ROW}, "not a control vector"),
        ({"direction.-1": ROW}, "not a control vector"),
        ({"direction.1": ROW.reshape(4, 4)}, r"shape \[4, 4\]"),
        ({"direction.1": ROW, "direction.2": ROW[:8]}, "shape .8.; .*of 16, as the others"),
        ({"direction.1": ROW * np.float32("nan")}, "NaN or infinity"),
        ({"direction.1": ROW.astype(np.int32)}, "stored as I32"),
        ({}, "no direction"),
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path: Path, tensors: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        import_gguf(foreign(tmp_path / "v.gguf", tensors), layers="repeng")


def test_directions_outside_the_residual_stream_are_refused(tmp_path: Path) -> None:
    heads = json.dumps({"version": 1, "component": "attention_heads", "metadata": None})
    path = foreign(tmp_path / "v.gguf", {"direction.0": ROW}, easysteer=heads)
    with pytest.raises(BadInput, match="attention_heads"):
        import_gguf(path, layers="easysteer")
    stream = heads.replace("attention_heads", "hidden_states")
    assert import_gguf(foreign(tmp_path / "w.gguf", {"direction.0": ROW}, easysteer=stream), layers="easysteer")


def test_a_model_that_the_file_contradicts_is_refused(tmp_path: Path) -> None:
    original = SteeringVector("v", Site(1), torch.ones(4), Provenance("made", "f1", "m/one"))
    path = export_gguf([original], tmp_path / "v.gguf", layers="repeng", model_hint="llama")
    assert import_gguf(path, layers="repeng", model_id="m/one")[Site(1)].provenance.model == "f1"
    with pytest.raises(BadInput, match="belongs to m/one, not to m/two"):
        import_gguf(path, layers="repeng", model_id="m/two")


@pytest.mark.parametrize(
    ("vectors", "layers", "message"),
    [
        ([vector(layer=0)], "llama.cpp", r"blocks\.0\.hook_resid_post cannot be written.*layers='repeng'"),
        ([vector(layer=2, kind="resid_pre")], "llama.cpp", r"The same stream is blocks\.1\.hook_resid_post"),
        ([vector(0), vector(1)], "llama.cpp", "steering.vector.arithmetic.add"),
        ([vector(0), vector(1, layer=2, width=8)], "llama.cpp", "width 8"),
        ([], "llama.cpp", "No vectors"),
        ([vector()], "cvector-generator", "is for reading"),
    ],
)
def test_vectors_that_cannot_share_a_file_are_refused(
    tmp_path: Path, vectors: list[SteeringVector], layers: str, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        export_gguf(vectors, tmp_path / "v.gguf", layers=layers, model_hint="llama")
    assert list(tmp_path.iterdir()) == []


def test_vectors_of_two_models_are_not_written_into_one_file(tmp_path: Path) -> None:
    other = SteeringVector("o", Site(2), torch.ones(16), Provenance("made", "another"))
    with pytest.raises(BadInput, match="different models"):
        export_gguf([vector(), other], tmp_path / "v.gguf", layers="llama.cpp", model_hint="llama")


def test_a_file_cut_anywhere_gives_one_clear_error(tmp_path: Path) -> None:
    whole = foreign(tmp_path / "v.gguf", {"direction.1": ROW, "direction.2": ROW}).read_bytes()
    short = tmp_path / "short.gguf"
    for end in range(0, len(whole), 3):
        short.write_bytes(whole[:end])
        with pytest.raises(BadInput, match=r"short\.gguf is (corrupt or cut short|not a GGUF file)"):
            import_gguf(short, layers="repeng")


def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    whole = export_gguf([vector()], tmp_path / "v.gguf", layers="repeng", model_hint="llama").read_bytes()
    chance, refused, damaged = random.Random(0), 0, tmp_path / "damaged.gguf"
    for _ in range(400):
        place = chance.randrange(len(whole))
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :])
        try:
            import_gguf(damaged, layers="repeng")
        except BadInput:
            refused += 1
    assert refused > 100


@pytest.mark.timeout(30)
def test_a_promised_array_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    key = b"general.tags"
    head = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q", len(key)) + key
    path = tmp_path / "v.gguf"
    path.write_bytes(head + struct.pack("<IIQ", 9, 0, 2**60))
    with pytest.raises(BadInput, match="is corrupt or cut short"):
        import_gguf(path, layers="repeng")


def test_other_files_are_pointed_to_their_reader(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"SteeringVector\.load reads safetensors"):
        import_gguf(vector().save(tmp_path / "v.safetensors"), layers="repeng")
    with pytest.raises(BadInput, match="No file at"):
        import_gguf(tmp_path / "absent.gguf", layers="repeng")


def test_what_can_be_no_architecture_is_refused_and_an_unknown_one_said(tmp_path: Path) -> None:
    for wrong in ("ARCHITECTURE", "Qwen2", "qwen 2", ""):
        with pytest.raises(BadInput, match=r"model_hint"):
            export_gguf([vector(layer=2)], tmp_path / "v.gguf", layers="llama.cpp", model_hint=wrong)
    assert not list(tmp_path.iterdir())
    assert check_hint("qwen2") == "" and "Did you mean qwen2?" in check_hint("qwen22")
    assert export_gguf([vector(layer=2)], tmp_path / "v.gguf", layers="llama.cpp", model_hint="own-model").is_file()
