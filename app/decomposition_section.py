"""Which latents a vector is made of, as a job, beside random directions."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app.escaping import for_markdown
from app.feature_files import AUTOENCODERS, dashboard_of
from app.job_section import document, offer
from app.library import runs_root
from app.vector_files import VectorFile

HELP = (
    "Orthogonal matching pursuit over decoder rows, of either sign. Many rows reach far into any direction, so the same is done to random "
    "directions; a vector that is no more made of latents than they are has no story to tell by its latents."
)


def decomposition_section(vector: VectorFile) -> None:
    """The command or its result."""
    sae = AUTOENCODERS.get(vector.model)
    st.markdown("**Which latents is it made of?**", help=HELP)
    if sae is None:
        st.code(f"steer vectors decompose {vector.path} --sae AUTOENCODER", language="bash")
        return
    arguments = ["vectors", "decompose", str(vector.path), "--sae", sae, "--json"]
    found = document(
        offer(arguments, f"latents of {vector.name}", "seconds", f"vec_latents_{vector.digest}", label="Ask")
    )
    if found is not None:
        _shown(found)


def _shown(found: dict[str, Any]) -> None:
    for remark in found["remarks"]:
        st.warning(for_markdown(remark, 600), icon=":material/warning:")
    shares = [100 * share for share in found["explained"]]
    st.dataframe(
        pd.DataFrame({
            "latent": found["latents"], "coefficient": [round(c, 3) for c in found["coefficients"]],
            "cosine": [round(c, 2) for c in found["cosines"]], "explained so far %": [round(share, 1) for share in shares],
            "random, mean %": [round(100 * mean, 1) for mean, _ in found["random"]],
            "random, largest %": [round(100 * most, 1) for _, most in found["random"]], "rank p": found["rank_p"],
        }),
        hide_index=True, key=f"vec_rows_{found['vector']}", alt="Latents in the order in which they were taken, with the share explained.",
    )  # fmt: skip
    mean, most = found["random"][-1]
    more = "more than all" if found["rank_p"][-1] <= 1 / (found["draws"] + 1) + 1e-9 else "no more than some"
    st.caption(
        f"{len(shares)} latents of {for_markdown(found['sae'])} make up {shares[-1]:.1f} % of its squared length and leave "
        f"{100 - shares[-1]:.1f} %: {more} of {found['draws']} random directions (mean {100 * mean:.1f} %, largest {100 * most:.1f} %)."
    )
    dashboard = dashboard_of(runs_root(), str(found["sae"]))
    if dashboard is None:
        return
    line = st.container(horizontal=True)
    for k in found["latents"][:6]:
        shown = {"ft_sae": dashboard, "ft_id": str(k)}
        line.page_link("app_pages/features.py", label=f"latent {k}", query_params=shown, width="content")
