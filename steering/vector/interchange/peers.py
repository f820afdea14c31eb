"""Files of the steering-vectors library: a pickled `SteeringVector(layer_activations, layer_type)`.

1. The object is rebuilt from its fields without importing the library or running any of its code; both `torch.save` and `pickle.dump`
   files are read.
2. The library numbers decoder layers from 0 and reads and adds at their output, so layer l is `blocks.l.hook_resid_post`. Vectors of
   other modules (attention, MLP, norms) have no site in the residual stream and are refused.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import BadInput
from ...model.sites import Site
from ..vectors import UNKNOWN, Provenance, SteeringVector
from .pickles import Record, as_tensor, unpickle
from .source import Source

CLASS = "steering_vectors.steering_vector.SteeringVector"


def import_steering_vectors(
    path: Path | str, *, model_id: str = "", name: str | None = None
) -> dict[Site, SteeringVector]:
    """Vectors `[d_model]` of a steering-vectors file, by site. `model_id` says which model they belong to; the file does not."""
    source = Source.read(path)
    record = unpickle(source, classes=(CLASS,))
    fields = vars(record) if isinstance(record, Record) else {}
    activations = fields.get("layer_activations")
    if not isinstance(activations, dict) or not activations:
        raise BadInput(
            f"{source.path} does not hold a steering-vectors SteeringVector with layer_activations, but a "
            f"{type(record).__name__}. For a mapping of names to tensors use import_directions."
        )
    kind = fields.get("layer_type", "decoder_block")
    if kind != "decoder_block":
        raise BadInput(
            f"{source.path} steers the output of {kind!r} modules, which is not the residual stream. "
            "Train it with layer_type='decoder_block'."
        )
    vectors = {}
    for layer, value in sorted(activations.items(), key=lambda item: str(item[0]).zfill(8)):
        if not isinstance(layer, int) or isinstance(layer, bool) or layer < 0:
            raise BadInput(
                f"{source.path} has a layer {layer!r}: layers are counted from 0, and from the end they depend on the model. "
                "Save it with absolute layer numbers."
            )
        site, row = Site(layer), as_tensor(value, f"{source.path}: layer {layer}")
        if row.numel() != row.shape[-1:].numel():
            raise BadInput(f"{source.path}: layer {layer} has shape {list(row.shape)}; one row [d_model] is needed.")
        note = source.note("steering-vectors", layers="output of 0-based decoder layer", layer_type=kind)
        provenance = Provenance("imported from a steering-vectors file", UNKNOWN, model_id, notes=note)
        vectors[site] = SteeringVector(name or source.path.stem, site, row.reshape(-1), provenance)
    return vectors
