"""EasySteer's steering specs: JSON that names a control vector's file and says how strongly and where it is added.

1. The direction itself lies in a GGUF file beside the spec, in EasySteer's own convention of layers (`conventions`); the spec names it.
2. Written are the fields of its `SteeringSpec` as vLLM's server reads them (`--steering-config`): `vectors` with source, algorithm
   `direct`, scale, layers, `apply` by phase, and `conflict`.
3. A spec read back gives the vectors of its files; scale, phases and the other fields go into the provenance and change no number.
4. Algorithms that do not add a direction, tensors inside the spec, and clauses of other versions are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import BadInput, unknown
from ...files import write_file
from ..vectors import Provenance, SteeringVector
from .gguf import export_gguf, import_gguf
from .source import Source

PHASES: Mapping[str, dict[str, str]] = {
    "generated": {"generation": "all"},
    "prompt": {"prompt": "all"},
    "all": {"prompt": "all", "generation": "all"},
}
"""What `apply` is for each of the spans that a spec is written for."""
_FIELDS = ("source", "data", "algorithm", "scale", "layers", "normalize", "apply", "params", "name")


def export_easysteer(
    vectors: Iterable[SteeringVector], path: Path | str, *, model_hint: str, scale: float = 1.0, on: str = "generated"
) -> Path:
    """Write a spec (`path`, which ends in .json) and the GGUF file that it names, of the same name beside it; returns the spec's path.

    `scale` 1 adds each vector once; `on` is "generated", "prompt" or "all"; `model_hint` as in `export_gguf`. The spec names the file
    without a folder: the server looks for it in the folder that it is started in. Raises BadInput.
    """
    path, chosen = Path(path), list(vectors)
    if path.suffix != ".json":
        raise BadInput(
            f"{path}: a spec is JSON, and its control vector lies beside it; give a name that ends in .json."
        )
    if on not in PHASES:
        raise unknown("phase", on, PHASES, "on")
    if not math.isfinite(scale):
        raise BadInput(f"A scale of {scale} is no finite number; 1 adds each vector once.")
    file = export_gguf(chosen, path.with_suffix(".gguf"), layers="easysteer", model_hint=model_hint)
    layers = sorted(vector.site.layer for vector in chosen)
    return write_spec(path, [(file.name, layers, PHASES[on])], scale)


def write_spec(path: Path, entries: Iterable[tuple[str, list[int], dict[str, str]]], scale: float = 1.0) -> Path:
    """Write a spec of control vectors that lie beside it: the file's name, its layers, and at which tokens (`PHASES`). Entries must not
    share a layer at the same tokens: the spec's rule for conflicts would take one of them."""
    written = [
        {"source": name, "algorithm": "direct", "scale": scale, "layers": layers, "apply": apply}
        for name, layers, apply in entries
    ]
    write_file(path, (json.dumps({"vectors": written, "conflict": "priority"}, indent=1) + "\n").encode())
    return path


def import_easysteer(path: Path | str, *, model_id: str = "") -> list[SteeringVector]:
    """The vectors `[d_model]` that a spec names, in its order; files are looked for beside the spec, then as they are named.

    The directions are as stored: the spec's scale is in the provenance (`easysteer.scale`). Raises BadInput.
    """
    source = Source.read(path)
    try:
        spec = json.loads(source.content)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{source.path} is not JSON ({error}). For the control vector itself use import_gguf."
        ) from error
    entries = spec.get("vectors") if isinstance(spec, dict) else None
    if not isinstance(entries, list) or not entries:
        raise BadInput(f"{source.path} is no steering spec: it needs a list 'vectors'.")
    found = []
    for place, entry in enumerate(entries):
        where = f"{source.path}: vectors.{place}"
        file, said = _entry(entry, where, source)
        said["conflict"] = spec.get("conflict", "priority")
        held = import_gguf(file, layers="easysteer", model_id=model_id)
        wanted = entry.get("layers")
        lacking = sorted(set(wanted or ()) - {site.layer for site in held})
        if lacking:
            raise BadInput(f"{where} names layer {lacking[0]}, which {file} does not hold.")
        for site, vector in held.items():
            if wanted is None or site.layer in wanted:
                facts = {**vars(vector.provenance), "notes": {**vector.provenance.notes, "easysteer": said}}
                found.append(SteeringVector(vector.name, site, vector.direction, Provenance(**facts)))
    return found


def _entry(entry: Any, where: str, source: Source) -> tuple[Path, dict[str, Any]]:
    """The file that one vector of a spec names, and what else is said of it. Raises BadInput."""
    if not isinstance(entry, dict):
        raise BadInput(f"{where} is no mapping; a source, a scale and an apply clause are needed.")
    if extra := sorted(set(entry) - set(_FIELDS)):
        raise unknown("field", extra[0], _FIELDS, where)
    algorithm, name = entry.get("algorithm", "direct"), entry.get("source")
    if algorithm != "direct":
        raise BadInput(f"{where} is of algorithm {algorithm!r}; only 'direct' adds a direction to the activations.")
    if not isinstance(name, str) or not name.lower().endswith(".gguf"):
        raise BadInput(
            f"{where} names no .gguf file as its source. Tensors inside a spec (data) are not read here; export the vector to GGUF."
        )
    layers = entry.get("layers")
    if layers is not None and not (isinstance(layers, list) and all(type(layer) is int for layer in layers)):
        raise BadInput(f"{where}.layers is {layers!r}; a list of layer numbers is needed, or nothing.")
    apply = entry.get("apply")
    if not isinstance(apply, dict) or "phases" in apply:
        raise BadInput(
            f"{where}.apply is {apply!r}; a mapping with prompt, generation or their selectors is needed (specs with 'phases' are of an "
            "earlier version)."
        )
    said = {key: entry[key] for key in ("scale", "normalize") if key in entry} | {
        "spec": source.path.name,
        "apply": apply,
    }
    beside = source.path.parent / name
    return beside if beside.is_file() else Path(name), {"scale": 1.0, **said}
