"""Weights that differ from a base model's: a folder with `delta.safetensors`, small where few of them do.

1. A delta holds new values, not differences, so that a base with its delta applied has the bits that were stored: of a tensor of which few
   numbers changed their places and values, of another the whole.
2. It names its base and a hash of the tensors that it changes; on other weights it is refused. In another precision than the one that it
   was made in the base cannot be compared, and the values are rounded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import BadInput
from ..files import write_file
from .cached import cache_root

DELTA = "delta.safetensors"
FORMAT = "steering-workbench/weight-delta@1"
PREFIX = "delta:"
FOLDER = "deltas"
SPARSE = 0.5
"""Share of a tensor's bytes up to which places and values are stored in place of the whole."""


def write_delta(folder: Path | str, base_id: str, base: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> Path:
    """Store what of `changed` differs from `base`, both by the names of `state_dict`; tensors that `changed` lacks stay the base's.

    Raises BadInput for a name or a shape that the base does not have.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    touched = []
    for name, value in sorted(changed.items()):
        if name not in base or base[name].shape != value.shape:
            raise BadInput(
                f"{base_id} has no tensor {name} of shape {list(value.shape)}, so no delta can be made of it."
            )
        new, old = value.detach().cpu().contiguous(), base[name].detach().cpu()
        places = _differ(new, old.to(new.dtype).contiguous()).nonzero()[:, 0]
        if not len(places):
            continue
        touched.append(name)
        if len(places) * (4 + new.element_size()) <= SPARSE * new.numel() * new.element_size() and new.numel() < 2**31:
            tensors[f"{name}@places"] = places.to(torch.int32)
            tensors[f"{name}@values"] = new.reshape(-1)[places].clone()
        else:
            tensors[f"{name}@whole"] = new
    facts = {"base": base_id, "base_weights": weights_digest({n: base[n] for n in touched}), "tensors": touched}
    metadata = {"format": FORMAT, "delta": json.dumps(facts, sort_keys=True)}
    path = Path(folder) / DELTA
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, save(tensors or {"nothing@whole": torch.zeros(1)}, metadata=metadata))
    return path


def _differ(one: Tensor, other: Tensor) -> Tensor:
    """Which numbers differ in any bit, `[numbers]`."""
    bits = [value.reshape(-1, 1).view(torch.uint8) for value in (one, other)]
    return (bits[0] != bits[1]).any(1)


def keep_delta(base_id: str, base: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> str:
    """Store a delta in the cache, where it is not there yet; returns the name under which it loads. Raises BadInput as `write_delta`."""
    digest = hashlib.sha256(f"{weights_digest(base)} {weights_digest({**base, **changed})}".encode()).hexdigest()[:16]
    folder = cache_root() / FOLDER / digest
    if Path(base_id).is_dir():
        base_id = str(Path(base_id).resolve())  # a delta in the cache is loaded from anywhere
    if not (folder / DELTA).is_file() or delta_facts(folder)["base"] != base_id:
        write_delta(folder, base_id, base, changed)
    return f"{PREFIX}{digest}"


def kept_delta(name: str) -> Path:
    """The cache's folder of `delta:...`. Raises BadInput where it is not there."""
    folder = cache_root() / FOLDER / name.removeprefix(PREFIX)
    if "/" in name or not (folder / DELTA).is_file():
        raise BadInput(
            f"{name} is not in this machine's cache ({cache_root() / FOLDER}). The card that made it makes it again: steer train."
        )
    return folder


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, shapes, precisions and bytes: 16 hexadecimal digits."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def delta_facts(folder: Path | str) -> dict[str, Any]:
    """The base's name, the hash of the tensors that are changed, and their names. Raises BadInput for what is no delta."""
    path = Path(folder) / DELTA
    try:
        with safe_open(path, "pt") as handle:
            metadata = handle.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise BadInput(f"{path} holds no delta of weights: its metadata lacks format {FORMAT!r}.")
        facts: dict[str, Any] = json.loads(metadata["delta"])
        if not isinstance(facts["base"], str) or not isinstance(facts["tensors"], list):
            raise KeyError("base")
    except BadInput:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is corrupt or cut short ({error}); write it or copy it again.") from error
    return facts


@torch.no_grad()
def apply_delta(model: nn.Module, folder: Path | str, name: str) -> None:
    """Change a base's weights in place. Raises BadInput where the delta belongs to other weights; `name` says which base was loaded."""
    facts, own = delta_facts(folder), model.state_dict()
    path = Path(folder) / DELTA
    lacking = [tensor for tensor in facts["tensors"] if tensor not in own]
    if lacking:
        raise BadInput(f"{path} changes {lacking[0]}, which {name} does not have; it belongs to {facts['base']}.")
    before = {tensor: own[tensor] for tensor in facts["tensors"]}
    with safe_open(path, "pt") as handle:
        parts = {key: handle.get_tensor(key) for key in handle.keys()}
    stored = {tensor: parts.get(f"{tensor}@values", parts.get(f"{tensor}@whole")) for tensor in facts["tensors"]}
    for tensor, value in stored.items():
        if value is None or (f"{tensor}@whole" in parts and value.shape != own[tensor].shape):
            raise BadInput(f"{path} is corrupt or cut short ({tensor}); write it or copy it again.")
    same_precision = all(value is not None and value.dtype == own[tensor].dtype for tensor, value in stored.items())
    if same_precision and weights_digest(before) != facts["base_weights"]:
        raise BadInput(
            f"{path} was made on other weights than those of {name}: the tensors that it changes have another hash. Give the base that it "
            f"was made on ({facts['base']})."
        )
    for tensor, value in stored.items():
        assert value is not None
        if f"{tensor}@places" in parts:
            flat = own[tensor].reshape(-1)
            flat[parts[f"{tensor}@places"].long().to(flat.device)] = value.to(flat)
            own[tensor].copy_(flat.reshape(own[tensor].shape))
        else:
            own[tensor].copy_(value.to(own[tensor]))
