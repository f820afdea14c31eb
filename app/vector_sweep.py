"""Is a vector worth anything? A sweep of its layer and dose, the winner tested on other questions beside random directions.

The sweep is a file of the store beside a copy of the vector, so that `steer sweep run` repeats it anywhere; its name follows from what it
holds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.vector_files import VectorFile
from experiments.store.files import write_whole
from steering.errors import BadInput

FOLDER = ".sweeps"
FIND_START = "find-start"
SHORT = tuple(
    f"short:{name}"
    for name in (
        "addition",
        "subtraction",
        "multiplication",
        "chain",
        "story",
        "sequence",
        "largest",
        "decimals",
        "counting",
        "clock",
    )
)
"""Tasks that a language model can be asked without a file."""
FORMS = {FIND_START: ("bare", "think", "quick")} | {
    name: ("chat-direct", "chat-think", "direct", "think") for name in SHORT
}
SPLITS = {FIND_START: ("standard-dev", "standard-test")} | {name: ("dev", "test") for name in SHORT}
DOSES = (-1.0, 0.5, 1.0, 2.0)
LANGUAGE = {"n_dev": 24, "random_on_test": 19, "max_new_tokens": 48}
"""Of a trial on a language model, whose texts take longer."""
ROWS_PER_MINUTE = 2400
"""Of the built-in pair on two cores, measured; for the time that a test takes."""
DIRECTIONS = 19
"""Random directions beside every cell: as many as a p of 0.05 needs."""


@dataclass(frozen=True)
class Trial:
    """What is tried. `layers`: those of the vector's kind of site."""

    model: str
    task: str = FIND_START
    form: str = "bare"
    layers: tuple[int, ...] = ()
    doses: tuple[float, ...] = DOSES
    span: str = "last_prompt"
    n_dev: int = 48
    n_test: int = 100
    max_new_tokens: int = 360
    random_on_test: int = 39
    """Random directions beside the winner on the test questions."""

    @property
    def rows(self) -> int:
        """Texts that are written: development cells with their directions, and the winner's test."""
        cells = max(1, len(self.layers)) * len(self.doses)
        return (1 + cells * (1 + DIRECTIONS)) * self.n_dev + (4 + self.random_on_test) * self.n_test


def tasks_for(model: str) -> tuple[str, ...]:
    """Tasks that a model can be asked: the built-in ones have a vocabulary of their own."""
    return (FIND_START,) if model.startswith("builtin:") else SHORT


def sweep_of(vector: VectorFile, trial: Trial) -> dict[str, Any]:
    """The sweep as its file says it. Raises BadInput for what no sweep can be of."""
    if trial.task not in FORMS or trial.form not in FORMS[trial.task]:
        raise BadInput(f"Task {trial.task} in form {trial.form} cannot be asked here; write a sweep file for it.")
    if trial.task not in tasks_for(trial.model):
        raise BadInput(f"{trial.model} cannot be asked {trial.task}; it has {', '.join(tasks_for(trial.model))}.")
    if not trial.doses:
        raise BadInput("Choose at least one dose.")
    movable = vector.site.kind != "z"
    where = f"at blocks.$layer.{vector.site.name.split('.', 2)[2]} " if movable and trial.layers else ""
    vary: dict[str, Any] = {"layer": list(trial.layers)} if where else {}
    development, test = SPLITS[trial.task]
    facts = {
        "model": trial.model, "task": trial.task, "form": trial.form,
        "plan": f"add {vector.digest}.safetensors ${{dose}}v {where}on {trial.span}",
        "vary": vary | {"dose": list(trial.doses)},
        "splits": {"development": {development: trial.n_dev}, "test": {test: trial.n_test}},
        "controls": {"random": DIRECTIONS, "random_on_test": trial.random_on_test}, "generation": {"max_new_tokens": trial.max_new_tokens},
    }  # fmt: skip
    if trial.model == "builtin:base":
        facts |= {"reference": "builtin:thinking", "prompted": "think"}
    digest = hashlib.sha256(yaml.safe_dump(facts).encode()).hexdigest()[:8]
    return {"name": f"try-{vector.digest[:8]}-{digest}", **facts}


def file_of(vector: VectorFile, trial: Trial, root: Path | str) -> Path:
    """Where the sweep's file lies. Raises BadInput for a store at a URL."""
    if not isinstance(root, Path):
        raise BadInput("A store at a URL keeps no sweep files: run `steer sweep run` on the machine.")
    return root / FOLDER / f"{sweep_of(vector, trial)['name']}.yaml"


def write_sweep(vector: VectorFile, trial: Trial, root: Path) -> Path:
    """Write the sweep and its vector. Raises BadInput, OSError."""
    path = file_of(vector, trial, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path.parent / f"{vector.digest}.safetensors", vector.path.read_bytes())
    write_whole(path, yaml.safe_dump(sweep_of(vector, trial), sort_keys=False).encode())
    return path
