"""EasySteer's specs, Neuronpedia's vectors and tensors of layers: written and read back, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from steering.errors import BadInput
from steering.model.sites import Site
from steering.vector.interchange import (
    export_easysteer,
    export_neuronpedia,
    export_tensor,
    import_easysteer,
    import_neuronpedia,
    import_tensor,
)
from tests.tiny import vector


def test_a_spec_of_easysteer_comes_back(tmp_path: Path) -> None:
    originals = [vector(seed, layer=seed) for seed in (2, 0)]
    path = export_easysteer(originals, tmp_path / "happy.json", model_hint="qwen2", scale=1.5, on="all")
    assert json.loads(path.read_text()) == {
        "vectors": [{
            "source": "happy.gguf", "algorithm": "direct", "scale": 1.5, "layers": [0, 2],
            "apply": {"prompt": "all", "generation": "all"},
        }],
        "conflict": "priority",
    }  # fmt: skip
    back = import_easysteer(path)
    assert [v.digest for v in back] == [v.digest for v in reversed(originals)] and back[0].name == "v0"
    said = back[0].provenance.notes["easysteer"]
    assert (said["scale"], said["conflict"], said["spec"]) == (1.5, "priority", "happy.json")
    assert said["apply"] == {"prompt": "all", "generation": "all"}
    for on, apply in (("generated", {"generation": "all"}), ("prompt", {"prompt": "all"})):
        export_easysteer(originals, path, model_hint="qwen2", on=on)
        assert json.loads(path.read_text())["vectors"][0]["apply"] == apply


def test_a_spec_of_others_gives_the_layers_that_it_names(tmp_path: Path) -> None:
    path = export_easysteer([vector(s, layer=s) for s in range(3)], tmp_path / "v.json", model_hint="llama")
    entry = {"source": "v.gguf", "layers": [1], "apply": {"generation_window": [0, 8]}, "normalize": True}
    path.write_text(json.dumps({"vectors": [entry, {"source": "v.gguf", "scale": -2, "apply": {"prompt": "all"}}]}))
    back = import_easysteer(path, model_id="m/one")
    assert [v.site.layer for v in back] == [1, 0, 1, 2]
    notes = [v.provenance.notes["easysteer"] for v in back]
    assert (notes[0]["scale"], notes[0]["normalize"], notes[1]["scale"]) == (1.0, True, -2)
    assert back[0].provenance.model_id == "m/one" and torch.equal(back[3].direction, vector(2).direction)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"algorithm": "loreft"}, "vectors.0 is of algorithm 'loreft'; only 'direct' adds a direction"),
        (
            {"source": None, "data": {}},
            r"names no \.gguf file as its source\. Tensors inside a spec \(data\) are not read",
        ),
        ({"source": "v.pt"}, r"names no \.gguf file"),
        ({"layers": [7]}, "vectors.0 names layer 7, which .*v.gguf does not hold"),
        ({"layers": "1"}, "layers is '1'; a list of layer numbers is needed"),
        ({"apply": {"phases": ["prompt"]}}, "specs with 'phases' are of an earlier version"),
        ({"apply": None}, "apply is None; a mapping"),
        ({"strength": 1}, "Unknown field 'strength' in .*vectors.0"),
        ({"source": "gone.gguf"}, "No file at gone.gguf"),
    ],
)
def test_specs_that_cannot_be_read_are_refused(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    path = export_easysteer([vector()], tmp_path / "v.json", model_hint="llama")
    held = json.loads(path.read_text())["vectors"][0]
    path.write_text(json.dumps({"vectors": [held | entry]}))
    with pytest.raises(BadInput, match=message):
        import_easysteer(path)


def test_what_is_no_spec_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "no steering spec"),
        ('{"vectors": [1]}', "vectors.0 is no mapping"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=message):
            import_easysteer(path)
    with pytest.raises(BadInput, match="give a name that ends in .json"):
        export_easysteer([vector()], tmp_path / "v.gguf", model_hint="llama")
    with pytest.raises(BadInput, match="Unknown phase 'prompts' in on. Did you mean 'prompt'"):
        export_easysteer([vector()], path, model_hint="llama", on="prompts")
    with pytest.raises(BadInput, match="A scale of nan is no finite number"):
        export_easysteer([vector()], path, model_hint="llama", scale=float("nan"))
    with pytest.raises(BadInput, match="hook_resid_pre: a control vector is added to the output of a layer"):
        export_easysteer([vector(kind="resid_pre")], path, model_hint="llama")


@pytest.mark.parametrize(("kind", "layer"), [("resid_pre", 3), ("resid_post", 2)])
def test_a_vector_of_neuronpedia_comes_back(tmp_path: Path, kind: str, layer: int) -> None:
    original = vector(4, layer=layer, kind=kind)
    path = export_neuronpedia(original, tmp_path / "v.json", model_id="gemma-2-2b-it", strength=20)
    body = json.loads(path.read_text())
    assert {key: value for key, value in body.items() if key != "vector"} == {
        "modelId": "gemma-2-2b-it", "layerNumber": 3, "hookType": "hook_resid_pre", "vectorDefaultSteerStrength": 20, "vectorLabel": "v4",
    }  # fmt: skip
    answer = {
        "message": "Success", "url": "x",
        "vector": {
            "modelId": "gemma-2-2b-it", "source": "3-neuronpedia-resid-pre", "index": "7", "label": "v4", "createdAt": "2026-01-01",
            "defaultSteerStrength": 20, "hookName": "blocks.3.hook_resid_pre", "values": body["vector"],
        },
    }  # fmt: skip
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    for file in ("v.json", "answer.json"):
        back = import_neuronpedia(tmp_path / file, model_id="google/gemma-2-2b-it")
        assert torch.equal(back.direction, original.direction), "the same stream, bit for bit"
        assert (back.name, back.site) == ("v4", Site(3, "resid_pre"))
        note = back.provenance.notes["import"]
        assert (note["model"], note["strength"], back.provenance.model_id) == (
            "gemma-2-2b-it",
            20,
            "google/gemma-2-2b-it",
        )


def test_what_neuronpedia_would_refuse_is_refused_here(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    for given, message in (
        (
            {"vector": vector(kind="mlp_out")},
            "hook_mlp_out: Neuronpedia steers the input of a layer; it cannot add inside",
        ),
        ({"model_id": ""}, "Neuronpedia's name of the model is missing"),
        ({"strength": 101.0}, "A strength of 101 is refused by Neuronpedia: give one from -100 to 100"),
        ({"vector": vector(width=24577)}, "has width 24577; Neuronpedia takes up to 24576"),
    ):
        options: dict[str, Any] = {"vector": vector(), "model_id": "gpt2-small", "strength": 1.0} | given
        with pytest.raises(BadInput, match=message):
            export_neuronpedia(options.pop("vector"), path, **options)
    assert not path.exists()
    good = {"layerNumber": 1, "hookType": "hook_resid_pre", "vector": [1.0, 2.0]}
    for body, message in (
        (good | {"layerNumber": -1}, "has layerNumber -1 and hookType 'hook_resid_pre'; a layer from 0 on"),
        (good | {"hookType": "hook_mlp_out"}, "hookType 'hook_mlp_out'"),
        (good | {"vector": []}, "holds no list of numbers as its vector"),
        (good | {"vector": [1.0, "2"]}, "holds no list of numbers as its vector"),
        (good | {"vector": [0.0]}, "is zero"),
        ({"hookName": "blocks.x", "values": [1.0]}, "'blocks.x' is not a site"),
        ([good], "holds a list; a JSON object of one vector is needed"),
    ):
        path.write_text(json.dumps(body))
        with pytest.raises(BadInput, match=message):
            import_neuronpedia(path)
    path.write_text("{")
    with pytest.raises(BadInput, match="is not JSON"):
        import_neuronpedia(path)


@pytest.mark.parametrize("rows", ["layers", "hidden_states"])
def test_a_tensor_of_layers_comes_back(tmp_path: Path, rows: str) -> None:
    originals = [vector(seed, layer=layer) for seed, layer in ((1, 3), (2, 0))]
    if rows == "hidden_states":
        originals.append(vector(5, layer=0, kind="resid_pre"))
    path = export_tensor(originals, tmp_path / "v.pt", n_layers=6, rows=rows)
    table = torch.load(path, weights_only=True)
    assert table.shape == (6 + (rows == "hidden_states"), 16) and table.dtype == torch.float32
    back = import_tensor(path, rows=rows, model_id="m/one")
    assert {site: v.digest for site, v in back.items()} == {v.site: v.digest for v in originals}
    assert all(v.name == "v" and v.provenance.model_id == "m/one" for v in back.values())
    empty = next(iter(back.values())).provenance.notes["import"]["zero_rows"]
    assert len(empty) == len(table) - len(originals)
    assert export_tensor(originals, tmp_path / "w.pt", rows=rows) and len(torch.load(tmp_path / "w.pt")) == 4 + (
        rows != "layers"
    )


def test_what_a_row_is_must_be_said_and_moves_the_layer(tmp_path: Path) -> None:
    torch.save(torch.ones(3, 16, dtype=torch.bfloat16), tmp_path / "v.pt")
    assert list(import_tensor(tmp_path / "v.pt", rows="layers")) == [Site(0), Site(1), Site(2)]
    assert list(import_tensor(tmp_path / "v.pt", rows="hidden_states")) == [Site(0, "resid_pre"), Site(0), Site(1)]
    with pytest.raises(TypeError, match="rows"):
        import_tensor(tmp_path / "v.pt")  # type: ignore[call-arg]
    with pytest.raises(BadInput, match="Unknown kind of rows 'layer' in rows. Did you mean 'layers'"):
        import_tensor(tmp_path / "v.pt", rows="layer")


def test_tensors_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    for value, message in (
        ({"a": torch.ones(2, 4)}, "holds a dict, not one tensor. For names with rows use import_directions"),
        (torch.ones(4), r"has shape \[4\]; \[n_layers, d_model\] is needed"),
        (torch.zeros(2, 4), "holds no row that is not zero"),
        (torch.tensor([[1.0, float("nan")]]), "NaN or infinity"),
        (Trap(), "refused, and not run"),
    ):
        torch.save(value, tmp_path / "v.pt")
        with pytest.raises(BadInput, match=message):
            import_tensor(tmp_path / "v.pt", rows="layers")
    (tmp_path / "v.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(BadInput, match="refused, and not run"):
        import_tensor(tmp_path / "v.pt", rows="layers")
    assert not (tmp_path / "sprung").exists()


def test_vectors_that_share_no_tensor_are_refused(tmp_path: Path) -> None:
    for given, options, message in (
        ([], {}, "No vectors to write"),
        ([vector(1), vector(2)], {}, "'v1' and 'v2' are both at row 1"),
        ([vector(1), vector(2, layer=2, width=8)], {}, "'v2' has width 8, 'v1' has 16"),
        ([vector(layer=3)], {"n_layers": 3}, "blocks.3.hook_resid_post does not exist in a model of 3 layers"),
        (
            [vector(layer=3, kind="resid_pre")],
            {},
            "row l is the output of layer l .* The same stream is blocks.2.hook_resid_post",
        ),
        ([vector(kind="mlp_out")], {"rows": "hidden_states"}, "row l is the output of layer l"),
        ([vector()], {"rows": "all"}, "Unknown kind of rows 'all'"),
    ):
        with pytest.raises(BadInput, match=message):
            export_tensor(given, tmp_path / "v.pt", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
