"""Vectors as Neuronpedia's API has them: what `POST /api/vector/new` takes, and the vector in its answer.

1. Neuronpedia steers the input of a layer (`hook_resid_pre`) alone. The output of layer l is the input of layer l + 1, so a vector at
   `blocks.l.hook_resid_post` is written with layer number l + 1.
2. Numbers are written so that float32 reads them back bit for bit.
3. Models have Neuronpedia's own names (`gemma-2-2b-it`), which the caller gives; whether it has that layer and width is its to say.
4. Its strengths are its own: they are kept in the provenance and change no number.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from ...errors import BadInput
from ...files import write_file
from ...model.sites import Site
from ..vectors import UNKNOWN, Provenance, SteeringVector
from .source import Source

HOOK = "hook_resid_pre"
WIDEST = 24576
STRONGEST = 100.0
"""As the API's description states it."""


def export_neuronpedia(vector: SteeringVector, path: Path | str, *, model_id: str, strength: float) -> Path:
    """Write the body of `POST /api/vector/new`; atomically. `model_id` is the model as Neuronpedia calls it, `strength` the default with
    which its pages steer (-100 to 100). Raises BadInput for a site that it cannot steer at, and for what it would refuse."""
    site = vector.site
    if site.kind not in ("resid_post", "resid_pre"):
        raise BadInput(f"{site}: Neuronpedia steers the input of a layer; it cannot add inside of one.")
    if not model_id:
        raise BadInput("Neuronpedia's name of the model is missing (--model-id); pass it, such as gemma-2-2b-it.")
    if not (math.isfinite(strength) and abs(strength) <= STRONGEST):
        raise BadInput(f"A strength of {strength:g} is refused by Neuronpedia: give one from -100 to 100 (--strength).")
    if len(vector.direction) > WIDEST:
        raise BadInput(f"Vector {vector.name!r} has width {len(vector.direction)}; Neuronpedia takes up to {WIDEST}.")
    body = {
        "modelId": model_id,
        "layerNumber": site.layer + (site.kind == "resid_post"),
        "hookType": HOOK,
        "vector": vector.direction.tolist(),
        "vectorDefaultSteerStrength": strength,
        "vectorLabel": vector.name,
    }
    write_file(Path(path), (json.dumps(body, indent=1) + "\n").encode())
    return Path(path)


def import_neuronpedia(path: Path | str, *, model_id: str = "") -> SteeringVector:
    """The vector `[d_model]` of a body as `export_neuronpedia` writes it, or of the API's answer to it, at `blocks.l.hook_resid_pre`.

    `model_id` says which model it belongs to, as the hub or this program calls it; Neuronpedia's name for it is kept in the provenance.
    Raises BadInput for anything else.
    """
    source = Source.read(path)
    try:
        body = json.loads(source.content)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{source.path} is not JSON ({error}); it is cut short, or another file.") from error
    if isinstance(body, dict) and isinstance(body.get("vector"), dict):
        body = body["vector"]
    if not isinstance(body, dict):
        raise BadInput(f"{source.path} holds a {type(body).__name__}; a JSON object of one vector is needed.")
    answered = "hookName" in body
    site = _site(body, source, answered)
    row = torch.tensor(_numbers(body.get("values" if answered else "vector"), source))
    label = str(body.get("label" if answered else "vectorLabel") or source.path.stem)
    note = source.note(
        "Neuronpedia vector",
        model=body.get("modelId"),
        source=body.get("source"),
        index=body.get("index"),
        strength=body.get("defaultSteerStrength" if answered else "vectorDefaultSteerStrength"),
    )
    return SteeringVector(label, site, row, Provenance("imported from Neuronpedia", UNKNOWN, model_id, notes=note))


def _site(body: dict[str, Any], source: Source, answered: bool) -> Site:
    if answered:
        return Site.parse(str(body["hookName"]))
    layer, hook = body.get("layerNumber"), body.get("hookType")
    if type(layer) is not int or layer < 0 or hook != HOOK:
        raise BadInput(
            f"{source.path} has layerNumber {layer!r} and hookType {hook!r}; a layer from 0 on and {HOOK!r} are needed, as in what the API "
            "takes and answers."
        )
    return Site(layer, "resid_pre")


def _numbers(values: Any, source: Source) -> list[float]:
    numbers = isinstance(values, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if not values or not numbers:
        raise BadInput(f"{source.path} holds no list of numbers as its vector.")
    return [float(value) for value in values]
