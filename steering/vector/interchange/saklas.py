"""Packs of saklas: a folder with `pack.json`, one safetensors file per model, and a JSON beside each of them. Version 2 of the format.

1. `layer_l` of a tensor file is added to the output of decoder layer l, counted from 0: `blocks.l.hook_resid_post`. The file is named by
   the model's id, with `__` where the id has a slash; an ending such as `_pca` or `_sae-...` tells variants of one model apart.
2. `pack.json` holds the sha256 of every other file. A file that it does not name, or that has another, is not read.
3. saklas multiplies a vector by its own gain and scales the result back to the length that the activation had, so its strengths (alpha)
   are no doses here: they are kept in the provenance and change no number.
4. Only safetensors is read. Packs of version 1, and models whose vectors are a control vector (.gguf), are refused with what to do.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ...errors import BadInput
from ...files import write_file
from ...model.sites import Site
from ..hub.contents import read_json
from ..vectors import UNKNOWN, Provenance, SteeringVector
from .source import Source

PACK = "pack.json"
VERSION = 2
WRITTEN_FOR = "2.0.0"
"""The first saklas that reads version 2; every tensor file says for which it is written."""
_NAME = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_LAYER = re.compile(r"layer_(\d{1,4})")
_VARIANT = re.compile(r"_(pca|dim|(?:sae|from)-.+)$")
_TEXTS = ("name", "description", "version", "license", "source")


def export_saklas(
    vectors: Iterable[SteeringVector],
    folder: Path | str,
    *,
    name: str = "",
    licence: str = "unknown",
    version: str = "1.0.0",
    alpha: float = 0.5,
) -> Path:
    """Write a pack of vectors of one model, one per layer, into a folder; returns the folder.

    `name` is the pack's, by default made from the first vector's; `alpha` is the strength that the pack recommends, in saklas' own unit.
    A pack of that name which is there already is replaced. Raises BadInput for vectors without the id of a model, or of several, at sites
    other than the output of a layer, two at one layer, and for a folder that holds anything else.
    """
    chosen, folder = list(vectors), Path(folder)
    model_id = _model(chosen, folder)
    tensors: dict[str, Tensor] = {}
    for vector in chosen:
        key = _key(vector.site)
        if key in tensors:
            raise BadInput(f"{vector.name!r} is a second vector at {vector.site}; a pack holds one per layer.")
        if len(vector.direction) != len(chosen[0].direction):
            raise BadInput(
                f"{vector.name!r} has width {len(vector.direction)}, {chosen[0].name!r} has {len(chosen[0].direction)}: a pack holds "
                "vectors of one model per file."
            )
        tensors[key] = vector.direction.contiguous()
    if not math.isfinite(alpha):
        raise BadInput(
            f"A strength of {alpha} is no finite number; saklas' packs have 0.5 where nothing else is known."
        )
    called, stem = _name(name, chosen[0].name), model_id.replace("/", "__")
    origin = chosen[0].provenance
    said = {"format_version": VERSION, "method": origin.method, "saklas_version": WRITTEN_FOR}
    files = {f"{stem}.safetensors": save(tensors), f"{stem}.json": _json(said)}
    _free(folder, called, files)
    pack = {
        "name": called,
        "description": origin.contrast or f"{chosen[0].name} ({origin.method})",
        "format_version": VERSION,
        "version": version,
        "license": licence,
        "tags": ["steering-vector"],
        "recommended_alpha": alpha,
        "source": "local",
        "files": {file: hashlib.sha256(data).hexdigest() for file, data in sorted(files.items())},
    }
    for file, data in files.items():
        write_file(folder / file, data)
    write_file(folder / PACK, _json(pack))
    return folder


def import_saklas(path: Path | str, *, model_id: str = "") -> dict[Site, SteeringVector]:
    """Vectors `[d_model]` of a pack (its folder, or its `pack.json`), by site.

    `model_id` chooses among several models, or variants of one: the id, or the name of a tensor file without its ending. Raises BadInput
    for another version, files whose sha256 is not the one in `pack.json`, and what holds no layers of one width.
    """
    path = Path(path)
    source = Source.read(path / PACK if path.is_dir() else path)
    pack = _pack(source)
    stem = _chosen(pack["files"], source, model_id)
    content = _checked(source, pack["files"], f"{stem}.safetensors")
    said: Any = {}
    if f"{stem}.json" in pack["files"]:
        said = read_json(_checked(source, pack["files"], f"{stem}.json"), f"{source.path.parent / stem}.json")
    try:
        tensors = load(content)
    except (SafetensorError, ValueError) as error:
        raise BadInput(f"{source.path.parent / stem}.safetensors is corrupt ({error}).") from error
    rows = {_layer(key, source, stem): value for key, value in tensors.items()}
    if not rows or any(row.ndim != 1 for row in rows.values()) or len({len(row) for row in rows.values()}) != 1:
        shapes = sorted({str(list(row.shape)) for row in rows.values()})
        raise BadInput(
            f"{stem}.safetensors holds {', '.join(shapes) or 'nothing'}; rows [d_model] of one width are needed."
        )
    variant = _VARIANT.search(stem)
    origin = (stem[: variant.start()] if variant else stem).replace("__", "/")
    note = source.note(
        "saklas pack", pack=pack["name"], version=pack["version"], file=f"{stem}.safetensors", method=said.get("method"),
        variant=variant.group(1) if variant else None, alpha=pack["recommended_alpha"], description=pack["description"],
    )  # fmt: skip
    provenance = Provenance("imported from a saklas pack", UNKNOWN, origin, contrast=pack["description"], notes=note)
    return {
        Site(layer): SteeringVector(pack["name"], Site(layer), row.to(torch.float32), provenance)
        for layer, row in sorted(rows.items())
    }


def _pack(source: Source) -> dict[str, Any]:
    pack = read_json(source.content, str(source.path))
    version = pack.get("format_version", 1)
    if version != VERSION:
        raise BadInput(
            f"{source.path} is of format_version {version!r}; version {VERSION} is read. saklas 2 brings older packs up to it."
        )
    for key in _TEXTS:
        if not isinstance(pack.get(key), str):
            raise BadInput(f"{source.path}: {key} is {pack.get(key)!r}; a text is needed.")
    if not _NAME.fullmatch(pack["name"]):
        raise BadInput(f"{source.path}: {pack['name']!r} is no name of a pack: {_NAME.pattern}.")
    alpha, files = pack.get("recommended_alpha"), pack.get("files")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise BadInput(f"{source.path}: recommended_alpha is {alpha!r}; a finite number is needed.")
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise BadInput(f"{source.path}: files is no mapping of names to sha256.")
    if outside := [file for file in files if Path(file).name != file or file in (".", "..")]:
        raise BadInput(f"{source.path} names {outside[0]!r}, which is not a file of its own folder.")
    return pack


def _chosen(files: dict[str, str], source: Source, model_id: str) -> str:
    """The tensor file that is meant, without its ending. Raises BadInput for none, and for several."""
    stems = sorted(file.removesuffix(".safetensors") for file in files if file.endswith(".safetensors"))
    if not stems:
        vectors = [file for file in files if file.endswith(".gguf")]
        hint = f" {vectors[0]} is a control vector: import it as gguf, with layers of llama.cpp." if vectors else ""
        raise BadInput(f"{source.path} names no .safetensors file: this pack holds no vectors for any model.{hint}")
    wanted = model_id.replace("/", "__")
    exact = [stem for stem in stems if stem == wanted]
    fitting = exact or [stem for stem in stems if not wanted or _VARIANT.sub("", stem) == wanted]
    if len(fitting) != 1:
        what = f"{len(fitting)} files fit" if fitting else f"none is of {model_id}"
        raise BadInput(f"{source.path} has vectors for {', '.join(stems)}: {what}; pass one of them as the model's id.")
    return fitting[0]


def _checked(source: Source, files: dict[str, str], name: str) -> bytes:
    path = source.path.parent / name
    if not path.is_file():
        raise BadInput(f"{source.path} names {name}, which is not there; copy the pack again.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != files[name]:
        raise BadInput(f"{path} is not the file that {PACK} names: its sha256 is another. Copy the pack again.")
    return content


def _layer(key: str, source: Source, stem: str) -> int:
    if not (found := _LAYER.fullmatch(key)):
        raise BadInput(
            f"{source.path.parent / stem}.safetensors has {key!r}; its tensors are called layer_0, layer_1, ..."
        )
    return int(found.group(1))


def _model(vectors: list[SteeringVector], folder: Path) -> str:
    if not vectors:
        raise BadInput(f"No vectors to write to {folder}. Pass at least one.")
    ids = sorted({vector.provenance.model_id for vector in vectors})
    if len(ids) > 1:
        raise BadInput(f"The vectors are of {', '.join(map(repr, ids))}: a file of a pack holds those of one model.")
    if not ids[0]:
        raise BadInput(
            f"Vector {vectors[0].name!r} does not say which model it comes from, and a pack names its files by that: import it again with "
            "its model's id."
        )
    return ids[0]


def _key(site: Site) -> str:
    if site.kind != "resid_post":
        same = f" The same stream is {Site(site.layer - 1)}." if site.kind == "resid_pre" and site.layer > 0 else ""
        raise BadInput(f"{site}: a pack's vectors are added to the output of a layer (hook_resid_post).{same}")
    return f"layer_{site.layer}"


def _name(given: str, vector: str) -> str:
    made = re.sub(r"[^a-z0-9_-]+", "-", vector.lower()).lstrip("-_0123456789")[:64].rstrip("-_") or "vector"
    called = given or made
    if not _NAME.fullmatch(called):
        raise BadInput(f"{called!r} is no name of a pack: small letters, digits, '.', '_' and '-', first a letter.")
    return called


def _free(folder: Path, name: str, files: Iterable[str]) -> None:
    """Refuse a folder that holds anything but an earlier state of this pack."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; a pack is a folder.")
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not held:
        return
    old = read_json((folder / PACK).read_bytes(), str(folder / PACK)) if PACK in held else {}
    rest = held - {PACK, *files} if old.get("name") == name else held
    if rest:
        raise BadInput(f"{folder} holds {sorted(rest)[0]}, which is not of the pack {name!r}; give a new folder.")


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
