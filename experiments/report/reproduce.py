"""How a run is made again: the command, and the specification as YAML with the vectors that it names beside it.

1. The specification is the run's own; a vector stands in it as a file beside it, `vectors/<digest>.safetensors`, so that
   `steer eval spec.yaml` makes the rows of this run: same keys, same run id.
2. A run with controllers, and one of published answers, is not made from a specification alone: the command says which is.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from .evidence import Evidence

LARGEST = 64 * 2**20
"""Vectors of more bytes than this are left in the run's folder."""


@dataclass(frozen=True)
class Recipe:
    """`command` makes the run again; `spec` is the content of `spec.yaml`, `sweep` that of `sweep.yaml`; `files` are what they name, by
    path beside them; `notes` say what else is needed."""

    command: str
    spec: str
    sweep: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def recipe(evidence: Evidence) -> Recipe:
    """The recipe of a run."""
    manifest, notes = evidence.manifest, []
    spec = copy.deepcopy(manifest.spec)
    files: dict[str, bytes] = {}
    stored = {p.stem: p for p in sorted((evidence.run.folder / "vectors").glob("*.safetensors"))}
    fits = sum(path.stat().st_size for path in stored.values()) <= LARGEST
    for step in _steps(spec):
        if (step.get("gate") or {}).get("vector"):
            notes.append("A gate names its vector by digest: give it from the run's folder vectors.")
        path = stored.get(str(step.get("vector")))
        if path is None:
            notes.append(f"The vector {step.get('vector')} is not stored with the run.")
            continue
        step["vector"] = f"vectors/{path.name}"
        if fits:
            files[f"vectors/{path.name}"] = path.read_bytes()
    if stored and not fits:
        notes.append("The vectors are too large to be copied: take the folder vectors from the run's folder.")
    text = _yaml(spec)
    if any(arm.controller for arm in manifest.arms):
        models = [manifest.baseline.model, manifest.reference.model if manifest.reference else "THINKING"]
        pair = "builtin" if models == ["builtin:base", "builtin:thinking"] else ",".join(models)
        count = max(manifest.splits.values())
        notes.append(
            "The controllers are in the run's folder; the command trains them anew, equal where its other settings are equal."
        )
        return Recipe(f"steer hybrid --pair {shlex.quote(pair)} --n {count}", text, notes=tuple(dict.fromkeys(notes)))
    if "published" in manifest.spec:
        names = " ".join(shlex.quote(str(name)) for name in manifest.spec["published"])
        return Recipe(f"steer import hybrid-results {names}", text, notes=tuple(dict.fromkeys(notes)))
    sweep = None
    if evidence.sweep is not None:
        sweep = _yaml(evidence.sweep["sweep"])
        notes.append(
            "The run belongs to a sweep: steer sweep run sweep.yaml makes all of it, with the vector files that it names."
        )
    return Recipe("steer eval spec.yaml", text, sweep, files, tuple(dict.fromkeys(notes)))


def _steps(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The interventions of all arms that name a vector by digest."""
    found = []
    arms = spec.get("arms")
    for arm in arms if isinstance(arms, list) else []:
        plan = arm.get("plan") if isinstance(arm, dict) else None
        found += [step for step in (plan or {}).get("interventions", []) if "vector" in step]
    return found


def _yaml(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
