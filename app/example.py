"""A finished comparison from the store, for a Playground that has not run anything yet: real rows, shown as a job would show them.

1. It is a question that the steered arm of a stored run got right and the baseline did not, where there is one; the demo run comes first.
2. The stack that made it can be put into the form, when the form can say it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import streamlit as st

from experiments.store.manifest import Arm, Manifest
from experiments.store.runs import Store, StoreError
from experiments.traces.lanes import edits
from experiments.traces.metrics import at
from steering.plan.dose import oversized_sentence


@dataclass(frozen=True)
class Example:
    """Events as of a finished job, and where they come from."""

    run: str
    item: str
    form: str
    split: str
    arms: tuple[str, str]
    model: str
    plan: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]


def _arms(manifest: Manifest) -> tuple[Arm, Arm] | None:
    steered = next((arm for arm in manifest.arms if arm.role == "steered" and arm.plan and not arm.controller), None)
    return None if steered is None else (manifest.baseline, steered)


@st.cache_data(ttl=30, max_entries=8, show_spinner=False)
def find_example(root: str) -> Example | None:
    """An example from the store at `root`; None when it holds none."""
    try:
        found = [e for e in Store(root).list() if e.manifest and e.manifest.status == "complete" and not e.problem]
    except (OSError, StoreError):
        return None
    usable = [e.manifest for e in found if e.manifest and _arms(e.manifest)]
    usable.sort(key=lambda m: (m.spec.get("name") != "demo", m.reference is None, len(m.arms), m.run_id))
    for manifest in usable[:3]:
        try:
            example = _of(root, manifest)
        except (OSError, StoreError, KeyError, ValueError):
            continue
        if example is not None:
            return example
    return None


def _of(root: str, manifest: Manifest) -> Example | None:
    arms = _arms(manifest)
    assert arms is not None
    run, split = Store(root).open(manifest.run_id), next(iter(manifest.splits))
    light = run.table(["key", "arm", "item", "seed", "order", "correct"], arms=[arm.name for arm in arms], split=split)
    first, second = (light.filter(pc.equal(light["arm"], arm.name)).to_pylist() for arm in arms)
    other = {(row["item"], row["seed"]): row for row in first}
    pairs = [(other[row["item"], row["seed"]], row) for row in second if (row["item"], row["seed"]) in other]
    if not pairs:
        return None
    before, after = next((pair for pair in pairs if pair[1]["correct"] and not pair[0]["correct"]), pairs[0])
    rows = [run.trace(before["key"]), run.trace(after["key"])]
    return Example(
        manifest.run_id,
        after["item"],
        arms[1].form,
        split,
        (arms[0].name, arms[1].name),
        arms[1].model,
        arms[1].plan or {},
        tuple(_events(rows, arms, manifest.facts.get("origins", {}).get(arms[1].name, []))),
    )


def _events(rows: list[dict[str, Any]], arms: tuple[Arm, Arm], said: list[str]) -> list[dict[str, Any]]:
    """The events that a live generation of these two rows would have had; `said` is to be known of the second arm's vectors."""
    lanes = [
        {"name": arm.name, "label": arm.label, "role": arm.role, "model": arm.model, "prompt": row["prompt_tokens"]}
        for arm, row in zip(arms, rows, strict=True)
    ]
    found: list[dict[str, Any]] = [{"kind": "lanes", "lanes": lanes, "gold": rows[0]["gold"]}]
    for lane, row in enumerate(rows):
        for index, (token, text) in enumerate(zip(row["token_ids"], row["tokens"], strict=True)):
            numbers = {"logprob": at(row["logprob"], index), "entropy": at(row["entropy"], index)}
            found.append({"kind": "token", "lane": lane, "id": token, "text": text, **numbers, "edit": 0.0})
        facts = {
            name: row[name] for name in ("answer", "correct", "scorable", "finish", "trace_ok", "well_formed", "gold")
        }
        found.append({"kind": "end", "lane": lane, **facts, "tokens": len(row["token_ids"]), "edit": edits(row)})
    return [*found, _receipt(rows[1], arms[1], said)]


def _receipt(row: Mapping[str, Any], arm: Arm, said: list[str]) -> dict[str, Any]:
    sizes = [size for size in edits(row) if size > 0]
    sites = [entry.get("site") for entry in (arm.plan or {}).get("interventions", [])]
    return {
        "kind": "receipt",
        "ok": row["edits_fired"] == row["edits_planned"],
        "steered": True,
        "fired": row["edits_fired"],
        "planned": row["edits_planned"],
        "positions": len(sizes),
        "of": len(row["prompt_ids"]) + len(row["token_ids"]),
        "sites": sorted({str(site) for site in sites}),
        "median": statistics.median(sizes) if sizes else None,
        "max": max(sizes, default=None),
        "warnings": said + [warning] if (warning := oversized_sentence(max(sizes, default=0.0))) else said,
        "replay": "not checked in stored runs",
        "hooks": None,
    }
