"""What can be done with a vector: try it, test it beside random directions, ask whether it is just a word, take it along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from app import stack
from app.escaping import for_markdown, one_line
from app.job_section import offer
from app.library import entries, runs_root
from app.model_shapes import shape_of
from app.stack import Card
from app.vector_files import VectorFile
from app.vector_sweep import DIRECTIONS, DOSES, FORMS, LANGUAGE, ROWS_PER_MINUTE, Trial, file_of, tasks_for, write_sweep
from experiments.quality_words import quality_words
from steering.errors import BadInput

SPANS = ("last_prompt", "generated", "all")


def places(digest: str, model: str, own_page: bool = True) -> None:
    """Links to where a vector can be taken: the Playground with it on the stack, and its page."""
    line = st.container(horizontal=True, gap="medium")
    tried = {"pg_stack": str(stack.write([Card(vector=digest)])), "pg_model": model}
    tried |= {} if model.startswith("builtin:") else {"pg_kind": "own prompt"}
    line.page_link(
        "app_pages/playground.py", label="Try it", icon=":material/play_circle:", query_params=tried, width="content"
    )
    if own_page:
        line.page_link(
        "app_pages/vectors.py", label="Its page: test, words, neighbours", icon=":material/north_east:", width="content",
        query_params={"vec": digest},
        )  # fmt: skip


def say_quality(path: Path, digest: str, few: bool = False) -> None:
    """The report of a vector's quality, in words; `few`: its texts were too few for one."""
    words, remarks = quality_words(path, digest)
    if few:
        words = (
            "Its texts are too few to hold some out: whether it separates others is not known. Eight a side are enough, or eight "
            "marked texts."
        )
    st.caption(for_markdown(words, 900))
    for remark in remarks:
        st.warning(for_markdown(remark, 600), icon=":material/warning:")


def test_section(vector: VectorFile) -> None:
    """A sweep of layer and dose with the winner's test, as a job."""
    if vector.model == "" or vector.control:
        return
    with st.expander(
        "Test it: which layer and dose, and is it more than a random direction?", icon=":material/grid_on:"
    ):
        trial = _trial(vector)
        try:
            path = file_of(vector, trial, runs_root())
        except BadInput as error:
            st.error(for_markdown(error, 600), icon=":material/error:")
            return
        minutes = max(1, round(trial.rows / ROWS_PER_MINUTE))
        takes = (
            f"about {minutes} min: {trial.rows:,} texts"
            if vector.model.startswith("builtin:")
            else f"the time of {trial.rows:,} texts"
        )
        root = runs_root()
        job = offer(
            ["sweep", "run", str(path)], f"test of {vector.name}", takes, f"vec_test_{vector.digest}", label="Test it",
            begin=lambda: _write(vector, trial, root),
        )  # fmt: skip
        if job is not None and job.state == "done":
            _leads(path.stem)


def _write(vector: VectorFile, trial: Trial, root: Path | str) -> None:
    if isinstance(root, Path):
        write_sweep(vector, trial, root)


def _trial(vector: VectorFile) -> Trial:
    tasks = tasks_for(vector.model)
    left, middle, right = st.columns(3)
    task = str(left.selectbox("Questions of", tasks, key="vt_task"))
    form = str(middle.selectbox("Asked", FORMS[task], key=f"vt_form_{task}"))
    span = str(right.selectbox("Added at", SPANS, key="vt_span", format_func=lambda s: stack.SPANS.get(s, s)))
    shape = shape_of(vector.model)
    layers = list(range(shape.layers if shape else max(vector.site.layer + 8, 32)))
    builtin = vector.model.startswith("builtin:")
    near = (vector.site.layer - 1, vector.site.layer, vector.site.layer + 1) if builtin else (vector.site.layer,)
    own = [layer for layer in near if layer in layers]
    chosen = left.multiselect(
        "Layers", layers, default=own, key=f"vt_layers_{vector.digest}", disabled=vector.site.kind == "z"
    )
    doses = middle.multiselect(
        "Doses, × ‖v‖",
        [-2.0, -1.0, -0.5, 0.25, 0.5, 1.0, 2.0, 4.0],
        default=list(DOSES if builtin else DOSES[1:]),
        key="vt_doses",
    )
    n = int(right.number_input("Questions of the test", 20, 1000, 100, step=20, key="vt_n"))
    sizes: dict[str, Any] = {} if builtin else LANGUAGE
    trial = Trial(
        vector.model,
        task,
        form,
        span=span,
        n_test=n,
        layers=tuple(map(int, chosen)),
        doses=tuple(map(float, doses)),
        **sizes,
    )
    st.caption(
        f"Every cell stands beside {DIRECTIONS} random directions of equal edit size on {trial.n_dev} development questions; the best "
        "one is run on other questions beside random directions and its wrong sign. All of it is stored."
    )
    return trial


def _leads(name: str) -> None:
    """Links to the sweep and to its test."""
    for entry in entries(runs_root()):
        if entry.manifest is None or not entry.manifest.name.startswith(name):
            continue
        test = entry.manifest.name == f"{name}-test"
        st.page_link(
            "app_pages/results.py" if test else "app_pages/sweeps.py",
            label=("Result on the test questions: " if test else "Every layer and dose: ") + for_markdown(entry.run_id),
            icon=":material/monitoring:" if test else ":material/grid_on:", query_params={"run": entry.run_id},
        )  # fmt: skip


def audit_section(vector: VectorFile) -> None:
    """The audit as a job; for a language model the command, which takes a task."""
    root = runs_root()
    if not vector.model.startswith("builtin:"):
        st.code(
            f"steer vectors audit {vector.path} --model {vector.model or 'MODEL'} --task TASK --forms direct,cot",
            language="bash",
        )
        return
    pair = ["--model", "builtin" if vector.model == "builtin:base" else vector.model]
    arguments = ["vectors", "audit", str(vector.path), *pair, "--n", "60", "--runs", str(root)]
    offer(arguments, f"audit of {one_line(vector.name, 40)}", "about 3 min", f"vec_audit_{vector.digest}", label="Ask")


def export_section(vector: VectorFile) -> None:
    """The file, and the commands that write other tools' formats."""
    with st.expander("Take it along", icon=":material/download:"):
        st.download_button(
            "The file", vector.path.read_bytes, f"{vector.path.stem}.safetensors", "application/octet-stream", on_click="ignore",
            key=f"vec_file_{vector.digest}", icon=":material/download:",
        )  # fmt: skip
        name = str(vector.path)
        st.code(
            f"steer vectors show {name}\nsteer vectors export {name} --out {vector.path.stem}.gguf --layers llama.cpp --model-hint qwen2\n"
            f"steer generate --prompt '...' --plan 'add {name} 1v on last_prompt'\n"
            f"steer vectors push {name} OWNER/NAME --run RUN --runs {runs_root()}    # to a hub, with what that run measured",
            language="bash",
        )
