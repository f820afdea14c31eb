"""Which files of a folder hold a checkpoint's weights, by the names that transformers looks for. Other files with the same endings
(vectors, adapters, a second copy in another program's layout) are none of them."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import BadInput

SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"


def safe_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: one, or its shards; empty where there are none. Raises BadInput for missing shards."""
    return _files(folder, SAFE)


def is_pickled(folder: Path) -> bool:
    """Whether a folder's weights are there as pickled files only."""
    return not safe_files(folder) and bool(_files(folder, PICKLED))


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a checkpoint that transformers reads as it is."""
    return bool(safe_files(folder) or _files(folder, PICKLED))


def _files(folder: Path, name: str) -> list[Path]:
    index = folder / f"{name}.index.json"
    if (folder / name).is_file():
        return [folder / name]
    if not index.is_file():
        return []
    try:
        files = sorted({str(file) for file in json.loads(index.read_text())["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{index} is corrupt or cut short ({error}). Copy it again.") from error
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise BadInput(
            f"{folder} lacks {len(missing)} of the {len(files)} files of its weights: {', '.join(missing[:4])}. Copy them, too."
        )
    return [folder / file for file in files]
