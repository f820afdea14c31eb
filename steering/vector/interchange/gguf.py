"""GGUF control vectors: the files of llama.cpp, repeng and EasySteer.

1. The layer convention is a required keyword and is recorded in each vector's provenance; `direction.0` is refused where the convention
   has no layer 0.
2. What is exported is imported again bit for bit, with names and provenance; importing it under another convention is refused.
3. Any other file, a corrupt one, or one that is cut short gives one BadInput; a count that promises more than the file holds is refused
   before anything is read by it.
4. A direction of zeros edits nothing; it is left out and its layer is noted.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from ...errors import BadInput
from ...files import new_file
from ...model.gguf_files import StrictReader, open_gguf, text_of
from ...model.sites import Site
from ..vectors import UNKNOWN, Provenance, SteeringVector
from .conventions import LayerConvention, convention
from .source import Source

ARCHITECTURE = "controlvector"
OWN_KEY = "steering_workbench.vectors"
OWN_FORMAT = "steering-workbench/gguf@1"
_TENSOR = re.compile(r"direction\.(0|[1-9]\d*)")
_HINT = re.compile(r"[a-z][a-z0-9._-]*")
_FLOATS = ("F32", "F16", "F64")


def import_gguf(
    path: Path | str, *, layers: str, model_id: str = "", name: str | None = None
) -> dict[Site, SteeringVector]:
    """Vectors `[d_model]` of a control-vector file, by site.

    `layers` names the convention (see `CONVENTIONS`): "llama.cpp" for where llama.cpp applies `direction.l` (output of 0-based layer l,
    l >= 1), "cvector-generator" for where llama.cpp's own generator read it (output of layer l - 1), "repeng" and "easysteer" for files
    that number layers from 0. `model_id` says which model the vectors belong to; the files hold at most an architecture name.
    """
    rule = convention(layers)
    source = Source.read(path)
    if source.content[:4] != b"GGUF":
        raise BadInput(
            f"{source.path} is not a GGUF file. SteeringVector.load reads safetensors, load_plain and the other importers .pt files."
        )
    reader = open_gguf(source.path)
    facts = {key: text_of(reader, key) for key in ("general.architecture", f"{ARCHITECTURE}.model_hint")}
    _check_component(reader, source)
    own = _own_record(reader, source, rule)
    rows, empty = _rows(reader, source, rule)
    if not rows:
        raise BadInput(f"{source.path} holds no direction that is not zero.")
    note = source.note(
        "GGUF control vector",
        layers=rule.name,
        layer_meaning=rule.meaning,
        architecture=facts["general.architecture"],
        model_hint=facts[f"{ARCHITECTURE}.model_hint"],
        method=text_of(reader, f"{ARCHITECTURE}.method"),
        zero_layers=empty,
    )
    vectors = {}
    for index, row in sorted(rows.items()):
        site = rule.site(index)
        title, provenance = _identity(own.get(str(index)), source, model_id)
        notes = {**provenance.notes, **note}
        vectors[site] = SteeringVector(
            name or title, site, torch.from_numpy(row), Provenance(**{**vars(provenance), "notes": notes})
        )
    return vectors


def check_hint(text: str) -> str:
    """What is to be said of an architecture's name: nothing, or that the library does not know it. Raises BadInput for what can be none."""
    what = "Pass the architecture as the model's own GGUF names it (general.architecture), such as llama, qwen2, qwen3 or gemma3."
    if not text:
        raise BadInput(f"model_hint (--model-hint) is empty, and readers of the file may refuse it so. {what}")
    known = sorted(gguf.MODEL_ARCH_NAMES.values())
    near = difflib.get_close_matches(text.lower(), known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    if not _HINT.fullmatch(text):
        raise BadInput(
            f"model_hint (--model-hint) {text!r} can be no architecture: names are in small letters.{hint} {what}"
        )
    if text in known:
        return ""
    return (
        f"model_hint {text!r} is no architecture that the gguf library here knows.{hint} The file is written with it."
    )


def export_gguf(vectors: Iterable[SteeringVector], path: Path | str, *, layers: str, model_hint: str) -> Path:
    """Write vectors of one model, one per layer, as a control-vector file; atomically (temporary name, fsync, rename).

    `layers` is the convention of the program that will read the file ("llama.cpp", "repeng", "easysteer"); `model_hint` is the
    architecture as that program names it, for example "llama" or "qwen2". Directions are written as they are: the reader's strength 1
    adds the vector once.
    """
    rule, chosen, path = convention(layers), list(vectors), Path(path)
    if not rule.writable:
        raise BadInput(f"layers={rule.name!r} is for reading. Pass layers='llama.cpp' to write for llama.cpp.")
    check_hint(model_hint)
    indexed = _indexed(chosen, rule, path)
    record = {
        "format": OWN_FORMAT,
        "layers": rule.name,
        "vectors": {str(i): {"name": v.name, "provenance": vars(v.provenance)} for i, v in indexed.items()},
    }
    with new_file(path) as partial:
        writer = gguf.GGUFWriter(partial, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", model_hint)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(indexed))
        writer.add_string(OWN_KEY, json.dumps(record, sort_keys=True))
        for index, vector in indexed.items():
            writer.add_tensor(f"direction.{index}", vector.direction.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return path


def _indexed(vectors: list[SteeringVector], rule: LayerConvention, path: Path) -> dict[int, SteeringVector]:
    """Vectors by index, in order. Raises BadInput when they cannot share a file."""
    if not vectors:
        raise BadInput(f"No vectors to write to {path}. Pass at least one.")
    indexed: dict[int, SteeringVector] = {}
    for vector in vectors:
        index = rule.index(vector.site)
        if index in indexed:
            raise BadInput(
                f"{indexed[index].name!r} and {vector.name!r} are both at {vector.site}; a file holds one direction per layer. "
                "Add them first (steering.vector.arithmetic.add)."
            )
        if len(vector.direction) != len(vectors[0].direction):
            raise BadInput(
                f"{vector.name!r} has width {len(vector.direction)}, {vectors[0].name!r} has {len(vectors[0].direction)}: "
                "a file holds vectors of one model."
            )
        if vector.provenance.same_model(vectors[0].provenance) is False:
            raise BadInput(f"{vector.name!r} and {vectors[0].name!r} come from different models: write one file each.")
        indexed[index] = vector
    return dict(sorted(indexed.items()))


def _check_component(reader: StrictReader, source: Source) -> None:
    """EasySteer also writes attention-head and router directions under the same tensor names; those have no residual site."""
    try:
        component = json.loads(text_of(reader, f"{ARCHITECTURE}.easysteer") or "{}").get("component")
    except (json.JSONDecodeError, AttributeError) as error:
        raise BadInput(f"{source.path}: the field {ARCHITECTURE}.easysteer is not a JSON object ({error}).") from error
    if component not in (None, "hidden_states"):
        raise BadInput(
            f"{source.path} holds directions for {component!r}, which are not added to the residual stream. "
            "Only component 'hidden_states' has a site here."
        )


def _own_record(reader: StrictReader, source: Source, rule: LayerConvention) -> dict[str, Any]:
    """Names and provenance by index that `export_gguf` wrote; empty for other programs' files."""
    text = text_of(reader, OWN_KEY)
    if not text:
        return {}
    try:
        record = json.loads(text)
        written, vectors = record["layers"], dict(record["vectors"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{source.path}: the field {OWN_KEY} is corrupt ({error!r}). Export the file again.") from error
    if record.get("format") != OWN_FORMAT:
        raise BadInput(f"{source.path} was written as {record.get('format')!r}; this version reads {OWN_FORMAT!r}.")
    if written != rule.name:
        raise BadInput(
            f"{source.path} says that it was written under layers={written!r}, not {rule.name!r}. Pass that."
        )
    return vectors


def _rows(reader: StrictReader, source: Source, rule: LayerConvention) -> tuple[dict[int, np.ndarray], list[int]]:
    """Directions in float32 by index, and the indices whose direction is zero."""
    rows: dict[int, np.ndarray] = {}
    empty: list[int] = []
    width = None
    for tensor in reader.tensors:
        match = _TENSOR.fullmatch(tensor.name)
        if match is None:
            raise BadInput(
                f"{source.path} holds a tensor {tensor.name!r}: not a control vector, whose tensors are direction.<layer>."
            )
        index, kind = int(match[1]), tensor.tensor_type.name
        rule.site(index)
        if kind not in _FLOATS or (rule.name == "llama.cpp" and kind != "F32"):
            raise BadInput(
                f"{source.path}: {tensor.name} is stored as {kind}; export it as F32, as llama.cpp requires."
            )
        if tensor.data.ndim != 1 or width not in (None, len(tensor.data)):
            raise BadInput(
                f"{source.path}: {tensor.name} has shape {list(tensor.data.shape)}; every direction must be one row [d_model]"
                f"{f' of {width}, as the others' if width else ''}."
            )
        width = len(tensor.data)
        # A copy in the machine's byte order: the reader's arrays are views of the open file.
        row = np.array(tensor.data, dtype=np.float32)
        if row.any():
            rows[index] = row
        else:
            empty.append(index)
    return rows, sorted(empty)


def _identity(own: Any, source: Source, model_id: str) -> tuple[str, Provenance]:
    """Name and provenance of one direction: as exported, or of a foreign file."""
    if own is None:
        return source.path.stem, Provenance("imported from a GGUF control vector", UNKNOWN, model_id)
    try:
        title, provenance = str(own["name"]), Provenance.parse(own["provenance"])
        notes = dict(provenance.notes)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{source.path}: the field {OWN_KEY} is corrupt ({error!r}). Export the file again.") from error
    if model_id and provenance.model_id and model_id != provenance.model_id:
        raise BadInput(
            f"{source.path} says that it belongs to {provenance.model_id}, not to {model_id}. Leave model_id out."
        )
    filled = {"model_id": provenance.model_id or model_id, "notes": notes}
    return title, Provenance(**{**vars(provenance), **filled})
