"""A plan as a person gives it: one line, a YAML or JSON file, a repository of a hub, or the mapping of such a file.

1. One line and file are told apart by the name: what ends in .yaml, .yml or .json and holds no space is a file.
2. Vectors are named by what the caller calls them, by digest, by path, or by repository (`hub:owner/name`). A relative path is looked for
   in the plan's own folder (that of the file which holds it) and then in the working directory.
3. What cannot be read is refused with BadInput that names the file.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..documents import read_yaml_file
from ..errors import BadInput
from ..vector.features import Features, load_stored
from ..vector.hub.names import is_hub_name
from ..vector.vectors import SteeringVector
from .exchange import named_plan
from .expression import parse_plan
from .plan import Plan

FILES = (".yaml", ".yml", ".json")
STORED = (".safetensors", ".pt", ".pkl", ".bin")
"""How names of vector files end; what is pickled is refused by its loader, with the reason."""
_PATH = re.compile(rf"[^\s();\"]+(?:{'|'.join(map(re.escape, STORED))})(?![^\s();\"])")


def read_plan(
    given: str | Mapping[str, Any],
    vectors: Mapping[str, SteeringVector | Features] | None = None,
    folder: Path = Path(),
) -> Plan:
    """The plan that is given as one line, a file's name, a repository (`hub:owner/name`) or a mapping. `vectors` by name or digest;
    `folder` is where relative names are looked for first. Raises BadInput."""
    known = dict(vectors or {})
    known |= {vector.digest: vector for vector in known.values()}
    if isinstance(given, str) and is_hub_name(given) and " " not in given:
        return named_plan(given)
    if isinstance(given, str) and not is_file_name(given):
        return parse_plan(beside(given, folder), known)
    if isinstance(given, str):
        path = folder / given if (folder / given).is_file() else Path(given)
        if not path.is_file():
            raise BadInput(f"No plan file at {given}.")
        try:
            return Plan.from_dict(*located(read_yaml_file(path), known, path.parent))
        except BadInput as error:
            raise BadInput(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    return Plan.from_dict(*located(given, known, folder))


def is_file_name(text: str) -> bool:
    """Whether a plan's text names a file."""
    return text.strip() == text and " " not in text and Path(text).suffix in FILES


def vector_files(given: str, folder: Path = Path()) -> list[Path]:
    """The vector files that a plan (`read_plan` has read it) of one line, or a plan's file, names, in order; those of a repository are not
    among them."""
    if is_hub_name(given) and " " not in given:
        return []
    if is_file_name(given):
        path = folder / given if (folder / given).is_file() else Path(given)
        folder = path.parent
        entries = read_yaml_file(path)["interventions"]
        parts = [part for entry in entries for part in (entry, entry.get("gate") or {})]
        named = [str(part["vector"]) for part in parts if str(part.get("vector", "")).endswith(STORED)]
    else:
        named = [match[0] for match in _PATH.finditer(given)]
    found = [Path(name) for name in dict.fromkeys(named) if not is_hub_name(name)]
    return [folder / path if (folder / path).is_file() else path for path in found]


def beside(text: str, folder: Path) -> str:
    """One line whose relative vector files are paths from the working directory, where they lie in `folder`."""

    def found(match: re.Match[str]) -> str:
        path = Path(match[0])
        return str(folder / path) if not path.is_absolute() and (folder / path).exists() else match[0]

    return _PATH.sub(found, text)


def located(
    data: Any, vectors: Mapping[str, SteeringVector | Features], folder: Path
) -> tuple[Any, dict[str, SteeringVector | Features]]:
    """A plan's mapping with the digests of vectors in the place of their files, and `vectors` with those that were read, by digest.

    What is no plan stays as it is, for `Plan.from_dict` to refuse. Raises BadInput naming the key whose file cannot be read.
    """
    known, data = dict(vectors), copy.deepcopy(data)
    entries = data.get("interventions") if isinstance(data, Mapping) else None
    for place, entry in enumerate(entries if isinstance(entries, list) else []):
        gate = entry.get("gate") if isinstance(entry, dict) else None
        for where, part in ((f"interventions.{place}", entry), (f"interventions.{place}.gate", gate)):
            if not isinstance(part, dict):
                continue
            name = part.get("vector")
            if not isinstance(name, str) or name in known or not (is_hub_name(name) or name.endswith(STORED)):
                continue
            try:
                vector = load_stored(folder / name if (folder / name).is_file() else Path(name))
            except BadInput as error:
                raise BadInput(f"{where}.vector: {error}") from error
            known[vector.digest] = vector
            part["vector"] = vector.digest
    return data, known
