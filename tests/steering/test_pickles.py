"""Pickled files: plain data comes back whole, and nothing that a file asks for is run."""

from __future__ import annotations

import contextlib
import pickle
import resource
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steering.errors import BadInput
from steering.model.sites import Site
from steering.vector.interchange import arrays, import_gguf, import_steering_vectors, load_plain, pickles
from steering.vector.interchange.pickles import as_tensor
from steering.vector.vectors import UNKNOWN
from tests.tiny import vector

Writer = Callable[[Any, Path], None]


def by_torch(content: Any, path: Path) -> None:
    torch.save(content, path)


def by_old_torch(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def by_pickle(protocol: int) -> Writer:
    def write(content: Any, path: Path) -> None:
        path.write_bytes(pickle.dumps(content, protocol))

    return write


WRITERS = {
    "torch.save": by_torch,
    "torch.save before 1.6": by_old_torch,
    **{f"pickle protocol {p}": by_pickle(p) for p in (2, 3, 4, 5)},
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())


@writers
def test_plain_content_comes_back_whole(tmp_path: Path, write: Writer) -> None:
    content = {
        "half": torch.linspace(-1, 1, 6, dtype=torch.bfloat16).reshape(2, 3),
        "view": torch.arange(12.0).reshape(3, 4)[:, 1],
        "array": np.arange(6, dtype=np.float64).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "big endian": np.arange(3, dtype=">i4"),
        "flags": np.array([True, False]),
        "scalar": np.float64(0.25),
        "nested": [1, 2.5, "text", (None, True, {"deep": np.int64(7), "row": np.ones(2)})],
        "ordered": OrderedDict(a=1),
    }
    write(content, tmp_path / "f.pt")
    found = load_plain(tmp_path / "f.pt")
    assert list(found) == list(content)
    for key in ("half", "view"):
        assert found[key].dtype == content[key].dtype and torch.equal(found[key], content[key])
    for key in ("array", "fortran", "big endian", "flags"):
        assert found[key].dtype == content[key].dtype and np.array_equal(found[key], content[key])
    assert found["scalar"] == 0.25 and found["ordered"] == content["ordered"]
    assert found["nested"][:3] == [1, 2.5, "text"] and found["nested"][3][:2] == (None, True)
    assert found["nested"][3][2]["deep"] == 7 and np.array_equal(found["nested"][3][2]["row"], np.ones(2))


class Touch:
    """Creates a file when it is unpickled by an ordinary unpickler."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.marker)!r}, 'w').close()",)


@writers
def test_a_file_that_wants_to_run_something_is_refused_and_does_not_run_it(tmp_path: Path, write: Writer) -> None:
    marker, path = tmp_path / "was run", tmp_path / "f.pt"
    write({"direction": torch.ones(2), "x": [Touch(marker)]}, path)
    with pytest.raises(BadInput, match=r"f\.pt asks for builtins\.exec when it is unpickled.*refused, and not run"):
        load_plain(path)
    assert not marker.exists()
    if write in (by_torch, by_old_torch):
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert marker.exists(), "the file is harmless, so refusing it proves nothing"


def test_a_pickle_hidden_in_a_tensors_storage_is_not_run(tmp_path: Path) -> None:
    marker, inner, path = tmp_path / "was run", tmp_path / "inner.pt", tmp_path / "f.pkl"
    torch.save(Touch(marker), inner)

    class Storage:
        def __reduce__(self) -> Any:
            return torch.storage._load_from_bytes, (inner.read_bytes(),)  # type: ignore[attr-defined]

    path.write_bytes(pickle.dumps({"direction": Storage()}))
    with pytest.raises(BadInput, match=r"asks for builtins\.exec"):
        load_plain(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the file is harmless, so refusing it proves nothing"


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.getattr", "importlib.import_module", "torch.hub.load", "torch.load", "functools.partial",
     "steering_vectors.steering_vector.SteeringVector", "numpy.load", "_codecs.lookup"],
)  # fmt: skip
@pytest.mark.parametrize("stack", [False, True])
def test_every_other_global_is_refused_by_name(tmp_path: Path, name: str, stack: bool) -> None:
    module, attribute = name.rsplit(".", 1)
    if stack:
        words = b"".join(b"\x8c" + bytes([len(w)]) + w.encode() for w in (module, attribute))
        data = b"\x80\x04" + words + b"\x93."
    else:
        data = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b"."
    (tmp_path / "f.pkl").write_bytes(data)
    with pytest.raises(BadInput, match=name):
        load_plain(tmp_path / "f.pkl")


def test_a_file_cannot_set_attributes_on_what_rebuilds_it(tmp_path: Path) -> None:
    setting = b"}X\x04\x00\x00\x00evilK\x01sb."
    slots = b"N}X\x04\x00\x00\x00evilK\x01s\x86b."
    for named in (b"torch._utils\n_rebuild_tensor_v2", b"numpy\nndarray", b"numpy\ndtype", b"my.module\nClass"):
        for state in (setting, slots):
            (tmp_path / "f.pkl").write_bytes(b"\x80\x02c" + named + b"\n" + state)
            with contextlib.suppress(BadInput):
                load_plain(tmp_path / "f.pkl", classes=("my.module.Class",))
    for shared in (torch._utils._rebuild_tensor_v2, arrays.Array, arrays.Kind, pickles.Record, np.ndarray):
        assert not hasattr(shared, "evil")
    pickle.loads(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + setting)
    assert hasattr(torch._utils._rebuild_tensor_v2, "evil"), "the file is harmless, so reading it proves nothing"
    del torch._utils._rebuild_tensor_v2.evil  # type: ignore[attr-defined]


@writers
def test_arrays_of_objects_are_refused(tmp_path: Path, write: Writer) -> None:
    write({"x": np.array([{"a": 1}, None], dtype=object)}, tmp_path / "f.pt")
    with pytest.raises(BadInput, match="not plain numbers"):
        load_plain(tmp_path / "f.pt")


@writers
def test_a_file_cut_anywhere_gives_one_clear_error(tmp_path: Path, write: Writer) -> None:
    write({"a": torch.arange(4.0), "b": np.ones(3)}, tmp_path / "f.pt")
    whole = (tmp_path / "f.pt").read_bytes()
    short = tmp_path / "short.pt"
    for end in range(0, len(whole), max(1, len(whole) // 150)):
        short.write_bytes(whole[:end])
        with pytest.raises(BadInput, match=r"short\.pt (is corrupt or cut short|is not a pickled file|asks for )"):
            load_plain(short)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "data",
    [b"\x80\x02}r\xff\xff\xff\xff.", b"\x80\x04B\xff\xff\xff\xff.", b"\x80\x05\x96\xff\xff\xff\xff\x01\x00\x00\x00."],
    ids=["memo", "bytes", "bytearray"],
)
def test_sizes_that_a_file_cannot_have_are_refused_before_memory_is_taken(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "f.pkl").write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match="corrupt or cut short"):
        load_plain(tmp_path / "f.pkl")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


def test_other_files_are_pointed_to_their_reader(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"SteeringVector\.load reads safetensors"):
        load_plain(vector().save(tmp_path / "v.safetensors"))
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(BadInput, match="not a GGUF file"):
        import_gguf(tmp_path / "a.pt", layers="repeng")


@pytest.mark.parametrize("value", ["text", [1.0], np.array(["a"]), torch.ones(2, dtype=torch.complex64), None])
def test_only_numbers_become_tensors(value: Any) -> None:
    with pytest.raises(BadInput, match="label 'x' is an? .*; a dense tensor or array of numbers"):
        as_tensor(value, "label 'x'")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A stand-in for the steering-vectors package, importable until `forget` is called."""

    @dataclass
    class SteeringVector:
        layer_activations: dict[Any, Any]
        layer_type: str = "decoder_block"
        extra: list[int] = field(default_factory=list)

    SteeringVector.__module__, SteeringVector.__qualname__ = "steering_vectors.steering_vector", "SteeringVector"
    package, module = types.ModuleType("steering_vectors"), types.ModuleType("steering_vectors.steering_vector")
    module.SteeringVector = SteeringVector  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "steering_vectors", package)
    monkeypatch.setitem(sys.modules, "steering_vectors.steering_vector", module)
    return types.SimpleNamespace(SteeringVector=SteeringVector, forget=monkeypatch.undo)


