"""What can be done with a latent: steer it, tint a text by it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from app import stack
from app.feature_files import AUTOENCODERS
from app.job_section import latest
from app.jobs.chip import start_command, this_shelf
from app.library import runs_root
from app.stack import Card
from app.vector_files import offered


def latent_actions(facts: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """Links and buttons."""
    sae, number, model = str(facts.get("name", "")), int(row["latent"]), str(facts.get("model_id", ""))
    root = runs_root()
    line = st.container(horizontal=True, vertical_alignment="center", gap="medium")
    if AUTOENCODERS.get(model) == sae:
        line.page_link(
            "app_pages/monitor.py", label="Tint a text by it", icon=":material/gradient:", width="content",
            query_params={"mon_model": model, "mon_latents": str(number)},
        )  # fmt: skip
    if not isinstance(root, Path):
        return
    place = _file(root, sae, number)
    made = next((v for v in offered(root, this_shelf()).values() if v.path.resolve() == place.resolve()), None)
    if made is not None:
        line.page_link(
            "app_pages/playground.py", label="Steer it in the Playground", icon=":material/tune:", width="content",
            query_params={"pg_stack": str(stack.write([Card(vector=made.digest, span="generated")])), "pg_model": model},
        )  # fmt: skip
        st.caption(
            f"1 × ‖v‖ adds what it writes at its mean activation, {row['mean_active']:.3g}; its decoder row as a vector: {place.name}."
        )
        return
    arguments = ["sae", "vector", sae, str(number), "--activation", f"{row['mean_active']:.6f}", "--out", str(place)]
    job = latest(arguments)
    if line.button(
        "Steer this latent", icon=":material/tune:", key="ft_steer", disabled=job is not None and not job.over,
        help="Writes its decoder row as a vector, seconds; the Playground then has it.",
    ):  # fmt: skip
        start_command(arguments, f"Vector of latent {number} of {sae}")
        st.rerun()
    if job is not None and not job.over:
        st.fragment(_waiting, run_every=1)(arguments)
    elif job is not None and job.state != "done":
        st.error(f"The vector was not written: {job.error or job.detail}", icon=":material/error:")


def _waiting(arguments: list[str]) -> None:
    job = latest(arguments)
    if job is None or job.over:
        st.rerun()
    st.caption(f":material/progress_activity: writing the vector, {0 if job is None else job.seconds:.0f} s")


def _file(root: Path, sae: str, number: int) -> Path:
    name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in sae)
    return root / ".vectors" / f"latent-{name[:60]}-{number}.safetensors"
