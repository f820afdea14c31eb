"""Packs of saklas: written ones as a reader of their own sees them, written ones read back, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from pydantic import BaseModel, ConfigDict, Field

from steering.errors import BadInput
from steering.vector.interchange import export_saklas, import_saklas
from steering.vector.vectors import SteeringVector
from tests.tiny import vector


class Pack(BaseModel):
    """`pack.json`, version 2, as saklas' pages describe it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(pattern=r"^[a-z][a-z0-9._-]{0,63}$")
    description: str
    long_description: str = ""
    format_version: int = Field(ge=2, le=2)
    version: str
    license: str
    tags: list[str]
    recommended_alpha: float
    source: str
    files: dict[str, str]


def independent(folder: Path) -> tuple[Pack, dict[str, dict[int, np.ndarray[Any, Any]]]]:
    """A pack read without this program: the manifest, and per model its rows by layer."""
    pack = Pack.model_validate_json((folder / "pack.json").read_bytes())
    assert {path.name for path in folder.iterdir()} == {"pack.json", *pack.files}, "every file is named"
    for name, digest in pack.files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    models = {}
    for file in folder.glob("*.safetensors"):
        said = json.loads(file.with_suffix(".json").read_text())
        assert said["format_version"] == 2 and said["method"] and said["saklas_version"]
        rows = safetensors.numpy.load_file(file)
        models[file.stem.replace("__", "/")] = {int(key.split("_", 1)[1]): row for key, row in rows.items()}
    return pack, models


def of_model(seed: int, layer: int, model_id: str = "me/tiny-1.5B", **facts: Any) -> SteeringVector:
    made = vector(seed, layer=layer, **facts)
    return replace(made, provenance=replace(made.provenance, model_id=model_id, contrast="minus the base"))


def test_a_pack_is_one_to_an_independent_reader_and_comes_back(tmp_path: Path) -> None:
    originals = [of_model(seed, layer=seed) for seed in (11, 2)]
    folder = export_saklas(originals, tmp_path / "pack", name="think.first", licence="mit", alpha=0.25)
    pack, models = independent(folder)
    assert (pack.name, pack.license, pack.recommended_alpha, pack.source) == ("think.first", "mit", 0.25, "local")
    assert list(models) == ["me/tiny-1.5B"] and sorted(models["me/tiny-1.5B"]) == [2, 11]
    for original in originals:
        assert np.array_equal(models["me/tiny-1.5B"][original.site.layer], original.direction.numpy())
    for place in (folder, folder / "pack.json"):
        back = import_saklas(place)
        assert [str(site) for site in back] == ["blocks.2.hook_resid_post", "blocks.11.hook_resid_post"]
        assert [v.digest for v in back.values()] == [v.digest for v in reversed(originals)]
    read = next(iter(back.values()))
    assert (read.provenance.model_id, read.provenance.contrast, read.name) == (
        "me/tiny-1.5B",
        "minus the base",
        "think.first",
    )
    assert read.provenance.notes["import"]["alpha"] == 0.25


def test_a_pack_is_written_anew_and_nothing_else_is_overwritten(tmp_path: Path) -> None:
    folder = export_saklas([of_model(1, layer=1)], tmp_path / "pack")
    assert independent(folder)[0].name == "v1", "from the vector's name"
    export_saklas([of_model(2, layer=2)], folder, name="v1")
    assert sorted(independent(folder)[1]["me/tiny-1.5B"]) == [2]
    with pytest.raises(BadInput, match="not of the pack 'other'; give a new folder"):
        export_saklas([of_model(1, layer=1)], folder, name="other")
    (folder / "statements.json").write_text("[]")
    with pytest.raises(BadInput, match=r"holds statements.json, which is not of the pack 'v1'"):
        export_saklas([of_model(1, layer=1)], folder, name="v1")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file; a pack is a folder"):
        export_saklas([of_model(1, layer=1)], tmp_path / "file")


