"""From chosen cells of a sweep to the next one: doses in between, and the winner on questions that did not choose it.

1. The next sweep is written from the stored plans of the cells and from copies of the run's vectors, so that it needs no file of the first.
2. Layers are those of the chosen cells. Doses are theirs, those halfway to their neighbours in the sweep, and no others.
3. It is a file of the store (`.sweeps`), which `steer sweep run` repeats. Cells whose plan is more than one addition at one site have no
   such file here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
import yaml

from app.job_section import offer
from app.library import OpenRun
from app.vector_files import read_vector
from app.vector_sweep import DIRECTIONS, FOLDER, ROWS_PER_MINUTE, SPLITS
from experiments.store.files import write_whole
from experiments.sweeps.cells import read_card
from steering.errors import BadInput
from steering.model.sites import Site
from steering.plan.dose import SUFFIXES

TESTED = 200
"""Questions of a test that the sweep did not plan itself."""


@dataclass(frozen=True)
class Next:
    """A sweep that goes on from another: its file as data, and where its vectors are copied from, by their new names."""

    facts: dict[str, Any]
    vectors: dict[str, Path]

    @property
    def rows(self) -> int:
        """Texts that are written: cells with their directions, and the winner's test."""
        cells = len(self.facts["vary"]["layer"]) * len(self.facts["vary"]["dose"])
        development, test = (sum(part.values()) for part in self.facts["splits"].values())
        return (1 + cells * (1 + DIRECTIONS)) * development + 43 * test


def next_sweep(run: OpenRun, names: Sequence[str], finer: bool) -> Next:
    """Of the cells called `names`; with `finer` doses in between are added. Raises BadInput for cells that no such file says."""
    arms = {arm.name: arm for arm in run.manifest.arms}
    edits = {}
    for arm in run.manifest.arms:
        edit = _edit(arm.plan)
        if edit is not None:
            edits[arm.name] = edit
    if not names or any(name not in edits for name in names):
        raise BadInput("These cells are more than one addition of a vector at one site; write a sweep file for them.")
    own = [edits[name] for name in names]
    kinds = {(edit["span"], edit["dose"]["unit"], bool(edit.get("keep_norm")), _kind(edit["site"])) for edit in own}
    by_layer = {Site.parse(edit["site"]).layer: edit["vector"] for edit in own}
    if len(kinds) > 1 or len({(Site.parse(e["site"]).layer, e["vector"]) for e in own}) > len(by_layer):
        raise BadInput("These cells differ in more than layer and dose; choose cells of one vector, span and unit.")
    ((span, unit, keep, kind),) = kinds
    alike = [
        e
        for e in edits.values()
        if (e["span"], e["dose"]["unit"], bool(e.get("keep_norm")), _kind(e["site"])) == (span, unit, keep, kind)
    ]
    doses = {float(edit["dose"]["amount"]) for edit in own}
    if finer:
        doses |= _between(doses, {float(edit["dose"]["amount"]) for edit in alike})
    spec, first = run.manifest.spec, arms[names[0]]
    sweep = read_card(run.run).get("sweep") or {}
    splits = sweep.get("splits") or {}
    vectors = {layer: run.run.folder / "vectors" / f"{digest}.safetensors" for layer, digest in by_layer.items()}
    if any(not path.is_file() for path in vectors.values()):
        raise BadInput("A vector of these cells is not kept with the run; write a sweep file beside its own.")
    stem = hashlib.sha256(repr(sorted(by_layer.items())).encode()).hexdigest()[:10]
    moved = any(read_vector(path.read_bytes(), path.name).site.layer != layer for layer, path in vectors.items())
    where = f" at blocks.$layer.{kind}" if moved else ""
    plan = f"add {stem}-$layer.safetensors ${{dose}}{_suffix(unit)}{' keep-norm' if keep else ''}{where} on {span}"
    facts: dict[str, Any] = {
        "model": first.model, "task": spec.get("task", "find-start"), "form": first.form, "plan": plan,
        "vary": {"layer": sorted(by_layer), "dose": sorted(doses)},
        "splits": {"development": dict(run.manifest.splits), "test": splits.get("test") or _test_splits(spec.get("task"))},
        "controls": {"random": DIRECTIONS},
        "generation": {key: value for key, value in (spec.get("generation") or {}).items() if value is not None},
    }  # fmt: skip
    for key in ("reference", "prompted"):
        if sweep.get(key):
            facts[key] = sweep[key]
    digest = hashlib.sha256(yaml.safe_dump(facts).encode()).hexdigest()[:8]
    name = f"{run.manifest.name[:40]}-{'finer' if finer else 'tested'}-{digest}"
    return Next({"name": name, **facts}, {f"{stem}-{layer}.safetensors": path for layer, path in vectors.items()})


