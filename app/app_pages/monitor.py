"""Monitor: where in this text does the model hold that direction? Nothing is steered.

1. Any text, or a stored response, read once; every vector, latent or probe is a strip of the text with its value at each token.
2. A threshold on a vector's strip says how many tokens lie above it, and which gate of a plan it is.
3. The reading is a job (`steer monitor`); what is shown is its latest result for what the form says now.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import streamlit as st

from app import address, stack
from app.escaping import for_markdown
from app.feature_files import AUTOENCODERS
from app.fed_section import show_fed
from app.heat_strip import bounds, heat_strip, series_words
from app.job_section import document, offer
from app.jobs.chip import this_shelf
from app.library import runs_root
from app.model_shapes import shape_of
from app.playground_form import MODELS
from app.stack import Card
from app.vector_files import VectorFile, offered
from experiments.store.files import write_whole
from experiments.tasks.findstart import FindStart
from steering.errors import BadInput

FOLDER = ".monitor"
KEPT: Any = {"persist_state": "session"}


def page() -> None:
    """The page."""
    st.subheader("Where in this text does the model hold that direction?", anchor=False)
    left, right = st.columns([1, 1.6], gap="large")
    with left:
        command, text, vectors = _form()
    with right:
        if command is None:
            return
        begin = (lambda: _write(text)) if text is not None else None
        job = offer(
            command,
            "monitor a text",
            "seconds on a built-in model",
            "mon_run",
            label="Read it",
            primary=True,
            begin=begin,
        )
        found = document(job)
        if found is not None:
            _shown(found, vectors)


def _form() -> tuple[list[str] | None, str | None, list[VectorFile]]:
    """The command, the text that it reads (None: a stored row), and the vectors in the order of their series."""
    root = runs_root()
    if not isinstance(root, Path):
        st.error("A store at a URL keeps no texts: run `steer monitor` on the machine.", icon=":material/error:")
        return None, None, []
    if (named := address.asked("mon_model")) is not None:
        st.session_state["mon_model"] = named[:300]
    st.session_state.setdefault("mon_model", MODELS[0])
    known = list(dict.fromkeys([*MODELS, "smollm2", st.session_state["mon_model"]]))
    model = str(st.selectbox("Model", known, key="mon_model", accept_new_options=True, **KEPT))
    if (linked := address.asked("mon_row")) is not None:
        st.session_state["mon_row"] = linked[:300]
    row = st.text_input(
        "A stored row, RUN:KEY; empty for a text of your own", key="mon_row", **KEPT,
        help="Compare names the run and the key of every text.",
    ).strip()  # fmt: skip
    address.keep("mon_row", row or None)
    address.keep("mon_model", model)
    text: str | None = None
    if not row:
        if "mon_text" not in st.session_state:  # emptied, it stays empty
            item = FindStart().items("standard-test", 1)[0]
            st.session_state["mon_text"] = f"{FindStart().prompt(item, 'think')} let us try {item.gold}"
        text = st.text_area("Text, fed as it is written", key="mon_text", height=140, **KEPT)
        show_fed(model, text)
    shape = shape_of(model)
    fitting = {
        v.digest: v
        for v in offered(root, this_shelf()).values()
        if not v.control and (shape is None or (v.width == shape.width and v.site.layer < shape.layers))
    }
    own = [digest for digest, v in fitting.items() if v.model == model]
    chosen = st.multiselect(
        "Vectors", list(fitting), default=own[:2], key=f"mon_vectors_{model}",
        format_func=lambda d: fitting[d].label,
    )  # fmt: skip
    sae = AUTOENCODERS.get(model)
    if (named := address.asked("mon_latents")) is not None:
        st.session_state["mon_latents"] = named[:200]
    latents = (
        st.text_input(f"Latents of {sae}", key="mon_latents", placeholder="183,464", **KEPT).replace(" ", "")
        if sae
        else ""
    )
    address.keep("mon_latents", latents or None)
    command = [
        "monitor",
        "--json",
        "--model",
        model,
        *(["--row", row] if row else ["--file", str(_file(root, text or ""))]),
    ]
    for digest in chosen:
        command += ["--vector", str(fitting[digest].path)]
    command += ["--sae", str(sae), "--latents", latents] if sae and latents else []
    if not chosen and not latents:
        st.info("Choose a vector, or name latents, to watch.", icon=":material/visibility:")
        return None, None, []
    if text is not None and not text.strip():
        st.info("The text is empty.", icon=":material/edit:")
        return None, None, []
    return command, text, [fitting[digest] for digest in chosen]


def _file(root: Path, text: str) -> Path:
    return root / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"


def _write(text: str) -> None:
    root = runs_root()
    if not isinstance(root, Path):
        raise BadInput("A store at a URL keeps no texts.")
    path = _file(root, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())


def _shown(found: dict[str, Any], vectors: list[VectorFile]) -> None:
    for remark in dict.fromkeys([*found["remarks"], *(one["remark"] for one in found["series"] if one["remark"])]):
        st.warning(for_markdown(remark, 600), icon=":material/warning:")
    for number, one in enumerate(found["series"]):
        values = one["values"]
        low, high = bounds(one)
        middle = 0.5 if one["kind"] == "probe" else 0.0
        with st.container(border=True, gap="small"):
            name = vectors[number].label if number < len(vectors) else one["name"]
            st.markdown(f"**{for_markdown(name, 80)}** · {one['kind']} at {for_markdown(one['site'])}")
            place = st.empty()
            threshold = None
            if low < high and one["kind"] != "latent":
                threshold = st.slider(
                    "Threshold",
                    low,
                    high,
                    low + 0.8 * (high - low),
                    key=f"mon_threshold_{number}_{one['name']}",
                    format="%.3g",
                )
            place.html(heat_strip(found["tokens"], values, middle, threshold, one["sinks"]))
            words = series_words(found["tokens"], one)
            if threshold is not None:
                above = sum(value > threshold for value in values)
                words += (
                    f" {above} of all {len(values)} tokens lie above {threshold:.3g}; a gate asks the generated ones."
                )
            st.caption(for_markdown(words, 400))
            if threshold is not None and number < len(vectors):
                vector = vectors[number]
                path, card = (
                    vector.path,
                    Card(vector=vector.digest, span="generated", gate="projection", threshold=threshold),
                )
                st.page_link(
                    "app_pages/playground.py", label="Add it where it is above, in the Playground", icon=":material/filter_alt:",
                    query_params={"pg_stack": str(stack.write([card])), "pg_model": found["model"]},
                )  # fmt: skip
                st.code(
                    f"steer generate --prompt '...' --plan 'add {path} 1v on generated when projection({path}) > {threshold:.4g}'",
                    language="bash", wrap_lines=True,
                )  # fmt: skip


page()