def test_a_models_variants_are_told_apart(tmp_path: Path) -> None:
    folder = export_saklas([of_model(1, layer=1)], tmp_path / "pack", name="v")
    pack = json.loads((folder / "pack.json").read_text())
    for stem, seed in (("me__tiny-1.5B_pca", 2), ("me__tiny-1.5B_sae-res-16k", 3), ("me__other", 4)):
        data = safetensors.numpy.save({"layer_0": vector(seed).direction.numpy().astype(np.float16)})
        (folder / f"{stem}.safetensors").write_bytes(data)
        pack["files"][f"{stem}.safetensors"] = hashlib.sha256(data).hexdigest()
    (folder / "pack.json").write_text(json.dumps(pack))
    with pytest.raises(BadInput, match=r"me__other, me__tiny-1.5B, .*_pca, .*: 4 files fit; pass one of them"):
        import_saklas(folder)
    with pytest.raises(BadInput, match="none is of me/gone"):
        import_saklas(folder, model_id="me/gone")
    assert [site.layer for site in import_saklas(folder, model_id="me/tiny-1.5B")] == [1], "the one without an ending"
    for stem, variant in (("me/tiny-1.5B_pca", "pca"), ("me__tiny-1.5B_sae-res-16k", "sae-res-16k")):
        (read,) = import_saklas(folder, model_id=stem).values()
        assert read.provenance.model_id == "me/tiny-1.5B" and read.provenance.notes["import"]["variant"] == variant
        assert read.direction.dtype is torch.float32
    (folder / "me__other.safetensors").write_bytes(b"another file")
    with pytest.raises(BadInput, match="is not the file that pack.json names: its sha256 is another"):
        import_saklas(folder, model_id="me/other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pack: pack | {"format_version": 1}, "is of format_version 1; version 2 is read"),
        (lambda pack: {k: v for k, v in pack.items() if k != "format_version"}, "is of format_version 1"),
        (lambda pack: pack | {"format_version": 3}, "is of format_version 3"),
        (lambda pack: pack | {"name": "Not one"}, "'Not one' is no name of a pack"),
        (lambda pack: pack | {"license": None}, "license is None; a text is needed"),
        (lambda pack: pack | {"recommended_alpha": "strong"}, "recommended_alpha is 'strong'"),
        (lambda pack: pack | {"recommended_alpha": float("nan")}, "recommended_alpha is nan"),
        (lambda pack: pack | {"files": ["a"]}, "files is no mapping"),
        (lambda pack: pack | {"files": {"../x.safetensors": ""}}, "names '../x.safetensors', which is not a file of"),
        (lambda pack: pack | {"files": {"x.safetensors": ""}}, "names x.safetensors, which is not there"),
        (lambda pack: pack | {"files": {"x.gguf": ""}}, "x.gguf is a control vector: import it as gguf"),
        (lambda pack: pack | {"files": {}}, "this pack holds no vectors for any model"),
        (lambda pack: [pack], "holds a list; a JSON object is needed"),
    ],
)
def test_packs_that_cannot_be_read_are_refused(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    folder = export_saklas([of_model(1, layer=1)], tmp_path / "pack")
    pack = json.loads((folder / "pack.json").read_text())
    (folder / "pack.json").write_text(json.dumps(change(pack)))
    with pytest.raises(BadInput, match=message):
        import_saklas(folder)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"direction.1": [1.0, 2.0]}, "has 'direction.1'; its tensors are called layer_0"),
        ({"layer_0": [[1.0, 2.0]]}, r"holds \[1, 2\]; rows \[d_model\] of one width"),
        ({"layer_0": [1.0], "layer_1": [1.0, 2.0]}, r"holds \[1\], \[2\]; rows"),
        ({"layer_0": [float("nan"), 1.0]}, "holds NaN or infinity"),
        (None, "is corrupt"),
    ],
)
def test_tensors_that_are_no_rows_are_refused(tmp_path: Path, tensors: dict[str, Any] | None, message: str) -> None:
    folder = export_saklas([of_model(1, layer=1)], tmp_path / "pack")
    rows = {key: np.array(row, dtype=np.float32) for key, row in (tensors or {}).items()}
    data = safetensors.numpy.save(rows) if tensors else b"PK"
    (folder / "me__tiny-1.5B.safetensors").write_bytes(data)
    pack = json.loads((folder / "pack.json").read_text())
    pack["files"]["me__tiny-1.5B.safetensors"] = hashlib.sha256(data).hexdigest()
    (folder / "pack.json").write_text(json.dumps(pack))
    with pytest.raises(BadInput, match=message):
        import_saklas(folder)


def test_what_no_pack_can_hold_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    for vectors, message in (
        ([], "No vectors to write"),
        ([vector()], "does not say which model it comes from"),
        ([of_model(1, 1), of_model(2, 2, "me/other")], "are of 'me/other', 'me/tiny-1.5B'"),
        ([of_model(1, 1), of_model(2, 1)], "is a second vector at blocks.1.hook_resid_post"),
        ([of_model(1, 1, kind="resid_pre")], "The same stream is blocks.0.hook_resid_post"),
        ([of_model(1, 1), of_model(2, 2, width=8)], "has width 8"),
    ):
        with pytest.raises(BadInput, match=message):
            export_saklas(vectors, folder)
    with pytest.raises(BadInput, match="'Über' is no name of a pack"):
        export_saklas([of_model(1, 1)], folder, name="Über")
    with pytest.raises(BadInput, match="A strength of inf is no finite number"):
        export_saklas([of_model(1, 1)], folder, alpha=float("inf"))
    assert not folder.exists(), "nothing is written"