def _edit(plan: dict[str, Any] | None) -> dict[str, Any] | None:
    """The plan's only edit, where it is an addition of a vector by a plain dose at one site of a layer."""
    entries = (plan or {}).get("interventions", [])
    if len(entries) != 1 or entries[0].get("operation") != "add" or entries[0].get("gate"):
        return None
    dose, site = entries[0].get("dose"), entries[0].get("site")
    if (
        not isinstance(dose, dict)
        or dose.get("schedule")
        or not isinstance(site, str)
        or not site.startswith("blocks.")
    ):
        return None
    try:
        Site.parse(site)
    except BadInput:
        return None
    return dict(entries[0])


def _kind(site: str) -> str:
    return site.split(".", 2)[2]


def _suffix(unit: str) -> str:
    return next(suffix for suffix, name in SUFFIXES.items() if name == unit)


def _between(chosen: set[float], every: set[float]) -> set[float]:
    """Doses halfway between each chosen one and its neighbours in the sweep."""
    order = sorted(every | chosen)
    places = [order.index(dose) for dose in chosen]
    pairs = [
        (a, b) for place in places for a, b in ((place - 1, place), (place, place + 1)) if a >= 0 and b < len(order)
    ]
    return {round((order[a] + order[b]) / 2, 6) for a, b in pairs}


def _test_splits(task: object) -> dict[str, int]:
    """Questions that chose nothing, of tasks whose splits are known."""
    return {SPLITS[task][1]: TESTED} if isinstance(task, str) and task in SPLITS else {}


def box_section(run: OpenRun, names: Sequence[str], chosen: str, tested: bool, root: Path | str) -> None:
    """Buttons: a finer sweep of the cells in the box, and the chosen cell on questions that did not choose it."""
    if not isinstance(root, Path):
        st.caption("A store at a URL keeps no sweep files: run `steer sweep run` on the machine.")
        return
    wishes = [(list(names), True, f"A finer sweep of the {len(names)} cells in the box")] if len(names) > 1 else []
    wishes += [] if tested else [([chosen], False, f"{chosen} on questions that did not choose it")]
    for cells, finer, title in wishes:
        with st.container(border=True, gap="small"):
            st.markdown(f"**{title}**")
            try:
                found = next_sweep(run, cells, finer)
            except BadInput as error:
                st.caption(str(error))
                continue
            if not finer and not found.facts["splits"]["test"]:
                st.caption("Which questions did not choose it is for you to say: name test splits in a sweep file.")
                continue
            vary = found.facts["vary"]
            doses = ", ".join(f"{dose:g}" for dose in vary["dose"])
            st.caption(
                f"Layers {', '.join(map(str, vary['layer']))}; doses {doses}; {DIRECTIONS} random directions beside every cell, the best "
                "one on other questions."
            )
            path = root / FOLDER / f"{found.facts['name']}.yaml"
            with st.popover("YAML"):
                st.code(yaml.safe_dump(found.facts, sort_keys=False), language="yaml")
            offer(
                ["sweep", "run", str(path)], title, _takes(found), f"swp_next_{finer}",
                label="Run it", begin=lambda found=found, path=path: _write(found, path),  # type: ignore[misc]
            )  # fmt: skip


def _takes(found: Next) -> str:
    if str(found.facts["model"]).startswith("builtin:"):
        return f"about {max(1, round(found.rows / ROWS_PER_MINUTE))} min: {found.rows:,} texts"
    return f"the time of {found.rows:,} texts"


def _write(found: Next, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, source in found.vectors.items():
        write_whole(path.parent / name, source.read_bytes())
    write_whole(path, yaml.safe_dump(found.facts, sort_keys=False).encode())