@writers
def test_a_steering_vectors_file_is_read_without_the_library(
    tmp_path: Path, library: types.SimpleNamespace, write: Writer
) -> None:
    rows = {11: torch.arange(1.0, 5.0), 2: torch.tensor([[0.5, -1.0, 2.0, 8.0]], dtype=torch.bfloat16)}
    write(library.SteeringVector(rows), tmp_path / "sad.pt")
    library.forget()
    found = import_steering_vectors(tmp_path / "sad.pt", model_id="m/one")
    assert "steering_vectors" not in sys.modules
    assert list(found) == [Site(2), Site(11)]
    assert found[Site(2)].direction.tolist() == [0.5, -1.0, 2.0, 8.0] and torch.equal(
        found[Site(11)].direction, rows[11]
    )
    made = found[Site(2)]
    assert (made.name, made.provenance.model, made.provenance.model_id) == ("sad", UNKNOWN, "m/one")
    assert made.provenance.notes["import"]["format"] == "steering-vectors"
    with pytest.raises(BadInput, match=r"asks for steering_vectors\.steering_vector\.SteeringVector"):
        load_plain(tmp_path / "sad.pt")


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ({1: torch.ones(4)}, "mlp", "output of 'mlp' modules, which is not the residual stream"),
        ({-1: torch.ones(4)}, "decoder_block", "absolute layer numbers"),
        ({True: torch.ones(4)}, "decoder_block", "absolute layer numbers"),
        ({1: torch.ones(2, 4)}, "decoder_block", r"shape \[2, 4\]"),
        ({1: torch.zeros(4)}, "decoder_block", "is zero"),
        ({1: "row"}, "decoder_block", "layer 1 is a str"),
        ({}, "decoder_block", "does not hold"),
    ],
)
def test_steering_vectors_files_that_have_no_site_are_refused(
    tmp_path: Path, library: types.SimpleNamespace, rows: dict[Any, Any], kind: str, message: str
) -> None:
    torch.save(library.SteeringVector(rows, kind), tmp_path / "v.pt")
    with pytest.raises(BadInput, match=message):
        import_steering_vectors(tmp_path / "v.pt")


def test_a_mapping_is_not_a_steering_vectors_file(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "v.pt")
    with pytest.raises(BadInput, match="but a dict. For a mapping of names to tensors use import_directions"):
        import_steering_vectors(tmp_path / "v.pt")
