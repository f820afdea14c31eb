"""Whether fetched files are what their `config.json` says.

1. The sha256 of the vector's file is compared first: what is cut short, or another file, goes no further.
2. Then direction and site are read from the file itself (safetensors, no code), and width, site and digest are compared. A `config.json`
   that was changed along with the file is found out by whichever of them does not fit.
3. Every refusal names repository, commit and file, what was expected and what is there.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ...errors import BadInput
from .contents import CONFIG, EVIDENCE, PLAN, VECTOR, Config, read_config

AGAIN = "Ask its author to push it again, or name an earlier revision."


def checked_folder(folder: Path, where: str) -> Config:
    """The configuration of the files in a folder, once the vector's file fits it. `where` names repository and commit.

    Raises BadInput for a file that is missing, another format or version, and a vector that is not the one described.
    """
    for name in (CONFIG, VECTOR):
        if not (folder / name).is_file():
            lacking = _instead(folder) or f"no {name}, so it is no repository of a steering vector"
            raise BadInput(f"{where} holds {lacking}: name one that `steer vectors push` wrote.")
    config = read_config((folder / CONFIG).read_bytes(), f"{CONFIG} of {where}")
    for name, digest in config.files.items():
        _check_other(folder, name, digest, where)
    _check_bytes(folder / VECTOR, config, where)
    _check_direction(folder / VECTOR, config, where)
    return config


def _instead(folder: Path) -> str:
    """The other thing that lies in a repository without a vector, where its configuration says so."""
    try:
        kind = json.loads((folder / CONFIG).read_bytes())["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"a {kind}, no steering vector; `steer {kind} pull` fetches it" if kind in ("plan", "probe") else ""


def _check_other(folder: Path, name: str, digest: str, where: str) -> None:
    """Whether plan or evidence is the file that was pushed with the vector."""
    path = folder / name
    if name not in (PLAN, EVIDENCE):
        raise BadInput(f"{CONFIG} of {where} names {name!r}, which is no file of such a repository. {AGAIN}")
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise BadInput(
            f"{name} of {where} is missing, or not the file that its {CONFIG} describes. If {path.resolve()} was changed or cut short, "
            f"delete that file and pull again; otherwise: {AGAIN[0].lower()}{AGAIN[1:]}"
        )


def _check_bytes(path: Path, config: Config, where: str) -> None:
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != config.file.sha256:
        raise BadInput(
            f"{VECTOR} of {where} is not the file that its {CONFIG} describes: sha256 {found[:16]}... and {len(data)} bytes, not "
            f"{config.file.sha256[:16]}... and {config.file.size}. If {path.resolve()} was changed or cut short, "
            f"delete that file and pull again; otherwise: {AGAIN[0].lower()}{AGAIN[1:]}"
        )


def _check_direction(path: Path, config: Config, where: str) -> None:
    try:
        with safe_open(path, "pt") as handle:
            site = str(json.loads((handle.metadata() or {})["vector"])["site"])
            direction = handle.get_tensor("direction").to(torch.float32).contiguous()
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"{VECTOR} of {where} is no vector of this program ({error}). {AGAIN}") from error
    width = int(direction.numel())
    if direction.ndim != 1 or width != config.width:
        raise BadInput(
            f"{VECTOR} of {where} has shape {list(direction.shape)}; its {CONFIG} says width {config.width}. {AGAIN}"
        )
    if site != config.site:
        raise BadInput(f"{VECTOR} of {where} lies at {site}; its {CONFIG} says {config.site}. {AGAIN}")
    digest = hashlib.sha256(direction.numpy().tobytes() + site.encode()).hexdigest()[:16]
    if digest != config.file.digest:
        raise BadInput(
            f"{VECTOR} of {where} holds vector {digest}; its {CONFIG} says {config.file.digest}. Another vector lies in its place. {AGAIN}"
        )
