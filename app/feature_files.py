"""Dashboards of autoencoders as the app finds and reads them: folders with `dashboard.json`, one latent at a time, without a model library.

Looked for in `.dashboards/` of a local run store, in the folder named by STEERING_DASHBOARDS, and among what comes with the package.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import streamlit as st

import steering
from experiments.store.manifest import Manifest

SHIPPED = Path(steering.__file__).parent / "builtin"
AUTOENCODERS = {"builtin:base": "builtin:base", "builtin:thinking": "builtin:thinking", "smollm2": "smollm2-text"}
"""The shipped autoencoder of a model."""
FACTS, FEATURES, EXAMPLES = "dashboard.json", "features.parquet", "examples.parquet"
LIST = ("latent", "density", "peak", "mean_active", "active", "rate_right", "rate_wrong", "top_tokens", "label_share")


def dashboards(root: Path | str) -> dict[str, Path]:
    """Folders of dashboards by name."""
    places = [Path(root) / ".dashboards"] if isinstance(root, Path) else []
    if named := os.environ.get("STEERING_DASHBOARDS"):
        places.append(Path(named))
    found: dict[str, Path] = {}
    for place in places:
        for folder in [place, *(sorted(place.iterdir()) if place.is_dir() else [])]:
            if (folder / FACTS).is_file():
                found.setdefault(folder.name, folder)
    for facts in sorted(SHIPPED.glob(f"*/dashboard/{FACTS}")):
        found.setdefault(facts.parents[1].name, facts.parent)
    return found


def dashboard_of(root: Path | str, sae: str) -> str | None:
    """The name under which an autoencoder's dashboard is found; None where there is none."""
    for name, folder in dashboards(root).items():
        try:
            if json.loads((folder / FACTS).read_text()).get("name") == sae:
                return name
        except (OSError, ValueError):
            continue
    return None


@st.cache_resource(max_entries=8, show_spinner="Reading features…")
def features(folder: str, changed: float) -> tuple[dict[str, Any], pd.DataFrame]:
    """What a dashboard was computed from, and a row per latent with the columns `LIST`. Raises OSError or ValueError for a broken one."""
    facts = json.loads((Path(folder) / FACTS).read_text())
    return facts, pq.read_table(Path(folder) / FEATURES, columns=list(LIST)).to_pandas()


@st.cache_resource(max_entries=64, show_spinner=False)
def latent(folder: str, changed: float, number: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """Everything of one latent, and its examples, strongest band first."""
    only = [("latent", "=", number)]
    (row,) = pq.read_table(Path(folder) / FEATURES, filters=only).to_pylist()
    examples = pq.read_table(Path(folder) / EXAMPLES, filters=only).to_pandas()
    return row, examples.sort_values(["band", "activation"], ascending=[True, False])


@st.cache_resource(max_entries=4, show_spinner=False)
def example_texts(folder: str, changed: float) -> dict[int, str]:
    """Per latent, all its examples as one text in small letters."""
    table = pq.read_table(Path(folder) / EXAMPLES, columns=["latent", "tokens"]).to_pydict()
    found: dict[int, list[str]] = {}
    for number, tokens in zip(table["latent"], table["tokens"], strict=True):
        apart = "" if any(" " in token for token in tokens) else " "
        found.setdefault(number, []).append(apart.join(tokens).lower())
    return {number: "\n".join(texts) for number, texts in found.items()}


def edited(manifest: Manifest, number: int, facts: dict[str, Any]) -> bool:
    """Whether a run edited this latent of this autoencoder: by its name, or where the run names none by its site."""
    return any(
        number in vector.get("latents", ())
        and vector.get("site") == facts.get("site")
        and vector.get("autoencoder", facts.get("name")) == facts.get("name")
        for vector in manifest.facts.get("vectors", {}).values()
    )
